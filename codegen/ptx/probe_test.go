package ptx

import (
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emulator"
)

// TestProbes runs the probes on the emulator, which has to be what the formulas say.
func TestProbes(t *testing.T) {
	found, err := RunProbes(emulator.Open(1, 1), Probes())
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range found {
		if err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d probes", len(found))
}

// TestProbesPtxas assembles the probes.
func TestProbesPtxas(t *testing.T) {
	var texts []string
	for _, p := range Probes() {
		texts = append(texts, p.entry.text())
	}
	assemble(t, Module(texts...))
}
