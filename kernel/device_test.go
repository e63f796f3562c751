package kernel_test

import (
	"fmt"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// TestDeviceTiles: the tiles that fill whole waves of the 132 multiprocessors of an H100 at the shapes
// of RetrievaBERT, as counted by hand: 2048 rows are 16 tiles of 128, and 16·32, 16·8, 16·8 and 16·8
// tiles are 3.88 and three times 0.97 waves.
func TestDeviceTiles(t *testing.T) {
	gemm := kernel.Spec{Kind: kernel.Gemm, In: ir.BF16, Out: ir.BF16, Math: ir.BF16, Weight: ir.BF16}
	with := func(f func(s *kernel.Spec)) kernel.Spec { s := gemm; f(&s); return s }
	for _, c := range []struct {
		name string
		s    kernel.Spec
		tile string
	}{
		{"gate_up", with(func(s *kernel.Spec) { s.N, s.K, s.Epilogue = 4096, 1536, "glu" }), "128x256"},
		{"down", with(func(s *kernel.Spec) { s.N, s.K, s.Out, s.Epilogue = 1536, 4096, ir.F32, "residual" }), "128x192"},
		{"attention_output", with(func(s *kernel.Spec) { s.N, s.K, s.Out, s.Epilogue = 1536, 1536, ir.F32, "residual" }), "128x192"},
		{"qkv", with(func(s *kernel.Spec) {
			s.N, s.K, s.Epilogue, s.Heads, s.KVHeads, s.HeadDim = 1664, 1536, "rope", 24, 1, 64
		}), "128x208"},
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
