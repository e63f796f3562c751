package ir

import "strings"

// This file owns tensor types.

// maxRank is the largest rank Verify accepts.
const maxRank = 8

// Type is the type of a tensor: its element type and dims. No dims means a
// scalar.
type Type struct {
	DType DType
	Dims  []Dim
}

// MakeType returns the type with the given element type and dims.
func MakeType(d DType, dims ...Dim) Type { return Type{DType: d, Dims: dims} }

// Rank returns the number of dims.
func (t Type) Rank() int { return len(t.Dims) }

// Equal reports whether t and u have the same element type and dims.
func (t Type) Equal(u Type) bool { return t.DType == u.DType && dimsEqual(t.Dims, u.Dims) }

// Elems returns the number of elements as a dim.
func (t Type) Elems() Dim { return product(t.Dims) }

// Last returns the last dim, or 1 for a scalar.
func (t Type) Last() Dim {
	if len(t.Dims) == 0 {
		return Const(1)
	}
	return t.Dims[len(t.Dims)-1]
}

// WithDType returns t with another element type.
func (t Type) WithDType(d DType) Type { return Type{DType: d, Dims: t.Dims} }

// String returns the text form, such as "bf16[T,1536]" or "f32[]".
func (t Type) String() string { return t.DType.String() + formatDims(t.Dims) }

func formatDims(dims []Dim) string {
	s := make([]string, len(dims))
	for i, d := range dims {
		s[i] = d.String()
	}
	return "[" + strings.Join(s, ",") + "]"
}

func dimsEqual(a, b []Dim) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !a[i].Equal(b[i]) {
			return false
		}
	}
	return true
}

func product(dims []Dim) Dim {
	p := Const(1)
	for _, d := range dims {
		p = p.Mul(d)
	}
	return p
}
