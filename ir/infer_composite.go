package ir

import (
	"fmt"
	"slices"
)

// This file owns type inference of composites.

func inferLinear(args []Type, attrs any) (Type, error) {
	a, x, w := attrs.(*LinearAttrs), args[0], args[1]
	if err := wantFloats(args, "x", "w", "bias"); err != nil {
		return Type{}, err
	}
	if x.Rank() != 2 || w.Rank() != 2 || !x.Dims[1].Equal(w.Dims[1]) {
		return Type{}, fmt.Errorf("x and w have types %s and %s, want [T,K] and [N,K]", x, w)
	}
	if len(args) == 3 {
		if err := wantDims("bias", args[2], w.Dims[0]); err != nil {
			return Type{}, err
		}
	}
	if a.Acc.or(F32) != F32 {
		return Type{}, fmt.Errorf("acc is %s, want f32", a.Acc)
	}
	out, err := wantOut(a.Out, x.DType)
	return Type{out, []Dim{x.Dims[0], w.Dims[0]}}, err
}

func inferNorm(args []Type, attrs any) (Type, error) {
	a, x := attrs.(*NormAttrs), args[0]
	if err := wantFloats(args, "x", "gain", "bias"); err != nil {
		return Type{}, err
	}
	if x.Rank() < 1 {
		return Type{}, fmt.Errorf("x has type %s, want rank 1 or more", x)
	}
	for i, name := range []string{"gain", "bias"}[:len(args)-1] {
		if err := wantDims(name, args[i+1], x.Last()); err != nil {
			return Type{}, err
		}
	}
	if !(a.Eps > 0) {
		return Type{}, fmt.Errorf("eps is %v, want a positive number", a.Eps)
	}
	out, err := wantOut(a.Out, x.DType)
	return x.WithDType(out), err
}

// inferOut is for functions of one float tensor that keep its dims.
func inferOut(args []Type, attrs any) (Type, error) {
	if err := wantFloat("argument", args[0]); err != nil {
		return Type{}, err
	}
	out, err := wantOut(attrs.(*OutAttrs).Out, args[0].DType)
	return args[0].WithDType(out), err
}

func inferQuantize(args []Type, _ any) (Type, error) {
	if args[0].Rank() < 1 {
		return Type{}, fmt.Errorf("argument has type %s, want rank 1 or more", args[0])
	}
	return args[0].WithDType(F32), wantFloat("argument", args[0])
}

func inferSoftmax(args []Type, attrs any) (Type, error) {
	if args[0].Rank() < 1 {
		return Type{}, fmt.Errorf("argument has type %s, want rank 1 or more", args[0])
	}
	return inferOut(args, attrs)
}

func inferGlu(args []Type, attrs any) (Type, error) {
	a := attrs.(*GluAttrs)
	if err := wantFloats(args, "gate", "up"); err != nil {
		return Type{}, err
	}
	if err := wantDims("up", args[1], args[0].Dims...); err != nil {
		return Type{}, err
	}
	if !slices.Contains(gluActs, a.act()) {
		return Type{}, fmt.Errorf("act is %q, want silu or gelu", a.Act)
	}
	out, err := wantOut(a.Out, args[0].DType)
	return args[0].WithDType(out), err
}

// gluActs are the composites that glu may apply.
var gluActs = []string{"silu", "gelu"}

func (a *GluAttrs) act() string {
	if a.Act == "" {
		return gluActs[0]
	}
	return a.Act
}

// headDim returns D of a [T,heads*D] tensor.
func headDim(what string, t Type, heads int) (int, error) {
	if err := wantRank(what, t, 2); err != nil {
		return 0, err
	}
	n, ok := t.Dims[1].IsConst()
	if heads < 1 || !ok || n < heads || n%heads != 0 {
		return 0, fmt.Errorf("%s has type %s, which does not split into %d heads", what, t, heads)
	}
	return n / heads, nil
}

func inferRope(args []Type, attrs any) (Type, error) {
	a, x := attrs.(*RopeAttrs), args[0]
	if err := wantFloat("x", x); err != nil {
		return Type{}, err
	}
	d, err := headDim("x", x, a.Heads)
	if err != nil {
		return Type{}, err
	}
	if d%2 != 0 {
		return Type{}, fmt.Errorf("x has %d elements in each head, want an even number", d)
	}
	if pos := args[1]; pos.DType != I32 || !dimsEqual(pos.Dims, x.Dims[:1]) {
		return Type{}, fmt.Errorf("positions have type %s, want i32[%s]", pos, x.Dims[0])
	}
	if !(a.Theta > 0) {
		return Type{}, fmt.Errorf("theta is %v, want a positive number", a.Theta)
	}
	out, err := wantOut(a.Out, x.DType)
	return x.WithDType(out), err
}

func (a *AttentionAttrs) kvHeads() int {
	if a.KVHeads == 0 {
		return a.Heads
	}
	return a.KVHeads
}

func inferAttention(args []Type, attrs any) (Type, error) {
	a, q, offsets := attrs.(*AttentionAttrs), args[0], args[3]
	if err := wantFloats(args[:3], "q", "k", "v"); err != nil {
		return Type{}, err
	}
	d, err := headDim("q", q, a.Heads)
	if err != nil {
		return Type{}, err
	}
	kv := a.kvHeads()
	if kv < 1 || a.Heads%kv != 0 {
		return Type{}, fmt.Errorf("%d heads do not split over %d key heads", a.Heads, a.KVHeads)
	}
	for i, name := range []string{"k", "v"} {
		if err := wantDims(name, args[i+1], q.Dims[0], Const(kv*d)); err != nil {
			return Type{}, err
		}
	}
	if offsets.DType != I32 || offsets.Rank() != 1 {
		return Type{}, fmt.Errorf("offsets have type %s, want i32[B+1]", offsets)
	}
	if n, ok := offsets.Dims[0].IsConst(); ok && n < 2 {
		return Type{}, fmt.Errorf("offsets have type %s, want at least 2 elements", offsets)
	}
	if !(a.Scale >= 0) {
		return Type{}, fmt.Errorf("scale is %v, want a positive number", a.Scale)
	}
	out, err := wantOut(a.Out, q.DType)
	return q.WithDType(out), err
}
