package codegentest

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns the checks of attention.

// runAttention runs the functions of u on queries from..to of one sequence, at most queries of
// them at a call. All calls share a packed block of keys, as in the runtime.
func runAttention(t testing.TB, p *program, u unitUnderTest, qkv []float32, from, to, queries int) []float32 {
	t.Helper()
	s, plan := u.Spec, u.Plan
	cols, size, group := s.QKVCols(), s.In.Size(), s.Heads/s.KVHeads
	tokens, width := len(qkv)/cols, (s.HeadDim+31)/32*32
	stride, dstCols := cols*size+8, s.Heads*s.HeadDim
	dstStride := dstCols*s.Out.Size() + 8
	rows := queries * group
	var b jobBuilder
	src, dst := b.buffer(spread(s.In, qkv, cols, stride)), b.space((to-from)*dstStride)
	shared := map[string]word{
		"QStride": value(stride), "KVStride": value(stride), "DstStride": value(dstStride),
		"KPack": b.space(4 * plan.BlockN * width), "VPack": b.space(4 * plan.BlockN * width), "S": b.space(4 * rows * plan.BlockN),
	}
	do := func(role string, fields ...map[string]word) {
		all := maps.Clone(shared)
		for _, f := range fields {
			maps.Copy(all, f)
		}
		b.call(u.funcs[role], rt.AttentionArgs{}, all)
	}
	var calls []map[string]word
	for query := from; query < to; query += queries {
		calls = append(calls, map[string]word{"QPack": b.space(4 * rows * width), "O": b.space(4 * rows * width),
			"Max": b.space(4 * rows), "Sum": b.space(4 * rows), "Rows": value(min(queries, to-query) * group)})
	}
	for kv := range s.KVHeads {
		for i, call := range calls {
			query := from + i*queries
			call["Q"] = plus(src, query*stride+kv*group*s.HeadDim*size)
			call["Dst"] = plus(dst, (query-from)*dstStride+kv*group*s.HeadDim*s.Out.Size())
			do("PackQ", call)
		}
		for key := 0; key < tokens; key += plan.BlockN {
			row := plus(src, key*stride+(s.Heads+kv)*s.HeadDim*size)
			block := map[string]word{"Keys": value(min(plan.BlockN, tokens-key)), "First": value(0),
				"K": row, "V": plus(row, s.KVHeads*s.HeadDim*size)}
			if key == 0 {
				block["First"] = value(1)
			}
			do("PackKV", block)
			for _, call := range calls {
				do("Attend", block, call)
			}
		}
		for _, call := range calls {
			do("Finish", call)
		}
	}
	r := p.run(t, &b.job)
	b.check(t, r)
	return rowsOf(t, b.content(r, dst), s.Out, to-from, dstCols, dstStride)
}

func checkAttention(t *testing.T, p *program, u unitUnderTest) {
	s := u.Spec
	group := s.Heads / s.KVHeads
	queries := max(u.Plan.BlockM/group, 1)
	lengths := []int{1, 2, 33, 50, u.Plan.BlockN + 1}
	if *long {
		lengths = append(lengths, 15, 16, 17, 31, 32, u.Plan.BlockN, 2*u.Plan.BlockN+5)
	}
	// Probabilities that were rounded to bf16 may each be the neighbour, 2⁻⁸ of it away, and values be
	// twice as large as the largest of their means.
	tol := 3e-6
	if s.Math == ir.BF16 {
		tol = 2.0 / 256
	}
	if u.Plan.BlockN <= 64 || *long { // more keys take the interpreter long
		checkExtremeScores(t, p, u, queries)
	}
	for _, n := range lengths {
		r := rand.New(rand.NewPCG(4, uint64(n)))
		// Large scores: with most of them the probability is far below one.
		qkv := normal(r, s.In, n*s.QKVCols(), 2)
		want, err := kernel.EvalAttention(u.Kernel, qkv)
		if err != nil {
			t.Fatal(err)
		}
		got := runAttention(t, p, u, qkv, 0, n, queries)
		cols := s.Heads * s.HeadDim
		compare(t, fmt.Sprintf("%d tokens", n), s.Out, got, want, cols, tol)
		for _, q := range []int{0, n / 2, n - 1} {
			alone := runAttention(t, p, u, qkv, q, q+1, 1)
			same(t, fmt.Sprintf("query %d of %d alone", q, n), alone, got[q*cols:(q+1)*cols])
		}
	}
}

// extremes are the first elements of keys whose others are 0, so that scores are 0 or as special as they
// are: that of key 3, and those of all others. Queries have elements of both signs.
var extremes = []struct {
	name    string
	key3, x float64
}{
	{"a score is NaN", math.NaN(), 0},
	{"scores of a key are ±∞", math.Inf(1), 0},
	{"all scores are ±∞", math.Inf(1), math.Inf(1)},
	{"all scores are 0", 0, 0},
	{"all scores are the same, and large", 0x1p40, 0x1p40},
	{"scores are up to the largest f32", 0x1.fep127, -0x1p126},
}

// checkExtremeScores compares with the interpreter where scores are special. Their probabilities are exact: 0 of
// −∞ and of a score far below the largest; NaN where a score is NaN or +∞ or all are −∞; the same
// of equal scores, in different blocks of keys too.
func checkExtremeScores(t *testing.T, p *program, u unitUnderTest, queries int) {
	s, cols, n := u.Spec, u.Spec.QKVCols(), u.Plan.BlockN+5
	for _, x := range extremes {
		qkv := normal(rand.New(rand.NewPCG(7, 0)), s.In, n*cols, 2)
		for token := range n {
			for kv := range s.KVHeads {
				key := qkv[token*cols+(s.Heads+kv)*s.HeadDim:][:s.HeadDim]
				clear(key)
				key[0] = float32(x.x)
				if token == 3 {
					key[0] = float32(x.key3)
				}
			}
		}
		want, err := kernel.EvalAttention(u.Kernel, qkv)
		if err != nil {
			t.Fatal(err)
		}
		// Products of large numbers are exact, and so are their sums with zeros.
		compare(t, x.name, s.Out, runAttention(t, p, u, qkv, 0, n, queries), want, s.HeadDim, 3e-6)
	}
}
