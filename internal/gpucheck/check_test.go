package gpucheck

import (
	"context"
	"strings"
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emulator"
	"github.com/bertc/bertc/runtime/cuda"
)

// TestRun runs the check on the emulator, against the emulator with another schedule: all is well,
// and every step has the same bits.
func TestRun(t *testing.T) {
	var out strings.Builder
	failed, err := Run(context.Background(), &out, Options{
		Open:     func() (cuda.Driver, error) { return emulator.Open(1, 4), nil },
		Emulator: func() (cuda.Driver, error) { return emulator.Open(2, 3), nil },
	})
	t.Logf("\n%s", &out)
	if err != nil || failed != 0 {
		t.Errorf("%d failed, %v", failed, err)
	}
	if n := strings.Count(out.String(), "ok "); n != 1+5*len(small) {
		t.Errorf("%d checks are fine, want %d", n, 1+5*len(small))
	}
	if strings.Contains(out.String(), "worst ") && strings.Count(out.String(), "worst 0.0e+00") != len(small) {
		t.Error("two schedules give other bits")
	}
}

// TestFullSize runs what is for the full size on the emulator, with a model of no size.
func TestFullSize(t *testing.T) {
	var out strings.Builder
	c := &checker{Options: Options{Open: func() (cuda.Driver, error) { return emulator.Open(1, 4), nil }}, w: &out}
	m, err := compile(context.Background(), t.TempDir(), config{"none", 64, 64, 1, 1, 1, 128, 512, "rmsnorm", "rope", true, true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := c.fullSize(context.Background(), m, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.times(m, [][2]int{{2, 20}}, 2); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &out)
	if c.failed != 0 || strings.Count(out.String(), "ok ") != 3 {
		t.Error("the model is not the same as on the CPU")
	}
	for _, name := range []string{"2×20", "embed", "qkv", "attention", "attention_output", "gate_up", "down", "hidden"} {
		if !strings.Contains(out.String(), " "+name+" ") {
			t.Errorf("no time of %s", name)
		}
	}
}
