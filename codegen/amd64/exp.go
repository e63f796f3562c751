package amd64

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"
)

// This file owns the exponential and what is made of it.

// expBound limits the argument of exp: e^±150 is beyond the f32 numbers on both sides, and the
// power of two stays within what scale turns into 0 or infinity.
const expBound = 150

// expDegree is the degree of the Taylor polynomial of e^r for |r| ≤ ln(2)/2. The first term
// left out is r⁸/8! ≤ 5.2e-9, a tenth of the rounding error of an f32.
const expDegree = 7

// exp sets x to eˣ, with an error of about one ulp, using two temporary registers. A result
// below the smallest f32 is exactly 0; NaN stays NaN.
func (e *emitter) exp(x, n, p reg.Register) {
	// A min or max with a NaN returns its second source, the first operand here.
	e.do(x86.VBROADCASTSS(e.f32(-expBound), n))
	e.do(x86.VMAXPS(x, n, x))
	e.do(x86.VBROADCASTSS(e.f32(expBound), n))
	e.do(x86.VMINPS(x, n, x))

	// x = n·ln 2 + r, with ln 2 in two parts, of which the first has few bits.
	hi := float64(math.Float32frombits(math.Float32bits(math.Ln2) &^ 0xfff))
	e.opConst(mulPS, bits(math.Log2E), x, n)
	e.nearest(n)
	e.opConst(fnma231, bits(hi), n, x)
	e.opConst(fnma231, bits(math.Ln2-hi), n, x)

	fact := 1.0
	for k := 2; k <= expDegree; k++ {
		fact *= float64(k)
	}
	e.do(x86.VBROADCASTSS(e.f32(1/fact), p))
	for k := expDegree; k > 0; k-- {
		fact /= float64(k)
		e.opConst(fma213, bits(1/fact), x, p) // p = p·r + 1/(k−1)!
	}
	e.scale(n, p, x)
}

// exp2Coarse is the cubic polynomial that is nearest to 2ᶠ for 0 ≤ f < 1, relative to it, of those that are 1 at 0 and
// 2 at 1: within 1.04e-4 (Remez exchange). Rounding to bf16 has 18 times that error, 2⁻⁹.
var exp2Coarse = [...]float64{1, 0.69542435, 0.22630768, 0.07826797}

// expCoarse sets x to eˣ for x ≤ 0, with a relative error of 1.1e-4 where that is a normal f32, using two temporary
// registers, on vectors of 512 bits: for what is rounded to bf16. 0 gives exactly 1, −∞ gives 0, NaN stays NaN.
func (e *emitter) expCoarse(x, f, p reg.Register) {
	e.opConst(mulPS, bits(math.Log2E), x, x)
	e.do(x86.VREDUCEPS(operand.U8(reduceFloor), x, f))
	last := len(exp2Coarse) - 1
	e.do(x86.VBROADCASTSS(e.f32(exp2Coarse[last]), p))
	for k := last - 1; k >= 0; k-- {
		e.opConst(fma213, bits(exp2Coarse[k]), f, p)
	}
	e.do(x86.VSCALEFPS(x, p, x)) // p · 2^⌊x⌋
}

// reduceFloor makes VREDUCEPS subtract the largest integer below, quietly (Intel SDM volume 2, VREDUCEPS).
const reduceFloor = 1 | 8

// nearest rounds x to integers.
func (e *emitter) nearest(x reg.Register) {
	if e.wide() {
		e.do(x86.VRNDSCALEPS(operand.U8(8), x, x))
	} else {
		e.do(x86.VROUNDPS(operand.U8(8), x, x))
	}
}

// scale sets x to p·2ⁿ for integers n within ±2·expBound, rounded once. It may use n and p up.
func (e *emitter) scale(n, p, x reg.Register) {
	if e.wide() {
		e.do(x86.VSCALEFPS(n, p, x))
		return
	}
	// 2ⁿ may be beyond the f32 numbers, so the exponent is split. The first product is exact.
	half := e.vec()
	power := func(n reg.Register) {
		e.opConst(addD, 127, n, n)
		e.do(x86.VPSLLD(operand.U8(23), n, n))
	}
	e.do(x86.VCVTPS2DQ(n, n))
	e.do(x86.VPSRAD(operand.U8(1), n, half))
	e.do(x86.VPSUBD(half, n, n))
	power(half)
	e.do(x86.VMULPS(half, p, p))
	power(n)
	e.do(x86.VMULPS(n, p, x))
}

// silu sets x to x/(1+e⁻ˣ), using three temporary registers.
func (e *emitter) silu(x, t, n, p reg.Register) {
	e.opConst(xor, 1<<31, x, t)
	e.exp(t, n, p)
	e.opConst(addPS, bits(1), t, t)
	e.do(x86.VDIVPS(t, x, x))
}

// tanh sets x to 1 − 2/(1+e²ˣ), using three temporary registers. The error is absolute, about one
// ulp of 1.
func (e *emitter) tanh(x, t, n, p reg.Register) {
	e.do(x86.VADDPS(x, x, t))
	e.exp(t, n, p)
	e.opConst(addPS, bits(1), t, t)
	e.do(x86.VBROADCASTSS(e.f32(-2), n))
	e.do(x86.VDIVPS(t, n, t))
	e.opConst(addPS, bits(1), t, x)
}
