package ptx

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bertc/bertc/codegen/codegentest"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns kernels of random sizes, which the table of codegentest does not have: a few, and with
// -long hundreds.

// randomKernel returns a kernel that the target has, with any of its plans.
func randomKernel(r *rand.Rand, spec func(*rand.Rand) kernel.Spec) kernel.Kernel {
	for {
		s := spec(r)
		if s.Valid() != nil {
			continue
		}
		if all := slices.Collect(kernel.Space(s, TargetName)); len(all) > 0 {
			return kernel.Kernel{Spec: s, Plan: all[r.IntN(len(all))]}
		}
	}
}

// random runs a test of random kernels.
func random(t *testing.T, spec func(*rand.Rand) kernel.Spec, test func(t *testing.T, r *rand.Rand, k kernel.Kernel)) {
	n := 4
	if codegentest.Long() {
		n = 300
	}
	for i := range n {
		r := rand.New(rand.NewPCG(uint64(i), 10))
		k := randomKernel(r, spec)
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			defer func() {
				if t.Failed() {
					t.Logf("spec %s\nplan %s", k.Spec, k.Plan)
				}
			}()
			test(t, r, k)
		})
	}
}

// oneOf returns one of its arguments.
func oneOf[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func randomGemm(r *rand.Rand) kernel.Spec {
	s := kernel.Spec{Kind: kernel.Gemm, In: oneOf(r, ir.F32, ir.BF16), Out: oneOf(r, ir.F32, ir.BF16), Math: ir.BF16, Weight: ir.BF16,
		N: 1 + r.IntN(500), K: 16 + r.IntN(300), Prologue: oneOf(r, kernel.NoPrologue, kernel.RMSNorm, kernel.LayerNorm)}
	if s.Prologue != kernel.NoPrologue {
		s.Eps = 1e-5
	}
	s.Beta = s.Prologue == kernel.LayerNorm && oneOf(r, true, false)
	for _, op := range []string{oneOf(r, "", kernel.Bias), oneOf(r, "", kernel.SiLU, kernel.Tanh, kernel.GLU, kernel.Rope), oneOf(r, "", "", kernel.Residual)} {
		if op != "" && s.Epilogue != "" {
			op = "+" + op
		}
		s.Epilogue += kernel.Epilogue(op)
	}
	if s.Epilogue.Has(kernel.Rope) {
		s.HeadDim, s.KVHeads = oneOf(r, 2+2*r.IntN(64), 16+16*r.IntN(8)), 1+r.IntN(2)
		s.Heads = s.KVHeads * (1 + r.IntN(3))
		s.N = s.QKVCols()
	}
	return s
}

// TestRandomGemm: any number of rows with every tile that serves it, against float64 sums and the
// interpreter, and a row alone with the tile for one row.
func TestRandomGemm(t *testing.T) {
	random(t, randomGemm, func(t *testing.T, r *rand.Rand, k kernel.Kernel) {
		u, m := compile(t, k)
		rows := 1 + r.IntN(140)
		c := newGemmCase(r, k.Spec, rows)
		for i, v := range u.Kernel.Variants {
			if v.MaxRows != 0 && v.MaxRows < rows {
				continue
			}
			got := runGemm(t, u, m, c, i, r.Uint64())
			compareGemm(t, fmt.Sprintf("%d rows", rows), k, c, got)
			row := r.IntN(rows)
			same(t, fmt.Sprintf("row %d of %d alone", row, rows), runGemm(t, u, m, c.row(row), 0, r.Uint64()), got[row*k.Spec.N:][:k.Spec.N])
		}
	})
}

func randomAttention(r *rand.Rand) kernel.Spec {
	s := kernel.Spec{Kind: kernel.Attention, In: oneOf(r, ir.F32, ir.BF16), Out: oneOf(r, ir.F32, ir.BF16), Math: ir.BF16,
		KVHeads: 1 + r.IntN(2), HeadDim: oneOf(r, 64, 1+r.IntN(128)), Scale: 0.1 + 0.2*r.Float64()}
	s.Heads = s.KVHeads * (1 + r.IntN(6))
	return s
}

// TestRandomAttention: batches of sequences of any length, against float64, and one of them alone.
func TestRandomAttention(t *testing.T) {
	random(t, randomAttention, func(t *testing.T, r *rand.Rand, k kernel.Kernel) {
		var lengths []int
		for range 1 + r.IntN(4) {
			lengths = append(lengths, 1+r.IntN(100))
		}
		checkAttention(t, k, r, lengths, r.IntN(len(lengths)))
	})
}
