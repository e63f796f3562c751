package ir

// This file owns element types.

// DType is the type of one tensor element. The zero DType means "not set":
// an attribute that holds it takes its documented default.
type DType uint8

// The element types.
const (
	F32 DType = iota + 1
	BF16
	F16
	I8
	I32
	Bool
)

var dtypes = [...]struct {
	name  string
	size  int
	float bool
}{
	F32:  {"f32", 4, true},
	BF16: {"bf16", 2, true},
	F16:  {"f16", 2, true},
	I8:   {"i8", 1, false},
	I32:  {"i32", 4, false},
	Bool: {"bool", 1, false},
}

// Valid reports whether d is one of the declared element types.
func (d DType) Valid() bool { return d > 0 && int(d) < len(dtypes) }

// String returns the name used in the text form, such as "bf16".
func (d DType) String() string {
	if !d.Valid() {
		return "notype"
	}
	return dtypes[d].name
}

// Size returns the bytes one element takes in memory, 0 when d is not set.
func (d DType) Size() int {
	if !d.Valid() {
		return 0
	}
	return dtypes[d].size
}

// IsFloat reports whether d is f32, bf16 or f16.
func (d DType) IsFloat() bool { return d.Valid() && dtypes[d].float }

// IsInt reports whether d is i8 or i32.
func (d DType) IsInt() bool { return d == I8 || d == I32 }

// ParseDType returns the element type with the given name.
func ParseDType(name string) (DType, bool) {
	for d := F32; d.Valid(); d++ {
		if dtypes[d].name == name {
			return d, true
		}
	}
	return 0, false
}
