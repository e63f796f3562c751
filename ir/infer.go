package ir

import (
	"fmt"
	"reflect"
	"slices"
)

// This file owns type inference of sources, shape ops and primitives. Each
// function checks arguments and attributes and returns the result type.

// checkCall checks the number of v's arguments and the type of its attributes.
func checkCall(v *Value) error {
	op, n := v.Op, len(v.Args)
	if n < op.MinArgs || op.MaxArgs >= 0 && n > op.MaxArgs {
		return fmt.Errorf("%s: has %d arguments, takes %s", op.Name, n, op.arity())
	}
	if slices.Contains(v.Args, nil) {
		return fmt.Errorf("%s: has a nil argument", op.Name)
	}
	var want any
	if op.NewAttrs != nil {
		want = op.NewAttrs()
	}
	if reflect.TypeOf(v.Attrs) != reflect.TypeOf(want) {
		return fmt.Errorf("%s: has attributes of type %T, takes %T", op.Name, v.Attrs, want)
	}
	return nil
}

func (op *Op) arity() string {
	switch {
	case op.MaxArgs < 0:
		return fmt.Sprintf("at least %d", op.MinArgs)
	case op.MinArgs == op.MaxArgs:
		return fmt.Sprint(op.MinArgs)
	}
	return fmt.Sprintf("%d to %d", op.MinArgs, op.MaxArgs)
}

// or returns d, or def when d is not set.
func (d DType) or(def DType) DType {
	if d == 0 {
		return def
	}
	return d
}

func wantRank(what string, t Type, rank int) error {
	if t.Rank() != rank {
		return fmt.Errorf("%s has type %s, want rank %d", what, t, rank)
	}
	return nil
}

func wantFloat(what string, t Type) error {
	if !t.DType.IsFloat() {
		return fmt.Errorf("%s has type %s, want a float type", what, t)
	}
	return nil
}

// wantFloats checks args in order against names.
func wantFloats(args []Type, names ...string) error {
	for i, t := range args {
		if err := wantFloat(names[i], t); err != nil {
			return err
		}
	}
	return nil
}

func wantDims(what string, t Type, dims ...Dim) error {
	if !dimsEqual(t.Dims, dims) {
		return fmt.Errorf("%s has type %s, want dims %s", what, t, formatDims(dims))
	}
	return nil
}

func wantAxis(axis int, t Type) error {
	if axis < 0 || axis >= t.Rank() {
		return fmt.Errorf("axis %d is outside of type %s", axis, t)
	}
	return nil
}

// wantOut returns out, or def when out is not set, checked to be a float type.
func wantOut(out, def DType) (DType, error) {
	if d := out.or(def); d.IsFloat() {
		return d, nil
	}
	return 0, fmt.Errorf("out is %s, want a float type", out.or(def))
}

func inferConst(_ []Type, attrs any) (Type, error) {
	return Type{DType: attrs.(*ConstAttrs).DType.or(F32)}, nil
}

func inferIota(_ []Type, attrs any) (Type, error) {
	a := attrs.(*IotaAttrs)
	t := Type{DType: a.DType.or(F32), Dims: a.Shape}
	if t.DType == Bool {
		return Type{}, fmt.Errorf("dtype is bool, want a number type")
	}
	return t, wantAxis(a.Axis, t)
}

func inferReshape(args []Type, attrs any) (Type, error) {
	t := Type{DType: args[0].DType, Dims: attrs.(*ShapeAttrs).Shape}
	if from, to := args[0].Elems(), t.Elems(); !from.Equal(to) {
		return Type{}, fmt.Errorf("%s has %s elements, shape %s has %s", args[0], from, formatDims(t.Dims), to)
	}
	return t, nil
}

func inferBroadcast(args []Type, attrs any) (Type, error) {
	t := Type{DType: args[0].DType, Dims: attrs.(*ShapeAttrs).Shape}
	if !broadcastsTo(args[0].Dims, t.Dims) {
		return Type{}, fmt.Errorf("%s does not broadcast to shape %s", args[0], formatDims(t.Dims))
	}
	return t, nil
}

