package ir

// This file owns the op table: every op is declared here, once.

// attrs returns a constructor of zero attributes.
func attrs[T any]() func() any { return func() any { return new(T) } }

func table() []*Op {
	return []*Op{
		// Sources.
		{Name: "input", Kind: Source, NewAttrs: attrs[SourceAttrs](),
			Doc: "A tensor given by the caller. The name in quotes is the caller's name for it. The shapes of the inputs give the symbols their values."},
		{Name: "weight", Kind: Source, NewAttrs: attrs[SourceAttrs](),
			Doc: "A tensor from the checkpoint. The name in quotes is its name there."},
		{Name: "const", Kind: Source, NewAttrs: attrs[ConstAttrs](), Infer: inferConst, Eval: evalConst,
			Doc: "The scalar `value`, rounded to `dtype`. Infinities are written inf and -inf."},
		{Name: "iota", Kind: Source, NewAttrs: attrs[IotaAttrs](), Infer: inferIota, Eval: evalIota,
			Doc: "A tensor of the given shape in which each element is its own index along `axis`."},

		// Shape ops.
		{Name: "reshape", Kind: Shape, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, NewAttrs: attrs[ShapeAttrs](), Infer: inferReshape, Eval: evalCopy,
			Doc: "The elements of x in row-major order with the dims `shape`, whose product must be the same polynomial."},
		{Name: "transpose", Kind: Shape, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, NewAttrs: attrs[TransposeAttrs](), Infer: inferTranspose, Eval: evalTranspose,
			Doc: "x with its axes permuted: axis i of the result is axis `perm[i]` of x."},
		{Name: "slice", Kind: Shape, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, NewAttrs: attrs[SliceAttrs](), Infer: inferSlice, Eval: evalSlice,
			Doc: "The indices `start` to `stop`-1 of x along `axis`. Both ends are dims and may contain symbols."},
		{Name: "broadcast", Kind: Shape, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, NewAttrs: attrs[ShapeAttrs](), Infer: inferBroadcast, Eval: evalBroadcast,
			Doc: "x repeated to the dims `shape`. Dims are aligned at the last axis; each dim of x equals that of the result or is the constant 1, and missing leading dims count as 1."},
		{Name: "concat", Kind: Shape, Args: []string{"x…"}, MinArgs: 1, MaxArgs: -1, NewAttrs: attrs[AxisAttrs](), Infer: inferConcat, Eval: evalConcat,
			Doc: "The arguments one after the other along `axis`. They agree in element type and in all other dims."},

		// Primitives.
		{Name: "cast", Kind: Primitive, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, NewAttrs: attrs[CastAttrs](), Infer: inferCast, Eval: evalCopy, Elementwise: true, RowLocal: true,
			Doc: "x converted to element type `to`. Floats round to nearest, ties to even. Integers do so too, saturate, and take NaN to 0. Any number other than 0 is true."},
		unary("neg", inferArith, "−x."),
		unary("exp", inferFloatUnary, "e to the power x."),
		unary("log", inferFloatUnary, "The natural logarithm of x."),
		unary("sin", inferFloatUnary, "The sine of x, in radians."),
		unary("cos", inferFloatUnary, "The cosine of x, in radians."),
		unary("tanh", inferFloatUnary, "The hyperbolic tangent of x."),
		unary("erf", inferFloatUnary, "The error function of x."),
		unary("sigmoid", inferFloatUnary, "1/(1+e^−x)."),
		unary("rsqrt", inferFloatUnary, "1/√x."),
		binary("add", inferArith, true, "a+b."),
		binary("sub", inferArith, false, "a−b."),
		binary("mul", inferArith, true, "a·b."),
		binary("div", inferDiv, false, "a/b, for floats."),
		binary("max", inferArith, true, "The larger of a and b; NaN when either is NaN."),
		{Name: "cmp", Kind: Primitive, Args: []string{"a", "b"}, MinArgs: 2, MaxArgs: 2, NewAttrs: attrs[CmpAttrs](), Infer: inferCmp, Eval: evalCmp, Elementwise: true, RowLocal: true,
			Doc: "Whether a is equal to (`op=eq`), less than (`lt`) or less than or equal to (`le`) b, as bool. " + broadcastDoc},
		{Name: "select", Kind: Primitive, Args: []string{"cond", "a", "b"}, MinArgs: 3, MaxArgs: 3, Infer: inferSelect, Eval: evalSelect, Elementwise: true, RowLocal: true,
			Doc: "a where cond is true, b elsewhere. " + broadcastDoc},
		{Name: "reduce", Kind: Primitive, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, NewAttrs: attrs[ReduceAttrs](), Infer: inferReduce, Eval: evalReduce,
			Doc: "The sum (`op=sum`) or maximum (`op=max`) of x along `axis`. The reduced axis stays, with dim 1, so that the result broadcasts against x."},
		{Name: "dot", Kind: Primitive, Args: []string{"a", "b"}, MinArgs: 2, MaxArgs: 2, NewAttrs: attrs[DotAttrs](), Infer: inferDot, Eval: evalDot,
			Doc: "Products of rows: for a [batch…,M,K] and b [batch…,N,K] the result is [batch…,M,N] with r[m,n] = Σ_k a[m,k]·b[n,k], that is a·bᵀ. Both arguments are floats, not necessarily of one type, or both are i8. Products are exact and summed in the accumulator type `acc`; the sum is rounded once, to `out`."},
		{Name: "gather", Kind: Primitive, Args: []string{"table", "ids"}, MinArgs: 2, MaxArgs: 2, Infer: inferGather, Eval: evalGather,
			Doc: "Row t of the result is row ids[t] of table. An id outside of the table is an error."},

		// Composites.
		{Name: "linear", Kind: Composite, Args: []string{"x", "w", "bias?"}, MinArgs: 2, MaxArgs: 3, NewAttrs: attrs[LinearAttrs](), Infer: inferLinear, Decompose: decomposeLinear,
			Doc: "x·wᵀ+bias for x [T,K], w [N,K] and bias [N]. The bias is added in f32, before the one rounding to `out`."},
		{Name: "rmsnorm", Kind: Composite, Args: []string{"x", "gain"}, MinArgs: 2, MaxArgs: 2, NewAttrs: attrs[NormAttrs](), Infer: inferNorm, Decompose: decomposeRMSNorm, RowLocal: true,
			Doc: "x/√(mean(x²)+eps)·gain over the last axis."},
		{Name: "layernorm", Kind: Composite, Args: []string{"x", "gain", "bias?"}, MinArgs: 2, MaxArgs: 3, NewAttrs: attrs[NormAttrs](), Infer: inferNorm, Decompose: decomposeLayerNorm, RowLocal: true,
			Doc: "(x−mean(x))/√(variance(x)+eps)·gain+bias over the last axis, where the variance is the mean of (x−mean(x))²."},
		{Name: "softmax", Kind: Composite, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, NewAttrs: attrs[OutAttrs](), Infer: inferSoftmax, Decompose: decomposeSoftmax, RowLocal: true,
			Doc: "e^(x−max(x)) divided by its sum, over the last axis."},
		{Name: "rope", Kind: Composite, Args: []string{"x", "pos"}, MinArgs: 2, MaxArgs: 2, NewAttrs: attrs[RopeAttrs](), Infer: inferRope, Decompose: decomposeRope, RowLocal: true,
			Doc: "Rotary position embedding of x [T,heads·D] at positions pos [T]. In each head, element j of the first half and element j+D/2 of the second are a pair: y[j] = x[j]·cos(α)−x[j+D/2]·sin(α) and y[j+D/2] = x[j+D/2]·cos(α)+x[j]·sin(α), with α = pos·theta^(−2j/D)."},
		{Name: "silu", Kind: Composite, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, NewAttrs: attrs[OutAttrs](), Infer: inferOut, Decompose: decomposeSilu, Elementwise: true, RowLocal: true,
			Doc: "x·sigmoid(x)."},
		{Name: "gelu", Kind: Composite, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, NewAttrs: attrs[OutAttrs](), Infer: inferOut, Decompose: decomposeGelu, Elementwise: true, RowLocal: true,
			Doc: "x/2·(1+erf(x/√2)), the exact form."},
		{Name: "glu", Kind: Composite, Args: []string{"gate", "up"}, MinArgs: 2, MaxArgs: 2, NewAttrs: attrs[GluAttrs](), Infer: inferGlu, Decompose: decomposeGlu, Elementwise: true, RowLocal: true,
			Doc: "act(gate)·up, where `act` is silu or gelu."},
		{Name: "quantize", Kind: Composite, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, Infer: inferQuantize, Decompose: decomposeQuantize, RowLocal: true,
			Doc: "x with each row (last axis) rounded to 8 bits: round(x/s)·s as f32, where s is the largest magnitude of the row, or 2^−100 if that is more, divided by 127. A kernel works with the codes, the integers round(x/s), and the scale s."},
		{Name: "attention", Kind: Composite, Args: []string{"q", "k", "v", "offsets"}, MinArgs: 4, MaxArgs: 4, NewAttrs: attrs[AttentionAttrs](), Infer: inferAttention, Decompose: decomposeAttention,
			Doc: "Attention within packed sequences: q is [T,heads·D], k and v are [T,kvheads·D], and sequence i is tokens offsets[i] to offsets[i+1]-1. A token attends to all tokens of its own sequence and to no other. Head h uses key head h/(heads/kvheads). Its result is softmax(scale·q·kᵀ)·v; `scale` is 1/√D when not given."},

		{Name: "group", Kind: Group, MaxArgs: -1, NewAttrs: attrs[GroupAttrs](),
			Doc: "A fusion group, written `group kind @label(%args) { body }`. The body sees the arguments as %p0, %p1, …, nothing else of the graph, and ends with `yield %result`."},
	}
}

const broadcastDoc = "One argument has the result's dims and the others broadcast to it: dims are aligned at the last axis, and a dim that is missing or the constant 1 repeats."

type inferFunc = func(args []Type, attrs any) (Type, error)

func unary(name string, infer inferFunc, doc string) *Op {
	return &Op{Name: name, Kind: Primitive, Args: []string{"x"}, MinArgs: 1, MaxArgs: 1, Infer: infer, Eval: evalUnary(unaryFuncs[name]),
		Elementwise: true, RowLocal: true, Doc: doc}
}

func binary(name string, infer inferFunc, commutative bool, doc string) *Op {
	return &Op{Name: name, Kind: Primitive, Args: []string{"a", "b"}, MinArgs: 2, MaxArgs: 2, Infer: infer, Eval: evalBinary(binaryFuncs[name]),
		Elementwise: true, RowLocal: true, Commutative: commutative, Doc: doc + " " + broadcastDoc}
}
