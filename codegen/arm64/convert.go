package arm64

import (
	"slices"

	"github.com/bertc/bertc/ir"
)

// This file owns the conversions between f32 registers and f32 or bf16 memory (those of codes of 8
// bits are in codes.go), and sums and maxima over the lanes of a vector.

// bf16Feature is the CPU feature of the bf16 instructions.
const bf16Feature = "FEAT_BF16"

// load loads count elements of type d at base + off elements as f32. Lanes beyond them are zero
// and their memory is not touched. t is a temporary register that only a count of 3 uses.
func (e *emitter) load(d ir.DType, x vec, base gpr, off, count int, t vec) {
	off *= d.Size()
	if d == ir.F32 {
		switch count {
		case 1:
			e.ldrS(x, base, off)
		case 2:
			e.ldrD(x, base, off)
		case 3:
			e.ldrD(x, base, off)
			e.ldrS(t, base, off+8)
			e.zip1d(x, x, t)
		default:
			e.ldrQ(x, base, off)
		}
		return
	}
	if d == ir.I8 {
		e.loadCodes(x, base, off, count, t)
		return
	}
	switch count {
	case 1:
		e.ldrH(x, base, off)
	case 2:
		e.ldrS(x, base, off)
	case 3:
		e.ldrS(x, base, off)
		e.ldrH(t, base, off+4)
		e.zip1s(x, x, t)
	default:
		e.ldrD(x, base, off)
	}
	e.shll(x, x)
}

// rounder holds the temporary registers of roundings and stores, and on tiers without bf16
// instructions the constants of rounding.
type rounder struct {
	e                *emitter
	hardware         bool
	one, bias, quiet vec
	t, u, nan        vec
}

// newRounder returns a rounder for types other than f32 when bf16 is set.
func (e *emitter) newRounder(bf16 bool) *rounder {
	r := &rounder{e: e, hardware: slices.Contains(e.u.has, bf16Feature), t: e.v("rounded")}
	if !bf16 || r.hardware {
		return r
	}
	r.u, r.nan = e.v("quiet"), e.v("nan")
	r.one, r.bias, r.quiet = e.v("one"), e.v("half"), e.v("quietBit")
	e.constBits(r.one, 1)
	e.constBits(r.bias, 0x7fff)
	e.constBits(r.quiet, 1<<22)
	return r
}

// narrow sets the low half of t to the nearest bf16 of the lanes of x, ties to even. A NaN
// becomes quiet.
func (r *rounder) narrow(x vec) vec {
	e := r.e
	if r.hardware {
		e.bfcvtn(r.t, x)
		return r.t
	}
	e.ushr(r.t, x, 16)
	e.vand(r.t, r.t, r.one)
	e.vadd(r.t, r.t, r.bias)
	e.vadd(r.t, r.t, x)
	e.fcmeq(r.nan, x, x)
	e.vorr(r.u, x, r.quiet)
	e.bsl(r.nan, r.t, r.u)
	e.shrn(r.t, r.nan, 16)
	return r.t
}

// to rounds the lanes of x to type d and keeps them as f32.
func (r *rounder) to(d ir.DType, x vec) {
	if d == ir.BF16 {
		r.e.shll(x, r.narrow(x))
	}
}

// store rounds the lanes of x to type d and stores count of them at base + off elements.
func (r *rounder) store(d ir.DType, x vec, base gpr, off, count int) {
	e := r.e
	off *= d.Size()
	if d == ir.F32 {
		switch count {
		case 1:
			e.strS(x, base, off)
		case 2:
			e.strD(x, base, off)
		case 3:
			e.strD(x, base, off)
			e.upperD(r.t, x)
			e.strS(r.t, base, off+8)
		default:
			e.strQ(x, base, off)
		}
		return
	}
	t := r.narrow(x)
	switch count {
	case 1:
		e.strH(t, base, off)
	case 2:
		e.strS(t, base, off)
	case 3:
		e.strS(t, base, off)
		e.upperS(t, t)
		e.strH(t, base, off+4)
	default:
		e.strD(t, base, off)
	}
}

// sumLanes sets every lane of x to the sum of its lanes, neighbours first.
func (e *emitter) sumLanes(x vec) {
	e.faddp(x, x, x)
	e.faddp(x, x, x)
}

// maxLanes sets every lane of x to the largest of its lanes.
func (e *emitter) maxLanes(x vec) {
	e.fmaxp(x, x, x)
	e.fmaxp(x, x, x)
}
