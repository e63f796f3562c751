package ptx

import "math"

// This file owns the activation functions, on registers of f32.

// silu sets x to x·sigmoid(x), with an error of a few units in the last place: ex2.approx and
// rcp.approx have two and one (PTX ISA). Where e⁻ˣ is no f32 the quotient is 0.
func (e *entry) silu(x reg) {
	t := e.f("ex2.approx.ftz.f32", e.f("mul.rn.f32", x, -math.Log2E))
	e.do("mul.rn.f32", x, x, e.f("rcp.approx.ftz.f32", e.f("add.rn.f32", t, 1.0)))
}

// siluPair sets two registers to their silu with one reciprocal, 1/a = b/(a·b): exponentials and
// reciprocals run at an eighth of the rate of products. e⁻ˣ is cut at 2⁶⁰, so that a·b is an f32.
func (e *entry) siluPair(x, y reg) {
	one := func(x reg) reg {
		t := e.f("min.f32", e.f("mul.rn.f32", x, -math.Log2E), 60.0)
		return e.f("add.rn.f32", e.f("ex2.approx.ftz.f32", t), 1.0)
	}
	a, b := one(x), one(y)
	r := e.f("rcp.approx.ftz.f32", e.f("mul.rn.f32", a, b))
	e.do("mul.rn.f32", x, x, e.f("mul.rn.f32", r, b))
	e.do("mul.rn.f32", y, y, e.f("mul.rn.f32", r, a))
}

// tanh sets x to its hyperbolic tangent, 1 − 2/(e²ˣ + 1), with an absolute error of about 1e-7:
// tanh.approx has one of 2⁻¹¹.
func (e *entry) tanh(x reg) {
	t := e.f("ex2.approx.ftz.f32", e.f("mul.rn.f32", x, 2*math.Log2E))
	q := e.f("rcp.approx.ftz.f32", e.f("add.rn.f32", t, 1.0))
	e.do("fma.rn.f32", x, q, -2.0, 1.0)
}
