// Package num owns number formats and error measures: rounding to bf16 and
// f16, and how far apart two results are. It imports only the standard library.
//
// Start reading at RoundBF16 for formats and at Compare for measures.
package num

import "math"

// This file owns rounding to the float formats.

// A format is a binary float format with IEEE 754 encoding.
type format struct {
	bits   int // stored bits of the significand
	maxExp int // largest exponent of a finite number
}

var (
	bf16 = format{bits: 7, maxExp: 127}
	f16  = format{bits: 10, maxExp: 15}
)

// round returns the number of the format nearest to x, ties to even. Numbers
// that round beyond the largest finite one become infinite; infinities, NaN
// and the sign of zero stay.
func (f format) round(x float64) float64 {
	if x == 0 || math.IsInf(x, 0) || x != x {
		return x
	}
	exp := int(math.Float64bits(x)>>52&0x7ff) - 1023
	if minExp := 1 - f.maxExp; exp < minExp {
		// Below the normal numbers the spacing is constant.
		scale := math.Ldexp(1, f.bits-minExp)
		return math.Copysign(math.RoundToEven(x*scale)/scale, x)
	}
	drop := uint(52 - f.bits)
	u := math.Float64bits(x)
	u += 1<<(drop-1) - 1 + u>>drop&1
	y := math.Float64frombits(u &^ (1<<drop - 1))
	if math.Abs(y) >= math.Ldexp(1, f.maxExp+1) {
		return math.Inf(int(math.Copysign(1, x)))
	}
	return y
}

// RoundBF16 returns x rounded to bf16: nearest, ties to even, overflow to
// infinity, subnormals kept. The rounding is direct, not by way of f32.
func RoundBF16(x float64) float64 { return bf16.round(x) }

// RoundF16 returns x rounded to f16 under the same rules.
func RoundF16(x float64) float64 { return f16.round(x) }

// RoundF32 returns x rounded to f32 under the same rules.
func RoundF32(x float64) float64 { return float64(float32(x)) }

// BF16 returns f rounded to bf16 as its 16 bits. A NaN stays a NaN with its
// sign and upper payload, and becomes quiet.
func BF16(f float32) uint16 {
	u := math.Float32bits(f)
	if f != f {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// FromBF16 returns the number with the given bf16 bits.
func FromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// F16 returns f rounded to f16 as its 16 bits. A NaN stays a NaN with its
// sign and upper payload, and becomes quiet.
func F16(f float32) uint16 {
	u := math.Float32bits(f)
	sign := uint16(u>>16) & 0x8000
	if f != f {
		return sign | 0x7e00 | uint16(u>>13)&0x3ff
	}
	y := math.Abs(f16.round(float64(f)))
	switch {
	case math.IsInf(y, 1):
		return sign | 0x7c00
	case y < 0x1p-14:
		return sign | uint16(y*0x1p24)
	}
	v := math.Float32bits(float32(y))
	return sign | uint16((v-(127-15)<<23)>>13)
}

// FromF16 returns the number with the given f16 bits.
func FromF16(b uint16) float32 {
	sign, exp, frac := uint32(b&0x8000)<<16, uint32(b>>10&0x1f), uint32(b&0x3ff)
	switch exp {
	case 0:
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*0x1p-24))
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+127-15)<<23 | frac<<13)
}