func inferTranspose(args []Type, attrs any) (Type, error) {
	perm, t := attrs.(*TransposeAttrs).Perm, args[0]
	seen := make([]bool, t.Rank())
	dims := make([]Dim, 0, t.Rank())
	for _, p := range perm {
		if p < 0 || p >= t.Rank() || seen[p] {
			break
		}
		seen[p] = true
		dims = append(dims, t.Dims[p])
	}
	if len(perm) != t.Rank() || len(dims) != len(perm) {
		return Type{}, fmt.Errorf("perm %v is not a permutation of the axes of %s", perm, t)
	}
	return Type{t.DType, dims}, nil
}

func inferSlice(args []Type, attrs any) (Type, error) {
	a, t := attrs.(*SliceAttrs), args[0]
	if err := wantAxis(a.Axis, t); err != nil {
		return Type{}, err
	}
	n := t.Dims[a.Axis]
	// Only differences without symbols can be checked here; Eval checks the rest.
	for _, d := range []Dim{a.Start, n.Sub(a.Stop), a.Stop.Sub(a.Start)} {
		if c, ok := d.IsConst(); ok && c < 0 || !d.Valid() {
			return Type{}, fmt.Errorf("range %s..%s is outside of axis %d of %s", a.Start, a.Stop, a.Axis, t)
		}
	}
	dims := slices.Clone(t.Dims)
	dims[a.Axis] = a.Stop.Sub(a.Start)
	return Type{t.DType, dims}, nil
}

func inferConcat(args []Type, attrs any) (Type, error) {
	axis, t := attrs.(*AxisAttrs).Axis, args[0]
	if err := wantAxis(axis, t); err != nil {
		return Type{}, err
	}
	dims := slices.Clone(t.Dims)
	for i, u := range args[1:] {
		if u.Rank() != t.Rank() {
			return Type{}, fmt.Errorf("argument %d has type %s, the first has %s", i+1, u, t)
		}
		sum := dims[axis].Add(u.Dims[axis])
		dims[axis] = u.Dims[axis]
		if u.DType != t.DType || !dimsEqual(u.Dims, dims) {
			return Type{}, fmt.Errorf("argument %d has type %s, which differs from %s off axis %d", i+1, u, t, axis)
		}
		dims[axis] = sum
	}
	return Type{t.DType, dims}, nil
}

func inferCast(args []Type, attrs any) (Type, error) {
	to := attrs.(*CastAttrs).To
	if !to.Valid() {
		return Type{}, fmt.Errorf("attribute to is not set")
	}
	return args[0].WithDType(to), nil
}

// inferFloatUnary is for functions of one float.
func inferFloatUnary(args []Type, _ any) (Type, error) {
	return args[0], wantFloat("argument", args[0])
}

// inferArith is for one or two numbers of one type.
func inferArith(args []Type, _ any) (Type, error) {
	if args[0].DType == Bool {
		return Type{}, fmt.Errorf("argument has type %s, want a number type", args[0])
	}
	return inferSame(args)
}

func inferDiv(args []Type, _ any) (Type, error) {
	if err := wantFloat("argument", args[0]); err != nil {
		return Type{}, err
	}
	return inferSame(args)
}

// inferSame requires one element type and shapes that broadcast to one of them.
func inferSame(args []Type) (Type, error) {
	for _, t := range args[1:] {
		if t.DType != args[0].DType {
			return Type{}, fmt.Errorf("arguments have types %s and %s, want one element type", args[0], t)
		}
	}
	dims, err := broadcastDims(args)
	return Type{args[0].DType, dims}, err
}

func inferCmp(args []Type, attrs any) (Type, error) {
	if a := attrs.(*CmpAttrs); cmpFuncs[a.Op] == nil {
		return Type{}, fmt.Errorf("attribute op is %q, want eq, lt or le", a.Op)
	}
	t, err := inferSame(args)
	return t.WithDType(Bool), err
}

