package kernel

import "math"

// This file owns the arithmetic of Intel's bf16 tiles (Intel SDM volume 2, TDPBF16PS): f32 sums that
// are rounded to nearest, take a subnormal for zero and make none.

// tileSum adds the products of a tile's steps of K: those of even steps are summed in order from
// zero by fused multiply-adds, those of odd steps likewise, and acc gets the sum of both.
func tileSum(acc float32, a, b []float32) float32 {
	var sums [2]float32
	for k := range a {
		product := float64(normal(a[k])) * float64(normal(b[k])) // exact
		sums[k%2] = addNormal(float64(sums[k%2]), product)
	}
	return addNormal(float64(normal(acc)), float64(addNormal(float64(sums[0]), float64(sums[1]))))
}

// normal returns x, or zero in place of a subnormal number.
func normal(x float32) float32 {
	if math.Abs(float64(x)) < 0x1p-126 {
		return float32(math.Copysign(0, float64(x)))
	}
	return x
}

// addNormal returns x + y rounded once to a normal f32. The float64 sum is made odd where it is not
// exact, so that rounding it again is as rounding the exact sum (Boldo and Melquiond, "Emulation of
// FMA and correctly rounded sums", 2008).
func addNormal(x, y float64) float32 {
	sum := x + y
	if math.IsNaN(sum) || math.IsInf(sum, 0) {
		return float32(sum)
	}
	z := sum - x
	rest := (x - (sum - z)) + (y - z)
	if bits := math.Float64bits(sum); rest != 0 && bits&1 == 0 {
		if (rest > 0) == (sum > 0) {
			bits++
		} else {
			bits--
		}
		sum = math.Float64frombits(bits)
	}
	// What rounds to the smallest normal number with an unbounded exponent is not flushed.
	if math.Abs(sum) < 0x1p-126*(1-0x1p-25) {
		return float32(math.Copysign(0, sum))
	}
	return float32(sum)
}
