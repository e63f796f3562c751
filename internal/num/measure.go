package num

import (
	"fmt"
	"math"
)

// This file owns measures of how far a result a is from a reference b.
//
// The two slices have equal length. Elements that are equal, infinities
// included, or both NaN, differ by 0. A NaN on one side only is an infinite
// difference. Norms run over the elements where the reference is finite.

// Diff holds all measures of one comparison.
type Diff struct {
	MaxAbs       float64 // see MaxAbs
	Index        int     // where MaxAbs is, -1 when nothing differs
	RelL2        float64 // see RelL2
	RelL2Centred float64 // see RelL2Centred
	Cosine       float64 // see Cosine
}

// Compare returns all measures of a against the reference b, both with rows
// of the given width.
func Compare(a, b []float64, width int) Diff {
	m, i := MaxAbs(a, b)
	return Diff{MaxAbs: m, Index: i, RelL2: RelL2(a, b), RelL2Centred: RelL2Centred(a, b, width), Cosine: Cosine(a, b)}
}

// String returns the measures on one line.
func (d Diff) String() string {
	return fmt.Sprintf("rel-l2 %.3g, centred %.3g, max-abs %.3g at %d, cosine %.9g", d.RelL2, d.RelL2Centred, d.MaxAbs, d.Index, d.Cosine)
}

// gap returns |x−y| under the rules above.
func gap(x, y float64) float64 {
	switch {
	case x == y || x != x && y != y:
		return 0
	case x != x || y != y:
		return math.Inf(1)
	}
	return math.Abs(x - y)
}

func finite(x float64) bool { return !math.IsInf(x, 0) && x == x }

// MaxAbs returns max_i |a_i−b_i| and the first index at which it is reached,
// or 0 and -1 when nothing differs.
func MaxAbs(a, b []float64) (worst float64, index int) {
	index = -1
	for i, x := range a {
		if d := gap(x, b[i]); d > worst {
			worst, index = d, i
		}
	}
	return worst, index
}

// RelL2 returns ‖a−b‖₂/‖b‖₂: 0 when nothing differs, infinite when something
// does and b is 0.
func RelL2(a, b []float64) float64 {
	var num, den float64
	for i, x := range a {
		d := gap(x, b[i])
		num += d * d
		if y := b[i]; finite(y) {
			den += y * y
		}
	}
	return ratio(num, den)
}

// RelL2Centred returns ‖a−b‖₂/‖b−m‖₂, where every row of m is the mean of the
// rows of b. It measures the error against what tells the rows apart: where
// all rows share a large common part, RelL2 looks small however wrong the
// rest is. It panics when width does not divide the length.
func RelL2Centred(a, b []float64, width int) float64 {
	if width < 1 || len(b)%width != 0 {
		panic(fmt.Sprintf("num: %d elements do not make rows of %d", len(b), width))
	}
	sum, n := make([]float64, width), make([]float64, width)
	for i, y := range b {
		if finite(y) {
			sum[i%width] += y
			n[i%width]++
		}
	}
	var num, den float64
	for i, x := range a {
		d := gap(x, b[i])
		num += d * d
		if y := b[i]; finite(y) {
			c := y - sum[i%width]/n[i%width]
			den += c * c
		}
	}
	return ratio(num, den)
}

// ratio returns √num/√den, with 0/0 = 0.
func ratio(num, den float64) float64 {
	if num == 0 {
		return 0
	}
	return math.Sqrt(num) / math.Sqrt(den)
}

// Cosine returns a·b/(‖a‖₂‖b‖₂). It is 1 when both are 0, 0 when one is, and
// NaN when an element is not finite on one side or differs there.
func Cosine(a, b []float64) float64 {
	var dot, aa, bb float64
	for i, x := range a {
		y := b[i]
		if gap(x, y) == 0 && !finite(y) {
			continue
		}
		dot += x * y
		aa += x * x
		bb += y * y
	}
	switch {
	case math.IsInf(aa, 0) || math.IsInf(bb, 0):
		return math.NaN()
	case aa == 0 && bb == 0:
		return 1
	case aa == 0 || bb == 0:
		return 0
	}
	return dot / (math.Sqrt(aa) * math.Sqrt(bb))
}

// ULP32 returns the number of steps between neighbouring f32 numbers from x
// to y. −0 and +0 are the same; a NaN on one side only is math.MaxUint32 away.
func ULP32(x, y float32) uint32 {
	switch {
	case x != x && y != y:
		return 0
	case x != x || y != y:
		return math.MaxUint32
	}
	i, j := ordinal32(x), ordinal32(y)
	return uint32(max(i, j) - min(i, j))
}

// ordinal32 numbers the f32 numbers in order, with 0 at 0.
func ordinal32(x float32) int64 {
	u := math.Float32bits(x)
	if u>>31 != 0 {
		return -int64(u & 0x7fffffff)
	}
	return int64(u)
}

// Float64s returns x as float64, for use with the measures.
func Float64s(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}
