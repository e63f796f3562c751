package irtest

import (
	"slices"

	"github.com/bertc/bertc/ir"
)

// This file owns one maker for each op of the table.

// A maker adds an op with random arguments and attributes and returns its
// value, or nil when the pool holds no fitting argument.
type maker func(g *gen, op string) *ir.Value

// makers returns the maker of each op.
func makers() map[string]maker {
	return map[string]maker{
		"input":     makeInput,
		"weight":    makeWeight,
		"const":     makeConst,
		"iota":      makeIota,
		"reshape":   makeReshape,
		"transpose": makeTranspose,
		"slice":     makeSlice,
		"broadcast": makeBroadcast,
		"concat":    makeConcat,
		"cast":      makeCast,
		"neg":       makeUnary,
		"exp":       makeTamed,
		"log":       makePositive,
		"sin":       makeUnary,
		"cos":       makeUnary,
		"tanh":      makeUnary,
		"erf":       makeUnary,
		"sigmoid":   makeUnary,
		"rsqrt":     makePositive,
		"add":       makeBinary,
		"sub":       makeBinary,
		"mul":       makeBinary,
		"div":       makeDiv,
		"max":       makeBinary,
		"cmp":       makeCmp,
		"select":    makeSelect,
		"reduce":    makeReduce,
		"dot":       makeDot,
		"gather":    makeGather,
		"linear":    makeLinear,
		"rmsnorm":   makeNorm,
		"layernorm": makeNorm,
		"softmax":   makeSoftmax,
		"rope":      makeRope,
		"silu":      makeActivation,
		"gelu":      makeActivation,
		"glu":       makeGlu,
		"quantize":  makeQuantize,
		"attention": makeAttention,
		"group":     makeGroup,
	}
}

func makeInput(g *gen, _ string) *ir.Value {
	return g.b.Input(g.name("x"), ir.MakeType(g.float(), g.t, ir.Const(4<<g.r.IntN(2))))
}

func makeWeight(g *gen, _ string) *ir.Value {
	d := []ir.DType{ir.F32, ir.BF16, ir.I8}[g.r.IntN(3)]
	return g.weight(d, 1+g.r.IntN(4), 8)
}

func makeConst(g *gen, _ string) *ir.Value {
	return g.b.Const(g.float(), g.r.NormFloat64())
}

func makeIota(g *gen, _ string) *ir.Value {
	return g.b.Op("iota", &ir.IotaAttrs{Shape: []ir.Dim{g.t, ir.Const(4)}, Axis: g.r.IntN(2), DType: []ir.DType{0, ir.I32}[g.r.IntN(2)]})
}

func makeReshape(g *gen, _ string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return lastConst(t) > 0 && t.Rank() < 4 })
	if x == nil {
		return nil
	}
	n := lastConst(x.Type)
	d := g.divisor(n)
	dims := append(slices.Clone(x.Type.Dims[:x.Type.Rank()-1]), ir.Const(d), ir.Const(n/d))
	if x.Type.Rank() == 3 {
		dims = []ir.Dim{x.Type.Dims[0], x.Type.Dims[1].Mul(x.Type.Dims[2])}
	}
	return g.b.Op("reshape", &ir.ShapeAttrs{Shape: dims}, x)
}

func makeTranspose(g *gen, _ string) *ir.Value {
	x := g.pick(isAny)
	return g.b.Op("transpose", &ir.TransposeAttrs{Perm: g.r.Perm(x.Type.Rank())}, x)
}

func makeSlice(g *gen, _ string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return lastConst(t) > 1 })
	if x == nil {
		return nil
	}
	if g.r.IntN(4) == 0 && x.Type.Dims[0].Equal(g.t) {
		return g.b.Op("slice", &ir.SliceAttrs{Start: g.t.Sub(ir.Const(1)), Stop: g.t}, x)
	}
	n := lastConst(x.Type)
	start := g.r.IntN(n)
	stop := start + 1 + g.r.IntN(n-start)
	return g.b.Op("slice", &ir.SliceAttrs{Axis: x.Type.Rank() - 1, Start: ir.Const(start), Stop: ir.Const(stop)}, x)
}

