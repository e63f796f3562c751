package ir

import "math"

// This file owns the definitions of composites. All of them compute in f32
// and convert the result once, to the type of the composite's value.

// cast converts x unless it has that type already.
func (b *Builder) cast(x *Value, to DType) *Value {
	if x.Type.DType == to {
		return x
	}
	return b.Op("cast", &CastAttrs{To: to}, x)
}

func (b *Builder) reshape(x *Value, dims ...Dim) *Value {
	return b.Op("reshape", &ShapeAttrs{Shape: dims}, x)
}

func (b *Builder) slice(x *Value, axis int, start, stop Dim) *Value {
	return b.Op("slice", &SliceAttrs{Axis: axis, Start: start, Stop: stop}, x)
}

// reduceRow reduces the last axis of x.
func (b *Builder) reduceRow(op string, x *Value) *Value {
	return b.Op("reduce", &ReduceAttrs{Op: op, Axis: x.Type.Rank() - 1}, x)
}

func decomposeLinear(b *Builder, v *Value, args []*Value) *Value {
	r := b.Op("dot", &DotAttrs{Out: F32}, args[0], args[1])
	if len(args) == 3 {
		r = b.Op("add", nil, r, b.cast(args[2], F32))
	}
	return b.cast(r, v.Type.DType)
}

// scaleRow returns x·rsqrt(mean(x²)+eps) over the last axis. The mean divides
// by a sum of ones, so that it needs no value of a symbolic dim.
func (b *Builder) scaleRow(x *Value, eps float64) *Value {
	mean := b.meanRow(b.Op("mul", nil, x, x))
	return b.Op("mul", nil, x, b.Op("rsqrt", nil, b.Op("add", nil, mean, b.Const(F32, eps))))
}

func (b *Builder) meanRow(x *Value) *Value {
	sum := b.reduceRow("sum", x)
	if n, ok := x.Type.Last().IsConst(); ok {
		return b.Op("div", nil, sum, b.Const(F32, float64(n)))
	}
	ones := b.Op("broadcast", &ShapeAttrs{Shape: []Dim{x.Type.Last()}}, b.Const(F32, 1))
	return b.Op("div", nil, sum, b.reduceRow("sum", ones))
}

func decomposeRMSNorm(b *Builder, v *Value, args []*Value) *Value {
	y := b.scaleRow(b.cast(args[0], F32), v.Attrs.(*NormAttrs).Eps)
	return b.cast(b.Op("mul", nil, y, b.cast(args[1], F32)), v.Type.DType)
}

func decomposeLayerNorm(b *Builder, v *Value, args []*Value) *Value {
	x := b.cast(args[0], F32)
	y := b.scaleRow(b.Op("sub", nil, x, b.meanRow(x)), v.Attrs.(*NormAttrs).Eps)
	y = b.Op("mul", nil, y, b.cast(args[1], F32))
	if len(args) == 3 {
		y = b.Op("add", nil, y, b.cast(args[2], F32))
	}
	return b.cast(y, v.Type.DType)
}

func (b *Builder) softmaxRow(x *Value) *Value {
	e := b.Op("exp", nil, b.Op("sub", nil, x, b.reduceRow("max", x)))
	return b.Op("div", nil, e, b.reduceRow("sum", e))
}

func decomposeSoftmax(b *Builder, v *Value, args []*Value) *Value {
	return b.cast(b.softmaxRow(b.cast(args[0], F32)), v.Type.DType)
}

func decomposeSilu(b *Builder, v *Value, args []*Value) *Value {
	x := b.cast(args[0], F32)
	return b.cast(b.Op("mul", nil, x, b.Op("sigmoid", nil, x)), v.Type.DType)
}

func decomposeGelu(b *Builder, v *Value, args []*Value) *Value {
	x := b.cast(args[0], F32)
	e := b.Op("erf", nil, b.Op("mul", nil, x, b.Const(F32, math.Sqrt2/2)))
	h := b.Op("mul", nil, x, b.Const(F32, 0.5))
	return b.cast(b.Op("mul", nil, h, b.Op("add", nil, e, b.Const(F32, 1))), v.Type.DType)
}

func decomposeGlu(b *Builder, v *Value, args []*Value) *Value {
	gate := b.Op(v.Attrs.(*GluAttrs).act(), &OutAttrs{Out: F32}, args[0])
	return b.cast(b.Op("mul", nil, gate, b.cast(args[1], F32)), v.Type.DType)
}

