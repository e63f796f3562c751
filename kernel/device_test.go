package kernel_test

import (
	"fmt"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// layer returns the kernels of a layer of RetrievaBERT in their order.
func layer() []kernel.Spec {
	gemm := kernel.Spec{Kind: kernel.Gemm, In: ir.BF16, Out: ir.BF16, Math: ir.BF16, Weight: ir.BF16}
	with := func(f func(s *kernel.Spec)) kernel.Spec { s := gemm; f(&s); return s }
	return []kernel.Spec{
		with(func(s *kernel.Spec) {
			s.N, s.K, s.Epilogue, s.Heads, s.KVHeads, s.HeadDim = 1664, 1536, "rope", 24, 1, 64
		}),
		{Kind: kernel.Attention, In: ir.BF16, Out: ir.BF16, Math: ir.BF16, Heads: 24, KVHeads: 1, HeadDim: 64, Scale: 0.125},
		with(func(s *kernel.Spec) { s.N, s.K, s.Out, s.Epilogue = 1536, 1536, ir.F32, "residual" }),
		with(func(s *kernel.Spec) { s.N, s.K, s.Epilogue = 4096, 1536, "glu" }),
		with(func(s *kernel.Spec) { s.N, s.K, s.Out, s.Epilogue = 1536, 4096, ir.F32, "residual" }),
	}
}

// TestDeviceTiles: the tiles that fill whole waves of the 132 multiprocessors of an H100 at the shapes
// of RetrievaBERT, as counted by hand: 2048 rows are 16 tiles of 128, and 16·8, 16·8, 16·32 and 16·8
// tiles are three times 0.97 and 3.88 waves.
func TestDeviceTiles(t *testing.T) {
	specs := layer()
	for _, c := range []struct {
		name string
		s    kernel.Spec
		tile string
	}{
		{"qkv", specs[0], "128x208"}, {"attention_output", specs[2], "128x192"}, {"gate_up", specs[3], "128x256"}, {"down", specs[4], "128x192"},
	} {
		for _, rows := range []int{2048, 4096} {
			p := kernel.WgmmaPlan(c.s, "ptx/sm90a", rows)
			if got := fmt.Sprintf("%dx%d", p.MicroM, p.MicroN); got != c.tile {
				t.Errorf("%s, %d rows: tile %s (%.0f cycles), want %s", c.name, rows, got, kernel.WgmmaCycles(c.s, p, rows), c.tile)
			}
			if err := kernel.Check(c.s, p); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestWgmmaVariants: the plans for fewer rows are legal, sum in the order of the others, and go up to all rows.
func TestWgmmaVariants(t *testing.T) {
	for _, s := range layer() {
		best, _ := kernel.Choose(s, "ptx/sm90a")
		variants := kernel.WgmmaVariants(s, best)
		for i, v := range variants {
			if err := kernel.Check(s, v.Plan); err != nil {
				t.Errorf("%s, %d rows: %v", s, v.MaxRows, err)
			}
			if got, want := v.Plan.ReductionKey(), best.ReductionKey(); got != want {
				t.Errorf("%s, %d rows: sums go %s, want %s", s, v.MaxRows, got, want)
			}
			if last := i == len(variants)-1; last != (v.MaxRows == 0) || i > 0 && !last && v.MaxRows <= variants[i-1].MaxRows {
				t.Errorf("%s: variant %d is for %d rows", s, i, v.MaxRows)
			}
		}
		if got := variants[len(variants)-1].Plan; got != best {
			t.Errorf("%s: large batches run %s, want %s", s, got, best)
		}
	}
}

// TestPredictDevice: whatever is fetched under the steps ahead, layers take no less than it takes to stream
// their weights, at 0.9 of 3.35 TB/s, and no more than the steps do that overlap with nothing.
func TestPredictDevice(t *testing.T) {
	for _, lengths := range [][]int{{1}, {8}, {32}, {64}, {32, 32, 32, 32}, {128}, {256}, {512}} {
		var step kernel.DeviceStep
		chain, alone, weights := 0.0, 0.0, 0.0
		for range 4 {
			for _, s := range layer() {
				best, _ := kernel.Choose(s, "ptx/sm90a")
				step = kernel.PredictDevice(s, best, lengths, step)
				chain += step.Seconds
				alone += kernel.PredictDevice(s, best, lengths, kernel.DeviceStep{}).Seconds
				if s.Kind == kernel.Gemm {
					weights += float64(2 * s.WeightRows() * s.K)
				}
			}
		}
		if least := weights / (0.9 * 3.35e12); chain < least || chain > alone {
			t.Errorf("sequences of %d tokens: four layers take %.1f µs, want %.1f of the weights to %.1f of every step by itself",
				lengths, chain*1e6, least*1e6, alone*1e6)
		}
	}
}

// TestPredictRoom: weights come under the step before where its tiles leave room on a multiprocessor, and only
// there.
func TestPredictRoom(t *testing.T) {
	specs := layer()
	output, gateUp := specs[2], specs[3]
	predict := func(s kernel.Spec, rows int, before kernel.DeviceStep) kernel.DeviceStep {
		best, _ := kernel.Choose(s, "ptx/sm90a")
		return kernel.PredictDevice(s, best, []int{rows}, before)
	}
	alone := predict(gateUp, 32, kernel.DeviceStep{}).Seconds
	for _, c := range []struct {
		rows int // of the step before
		less bool
	}{{32, true}, {512, true}, {2048, false}} {
		before := predict(output, c.rows, kernel.DeviceStep{})
		if got := predict(gateUp, 32, before).Seconds; (got < alone) != c.less || got > alone {
			t.Errorf("behind a tile of %d rows: %.2f µs, by itself %.2f", before.Plan.MicroM, got*1e6, alone*1e6)
		}
	}
}
