package cuda

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// This file tests the binding of the driver on a machine without one: it builds the driver of
// testdata/mock.c and runs the tests of driver_cuda_test.go, which need the build tag, with it.

// mockDriver builds the mock and returns the directory of libcuda.so.1.
func mockDriver(t *testing.T) string {
	if _, err := exec.LookPath("gcc"); err != nil || runtime.GOOS != "linux" {
		t.Skip("SKIP: the binding is tested on Linux with gcc")
	}
	// The cache of go test must know what other programs read.
	for _, file := range []string{"libcuda.h", "driver_cuda.go", "driver_cuda_test.go", "testdata/mock.c"} {
		if _, err := os.Stat(file); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	out, err := exec.Command("gcc", "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wl,-soname,libcuda.so.1",
		"-o", filepath.Join(dir, "libcuda.so.1"), "testdata/mock.c").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

func TestBinding(t *testing.T) {
	dir := mockDriver(t)
	exe := filepath.Join(dir, "cuda.test")
	build := exec.Command("go", "test", "-tags", "cuda", "-c", "-o", exe, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, c := range []struct {
		name, run string
		env       []string
	}{
		{"calls", "TestDriverCalls", nil},
		{"heap", "TestNoHeap", nil},
		{"no device", "TestNoDriver", []string{"CUDA_MOCK_FAIL=cuInit", "WANT=cuInit: CUDA_ERROR_NO_DEVICE (100), no CUDA-capable device is detected"}},
		{"no version", "TestNoDriver", []string{"CUDA_MOCK_FAIL=cuDriverGetVersion", "WANT=cuDriverGetVersion: CUDA_ERROR_MOCK (1), the mock was told to fail"}},
		{"no count", "TestNoDriver", []string{"CUDA_MOCK_FAIL=cuDeviceGetCount", "WANT=cuDeviceGetCount: CUDA_ERROR_MOCK (1), the mock was told to fail"}},
		{"none shown", "TestNoDriver", []string{"CUDA_MOCK_DEVICES=0", "WANT=the CUDA driver shows no device"}},
		{"other device", "TestNoDriver", []string{"CUDA_MOCK_CAPABILITY=80", "WANT=Mock H100 has compute capability 8.0, the kernels are for 9.0 (H100, H200)"}},
		{"old driver", "TestNoDriver", []string{"CUDA_MOCK_VERSION=12020", "WANT=the CUDA driver is of CUDA 12.2, the kernels need 12.3"}},
		{"no driver", "TestNoDriver", []string{"LD_LIBRARY_PATH=" + t.TempDir(), "WANT=no CUDA driver: libcuda.so.1: cannot open shared object file: No such file or directory"}},
		{"bad text", "TestFailedCall", []string{"CUDA_MOCK_FAIL=cuModuleLoadDataEx", "WANT=cuModuleLoadDataEx: CUDA_ERROR_MOCK (218), the mock was told to fail: ptxas application ptx input, line 1; fatal : mock"}},
		{"no memory", "TestFailedCall", []string{"CUDA_MOCK_FAIL=cuMemAlloc_v2", "WANT=512 bytes: cuMemAlloc: CUDA_ERROR_MOCK (2), the mock was told to fail"}},
		{"not zeroed", "TestFailedAlloc", []string{"CUDA_MOCK_FAIL=cuMemsetD8_v2"}},
		{"no stream", "TestFailedCall", []string{"CUDA_MOCK_FAIL=cuStreamCreate", "WANT=cuStreamCreate: CUDA_ERROR_MOCK (1), the mock was told to fail"}},
		{"no capture", "TestFailedCapture", []string{"CUDA_MOCK_FAIL=cuStreamEndCapture"}},
		{"kernel fault", "TestFailedCall", []string{"CUDA_MOCK_FAIL=cuStreamSynchronize", "WANT=cuStreamSynchronize: CUDA_ERROR_MOCK (719), the mock was told to fail"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd := exec.Command(exe, "-test.run", "^"+c.run+"$", "-test.v")
			cmd.Env = append(append(os.Environ(), "LD_LIBRARY_PATH="+dir, "CUDA_MOCK_LOG="+filepath.Join(t.TempDir(), "log")), c.env...)
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: "+c.run) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestDeclarations holds libcuda.h against the header of NVIDIA, where it is installed.
func TestDeclarations(t *testing.T) {
	var header string
	for _, pattern := range []string{"/usr/local/cuda/include/cuda.h", "../../.tools/cuda/nvidia/*/include/cuda.h"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			header = filepath.Dir(found[0])
		}
	}
	if header == "" {
		t.Skip("SKIP: no cuda.h of NVIDIA on this machine (make ptxas)")
	}
	exe := filepath.Join(t.TempDir(), "declarations")
	if out, err := exec.Command("gcc", "-I", header, "-o", exe, "testdata/declarations.c").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := exec.Command(exe).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
