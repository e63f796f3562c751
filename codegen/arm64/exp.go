package arm64

import "math"

// This file owns the exponential and what is made of it.

// expBound limits the argument of exp: e^±150 is beyond the f32 numbers on both sides, and half
// of the power of two that belongs to it is a normal f32.
const expBound = 150

// expDegree is the degree of the Taylor polynomial of e^r for |r| ≤ ln(2)/2. The first term
// left out is r⁸/8! ≤ 5.2e-9, a tenth of the rounding error of an f32.
const expDegree = 7

// expTemps is the number of temporary registers of exp, siluTemps that of silu.
const (
	expTemps  = 3
	siluTemps = expTemps + 1
)

// exp sets x to eˣ, with an error of about one ulp. A result below the smallest f32 is exactly
// 0; NaN stays NaN.
func (e *emitter) exp(x vec, temps []vec) {
	n, p, q := temps[0], temps[1], temps[2]
	e.constF32(n, -expBound)
	e.fmax(x, x, n)
	e.constF32(n, expBound)
	e.fmin(x, x, n)

	// x = n·ln 2 + r, with ln 2 in two parts, of which the first has few bits.
	hi := float64(math.Float32frombits(math.Float32bits(math.Ln2) &^ 0xfff))
	e.constF32(n, math.Log2E)
	e.fmul(n, n, x)
	e.fcvtns(n, n)
	e.scvtf(p, n)
	e.constF32(q, hi)
	e.fmls(x, p, q)
	e.constF32(q, math.Ln2-hi)
	e.fmls(x, p, q)

	fact := 1.0
	for k := 2; k <= expDegree; k++ {
		fact *= float64(k)
	}
	e.constF32(p, 1/fact)
	for k := expDegree; k > 0; k-- {
		fact /= float64(k)
		e.constF32(q, 1/fact)
		e.fmla(q, p, x) // p·r + 1/(k−1)!
		p, q = q, p
	}

	// 2ⁿ may be no f32; it is the product of 2^⌊n/2⌋ and 2^⌈n/2⌉, and the first factor loses no
	// bit.
	e.sshr(q, n, 1)
	e.vsub(n, n, q)
	e.constF32(x, 1)
	e.shl(q, q, 23)
	e.shl(n, n, 23)
	e.vadd(q, q, x)
	e.vadd(n, n, x)
	e.fmul(p, p, q)
	e.fmul(x, p, n)
}

// silu sets x to x/(1+e⁻ˣ).
func (e *emitter) silu(x vec, temps []vec) {
	t := temps[expTemps]
	e.fneg(t, x)
	e.exp(t, temps)
	e.constF32(temps[0], 1)
	e.fadd(t, t, temps[0])
	e.fdiv(x, x, t)
}

// tanh sets x to 1 − 2/(1+e²ˣ). The error is absolute, about one unit in the last place of 1.
func (e *emitter) tanh(x vec, temps []vec) {
	e.fadd(x, x, x)
	e.exp(x, temps)
	one, two := temps[0], temps[1]
	e.constF32(one, 1)
	e.constF32(two, 2)
	e.fadd(x, x, one)
	e.fdiv(x, two, x)
	e.fsub(x, one, x)
}
