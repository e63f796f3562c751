package ir_test

import (
	"strings"
	"testing"

	"github.com/bertc/bertc/ir"
)

// block is a small transformer layer with a group.
func block(t *testing.T) *ir.Graph {
	t.Helper()
	b := ir.NewBuilder("block")
	tok, seqs := b.Symbol("T", 1, 64), b.Symbol("B", 1, 8)
	x := b.Input("hidden", ir.MakeType(ir.F32, tok, ir.Const(64)))
	offsets := b.Input("offsets", ir.MakeType(ir.I32, seqs.Add(ir.Const(1))))
	pos := b.Input("pos", ir.MakeType(ir.I32, tok))
	gain := b.Weight("norm.weight", ir.MakeType(ir.F32, ir.Const(64)))
	w := b.Weight("0/w", ir.MakeType(ir.BF16, ir.Const(64), ir.Const(64)))
	n := b.Op("rmsnorm", &ir.NormAttrs{Eps: 1e-5}, x, gain)
	q := b.Op("rope", &ir.RopeAttrs{Heads: 4, Theta: 10000}, n, pos)
	a := b.Op("attention", &ir.AttentionAttrs{Heads: 4}, q, q, n, offsets)
	y := b.Group("gemm", "out", []*ir.Value{a, w, x}, func(b *ir.Builder, p []*ir.Value) *ir.Value {
		return b.Op("add", nil, b.Op("linear", nil, p[0], p[1]), p[2])
	})
	b.Output(y)
	g, err := b.Graph()
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestTextForm(t *testing.T) {
	g := block(t)
	if err := ir.Verify(g); err != nil {
		t.Fatal(err)
	}
	want := `graph @block(T: 1..64, B: 1..8) {
  %hidden = input "hidden" : f32[T,64]
  %offsets = input "offsets" : i32[B+1]
  %pos = input "pos" : i32[T]
  %norm.weight = weight "norm.weight" : f32[64]
  %_0_w = weight "0/w" : bf16[64,64]
  %rmsnorm = rmsnorm %hidden, %norm.weight {eps=1e-05} : f32[T,64]
  %rope = rope %rmsnorm, %pos {heads=4, theta=10000} : f32[T,64]
  %attention = attention %rope, %rope, %rmsnorm, %offsets {heads=4} : f32[T,64]
  %out = group gemm @out(%attention, %_0_w, %hidden) {
    %linear = linear %p0, %p1 : f32[T,64]
    %add = add %linear, %p2 : f32[T,64]
    yield %add
  } : f32[T,64]
  return %out
}
`
	if got := g.String(); got != want {
		t.Fatalf("printed:\n%s\nwant:\n%s", got, want)
	}
	h, err := ir.Parse(want)
	if err != nil {
		t.Fatal(err)
	}
	if got := h.String(); got != want {
		t.Fatalf("after parsing:\n%s\nwant:\n%s", got, want)
	}
}

func TestParseIsFree(t *testing.T) {
	g, err := ir.Parse("graph@g(T:1..8){%x=input\"x\":f32[T] ; the only input\n%y=neg%x:f32[T] return%y}")
	if err != nil {
		t.Fatal(err)
	}
	if err := ir.Verify(g); err != nil {
		t.Fatal(err)
	}
}

func TestReplace(t *testing.T) {
	g := block(t)
	n := g.Value("rmsnorm")
	b := g.BuildBefore(g.Value("rope"))
	half := b.Named(b.Op("mul", nil, n, b.Const(ir.F32, 0.5)), "half")
	if err := b.Err(); err != nil {
		t.Fatal(err)
	}
	g.Replace(n, half)
	if err := ir.Verify(g); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"half": "%half = mul %rmsnorm, %const : f32[T,64]", "attention": "%attention = attention %rope, %rope, %half, %offsets {heads=4} : f32[T,64]"} {
		if got := g.Value(name).String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	if users := g.Users()[half]; len(users) != 2 {
		t.Errorf("half has %d users, want 2", len(users))
	}
	if g.Prune() != 0 {
		t.Error("Prune removed live values")
	}
}

func TestPruneKeepsInputs(t *testing.T) {
	g := block(t)
	g.Outputs = []*ir.Value{g.Value("rmsnorm")}
	g.Prune()
	var names []string
	for _, v := range g.Values {
		names = append(names, v.Name)
	}
	if got, want := strings.Join(names, " "), "hidden offsets pos norm.weight rmsnorm"; got != want {
		t.Errorf("left %s, want %s", got, want)
	}
}

func TestCloneIsIndependent(t *testing.T) {
	g := block(t)
	before := g.String()
	c := g.Clone()
	for _, v := range g.Clone().Values {
		if v.Op.Kind == ir.Composite {
			if _, err := c.Expand(c.Value(v.Name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.Prune()
	if err := ir.Verify(c); err != nil {
		t.Fatal(err)
	}
	if g.String() != before {
		t.Error("a change of the clone changed the graph")
	}
}

func TestBuilderKeepsFirstError(t *testing.T) {
	b := ir.NewBuilder("g")
	x := b.Input("x", ir.MakeType(ir.F32, ir.Const(4)))
	i := b.Input("i", ir.MakeType(ir.I32, ir.Const(4)))
	bad := b.Op("add", nil, x, i)
	b.Output(b.Op("exp", nil, bad))
	_, err := b.Graph()
	want := "graph @g: %add: add: arguments have types f32[4] and i32[4], want one element type"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestBuilderMisuse(t *testing.T) {
	for want, f := range map[string]func(b *ir.Builder, x *ir.Value){
		`no op is called "frobnicate"`:                      func(b *ir.Builder, x *ir.Value) { b.Op("frobnicate", nil, x) },
		`op input is not made by Op; use Input, Weight or`:  func(b *ir.Builder, x *ir.Value) { b.Op("input", nil) },
		`%neg: neg: has attributes of type *ir.CastAttrs, `: func(b *ir.Builder, x *ir.Value) { b.Op("neg", &ir.CastAttrs{}, x) },
		`%neg: neg: has a nil argument`:                     func(b *ir.Builder, x *ir.Value) { b.Op("neg", nil, nil) },
		`group @l: graph @l: body has no result`: func(b *ir.Builder, x *ir.Value) {
			b.Group("k", "l", nil, func(*ir.Builder, []*ir.Value) *ir.Value { return nil })
		},
		`group @l: graph @l: %exp: exp: has 0 arguments, take`: func(b *ir.Builder, x *ir.Value) {
			b.Group("k", "l", nil, func(b *ir.Builder, _ []*ir.Value) *ir.Value { return b.Op("exp", nil) })
		},
	} {
		b := ir.NewBuilder("g")
		x := b.Input("x", ir.MakeType(ir.F32, ir.Const(4)))
		f(b, x)
		b.Output(b.Named(b.Op("exp", nil, x), "later"))
		if _, err := b.Graph(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %s", err, want)
		}
	}
}

func TestNames(t *testing.T) {
	b := ir.NewBuilder("g")
	x := b.Input("layers.0/weight é", ir.MakeType(ir.F32, ir.Const(4)))
	y, z := b.Op("neg", nil, x), b.Op("neg", nil, x)
	w := b.Named(b.Op("exp", nil, z), "neg")
	for v, want := range map[*ir.Value]string{x: "layers.0_weight__", y: "neg", z: "neg_2", w: "neg_3"} {
		if v.Name != want {
			t.Errorf("value is called %s, want %s", v.Name, want)
		}
	}
}
