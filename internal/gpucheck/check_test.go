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
