package ptx

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/bertc/bertc/codegen/codegentest"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns tests of the matmul on wgmma beyond those of every kernel: tiles that cut heads and
// panels, and the sizes of the model.

// wgmmaSpec returns a Spec of bf16 arithmetic.
func wgmmaSpec(n, k int, p kernel.Prologue, e kernel.Epilogue, in, out ir.DType) kernel.Spec {
	s := kernel.Spec{Kind: kernel.Gemm, In: in, Out: out, Math: ir.BF16, Weight: ir.BF16, N: n, K: k, Prologue: p, Epilogue: e}
	if p != kernel.NoPrologue {
		s.Eps = 1e-5
	}
	if s.Epilogue.Has(kernel.Rope) {
		s.Heads, s.KVHeads, s.HeadDim = n/64-2, 1, 64
	}
	return s
}

// wgmmaPlan returns the plan of a tile.
func wgmmaPlan(m, n, stages, cluster int) kernel.Plan {
	return kernel.Plan{Kind: kernel.Gemm, Target: TargetName, Inst: "wgmma", MicroM: m, MicroN: n, BlockM: m * cluster, BlockN: stages}
}

// TestWgmmaTiles runs matmuls of all epilogues, with tails of rows, columns and K and with more tiles
// than CTAs, on tiles of several sizes, which must give the same bits.
func TestWgmmaTiles(t *testing.T) {
	for _, c := range []struct {
		spec  kernel.Spec
		plans []kernel.Plan
	}{
		{wgmmaSpec(256, 128, "", "", ir.BF16, ir.BF16), []kernel.Plan{wgmmaPlan(128, 256, 4, 1), wgmmaPlan(64, 64, 2, 1), wgmmaPlan(128, 128, 3, 2), wgmmaPlan(16, 32, 2, 1)}},
		{wgmmaSpec(200, 170, kernel.RMSNorm, "bias+silu", ir.F32, ir.BF16), []kernel.Plan{wgmmaPlan(64, 32, 3, 1), wgmmaPlan(128, 192, 3, 2), wgmmaPlan(16, 64, 2, 2)}},
		{wgmmaSpec(96, 64, kernel.LayerNorm, "bias+glu", ir.F32, ir.BF16), []kernel.Plan{wgmmaPlan(64, 64, 3, 1), wgmmaPlan(128, 256, 3, 2), wgmmaPlan(32, 96, 2, 1)}},
		{wgmmaSpec(20, 100, "", "glu", ir.BF16, ir.BF16), []kernel.Plan{wgmmaPlan(64, 32, 3, 1), wgmmaPlan(128, 64, 3, 2)}},
		{wgmmaSpec(320, 72, kernel.RMSNorm, "bias+rope", ir.F32, ir.BF16), []kernel.Plan{wgmmaPlan(128, 208, 3, 2), wgmmaPlan(64, 16, 3, 1), wgmmaPlan(128, 64, 3, 1), wgmmaPlan(32, 16, 2, 2)}},
		{wgmmaSpec(192, 320, "", "bias+residual", ir.BF16, ir.F32), []kernel.Plan{wgmmaPlan(128, 192, 2, 2), wgmmaPlan(64, 32, 2, 1), wgmmaPlan(16, 32, 2, 2)}},
		{wgmmaSpec(52, 40, "", "residual", ir.BF16, ir.F32), []kernel.Plan{wgmmaPlan(128, 32, 2, 2), wgmmaPlan(64, 64, 2, 1)}},
		{wgmmaSpec(70, 96, kernel.LayerNorm, "bias+tanh", ir.F32, ir.F32), []kernel.Plan{wgmmaPlan(128, 96, 2, 2), wgmmaPlan(64, 32, 2, 1), wgmmaPlan(32, 64, 2, 2)}},
	} {
		t.Run(c.spec.String(), func(t *testing.T) {
			for _, rows := range []int{1, 70, 300} {
				data := newGemmCase(rand.New(rand.NewPCG(1, uint64(rows))), c.spec, rows)
				var first []float32
				for i, p := range c.plans {
					k := kernel.Kernel{Spec: c.spec, Plan: p}
					u, m := compile(t, k)
					got := runGemm(t, u, m, data, len(u.Kernel.Variants)-1, uint64(i))
					if what := fmt.Sprintf("%d rows, %s", rows, p); i == 0 {
						first = got
						compareGemm(t, what, k, data, got)
					} else {
						same(t, what, got, first)
					}
				}
			}
		})
	}
}

// TestWgmmaModel runs the matmuls of the full size for few rows, with the tile of many rows and the
// one that is chosen for few; without -long only the first.
func TestWgmmaModel(t *testing.T) {
	const rows = 20
	specs := []kernel.Spec{
		wgmmaSpec(1664, 1536, kernel.RMSNorm, "bias+rope", ir.F32, ir.BF16),
		wgmmaSpec(1536, 1536, "", "bias+residual", ir.BF16, ir.F32),
		wgmmaSpec(4096, 1536, kernel.RMSNorm, "bias+glu", ir.F32, ir.BF16),
		wgmmaSpec(1536, 4096, "", "bias+residual", ir.BF16, ir.F32),
	}
	if !codegentest.Long() {
		specs = specs[:1]
	}
	for _, s := range specs {
		t.Run(s.String(), func(t *testing.T) {
			best, _ := kernel.Choose(s, TargetName)
			k := kernel.Kernel{Spec: s, Plan: best}
			u, m := compile(t, k)
			data := newGemmCase(rand.New(rand.NewPCG(3, uint64(s.N))), s, rows)
			few := runGemm(t, u, m, data, 0, 1)
			compareGemm(t, "few rows", k, data, few)
			same(t, "the tile of many rows", runGemm(t, u, m, data, len(u.Kernel.Variants)-1, 2), few)
		})
	}
}
