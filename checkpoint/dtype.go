package checkpoint

// This file owns the element types of the safetensors format.

import (
	"fmt"
	"math/bits"
	"sort"
	"strings"
)

// DType is an element type as safetensors spells it.
type DType string

// The element types of weights. Other types occur in files (token ids, masks) and are readable
// as bytes, but no weight has them.
const (
	F32  DType = "F32"
	BF16 DType = "BF16"
	F16  DType = "F16"
	I8   DType = "I8" // of packed codes
)

// dtypeSizes are the element types that a file may contain, with their size in bytes.
var dtypeSizes = map[DType]int64{
	F32: 4, BF16: 2, F16: 2,
	"F64": 8, "I64": 8, "U64": 8, "I32": 4, "U32": 4, "I16": 2, "U16": 2,
	I8: 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}

// Size returns the number of bytes of one element, 0 for an unknown type.
func (d DType) Size() int64 { return dtypeSizes[d] }

// IsWeight reports whether weights may have this type.
func (d DType) IsWeight() bool { return d == F32 || d == BF16 || d == F16 }

func knownDTypes() string {
	var names []string
	for d := range dtypeSizes {
		names = append(names, string(d))
	}
	sort.Strings(names)
	return strings.Join(names, ", ")
}

// byteSize returns the number of bytes of a tensor, or an error where it does not fit in 63 bits.
func byteSize(d DType, shape []int) (int64, error) {
	n := uint64(d.Size())
	for _, x := range shape {
		hi, lo := bits.Mul64(n, uint64(x))
		if hi != 0 || lo > 1<<62 {
			return 0, fmt.Errorf("shape %v of %s is too large", shape, d)
		}
		n = lo
	}
	return int64(n), nil
}
