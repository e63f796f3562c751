package kernel

import "math"

// This file owns the arithmetic of Arm's bf16 instructions (Arm Architecture Reference Manual DDI
// 0487, BFDotAdd and BFMatMulAdd with FPCR.EBF = 0).

// bfQuad adds the products of 4 steps of K: two by two, each sum rounded to odd.
func bfQuad(acc float32, a, b []float32) float32 {
	for k := 0; k < 4; k += 2 {
		pair := addToOdd(a[k]*b[k], a[k+1]*b[k+1]) // products of bf16 are exact
		acc = addToOdd(acc, pair)
	}
	return acc
}

// addToOdd returns x + y rounded to odd: towards zero, with the last bit set when anything was
// cut off. A result below the normal numbers is zero.
func addToOdd(x, y float32) float32 {
	a, b := float64(x), float64(y)
	sum := a + b
	low := (a - (sum - (sum - a))) + (b - (sum - a)) // what the float64 sum lacks
	f := float32(sum)
	if math.IsNaN(sum) || math.IsInf(float64(f), 0) {
		return f
	}
	if rest := sum - float64(f) + low; rest != 0 {
		bits := math.Float32bits(f)
		if (rest < 0) == (f > 0) {
			bits--
		}
		f = math.Float32frombits(bits | 1)
	}
	if math.Abs(float64(f)) < 0x1p-126 {
		return float32(math.Copysign(0, float64(f)))
	}
	return f
}
