package checkpoint

// This file owns the conversion between the bytes of a tensor and numbers. Rounding is to
// nearest, ties to even (internal/num).

import (
	"encoding/binary"
	"math"

	"github.com/bertc/bertc/internal/num"
)

// decoders turn the little-endian elements of src into numbers, as many as dst holds.
var decoders = map[DType]func(dst []float32, src []byte){
	F32: func(dst []float32, src []byte) {
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	},
	BF16: func(dst []float32, src []byte) {
		for i := range dst {
			dst[i] = num.FromBF16(binary.LittleEndian.Uint16(src[2*i:]))
		}
	},
	F16: func(dst []float32, src []byte) {
		for i := range dst {
			dst[i] = num.FromF16(binary.LittleEndian.Uint16(src[2*i:]))
		}
	},
}

// encoders write numbers as little-endian elements, number i at the place base + at[i], counted
// in elements.
var encoders = map[DType]func(dst []byte, src []float32, base int, at []int){
	F32: func(dst []byte, src []float32, base int, at []int) {
		for i, v := range src {
			binary.LittleEndian.PutUint32(dst[4*(base+at[i]):], math.Float32bits(v))
		}
	},
	BF16: func(dst []byte, src []float32, base int, at []int) {
		for i, v := range src {
			binary.LittleEndian.PutUint16(dst[2*(base+at[i]):], num.BF16(v))
		}
	},
	F16: func(dst []byte, src []float32, base int, at []int) {
		for i, v := range src {
			binary.LittleEndian.PutUint16(dst[2*(base+at[i]):], num.F16(v))
		}
	},
	I8: func(dst []byte, src []float32, base int, at []int) { // of codes
		for i, v := range src {
			dst[base+at[i]] = byte(int8(v))
		}
	},
}

// Float32s returns the numbers of a tensor of weights, nil for another type.
func (t Tensor) Float32s() []float32 {
	decode := decoders[t.DType]
	if decode == nil {
		return nil
	}
	out := make([]float32, int64(len(t.Data))/t.DType.Size())
	decode(out, t.Data)
	return out
}
