// Package irtest owns random graphs and random inputs for tests of packages
// that change or evaluate graphs. It imports ir and internal/num.
//
// Start reading at Random; CheckSame is the usual test of a pass.
package irtest

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/bertc/bertc/ir"
)

// This file owns the choice of ops; makers.go makes each of them.

// Random returns a random verified graph with symbols T and B. The same seed
// gives the same graph. Over many seeds every op of the table occurs. Values
// stay moderate, so that graphs that mean the same evaluate to nearly the
// same, and every value is live.
func Random(seed uint64) *ir.Graph {
	g := &gen{
		b:      ir.NewBuilder("random"),
		r:      rand.New(rand.NewPCG(seed, 0)),
		makers: makers(),
	}
	g.t, g.seqs = g.b.Symbol("T", 1, 12), g.b.Symbol("B", 1, 4)
	// Two inputs give every symbol its value.
	g.pool = append(g.pool, g.b.Input("hidden", ir.MakeType(ir.F32, g.t, ir.Const(8))))
	g.offsets = g.b.Input("offsets", ir.MakeType(ir.I32, g.seqs.Add(ir.Const(1))))

	ops := ir.Ops()
	for range 4 + g.r.IntN(20) {
		g.add(ops[g.r.IntN(len(ops))].Name)
	}
	graph, err := g.b.Graph()
	if err != nil {
		panic(fmt.Sprintf("irtest: seed %d: %v", seed, err))
	}
	graph.Outputs = sinks(graph)
	graph.Prune()
	if err := ir.Verify(graph); err != nil {
		panic(fmt.Sprintf("irtest: seed %d: %v\n%s", seed, err, graph))
	}
	return graph
}

// sinks returns the computed values that nothing uses, or else the first value.
func sinks(g *ir.Graph) []*ir.Value {
	users := g.Users()
	var out []*ir.Value
	for _, v := range g.Values {
		if len(users[v]) == 0 && v.Op.Name != "input" {
			out = append(out, v)
		}
	}
	if out == nil {
		out = g.Values[:1:1]
	}
	return out
}

// gen is one graph in the making.
type gen struct {
	b       *ir.Builder
	r       *rand.Rand
	makers  map[string]maker
	t, seqs ir.Dim
	offsets *ir.Value
	pool    []*ir.Value // values to use as arguments
	names   int
}

// add adds the op with the given name, if arguments for it can be found.
func (g *gen) add(op string) {
	if v := g.makers[op](g, op); v != nil {
		g.pool = append(g.pool, v)
	}
}

// pick returns a random value of the pool whose type satisfies ok, or nil.
func (g *gen) pick(ok func(ir.Type) bool) *ir.Value {
	for _, i := range g.r.Perm(len(g.pool)) {
		if ok(g.pool[i].Type) {
			return g.pool[i]
		}
	}
	return nil
}

func isFloat(t ir.Type) bool  { return t.DType.IsFloat() }
func isNumber(t ir.Type) bool { return t.DType.IsFloat() || t.DType.IsInt() }
func isAny(ir.Type) bool      { return true }

// lastConst returns the last dim of t when it is a constant, else 0.
func lastConst(t ir.Type) int {
	n, ok := t.Last().IsConst()
	if !ok || t.Rank() == 0 {
		return 0
	}
	return n
}

// isRows is for float matrices with a constant number of columns.
func isRows(t ir.Type) bool { return isFloat(t) && t.Rank() == 2 && lastConst(t) > 0 }

func (g *gen) float() ir.DType {
	return []ir.DType{ir.F32, ir.F32, ir.BF16, ir.F16}[g.r.IntN(4)]
}

// out is for attributes: usually the default.
func (g *gen) out() ir.DType {
	return []ir.DType{0, 0, ir.F32, ir.BF16}[g.r.IntN(4)]
}

func (g *gen) name(prefix string) string {
	g.names++
	return fmt.Sprintf("%s.%d", prefix, g.names)
}

func (g *gen) weight(d ir.DType, dims ...int) *ir.Value {
	t := ir.Type{DType: d}
	for _, n := range dims {
		t.Dims = append(t.Dims, ir.Const(n))
	}
	return g.b.Weight(g.name("w"), t)
}

// ints returns an i32 vector of n elements, from the pool or new.
func (g *gen) ints(n ir.Dim) *ir.Value {
	want := ir.MakeType(ir.I32, n)
	if g.r.IntN(2) == 0 {
		return g.b.Op("iota", &ir.IotaAttrs{Shape: want.Dims, DType: ir.I32})
	}
	return g.b.Input(g.name("ints"), want)
}

// partner returns a second argument for an elementwise op on x.
func (g *gen) partner(x *ir.Value) *ir.Value {
	t := x.Type
	switch g.r.IntN(3) {
	case 0:
		return g.b.Const(t.DType, float64(g.r.IntN(5)))
	case 1:
		if t.Rank() > 0 && t.DType != ir.Bool {
			return g.b.Op("reduce", &ir.ReduceAttrs{Op: "max", Axis: g.r.IntN(t.Rank())}, x)
		}
	}
	if y := g.pick(t.Equal); y != nil {
		return y
	}
	return x
}

// swap exchanges the two values half of the time.
func (g *gen) swap(a, b *ir.Value) (*ir.Value, *ir.Value) {
	if g.r.IntN(2) == 0 {
		return a, b
	}
	return b, a
}

// divisor returns a random divisor of n.
func (g *gen) divisor(n int) int {
	var all []int
	for d := 1; d <= n; d++ {
		if n%d == 0 {
			all = append(all, d)
		}
	}
	return all[g.r.IntN(len(all))]
}

// bodyOps are the ops that need nothing but values from the pool.
var bodyOps = []string{"add", "mul", "sub", "max", "neg", "tanh", "sigmoid", "erf", "cast", "softmax", "silu", "gelu", "glu", "reduce"}

// body adds random ops to the body of a group and returns its result.
func (g *gen) body(b *ir.Builder, params []*ir.Value) *ir.Value {
	inner := &gen{b: b, r: g.r, makers: g.makers, pool: slices.Clone(params)}
	for range 1 + g.r.IntN(4) {
		inner.add(bodyOps[g.r.IntN(len(bodyOps))])
	}
	return inner.pool[len(inner.pool)-1]
}
