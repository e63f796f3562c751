package kernel

import "math"

// This file owns the quantisation to 8 bits, of the rows of activations and of the rows of weights,
// and what packed rows of codes look like.

// Code is the largest code: codes are −127 … 127.
const Code = 127

// maxCodes bounds the products of a sum: Code²·maxCodes is less than 2³¹.
const maxCodes = 1 << 17

// LeastMagnitude stands for the largest magnitude of rows that have none as large, so that a scale
// and its inverse are normal numbers.
const LeastMagnitude = 0x1p-100

// A packed row of codes begins with its scale, f32; at OffsetAt comes −128 times the sum of its
// codes, i32, which undoes the offset of an instruction that takes weights as unsigned: Σ a·(w+128)
// − 128·Σ a = Σ a·w (others may leave it out). At CodesAt come KPad codes, or as many i16 in the order
// of an instruction. Where rows lie in pairs (Inst.Rows), their headers do as well.
const (
	OffsetAt = 4
	CodesAt  = 64
)

// QuantizeWeights writes the codes of a row of weights, as integers, and returns its scale. With the
// largest magnitude m of the row, the scale is m/127 and a code is x·127/m, rounded once to the
// nearest, ties to even.
func QuantizeWeights(codes, row []float32) (scale float32) {
	m := largest(row)
	for i, x := range row {
		codes[i] = float32(math.RoundToEven(float64(x) * Code / float64(m)))
	}
	return m / Code
}

// WeightScale returns the scale of a row of weights.
func WeightScale(row []float32) float32 { return largest(row) / Code }

// largest returns the largest magnitude of a row, LeastMagnitude if that is more, NaN with a NaN.
func largest(row []float32) float32 {
	most := math.Float32bits(LeastMagnitude)
	for _, x := range row {
		most = max(most, math.Float32bits(x)&^(1<<31)) // magnitudes are ordered as integers, NaN last
	}
	return math.Float32frombits(most)
}

// Quantize writes the codes of a row of activations, as integers, and returns its scale. It differs
// from QuantizeWeights in that a code is x·(127/m), where quotient and product are rounded to f32.
// A NaN makes the scale NaN, and an infinity makes it infinite: then results are not finite either.
// Codes of such rows are 0 where the product is NaN.
func Quantize(codes, row []float32) (scale float32) {
	m := largest(row)
	inverse := Code / m
	for i, x := range row {
		codes[i] = 0
		if y := x * inverse; y == y {
			codes[i] = float32(math.RoundToEven(float64(y)))
		}
	}
	return m / Code
}

// dequantize returns the value of a sum of products of codes: the i32 as f32, times the scale of
// the weight's row, times that of the activations' row, each rounded.
func dequantize(sum int32, weight, row float32) float32 {
	x := float32(sum) * weight
	return x * row
}
