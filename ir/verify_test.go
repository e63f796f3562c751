package ir_test

import (
	"strings"
	"testing"

	"github.com/bertc/bertc/ir"
)

// TestVerifyBuilt breaks rules that the text form cannot express.
func TestVerifyBuilt(t *testing.T) {
	for _, c := range []struct {
		want  string
		spoil func(g *ir.Graph)
	}{
		{`name "" is not well formed`, func(g *ir.Graph) { g.Name = "" }},
		{`value 0 has no op of the table`, func(g *ir.Graph) { g.Values[0] = nil }},
		{`value 5 has no op of the table`, func(g *ir.Graph) { op := *g.Values[5].Op; g.Values[5].Op = &op }},
		{`value 5 has name "a b", which is not well formed`, func(g *ir.Graph) { g.Values[5].Name = "a b" }},
		{`%pos: name is used twice`, func(g *ir.Graph) { g.Values[5].Name = "pos" }},
		{`%rmsnorm: rmsnorm: argument nil is not defined before its use`, func(g *ir.Graph) { g.Values[5].Args[0] = nil }},
		{`%rmsnorm: rmsnorm: argument %attention is not defined before its use`, func(g *ir.Graph) { g.Values[5].Args[0] = g.Values[7] }},
		{`%rmsnorm: rmsnorm: has attributes of type <nil>, takes *ir.NormAttrs`, func(g *ir.Graph) { g.Values[5].Attrs = nil }},
		{`%rmsnorm: rmsnorm: has attributes of type ir.NormAttrs, takes *ir.NormAttrs`, func(g *ir.Graph) { g.Values[5].Attrs = ir.NormAttrs{} }},
		{`%rmsnorm: type notype[T,64] has no element type`, func(g *ir.Graph) { g.Values[5].Type.DType = 0 }},
		{`%rmsnorm: type f32[overflow]: a dim overflows`, func(g *ir.Graph) {
			g.Values[5].Type.Dims = []ir.Dim{ir.Const(1 << 40).Mul(ir.Const(1 << 40))}
		}},
		{`has rank 9, want at most 8`, func(g *ir.Graph) { g.Values[5].Type.Dims = make([]ir.Dim, 9) }},
		{`output nil is not a value of the graph`, func(g *ir.Graph) { g.Outputs[0] = nil }},
		{`output %rope is not a value of the graph`, func(g *ir.Graph) { g.Outputs[0] = g.Clone().Values[6] }},
		{`only a group has a body`, func(g *ir.Graph) { g.Values[5].Body = g.Values[8].Body }},
		{`only a group has a body`, func(g *ir.Graph) { g.Values[8].Body = nil }},
		{`or its body has another name`, func(g *ir.Graph) { g.Values[8].Body.Name = "x" }},
		{`has 3 arguments, but not as many parameters`, func(g *ir.Graph) { g.Values[8].Body.Values = nil }},
		{`value 0 of the body is not a parameter of type f32[T,64]`, func(g *ir.Graph) { g.Values[8].Body.Values[0].Type.DType = ir.BF16 }},
		{`group @out: %q0: input "p0" is inside of a group`, func(g *ir.Graph) { g.Values[8].Body.Values[0].Name = "q0" }},
		{`group @out: %linear: linear: argument %attention is not defined before its use`, func(g *ir.Graph) { g.Values[8].Body.Values[3].Args[0] = g.Values[7] }},
		{`group @out: output %attention is not a value of the graph`, func(g *ir.Graph) { g.Values[8].Body.Outputs[0] = g.Values[7] }},
	} {
		g := block(t)
		c.spoil(g)
		if err := ir.Verify(g); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got error %v, want %s", err, c.want)
		}
	}
}

func TestVerifyRejectsNestedGroups(t *testing.T) {
	b := ir.NewBuilder("g")
	x := b.Input("x", ir.MakeType(ir.F32, ir.Const(2)))
	b.Output(b.Group("a", "outer", []*ir.Value{x}, func(b *ir.Builder, p []*ir.Value) *ir.Value {
		return b.Group("a", "inner", p, func(b *ir.Builder, p []*ir.Value) *ir.Value { return p[0] })
	}))
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	if err := ir.Verify(g); err == nil || !strings.Contains(err.Error(), "group @inner is inside of a group") {
		t.Errorf("got %v", err)
	}
}