func inferSelect(args []Type, _ any) (Type, error) {
	if args[0].DType != Bool {
		return Type{}, fmt.Errorf("condition has type %s, want bool", args[0])
	}
	if args[1].DType != args[2].DType {
		return Type{}, fmt.Errorf("branches have types %s and %s, want one element type", args[1], args[2])
	}
	dims, err := broadcastDims(args)
	return Type{args[1].DType, dims}, err
}

func inferReduce(args []Type, attrs any) (Type, error) {
	a, t := attrs.(*ReduceAttrs), args[0]
	if _, ok := reduceFuncs[a.Op]; !ok {
		return Type{}, fmt.Errorf("attribute op is %q, want sum or max", a.Op)
	}
	if t.DType == Bool {
		return Type{}, fmt.Errorf("argument has type %s, want a number type", t)
	}
	if err := wantAxis(a.Axis, t); err != nil {
		return Type{}, err
	}
	dims := slices.Clone(t.Dims)
	dims[a.Axis] = Const(1)
	return Type{t.DType, dims}, nil
}

func inferDot(args []Type, attrs any) (Type, error) {
	at, x, y := attrs.(*DotAttrs), args[0], args[1]
	r := x.Rank()
	if r < 2 || y.Rank() != r || !dimsEqual(x.Dims[:r-2], y.Dims[:r-2]) || !x.Last().Equal(y.Last()) {
		return Type{}, fmt.Errorf("arguments have types %s and %s, want [batch…,M,K] and [batch…,N,K]", x, y)
	}
	floats, ints := x.DType.IsFloat() && y.DType.IsFloat(), x.DType == I8 && y.DType == I8
	out := at.Out.or(x.DType)
	switch {
	case !floats && !ints:
		return Type{}, fmt.Errorf("arguments have types %s and %s, want floats or i8", x, y)
	case floats && (at.Acc.or(F32) != F32 || !out.IsFloat()):
		return Type{}, fmt.Errorf("acc is %s and out is %s, want f32 and a float type", at.Acc.or(F32), out)
	case ints && (at.Acc.or(I32) != I32 || out != I32 && !out.IsFloat()):
		return Type{}, fmt.Errorf("acc is %s and out is %s, want i32 and i32 or a float type", at.Acc.or(I32), out)
	}
	dims := slices.Clone(x.Dims)
	dims[r-1] = y.Dims[r-2]
	return Type{out, dims}, nil
}

func inferGather(args []Type, _ any) (Type, error) {
	table, ids := args[0], args[1]
	if table.Rank() != 2 || ids.Rank() != 1 || ids.DType != I32 {
		return Type{}, fmt.Errorf("arguments have types %s and %s, want [V,H] and i32[T]", table, ids)
	}
	return Type{table.DType, []Dim{ids.Dims[0], table.Dims[1]}}, nil
}

// broadcastsTo reports whether a tensor with dims from can be repeated to
// fill dims to: aligned at the last axis, each of its dims is equal or 1.
func broadcastsTo(from, to []Dim) bool {
	if len(from) > len(to) {
		return false
	}
	to = to[len(to)-len(from):]
	for i, d := range from {
		if n, ok := d.IsConst(); !(ok && n == 1) && !d.Equal(to[i]) {
			return false
		}
	}
	return true
}

// broadcastDims returns the dims of the argument that all others broadcast to.
func broadcastDims(args []Type) ([]Dim, error) {
	for _, t := range args {
		if !slices.ContainsFunc(args, func(u Type) bool { return !broadcastsTo(u.Dims, t.Dims) }) {
			return t.Dims, nil
		}
	}
	s := args[0].String()
	for _, t := range args[1:] {
		s += " and " + t.String()
	}
	return nil, fmt.Errorf("arguments have types %s, which do not broadcast to one of them", s)
}
