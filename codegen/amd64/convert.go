package amd64

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/ir"
)

// This file owns the conversions between f32 registers and f32 or bf16 memory. The instructions of
// AVX512_BF16 are not of all tiers, so they are integer operations.

// loadVec loads a vector of elements of type d as f32; of codes, the integers. Under a mask, the lanes beyond it are zero
// and their memory is not touched.
func (e *emitter) loadVec(d ir.DType, m operand.Mem, only mask, x reg.VecVirtual) {
	switch {
	case d == ir.F32 && only.all():
		e.do(x86.VMOVUPS(m, x))
	case d == ir.F32 && e.wide():
		e.do(x86.VMOVUPS_Z(m, only.k, x))
	case d == ir.F32:
		e.do(x86.VMOVUPS(e.laneMask(only.n), x))
		e.do(x86.VMASKMOVPS(m, x, x))
	case d == ir.I8:
		e.loadCodes(m, only, x)
	case only.all():
		e.do(x86.VPMOVZXWD(m, x))
		e.do(x86.VPSLLD(operand.U8(16), x, x))
	case e.wide():
		e.do(x86.VPMOVZXWD_Z(m, only.k, x))
		e.do(x86.VPSLLD(operand.U8(16), x, x))
	default:
		e.loadHalves(m, only.n, x.AsX())
		e.do(x86.VPMOVZXWD(x.AsX(), x))
		e.do(x86.VPSLLD(operand.U8(16), x, x))
	}
}

// loadCodes loads a vector of codes of 8 bits.
func (e *emitter) loadCodes(m operand.Mem, only mask, x reg.VecVirtual) {
	switch {
	case only.all():
		e.do(x86.VPMOVSXBD(m, x))
	case e.wide():
		e.do(x86.VPMOVSXBD_Z(m, only.k, x))
	default:
		e.do(x86.VPXOR(x, x, x))
		for i := range only.n {
			e.do(x86.VPINSRB(operand.U8(uint8(i)), m.Offset(i), x.AsX(), x.AsX()))
		}
		e.do(x86.VPMOVSXBD(x.AsX(), x))
	}
	e.do(x86.VCVTDQ2PS(x, x))
}

// loadHalves loads n < 8 words of 16 bits, zeros after them.
func (e *emitter) loadHalves(m operand.Mem, n int, x reg.Register) {
	from := 0
	switch {
	case n >= 4:
		e.do(x86.VMOVQ(m, x))
		from = 4
	case n >= 2:
		e.do(x86.VMOVD(m, x))
		from = 2
	default:
		e.do(x86.VPXOR(x, x, x))
	}
	if n-from >= 2 {
		e.do(x86.VPINSRD(operand.U8(uint8(from/2)), m.Offset(2*from), x, x))
		from += 2
	}
	if n > from {
		e.do(x86.VPINSRW(operand.U8(uint8(from)), m.Offset(2*from), x, x))
	}
}

// storeHalves stores n < 8 words of 16 bits.
func (e *emitter) storeHalves(x reg.Register, n int, m operand.Mem) {
	from := 0
	switch {
	case n >= 4:
		e.do(x86.VMOVQ(x, m))
		from = 4
	case n >= 2:
		e.do(x86.VMOVD(x, m))
		from = 2
	}
	if n-from >= 2 {
		e.do(x86.VPEXTRD(operand.U8(uint8(from/2)), x, m.Offset(2*from)))
		from += 2
	}
	if n > from {
		e.do(x86.VPEXTRW(operand.U8(uint8(from)), x, m.Offset(2*from)))
	}
}

// roundBits adds to the f32 x what makes its upper half the nearest bf16, ties to even, and
// puts the sum into t. A NaN becomes quiet instead.
func (e *emitter) roundBits(x, t reg.Register) {
	e.do(x86.VPSRLD(operand.U8(16), x, t))
	e.opConst(and, 1, t, t)
	e.opConst(addD, 0x7fff, t, t)
	if e.wide() {
		nan := e.K()
		e.do(x86.VPADDD(x, t, t))
		e.do(x86.VCMPPS(operand.U8(3), x, x, nan)) // unordered
		e.do(x86.VPORD_BCST(e.words(quietBit), x, nan, t))
		return
	}
	number := e.vec()
	e.do(x86.VCMPPS(operand.U8(7), x, x, number)) // ordered
	e.do(x86.VPAND(number, t, t))
	e.do(x86.VPADDD(x, t, t))
	e.opConst(andNot, quietBit, number, number)
	e.do(x86.VPOR(number, t, t))
}

// quietBit makes a NaN of an f32 quiet.
const quietBit = 1 << 22

// roundTo rounds the lanes of x to type d and keeps them as f32, using one temporary register.
func (e *emitter) roundTo(d ir.DType, x, t reg.Register) {
	if d == ir.F32 {
		return
	}
	e.roundBits(x, t)
	e.opConst(and, 0xffff0000, t, x)
}

// storeVec rounds the lanes of x to type d and stores those under the mask, using one temporary
// register.
func (e *emitter) storeVec(d ir.DType, x reg.Register, m operand.Mem, only mask, t reg.VecVirtual) {
	if d == ir.F32 {
		switch {
		case only.all():
			e.do(x86.VMOVUPS(x, m))
		case e.wide():
			e.do(x86.VMOVUPS(x, only.k, m))
		default:
			k := e.vec()
			e.do(x86.VMOVUPS(e.laneMask(only.n), k))
			e.do(x86.VMASKMOVPS(x, k, m))
		}
		return
	}
	e.roundBits(x, t)
	e.do(x86.VPSRLD(operand.U8(16), t, t))
	switch {
	case e.wide() && only.all():
		e.do(x86.VPMOVDW(t, m))
		return
	case e.wide():
		e.do(x86.VPMOVDW(t, only.k, m))
		return
	}
	e.do(x86.VPACKUSDW(t, t, t))            // within halves
	e.do(x86.VPERMQ(operand.U8(0x8), t, t)) // the first quarter of each
	if only.all() {
		e.do(x86.VMOVDQU(t.AsX(), m))
	} else {
		e.storeHalves(t.AsX(), only.n, m)
	}
}

// sumLanes sets every lane of x[0] to the sum of the 16 lanes of x, halving in a fixed order, using
// one temporary register.
func (e *emitter) sumLanes(x []reg.VecVirtual, t reg.Register) { e.foldLanes(x, t, x86.VADDPS) }

// maxLanes sets every lane of x to the largest of its lanes.
func (e *emitter) maxLanes(x reg.VecVirtual, t reg.Register) {
	e.foldLanes([]reg.VecVirtual{x}, t, x86.VMAXPS)
}

func (e *emitter) foldLanes(parts []reg.VecVirtual, t reg.Register, op instr3) {
	x := parts[0]
	for _, part := range parts[1:] {
		e.do(op(part, x, x))
	}
	if e.wide() {
		e.do(x86.VSHUFF32X4(operand.U8(0x4e), x, x, t)) // halves
		e.do(op(t, x, x))
		e.do(x86.VSHUFF32X4(operand.U8(0xb1), x, x, t)) // quarters
	} else {
		e.do(x86.VPERM2F128(operand.U8(1), x, x, t))
	}
	e.do(op(t, x, x))
	e.do(x86.VPERMILPS(operand.U8(0x4e), x, t)) // pairs
	e.do(op(t, x, x))
	e.do(x86.VPERMILPS(operand.U8(0xb1), x, t)) // neighbours
	e.do(op(t, x, x))
}
