package arm64

import (
	"os"
	"os/exec"
	"testing"

	"github.com/bertc/bertc/codegen/codegentest"
)

// emulated runs programs under qemu on a processor model. Asynchronous preemption is off: an
// emulated signal cannot interrupt assembly, and costs much.
func emulated(t *testing.T, cpu string) codegentest.Exec {
	t.Helper()
	qemu, err := exec.LookPath("qemu-aarch64")
	if err != nil {
		t.Skip("SKIP: qemu-aarch64 (Debian: qemu-user) is not installed")
	}
	return func(path string) *exec.Cmd {
		c := exec.Command(qemu, "-cpu", cpu, path)
		c.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
		return c
	}
}

// TestConformance runs each tier on a model of the least processor that has its features.
func TestConformance(t *testing.T) {
	for _, tier := range []struct {
		backend *Backend
		cpu     string
	}{
		{New(), "cortex-a53"},
		{NewBF16(), "max,sve=off"},
	} {
		t.Run(tier.backend.Target().Name, func(t *testing.T) {
			codegentest.Run(t, tier.backend, emulated(t, tier.cpu))
		})
	}
}