func makeBroadcast(g *gen, _ string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return t.Rank() < 3 })
	if x == nil {
		return nil
	}
	return g.b.Op("broadcast", &ir.ShapeAttrs{Shape: append([]ir.Dim{ir.Const(2)}, x.Type.Dims...)}, x)
}

func makeConcat(g *gen, _ string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return t.Rank() > 0 })
	return g.b.Op("concat", &ir.AxisAttrs{Axis: g.r.IntN(x.Type.Rank())}, x, g.pick(x.Type.Equal))
}

// makeCast never casts a float to an integer: a tiny change of the float
// would change the integer by 1.
func makeCast(g *gen, _ string) *ir.Value {
	x := g.pick(isNumber)
	if x == nil {
		return nil
	}
	to := g.float()
	if x.Type.DType == ir.I8 {
		to = ir.I32
	}
	return g.b.Op("cast", &ir.CastAttrs{To: to}, x)
}

func makeUnary(g *gen, op string) *ir.Value {
	x := g.pick(isFloat)
	if x == nil {
		return nil
	}
	return g.b.Op(op, nil, x)
}

// makeTamed is for functions that grow fast: the argument is within ±1.
func makeTamed(g *gen, op string) *ir.Value {
	x := makeUnary(g, "tanh")
	if x == nil {
		return nil
	}
	return g.b.Op(op, nil, x)
}

// positive returns x²+1.
func (g *gen) positive(x *ir.Value) *ir.Value {
	return g.b.Op("add", nil, g.b.Op("mul", nil, x, x), g.b.Const(x.Type.DType, 1))
}

// makePositive is for functions of positive numbers.
func makePositive(g *gen, op string) *ir.Value {
	x := g.pick(isFloat)
	if x == nil {
		return nil
	}
	return g.b.Op(op, nil, g.positive(x))
}

func makeBinary(g *gen, op string) *ir.Value {
	x := g.pick(isNumber)
	if x == nil {
		return nil
	}
	a, b := g.swap(x, g.partner(x))
	return g.b.Op(op, nil, a, b)
}

func makeDiv(g *gen, op string) *ir.Value {
	x := g.pick(isFloat)
	if x == nil {
		return nil
	}
	return g.b.Op(op, nil, x, g.positive(g.partner(x)))
}

// makeCmp compares integers only, because a tiny change of a float would
// change the result.
func makeCmp(g *gen, op string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return t.DType.IsInt() })
	if x == nil {
		x = g.ints(g.t)
	}
	a, b := g.swap(x, g.partner(x))
	return g.b.Op(op, &ir.CmpAttrs{Op: []string{"eq", "lt", "le"}[g.r.IntN(3)]}, a, b)
}

func makeSelect(g *gen, op string) *ir.Value {
	x := g.pick(isAny)
	if x.Type.Rank() == 0 || x.Type.Rank() > 4 {
		return nil
	}
	cond := g.b.Op("cmp", &ir.CmpAttrs{Op: "lt"}, g.ints(x.Type.Last()), g.b.Const(ir.I32, 2))
	a, b := g.swap(x, g.partner(x))
	return g.b.Op(op, nil, cond, a, b)
}

func makeReduce(g *gen, op string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return isNumber(t) && t.Rank() > 0 })
	if x == nil {
		return nil
	}
	return g.b.Op(op, &ir.ReduceAttrs{Op: []string{"sum", "max"}[g.r.IntN(2)], Axis: g.r.IntN(x.Type.Rank())}, x)
}

func makeDot(g *gen, op string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return t.Rank() > 1 && (isFloat(t) || t.DType == ir.I8) })
	if x == nil {
		return nil
	}
	a := &ir.DotAttrs{Out: g.out()}
	if x.Type.DType == ir.I8 {
		a.Out = ir.I32
	}
	y := x
	if n := lastConst(x.Type); n > 0 && x.Type.Rank() == 2 {
		y = g.weight(x.Type.DType, 1+g.r.IntN(6), n)
	}
	return g.b.Op(op, a, x, y)
}

