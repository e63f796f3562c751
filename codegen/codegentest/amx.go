package codegentest

import (
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns running programs that use AMX.

// EmulateAMX builds internal/amxemu, which runs a program for linux/amd64 with the tile instructions
// emulated, and returns the command. All other features of the target must be there, or the test is
// skipped.
func EmulateAMX(t *testing.T, target *kernel.Target) string {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != target.GOARCH {
		t.Skipf("SKIP: %s needs linux/%s, this is %s/%s", target.Name, target.GOARCH, runtime.GOOS, runtime.GOARCH)
	}
	vectors := slices.DeleteFunc(slices.Clone(target.Features), func(f string) bool { return strings.HasPrefix(f, "AMX_") })
	if lacks := rt.Missing(vectors...); len(lacks) > 0 {
		t.Skipf("SKIP: %s needs CPU features that are not emulated: %v", target.Name, lacks)
	}
	root, err := repoRoot()
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(t.TempDir(), "amxemu")
	cmd := exec.Command("go", "build", "-o", exe, "./internal/amxemu")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./internal/amxemu: %v\n%s", err, out)
	}
	return exe
}

// AMX runs the conformance program under the emulator, where its tile instructions raise SIGILL
// because it does not ask for the permission to use them.
func AMX(t *testing.T, target *kernel.Target) Exec {
	emulator := EmulateAMX(t, target)
	return func(path string) *exec.Cmd { return exec.Command(emulator, path) }
}

// NativeAMX runs it on this machine, and skips the test where that has no AMX.
func NativeAMX(t *testing.T, target *kernel.Target) Exec {
	Native(t, target)
	return func(path string) *exec.Cmd { return exec.Command(path, "tiles") }
}
