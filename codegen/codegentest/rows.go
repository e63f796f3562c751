package codegentest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns the checks of rowwise and gather kernels.

// runRowwise runs u on some rows.
func runRowwise(t testing.TB, p *program, u unitUnderTest, x, gamma, beta []float32) []float32 {
	t.Helper()
	s := u.Spec
	rows := len(x) / s.K
	var b jobBuilder
	srcStride, dstStride := s.K*s.In.Size()+4, s.K*s.Out.Size()+8
	dst := b.space(rows * dstStride)
	b.call(u.funcs["Row"], rt.RowArgs{}, map[string]word{
		"Rows": value(rows), "Src": b.buffer(spread(s.In, x, s.K, srcStride)),
		"SrcStride": value(srcStride), "Gamma": b.floats(ir.F32, gamma), "Beta": b.floats(ir.F32, beta),
		"Dst": dst, "DstStride": value(dstStride),
	})
	res := p.run(t, &b.job)
	b.check(t, res)
	return rowsOf(t, b.content(res, dst), s.Out, rows, s.K, dstStride)
}

// rowwiseInput returns random input for m rows.
func rowwiseInput(r *rand.Rand, s kernel.Spec, m int) (x, gamma, beta []float32) {
	x, gamma = normal(r, s.In, m*s.K, 3), normal(r, ir.F32, s.K, 1)
	if s.Beta {
		beta = normal(r, ir.F32, s.K, 1)
	}
	return x, gamma, beta
}

func checkRowwise(t *testing.T, p *program, u unitUnderTest) {
	s := u.Spec
	r := rand.New(rand.NewPCG(2, 0))
	for _, m := range rowCounts(u.Plan) {
		x, gamma, beta := rowwiseInput(r, s, m)
		want, err := kernel.EvalRowwise(u.Kernel, x, gamma, beta)
		if err != nil {
			t.Fatal(err)
		}
		got := runRowwise(t, p, u, x, gamma, beta)
		compare(t, fmt.Sprintf("%d rows", m), s.Out, got, want, s.K, 1e-6)
		same(t, "the last row alone", runRowwise(t, p, u, x[(m-1)*s.K:], gamma, beta), got[(m-1)*s.K:])
	}
}

func checkGather(t *testing.T, p *program, u unitUnderTest) {
	s := u.Spec
	r := rand.New(rand.NewPCG(3, 0))
	const tableRows = 75
	table := kernel.Pack(s.Table, normal(r, s.Weight, tableRows*s.K, 1), tableRows, s.K)
	var scale []float32
	if s.Weight == ir.I8 {
		scale = normal(r, ir.F32, tableRows, 1)
	}
	for _, m := range rowCounts(u.Plan) {
		in := kernel.GatherInput{Rows: tableRows, Table: table, Scale: scale, PosTable: normal(r, ir.F32, positions*s.K, 1)}
		for i := range m {
			in.Index = append(in.Index, int32((i*37+tableRows-1)%tableRows))
			in.Pos = append(in.Pos, int32(r.IntN(positions)))
		}
		var b jobBuilder
		dstStride := s.K*s.Out.Size() + 8
		dst := b.space(m * dstStride)
		b.call(u.funcs["Gather"], rt.GatherArgs{}, map[string]word{
			"Rows": value(m), "Index": b.ints(in.Index), "Table": b.floats(s.Weight, in.Table), "WScale": b.floats(ir.F32, scale),
			"Pos": b.ints(in.Pos), "PosTable": b.floats(ir.F32, in.PosTable),
			"Dst": dst, "DstStride": value(dstStride),
		})
		want, err := kernel.EvalGather(u.Kernel, in)
		if err != nil {
			t.Fatal(err)
		}
		res := p.run(t, &b.job)
		b.check(t, res)
		got := rowsOf(t, b.content(res, dst), s.Out, m, s.K, dstStride)
		same(t, fmt.Sprintf("%d rows", m), got, want)
	}
}
