package codegentest

import (
	"os/exec"
	"testing"

	"github.com/bertc/bertc/internal/amxtest"
	"github.com/bertc/bertc/kernel"
)

// This file owns running the conformance program of a target with AMX.

// EmulatedAMX runs it under the emulator. Its tile instructions raise SIGILL on every processor,
// because it does not ask for the permission to use them.
func EmulatedAMX(t *testing.T, target *kernel.Target) Exec {
	emulator := amxtest.Emulator(t, target.Features)
	return func(path string) *exec.Cmd { return exec.Command(emulator, path) }
}

// NativeAMX runs it on this machine, and skips the test where that has no AMX.
func NativeAMX(t *testing.T, target *kernel.Target) Exec {
	Native(t, target)
	return func(path string) *exec.Cmd { return exec.Command(path, "tiles") }
}
