package amd64

import (
	"unsafe"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns the gather kernel: rows of a table by index, plus rows of a second table.

var gatherArgs rt.GatherArgs

// gather emits a loop over indices. A row of a table in panels lies in pieces: an f32 panel has
// its elements 128 bytes apart, a bf16 panel its pairs of elements 64 bytes apart, in blocks of
// 32 elements.
func gather(e *emitter, k kernel.Kernel) {
	s := k.Spec
	index, dst := e.arg(unsafe.Offsetof(gatherArgs.Index)), e.arg(unsafe.Offsetof(gatherArgs.Dst))
	table := e.arg(unsafe.Offsetof(gatherArgs.Table))
	row, x, t := e.GP64(), e.ZMM(), e.ZMM()
	var pos, posTable, posRow reg.GPVirtual
	if s.Positions {
		pos, posTable = e.arg(unsafe.Offsetof(gatherArgs.Pos)), e.arg(unsafe.Offsetof(gatherArgs.PosTable))
		posRow = e.GP64()
	}
	tail := e.tail(s.K)
	// finish adds the position row to x and stores x at column offset + i.
	finish := func(x reg.Register, i reg.Register, offset int, mask reg.Register) {
		if s.Positions {
			e.loadVec(ir.F32, at(posRow, i, offset, 4), mask, t)
			e.do(x86.VADDPS(t, x, x))
		}
		e.storeVec(s.Out, x, at(dst, i, offset, s.Out.Size()), mask, t)
	}

	var body func()
	switch panel := s.WeightLayout(); {
	case s.Table == kernel.RowMajor:
		body = func() {
			e.mulImm(s.K*s.Weight.Size(), row, row)
			e.do(x86.ADDQ(table, row))
			e.vectors(s.K, 2, tail, func(i reg.Register, offset, _ int, mask reg.Register) {
				e.loadVec(s.Weight, at(row, i, offset, s.Weight.Size()), mask, x)
				finish(x, i, offset, mask)
			})
		}
	case s.Table == panel && s.Weight == ir.F32:
		body = e.gatherPanelF32(s, table, row, x, tail, finish)
	case s.Table == panel && s.Weight == ir.BF16:
		body = e.gatherPanelBF16(s, table, row, x, tail, finish)
	default:
		e.fail("no gather from a %s table of layout %s", s.Weight, s.Table)
		return
	}

	n := e.arg(unsafe.Offsetof(gatherArgs.Rows))
	e.times(n, func() {
		e.do(x86.MOVLQSX(operand.Mem{Base: index}, row))
		e.addImm(4, index)
		if s.Positions {
			e.do(x86.MOVLQSX(operand.Mem{Base: pos}, posRow))
			e.addImm(4, pos)
			e.mulImm(4*s.K, posRow, posRow)
			e.do(x86.ADDQ(posTable, posRow))
		}
		body()
		e.do(x86.ADDQ(e.field(unsafe.Offsetof(gatherArgs.DstStride)), dst))
	})
}

// panelStart splits the row number in row: row becomes the address of its panel, and column
// the number of its column in the panel.
func (e *emitter) panelStart(s kernel.Spec, table, row, column reg.Register) {
	e.do(x86.MOVQ(row, column))
	e.do(x86.ANDQ(operand.U8(kernel.PanelN-1), column))
	e.do(x86.SHRQ(operand.U8(5), row))
	e.mulImm(s.PanelBytes(), row, row)
	e.do(x86.ADDQ(table, row))
}

// strides is a vector register with lane·bytes in each lane.
func (e *emitter) strides(bytes int) reg.Register {
	var w [16]uint32
	for i := range w {
		w[i] = uint32(i * bytes)
	}
	x := e.ZMM()
	e.do(x86.VMOVDQU32(e.words(w[:]...), x))
	return x
}

type finishFunc = func(x, i reg.Register, offset int, mask reg.Register)

func (e *emitter) gatherPanelF32(s kernel.Spec, table, row, x, tail reg.Register, finish finishFunc) func() {
	lanes, column, all := e.strides(panelBytes), e.GP64(), e.K()
	return func() {
		e.panelStart(s, table, row, column)
		e.do(x86.LEAQ(operand.Mem{Base: row, Index: column, Scale: 4}, row))
		e.vectors(s.K, 1, tail, func(i reg.Register, offset, _ int, mask reg.Register) {
			e.gatherMask(all, mask)
			e.do(x86.VPXORD(x, x, x))
			e.do(x86.VPGATHERDD(operand.Mem{Base: row, Index: lanes, Scale: 1}, all, x))
			e.addImm(16*panelBytes, row)
			finish(x, i, offset, mask)
		})
	}
}

// gatherMask sets k, which a gather uses up, to mask, or to all ones for nil.
func (e *emitter) gatherMask(k, mask reg.Register) {
	if mask == nil {
		e.do(x86.KXNORW(k, k, k))
	} else {
		e.do(x86.KMOVW(mask, k))
	}
}

func (e *emitter) gatherPanelBF16(s kernel.Spec, table, row, x, tail reg.Register, finish finishFunc) func() {
	const block = 2 * 16 * 64 // bytes of 32 elements of K
	lanes, column, all := e.strides(64), e.GP64(), e.K()
	pairs, odd, even := e.ZMM(), e.ZMM(), e.ZMM()
	var order [2]reg.Register // lanes of even and odd that make the lower and upper half
	for h := range order {
		var w [16]uint32
		for i := range w {
			w[i] = uint32(8*h + i/2 + i%2*16)
		}
		order[h] = e.ZMM()
		e.do(x86.VMOVDQU32(e.words(w[:]...), order[h]))
	}
	i := e.GP64()
	half := func(h, offset int, mask reg.Register) {
		e.do(x86.VMOVDQA32(even, x))
		e.do(x86.VPERMT2D(odd, order[h], x))
		finish(x, i, offset+16*h, mask)
	}
	blockOf := func(offset, n int) {
		// The panel is padded to whole blocks, so all pairs exist.
		e.gatherMask(all, nil)
		e.do(x86.VPXORD(pairs, pairs, pairs))
		e.do(x86.VPGATHERDD(operand.Mem{Base: row, Index: lanes, Scale: 1}, all, pairs))
		e.do(x86.VPSLLD(operand.U8(16), pairs, even))
		e.do(x86.VPANDD_BCST(e.words(0xffff0000), pairs, odd))
		for h := 0; 16*h < n; h++ {
			mask := tail
			if n-16*h >= 16 {
				mask = nil
			}
			half(h, offset, mask)
		}
		e.addImm(block, row)
	}
	return func() {
		e.panelStart(s, table, row, column)
		// Columns 16..31 follow those below 16 after a half block.
		e.do(x86.LEAQ(operand.Mem{Base: row, Index: column, Scale: 4}, row))
		low := e.label("low")
		e.do(x86.CMPQ(column, operand.U8(16)))
		e.do(x86.JLT(ref(low)))
		e.addImm(block/2-64, row)
		e.bind(low)
		e.do(x86.XORQ(i, i))
		if full := s.K / 32; full > 0 {
			top := e.label("block")
			e.bind(top)
			blockOf(0, 32)
			e.addImm(32, i)
			e.do(x86.CMPQ(i, operand.U32(32*full)))
			e.do(x86.JLT(ref(top)))
		}
		if s.K%32 != 0 {
			blockOf(0, s.K%32)
		}
	}
}
