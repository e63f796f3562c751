// Package amxtest builds the emulator of AMX for tests. It imports package runtime for the features
// of the CPU. Tests of codegen/amd64 and of internal/pipeline run programs under it.
package amxtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	rt "github.com/bertc/bertc/runtime"
)

// Emulator builds internal/amxemu, which runs a program for linux/amd64 with the tile instructions
// emulated, and returns its path. The test is skipped when one of the features that it does not
// emulate is missing, or the permission to trace programs.
func Emulator(t *testing.T, features []string) string {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skipf("SKIP: AMX is emulated on linux/amd64, this is %s/%s", runtime.GOOS, runtime.GOARCH)
	}
	if lacks := rt.Missing(Others(features)...); len(lacks) > 0 {
		t.Skipf("SKIP: CPU features are missing that are not emulated: %v", lacks)
	}
	root, err := os.Getwd()
	for err == nil {
		if _, err = os.Stat(filepath.Join(root, "go.mod")); err == nil {
			break
		}
		if up := filepath.Dir(root); up != root {
			root, err = up, nil
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(t.TempDir(), "amxemu")
	cmd := exec.Command("go", "build", "-o", exe, "./internal/amxemu")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build ./internal/amxemu: %v\n%s", err, out)
	}
	// A sandbox may forbid ptrace. Traced by itself and without a program, amxemu says how it is used.
	if out, err := exec.Command(exe, exe).CombinedOutput(); !strings.Contains(string(out), "usage") {
		t.Skipf("SKIP: a program cannot be traced here: %v\n%s", err, out)
	}
	return exe
}

// Others returns the features that are not of AMX.
func Others(features []string) []string {
	return slices.DeleteFunc(slices.Clone(features), func(f string) bool { return strings.HasPrefix(f, "AMX_") })
}
