package amd64

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/ir"
)

// This file owns the conversions between f32 registers and f32 or bf16 memory. The tier has no
// bf16 instructions, so they are integer operations.

// loadVec loads 16 elements of type d as f32. Under a mask, the lanes beyond it are zero and
// their memory is not touched.
func (e *emitter) loadVec(d ir.DType, m operand.Mem, mask reg.Register, x reg.Register) {
	switch {
	case d == ir.F32 && mask == nil:
		e.do(x86.VMOVUPS(m, x))
	case d == ir.F32:
		e.do(x86.VMOVUPS_Z(m, mask, x))
	case mask == nil:
		e.do(x86.VPMOVZXWD(m, x))
		e.do(x86.VPSLLD(operand.U8(16), x, x))
	default:
		e.do(x86.VPMOVZXWD_Z(m, mask, x))
		e.do(x86.VPSLLD(operand.U8(16), x, x))
	}
}

// roundBits adds to the f32 x what makes its upper half the nearest bf16, ties to even, and
// puts the sum into t. A NaN becomes quiet instead.
func (e *emitter) roundBits(x, t reg.Register) {
	nan := e.K()
	e.do(x86.VPSRLD(operand.U8(16), x, t))
	e.do(x86.VPANDD_BCST(e.words(1), t, t))
	e.do(x86.VPADDD_BCST(e.words(0x7fff), t, t))
	e.do(x86.VPADDD(x, t, t))
	e.do(x86.VCMPPS(operand.U8(3), x, x, nan)) // unordered
	e.do(x86.VPORD_BCST(e.words(1<<22), x, nan, t))
}

// roundTo rounds the lanes of x to type d and keeps them as f32, using one temporary register.
func (e *emitter) roundTo(d ir.DType, x, t reg.Register) {
	if d == ir.F32 {
		return
	}
	e.roundBits(x, t)
	e.do(x86.VPANDD_BCST(e.words(0xffff0000), t, x))
}

// storeVec rounds the lanes of x to type d and stores those under the mask, using one temporary
// register.
func (e *emitter) storeVec(d ir.DType, x reg.Register, m operand.Mem, mask reg.Register, t reg.Register) {
	if d == ir.F32 {
		if mask == nil {
			e.do(x86.VMOVUPS(x, m))
		} else {
			e.do(x86.VMOVUPS(x, mask, m))
		}
		return
	}
	e.roundBits(x, t)
	e.do(x86.VPSRLD(operand.U8(16), t, t))
	if mask == nil {
		e.do(x86.VPMOVDW(t, m))
	} else {
		e.do(x86.VPMOVDW(t, mask, m))
	}
}

// sumLanes sets every lane of x to the sum of its 16 lanes, halving in a fixed order, using one
// temporary register.
func (e *emitter) sumLanes(x, t reg.Register) { e.foldLanes(x, t, x86.VADDPS) }

// maxLanes sets every lane of x to the largest of its lanes.
func (e *emitter) maxLanes(x, t reg.Register) { e.foldLanes(x, t, x86.VMAXPS) }

func (e *emitter) foldLanes(x, t reg.Register, op instr3) {
	e.do(x86.VSHUFF32X4(operand.U8(0x4e), x, x, t)) // halves
	e.do(op(t, x, x))
	e.do(x86.VSHUFF32X4(operand.U8(0xb1), x, x, t)) // quarters
	e.do(op(t, x, x))
	e.do(x86.VPERMILPS(operand.U8(0x4e), x, t)) // pairs
	e.do(op(t, x, x))
	e.do(x86.VPERMILPS(operand.U8(0xb1), x, t)) // neighbours
	e.do(op(t, x, x))
}
