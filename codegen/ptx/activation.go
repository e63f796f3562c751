package ptx

import "math"

// This file owns the activation functions, on one f32 register.

// silu sets x to x·sigmoid(x), with an error of a few units in the last place: ex2.approx and
// rcp.approx have two and one (PTX ISA). Where e⁻ˣ is no f32 the quotient is 0.
func (e *entry) silu(x reg) {
	t := e.f("ex2.approx.ftz.f32", e.f("mul.rn.f32", x, -math.Log2E))
	e.do("mul.rn.f32", x, x, e.f("rcp.approx.ftz.f32", e.f("add.rn.f32", t, 1.0)))
}

// tanh sets x to its hyperbolic tangent, 1 − 2/(e²ˣ + 1), with an absolute error of about 1e-7:
// tanh.approx has one of 2⁻¹¹.
func (e *entry) tanh(x reg) {
	t := e.f("ex2.approx.ftz.f32", e.f("mul.rn.f32", x, 2*math.Log2E))
	q := e.f("rcp.approx.ftz.f32", e.f("add.rn.f32", t, 1.0))
	e.do("fma.rn.f32", x, q, -2.0, 1.0)
}
