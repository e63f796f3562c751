package ptx

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
)

// This file owns the check by NVIDIA's assembler, which needs no GPU. It is in the wheel
// nvidia-cuda-nvcc; where it is not on the path, the tests skip.

// complaint matches what ptxas says of code that it had to change or slow down: advisories of
// wgmma and setmaxnreg (C75xx, C76xx), and registers in memory.
var complaint = regexp.MustCompile(`\(C7[0-9]{3}\)|[1-9][0-9]* bytes spill|ignored`)

// assemble assembles a module and returns what ptxas reports of registers and shared memory.
func assemble(t *testing.T, text string) string {
	t.Helper()
	ptxas, err := exec.LookPath("ptxas")
	if err != nil {
		t.Skip("SKIP: ptxas (pip: nvidia-cuda-nvcc==13.0.88) is not installed")
	}
	file := filepath.Join(t.TempDir(), "k.ptx")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	report, err := exec.Command(ptxas, "-v", "-arch=sm_90a", "-O3", file, "-o", file+".cubin").CombinedOutput()
	if err != nil {
		t.Fatalf("ptxas: %v\n%s", err, report)
	}
	if line := complaint.Find(report); line != nil {
		t.Errorf("ptxas: %s in\n%s", line, report)
	}
	return string(report)
}
