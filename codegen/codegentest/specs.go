package codegentest

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns the table of Specs. Sizes are small and odd: a tail of every loop is in use
// somewhere.

// types are the dtypes of a matmul: activations, arithmetic, weights.
type types struct{ in, out, math, weight ir.DType }

var (
	allF32  = types{ir.F32, ir.F32, ir.F32, ir.F32}
	allBF16 = types{ir.BF16, ir.BF16, ir.BF16, ir.BF16}
	mixed   = types{ir.F32, ir.F32, ir.BF16, ir.BF16}
	narrow  = types{ir.BF16, ir.F32, ir.F32, ir.BF16}
	widened = types{ir.F32, ir.BF16, ir.BF16, ir.F32}
	codes   = types{ir.F32, ir.F32, ir.I8, ir.I8}
	stored  = types{ir.BF16, ir.BF16, ir.I8, ir.I8} // codes of numbers that are bf16 in memory
)

func gemm(d types, n, k int, p kernel.Prologue, e kernel.Epilogue, set ...func(*kernel.Spec)) kernel.Spec {
	s := kernel.Spec{Kind: kernel.Gemm, In: d.in, Out: d.out, Math: d.math, Weight: d.weight,
		N: n, K: k, Prologue: p, Epilogue: e}
	if p != kernel.NoPrologue {
		s.Eps = 1e-5
	}
	for _, f := range set {
		f(&s)
	}
	return s
}

func table(d types, k int, l kernel.Layout, positions bool) kernel.Spec {
	return kernel.Spec{Kind: kernel.Gather, Weight: d.weight, Out: d.out, K: k, Table: l, Positions: positions}
}

func heads(heads, kv, dim int) func(*kernel.Spec) {
	return func(s *kernel.Spec) { s.Heads, s.KVHeads, s.HeadDim = heads, kv, dim }
}

func beta(s *kernel.Spec) { s.Beta = true }

func attention(d types, heads, kv, dim int, scale float64) kernel.Spec {
	return kernel.Spec{Kind: kernel.Attention, In: d.in, Out: d.out, Math: d.math,
		Heads: heads, KVHeads: kv, HeadDim: dim, Scale: scale}
}

// specsFor returns the Specs that a target is checked with.
func specsFor(t *kernel.Target) []kernel.Spec {
	specs := Specs()
	if !t.Multiplies(ir.I8) {
		return specs
	}
	return append(specs,
		gemm(codes, 96, 64, kernel.NoPrologue, ""),
		gemm(stored, 51, 170, kernel.NoPrologue, "bias+silu"),
		gemm(codes, 200, 172, kernel.LayerNorm, "bias+silu+residual", beta),
		gemm(stored, 170, 7, kernel.LayerNorm, "glu"),
		gemm(codes, 51, 192, kernel.RMSNorm, "bias+glu+residual"),
		gemm(stored, 96, 128, kernel.NoPrologue, "bias"),
		gemm(codes, 40, 33, kernel.RMSNorm, "tanh"),
		gemm(codes, 1, 1, kernel.NoPrologue, ""),
		gemm(codes, 200, 65, kernel.NoPrologue, "rope", heads(3, 1, 24)),
		gemm(stored, 400, 64, kernel.RMSNorm, "bias+rope", heads(3, 1, 80)),

		table(codes, 170, kernel.RowMajor, true),
		table(stored, 7, kernel.RowMajor, false),
		table(codes, 172, kernel.PanelI8, true),
		table(stored, 64, kernel.PanelI8, false),
		table(codes, 7, kernel.PanelI8, false),
	)
}

// Specs returns the Specs that every backend is checked with, as far as its target can do them, but for those of codes
// of 8 bits.
func Specs() []kernel.Spec {
	rows := func(d types, k int, p kernel.Prologue, beta bool) kernel.Spec {
		return kernel.Spec{Kind: kernel.Rowwise, In: d.in, Out: d.out, K: k, Prologue: p, Beta: beta, Eps: 1e-6}
	}
	return []kernel.Spec{
		gemm(allF32, 96, 64, kernel.NoPrologue, ""),
		gemm(allF32, 51, 170, kernel.RMSNorm, "bias"),
		gemm(allF32, 200, 172, kernel.LayerNorm, "bias+silu+residual", beta),
		gemm(allF32, 170, 7, kernel.LayerNorm, "glu"),
		gemm(allBF16, 96, 192, kernel.RMSNorm, "glu"),
		gemm(allBF16, 51, 170, kernel.NoPrologue, "bias+silu"),
		gemm(mixed, 200, 64, kernel.LayerNorm, "bias+residual", beta),
		gemm(mixed, 170, 172, kernel.RMSNorm, "residual"),
		gemm(mixed, 51, 64, kernel.NoPrologue, "bias+glu+residual"),
		gemm(narrow, 96, 170, kernel.RMSNorm, "silu"),
		gemm(widened, 96, 33, kernel.NoPrologue, "bias"),
		gemm(mixed, 1, 1, kernel.NoPrologue, ""),
		gemm(allF32, 51, 64, kernel.NoPrologue, "bias+tanh"),
		gemm(mixed, 96, 170, kernel.NoPrologue, "bias+tanh"),
		siluSpec,

		// q, k and v of as many heads; the rotation covers q and k.
		gemm(mixed, 128, 64, kernel.RMSNorm, "rope", heads(2, 1, 32)),
		gemm(allF32, 192, 64, kernel.NoPrologue, "bias+rope", heads(1, 1, 64)),
		gemm(allBF16, 400, 64, kernel.RMSNorm, "rope", heads(3, 1, 80)),
		gemm(mixed, 64, 170, kernel.LayerNorm, "bias+rope+residual", heads(4, 2, 8), beta),
		gemm(mixed, 200, 33, kernel.NoPrologue, "rope", heads(3, 1, 24)),
		gemm(allF32, 48, 64, kernel.NoPrologue, "rope", heads(1, 1, 16)),
		gemm(allF32, 40, 64, kernel.NoPrologue, "rope", heads(2, 1, 10)),
		gemm(mixed, 384, 32, kernel.NoPrologue, "bias+rope", heads(1, 1, 128)),

		attention(allF32, 4, 4, 8, 0.35),
		attention(allF32, 2, 1, 80, 0.11),
		attention(mixed, 6, 2, 24, 0.2),
		attention(allBF16, 4, 2, 64, 0.125),
		attention(allBF16, 3, 3, 16, 0.25),
		attention(widened, 2, 1, 32, 0.2),
		attention(mixed, 2, 1, 7, 0.4),
		attention(allBF16, 3, 1, 33, 0.2),

		rows(allF32, 64, kernel.RMSNorm, false),
		rows(mixed, 170, kernel.LayerNorm, true),
		rows(allBF16, 51, kernel.LayerNorm, false),
		rows(widened, 7, kernel.RMSNorm, false),
		rows(allF32, 1536, kernel.LayerNorm, true),

		table(allF32, 170, kernel.RowMajor, true),
		table(allBF16, 64, kernel.RowMajor, false),
		table(mixed, 51, kernel.RowMajor, true),
		table(allF32, 172, kernel.PanelF32, false),
		table(mixed, 170, kernel.PanelBF16, true),
		table(allBF16, 64, kernel.PanelBF16, false),
		table(mixed, 7, kernel.PanelBF16, false),
	}
}
