package main

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/bertc/bertc/ir"
)

// TestBenchDevice measures calls of a small model on the emulator, without a share of the ceilings of
// the CPU; and on the CPU, where the GPU is a choice and does not multiply int8: there it runs the
// kernel set that tune would tune.
func TestBenchDevice(t *testing.T) {
	model := filepath.Join(t.TempDir(), "model")
	if _, err := bertc(t, "", "init", "--config", "../../testdata/heads/encoder.config.json", "--out", model); err != nil {
		t.Fatal(err)
	}
	bench := func(flags ...string) string {
		out, err := bertc(t, "", append([]string{"bench", "model", "--model", model, "--shapes", "1x4", "--rounds", "2"}, flags...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := bench("--dtype", "bf16", "--device", "emulator")
	if !strings.Contains(out, "kernels: emulated GPU") || strings.Count(out, "BenchmarkModel/1x4\t1\t") != 2 || strings.Contains(out, "ceiling") {
		t.Errorf("on the emulator:\n%s", out)
	}
	out = bench("--dtype", "int8", "--device", "auto", "--no-ceiling")
	if strings.Contains(out, "GPU") || !strings.Contains(out, "BenchmarkModel/1x4") {
		t.Errorf("with int8:\n%s", out)
	}
	if target, err := tuneTarget("", ir.I8); err == nil && !strings.Contains(out, "kernels: "+strings.TrimPrefix(target, runtime.GOARCH+"/")+"\n") {
		t.Errorf("tune would tune %s, what runs is\n%s", target, out)
	}
	_, err := bertc(t, "", "bench", "model", "--model", model, "--device", "tpu")
	sentence(t, err, "--device", "tpu", "emulator")
	_, err = bertc(t, "1x4,1x5\n", "bench", "model", "--model", model, "--shapes", "-")
	sentence(t, err, "1x4,1x5", "one a line")
}
