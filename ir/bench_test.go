package ir_test

import (
	"fmt"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/ir/irtest"
)

// encoder is a model of the given size with pre-norm layers.
func encoder(tb testing.TB, layers, hidden, heads, ffn int) *ir.Graph {
	b := ir.NewBuilder("encoder")
	tok, seqs := b.Symbol("T", 1, 512), b.Symbol("B", 1, 8)
	matrix := func(name string, n, k int) *ir.Value {
		return b.Weight(name, ir.MakeType(ir.F32, ir.Const(n), ir.Const(k)))
	}
	x := b.Input("hidden", ir.MakeType(ir.F32, tok, ir.Const(hidden)))
	pos := b.Input("pos", ir.MakeType(ir.I32, tok))
	offsets := b.Input("offsets", ir.MakeType(ir.I32, seqs.Add(ir.Const(1))))
	for i := range layers {
		name := func(s string) string { return fmt.Sprintf("%d.%s", i, s) }
		norm := func(x *ir.Value, s string) *ir.Value {
			return b.Op("rmsnorm", &ir.NormAttrs{Eps: 1e-5}, x, b.Weight(name(s), ir.MakeType(ir.F32, ir.Const(hidden))))
		}
		linear := func(x *ir.Value, s string, n, k int) *ir.Value {
			return b.Op("linear", nil, x, matrix(name(s), n, k))
		}
		n := norm(x, "n1")
		rope := &ir.RopeAttrs{Heads: heads, Theta: 10000}
		q := b.Op("rope", rope, linear(n, "q", hidden, hidden), pos)
		k := b.Op("rope", rope, linear(n, "k", hidden, hidden), pos)
		a := b.Op("attention", &ir.AttentionAttrs{Heads: heads}, q, k, linear(n, "v", hidden, hidden), offsets)
		x = b.Op("add", nil, x, linear(a, "o", hidden, hidden))
		n = norm(x, "n2")
		up := b.Op("glu", nil, linear(n, "gate", ffn, hidden), linear(n, "up", ffn, hidden))
		x = b.Op("add", nil, x, linear(up, "down", hidden, ffn))
	}
	b.Output(x)
	g, err := b.Graph()
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

func BenchmarkEval(b *testing.B) {
	g := encoder(b, 4, 192, 6, 768)
	in := irtest.Inputs(g, 1, map[string]int{"T": 64, "B": 2})
	for b.Loop() {
		if _, err := ir.Eval(g, in); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParse(b *testing.B) {
	text := encoder(b, 48, 1536, 24, 4096).String()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if _, err := ir.Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	g := encoder(b, 48, 1536, 24, 4096)
	for b.Loop() {
		if err := ir.Verify(g); err != nil {
			b.Fatal(err)
		}
	}
}