// tableRows is the number of rows of a table for gather.
const tableRows = 8

func makeGather(g *gen, op string) *ir.Value {
	return g.b.Op(op, nil, g.weight(g.float(), tableRows, 8), g.b.Input(g.name("ids"), ir.MakeType(ir.I32, g.t)))
}

// linear multiplies x, which isRows, by a new weight of n rows.
func (g *gen) linear(x *ir.Value, n int) *ir.Value {
	args := []*ir.Value{x, g.weight(g.float(), n, lastConst(x.Type))}
	if g.r.IntN(2) == 0 {
		args = append(args, g.weight(g.float(), n))
	}
	return g.b.Op("linear", &ir.LinearAttrs{Out: g.out()}, args...)
}

func makeLinear(g *gen, _ string) *ir.Value {
	x := g.pick(isRows)
	if x == nil {
		return nil
	}
	return g.linear(x, 4<<g.r.IntN(2))
}

func makeNorm(g *gen, op string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return isFloat(t) && lastConst(t) > 1 })
	if x == nil {
		return nil
	}
	args := []*ir.Value{x, g.weight(g.float(), lastConst(x.Type))}
	if op == "layernorm" && g.r.IntN(2) == 0 {
		args = append(args, g.weight(g.float(), lastConst(x.Type)))
	}
	return g.b.Op(op, &ir.NormAttrs{Eps: 0.1, Out: g.out()}, args...)
}

func makeSoftmax(g *gen, op string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return isFloat(t) && t.Rank() > 0 })
	if x == nil {
		return nil
	}
	return g.b.Op(op, &ir.OutAttrs{Out: g.out()}, x)
}

func makeQuantize(g *gen, op string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return isFloat(t) && t.Rank() > 0 })
	if x == nil {
		return nil
	}
	return g.b.Op(op, nil, x)
}

func makeRope(g *gen, op string) *ir.Value {
	x := g.pick(func(t ir.Type) bool { return isRows(t) && lastConst(t)%2 == 0 })
	if x == nil {
		return nil
	}
	return g.b.Op(op, &ir.RopeAttrs{Heads: g.divisor(lastConst(x.Type) / 2), Theta: 100, Out: g.out()}, x, g.ints(x.Type.Dims[0]))
}

func makeActivation(g *gen, op string) *ir.Value {
	x := g.pick(isFloat)
	if x == nil {
		return nil
	}
	return g.b.Op(op, &ir.OutAttrs{Out: g.out()}, x)
}

func makeGlu(g *gen, op string) *ir.Value {
	x := g.pick(isFloat)
	if x == nil {
		return nil
	}
	up := g.pick(func(t ir.Type) bool { return isFloat(t) && t.WithDType(x.Type.DType).Equal(x.Type) })
	return g.b.Op(op, &ir.GluAttrs{Act: []string{"", "gelu"}[g.r.IntN(2)], Out: g.out()}, x, up)
}

func makeAttention(g *gen, op string) *ir.Value {
	q := g.pick(func(t ir.Type) bool { return isRows(t) && t.Dims[0].Equal(g.t) })
	if q == nil {
		return nil
	}
	n := lastConst(q.Type)
	heads := g.divisor(n)
	kv := g.divisor(heads)
	a := &ir.AttentionAttrs{Heads: heads, KVHeads: kv, Out: g.out()}
	if g.r.IntN(2) == 0 {
		a.Scale = 0.5
	}
	k, v := g.linear(q, n/heads*kv), g.linear(q, n/heads*kv)
	return g.b.Op(op, a, q, k, v, g.offsets)
}

func makeGroup(g *gen, _ string) *ir.Value {
	args := []*ir.Value{g.pick(isAny), g.pick(isAny)}[:1+g.r.IntN(2)]
	return g.b.Group("random", g.name("group"), args, g.body)
}
