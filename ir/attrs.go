package ir

// This file owns the attribute structs. A field's `ir` tag is its name in the
// text form; "pos" marks a field that is written before the arguments, without
// its name. A zero field means the default and is not printed.

// SourceAttrs belongs to input and weight.
type SourceAttrs struct {
	Name string `ir:"name,pos"` // name outside the graph: of the input, or of the checkpoint tensor
}

// ConstAttrs belongs to const.
type ConstAttrs struct {
	Value float64 `ir:"value,pos"`
	DType DType   `ir:"dtype"` // default f32
}

// IotaAttrs belongs to iota.
type IotaAttrs struct {
	Shape []Dim `ir:"shape"`
	Axis  int   `ir:"axis"`
	DType DType `ir:"dtype"` // default f32
}

// ShapeAttrs belongs to reshape and broadcast.
type ShapeAttrs struct {
	Shape []Dim `ir:"shape"`
}

// TransposeAttrs belongs to transpose.
type TransposeAttrs struct {
	Perm []int `ir:"perm"` // result axis i is argument axis Perm[i]
}

// SliceAttrs belongs to slice.
type SliceAttrs struct {
	Axis  int `ir:"axis"`
	Start Dim `ir:"start"`
	Stop  Dim `ir:"stop"` // first index that is not taken
}

// AxisAttrs belongs to concat.
type AxisAttrs struct {
	Axis int `ir:"axis"`
}

// CastAttrs belongs to cast.
type CastAttrs struct {
	To DType `ir:"to"`
}

// CmpAttrs belongs to cmp.
type CmpAttrs struct {
	Op string `ir:"op"` // eq, lt or le
}

// ReduceAttrs belongs to reduce.
type ReduceAttrs struct {
	Op   string `ir:"op"` // sum or max
	Axis int    `ir:"axis"`
}

// DotAttrs belongs to dot and linear.
type DotAttrs struct {
	Acc DType `ir:"acc"` // accumulator: f32 (default), or i32 (default for i8 arguments of dot)
	Out DType `ir:"out"` // default: element type of the first argument
}

// LinearAttrs belongs to linear.
type LinearAttrs = DotAttrs

// NormAttrs belongs to rmsnorm and layernorm.
type NormAttrs struct {
	Eps float64 `ir:"eps"` // must be positive
	Out DType   `ir:"out"` // default: element type of the first argument
}

// OutAttrs belongs to softmax, silu and gelu.
type OutAttrs struct {
	Out DType `ir:"out"` // default: element type of the first argument
}

// RopeAttrs belongs to rope.
type RopeAttrs struct {
	Heads int     `ir:"heads"`
	Theta float64 `ir:"theta"` // must be positive
	Out   DType   `ir:"out"`   // default: element type of the first argument
}

// GluAttrs belongs to glu.
type GluAttrs struct {
	Act string `ir:"act"` // silu (default) or gelu
	Out DType  `ir:"out"` // default: element type of the first argument
}

// AttentionAttrs belongs to attention.
type AttentionAttrs struct {
	Heads   int     `ir:"heads"`
	KVHeads int     `ir:"kvheads"` // default: Heads
	Scale   float64 `ir:"scale"`   // default: 1/sqrt(D)
	Out     DType   `ir:"out"`     // default: element type of the first argument
}

// GroupAttrs belongs to group and has a syntax of its own.
type GroupAttrs struct {
	Kind  string
	Label string
}
