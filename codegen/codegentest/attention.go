package codegentest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns the checks of attention.

// runAttention runs the functions of u on queries from..to of one sequence, at most queries of
// them at a time, as the runtime does it.
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
	args := map[string]word{
		"QStride": value(stride), "KVStride": value(stride), "DstStride": value(dstStride),
		"QPack": b.space(4 * rows * width), "KPack": b.space(4 * plan.BlockN * width),
		"VPack": b.space(4 * plan.BlockN * width), "S": b.space(4 * rows * plan.BlockN),
		"O": b.space(4 * rows * width), "Max": b.space(4 * rows), "Sum": b.space(4 * rows),
	}
	do := func(role string, fields map[string]word) {
		for k, v := range args {
			fields[k] = v
		}
		b.call(u.funcs[role], rt.AttentionArgs{}, fields)
	}
	for kv := range s.KVHeads {
		for query := from; query < to; query += queries {
			rows := value(min(queries, to-query) * group)
			do("PackQ", map[string]word{"Rows": rows, "Q": plus(src, query*stride+kv*group*s.HeadDim*size)})
			for key := 0; key < tokens; key += plan.BlockN {
				row := plus(src, key*stride+(s.Heads+kv)*s.HeadDim*size)
				keys, first := value(min(plan.BlockN, tokens-key)), value(0)
				if key == 0 {
					first = value(1)
				}
				do("PackKV", map[string]word{"Keys": keys, "K": row, "V": plus(row, s.KVHeads*s.HeadDim*size)})
				do("Attend", map[string]word{"Rows": rows, "Keys": keys, "First": first})
			}
			do("Finish", map[string]word{"Rows": rows,
				"Dst": plus(dst, (query-from)*dstStride+kv*group*s.HeadDim*s.Out.Size())})
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
	lengths := []int{1, 2, 33, u.Plan.BlockN + 1}
	if *long {
		lengths = append(lengths, 15, 16, 17, 31, 32, u.Plan.BlockN, 2*u.Plan.BlockN+5)
	}
	// Probabilities that were rounded to bf16 may each be the neighbour, 2⁻⁸ of it away.
	tol := 3e-6
	if s.Math == ir.BF16 {
		tol = 1.0 / 256
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