func decomposeRope(b *Builder, v *Value, args []*Value) *Value {
	a, x := v.Attrs.(*RopeAttrs), b.cast(args[0], F32)
	t := v.Type.Dims[0]
	width, _ := v.Type.Dims[1].IsConst()
	heads, d, half := Const(a.Heads), Const(width/a.Heads), Const(width/a.Heads/2)

	// angle[t,j] = pos[t]·theta^(−2j/D)
	j := b.Op("iota", &IotaAttrs{Shape: []Dim{half}})
	rate := b.Op("mul", nil, j, b.Const(F32, -2*math.Log(a.Theta)*float64(a.Heads)/float64(width)))
	pos := b.reshape(b.cast(args[1], F32), t, Const(1))
	pos = b.Op("broadcast", &ShapeAttrs{Shape: []Dim{t, half}}, pos)
	angle := b.reshape(b.Op("mul", nil, pos, b.Op("exp", nil, rate)), t, Const(1), half)
	cos, sin := b.Op("cos", nil, angle), b.Op("sin", nil, angle)

	x = b.reshape(x, t, heads, d)
	lo, hi := b.slice(x, 2, Const(0), half), b.slice(x, 2, half, d)
	y0 := b.Op("sub", nil, b.Op("mul", nil, lo, cos), b.Op("mul", nil, hi, sin))
	y1 := b.Op("add", nil, b.Op("mul", nil, hi, cos), b.Op("mul", nil, lo, sin))
	y := b.Op("concat", &AxisAttrs{Axis: 2}, y0, y1)
	return b.cast(b.reshape(y, v.Type.Dims...), v.Type.DType)
}

func decomposeAttention(b *Builder, v *Value, args []*Value) *Value {
	a := v.Attrs.(*AttentionAttrs)
	t := v.Type.Dims[0]
	width, _ := v.Type.Dims[1].IsConst()
	kv, share, d := a.kvHeads(), a.Heads/a.kvHeads(), width/a.Heads
	scale := a.Scale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(d))
	}
	perm := func(x *Value, p ...int) *Value { return b.Op("transpose", &TransposeAttrs{Perm: p}, x) }

	// The heads that share a key head are rows of one matrix: q becomes [kv, share·T, D].
	rows := Const(share).Mul(t)
	q := perm(b.reshape(b.cast(args[0], F32), t, Const(kv), Const(share), Const(d)), 1, 2, 0, 3)
	q = b.reshape(q, Const(kv), rows, Const(d))
	k := perm(b.reshape(b.cast(args[1], F32), t, Const(kv), Const(d)), 1, 0, 2)
	vt := perm(b.reshape(b.cast(args[2], F32), t, Const(kv), Const(d)), 1, 2, 0)

	s := b.Op("mul", nil, b.Op("dot", &DotAttrs{Out: F32}, q, k), b.Const(F32, scale))
	s = b.reshape(s, Const(kv), Const(share), t, t)
	s = b.Op("select", nil, b.sameSequence(t, args[3]), s, b.Const(F32, math.Inf(-1)))
	p := b.reshape(b.softmaxRow(s), Const(kv), rows, t)
	y := b.reshape(b.Op("dot", nil, p, vt), Const(kv), Const(share), t, Const(d))
	return b.cast(b.reshape(perm(y, 2, 0, 1, 3), v.Type.Dims...), v.Type.DType)
}

// sameSequence returns bool[t,t]: whether two tokens belong to one sequence.
// The sequence of token i is the number of sequence ends at or before i.
func (b *Builder) sameSequence(t Dim, offsets *Value) *Value {
	n := offsets.Type.Dims[0].Sub(Const(1))
	ends := b.Op("broadcast", &ShapeAttrs{Shape: []Dim{t, n}}, b.slice(offsets, 0, Const(1), n.Add(Const(1))))
	token := b.Op("iota", &IotaAttrs{Shape: []Dim{t, n}, DType: I32})
	passed := b.Op("select", nil, b.Op("cmp", &CmpAttrs{Op: "le"}, ends, token), b.Const(I32, 1), b.Const(I32, 0))
	seq := b.reduceRow("sum", passed)
	row := b.Op("broadcast", &ShapeAttrs{Shape: []Dim{t, t}}, seq)
	col := b.Op("broadcast", &ShapeAttrs{Shape: []Dim{t, t}}, b.reshape(seq, t))
	return b.Op("cmp", &CmpAttrs{Op: "eq"}, row, col)
}

func decomposeQuantize(b *Builder, _ *Value, args []*Value) *Value {
	x := b.cast(args[0], F32)
	most := b.reduceRow("max", b.Op("max", nil, x, b.Op("neg", nil, x)))
	most = b.Op("max", nil, most, b.Const(F32, 0x1p-100))
	codes := b.cast(b.Op("div", nil, b.Op("mul", nil, x, b.Const(F32, 127)), most), I8)
	return b.Op("mul", nil, b.cast(codes, F32), b.Op("div", nil, most, b.Const(F32, 127)))
}

// Expand replaces composite v by its definition and returns the new value.
// v stays in the graph, without users, until Prune.
func (g *Graph) Expand(v *Value) (*Value, error) {
	b := g.BuildBefore(v)
	r := v.Op.Decompose(b, v, v.Args)
	if err := b.Err(); err != nil {
		return nil, err
	}
	g.Replace(v, r)
	return r, nil
}
