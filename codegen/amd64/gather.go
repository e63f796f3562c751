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
// 32 elements, and a panel of codes its quads, in blocks of 64.
func gather(e *emitter, k kernel.Kernel) {
	s := k.Spec
	index, dst := e.arg(unsafe.Offsetof(gatherArgs.Index)), e.arg(unsafe.Offsetof(gatherArgs.Dst))
	table := e.arg(unsafe.Offsetof(gatherArgs.Table))
	row, x, t, scale := e.GP64(), e.vec(), e.vec(), e.vec()
	var pos, posTable, posRow reg.GPVirtual
	if s.Positions {
		pos, posTable = e.arg(unsafe.Offsetof(gatherArgs.Pos)), e.arg(unsafe.Offsetof(gatherArgs.PosTable))
		posRow = e.GP64()
	}
	tail := e.tail(s.K)
	// finish scales codes, adds the position row to x and stores x at column offset + i.
	finish := func(x reg.VecVirtual, i reg.Register, offset int, only mask) {
		if s.Weight == ir.I8 {
			e.do(x86.VMULPS(scale, x, x))
		}
		if s.Positions {
			e.loadVec(ir.F32, at(posRow, i, offset, 4), only, t)
			e.do(x86.VADDPS(t, x, x))
		}
		e.storeVec(s.Out, x, at(dst, i, offset, s.Out.Size()), only, t)
	}

	var body func()
	switch panel := s.WeightLayout(); {
	case s.Table == kernel.RowMajor:
		body = func() {
			e.mulImm(s.K*s.Weight.Size(), row, row)
			e.do(x86.ADDQ(table, row))
			e.vectors(s.K, 2, tail, func(i reg.Register, offset, _ int, only mask) {
				e.loadVec(s.Weight, at(row, i, offset, s.Weight.Size()), only, x)
				finish(x, i, offset, only)
			})
		}
	case s.Table == panel && s.Weight == ir.F32:
		body = e.gatherPanelF32(s, table, row, x, tail, finish)
	case s.Table == panel && s.Weight == ir.BF16:
		body = e.gatherPanelBF16(s, table, row, x, tail, finish)
	case s.Table == panel && s.Weight == ir.I8:
		body = e.gatherPanelI8(s, table, row, x, tail, finish)
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
		if s.Weight == ir.I8 {
			scales := e.arg(unsafe.Offsetof(gatherArgs.WScale))
			e.do(x86.VBROADCASTSS(operand.Mem{Base: scales, Index: row, Scale: 4}, scale))
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

type finishFunc = func(x reg.VecVirtual, i reg.Register, offset int, only mask)

func (e *emitter) gatherPanelF32(s kernel.Spec, table, row reg.Register, x reg.VecVirtual, tail mask, finish finishFunc) func() {
	lanes, column, all := e.vec(), e.GP64(), e.newGatherMask()
	e.loadWords(e.lanesTo(0, panelBytes), lanes)
	return func() {
		e.panelStart(s, table, row, column)
		e.do(x86.LEAQ(operand.Mem{Base: row, Index: column, Scale: 4}, row))
		e.vectors(s.K, 1, tail, func(i reg.Register, offset, _ int, only mask) {
			e.gatherWords(operand.Mem{Base: row, Index: lanes, Scale: 1}, only, all, x)
			e.addImm(e.lanes*panelBytes, row)
			finish(x, i, offset, only)
		})
	}
}

func (e *emitter) gatherPanelBF16(s kernel.Spec, table, row reg.Register, x reg.VecVirtual, tail mask, finish finishFunc) func() {
	const steps = 32 // of K in a block
	lanes, column, all := e.vec(), e.GP64(), e.newGatherMask()
	e.loadWords(e.lanesTo(0, 64), lanes)
	pairs, odd, even := e.vec(), e.vec(), e.vec()
	interleaved := e.interleaver(even, odd)
	i := e.GP64()
	// pairsOf finishes n elements of a vector of pairs, which starts at element offset of a block.
	pairsOf := func(offset, n int) {
		// The panel is padded to whole blocks, so all pairs exist.
		e.gatherWords(operand.Mem{Base: row, Index: lanes, Scale: 1, Disp: offset / 2 * 64}, mask{}, all, pairs)
		e.do(x86.VPSLLD(operand.U8(16), pairs, even))
		e.opConst(and, 0xffff0000, pairs, odd)
		for h := 0; e.lanes*h < n; h++ {
			only := tail
			if n-e.lanes*h >= e.lanes {
				only = mask{}
			}
			interleaved(h, x)
			finish(x, i, offset+e.lanes*h, only)
		}
	}
	blockOf := func(n int) {
		for offset := 0; offset < n; offset += 2 * e.lanes {
			pairsOf(offset, min(2*e.lanes, n-offset))
		}
		e.addImm(2*halfBlock, row)
	}
	return func() {
		e.panelStart(s, table, row, column)
		e.panelBlocks(s.K, steps, row, column, i, blockOf)
	}
}

// gatherPanelI8 stores quads to the stack, from which codes are widened in order.
func (e *emitter) gatherPanelI8(s kernel.Spec, table, row reg.Register, x reg.VecVirtual, tail mask, finish finishFunc) func() {
	const steps = 64 // of K in a block
	lanes, column, all, quads := e.vec(), e.GP64(), e.newGatherMask(), e.vec()
	e.loadWords(e.lanesTo(0, 64), lanes)
	i, codes := e.GP64(), e.fn.AllocLocal(64)
	blockOf := func(n int) {
		for first := 0; first < n; first += 4 * e.lanes {
			// The panel is padded to whole blocks, so all quads exist.
			e.gatherWords(operand.Mem{Base: row, Index: lanes, Scale: 1, Disp: first / 4 * 64}, mask{}, all, quads)
			e.do(x86.VMOVUPS(quads, codes))
			for c := first; c < min(first+4*e.lanes, n); c += e.lanes {
				only := tail
				if n-c >= e.lanes {
					only = mask{}
				}
				e.loadCodes(codes.Offset(c-first), mask{}, x)
				finish(x, i, c, only)
			}
		}
		e.addImm(2*halfBlock, row)
	}
	return func() {
		e.panelStart(s, table, row, column)
		e.panelBlocks(s.K, steps, row, column, i, blockOf)
	}
}

// panelBlocks goes through a column of a panel of words (pairs of bf16, quads of codes), after panelStart, in blocks
// of so many steps of K. blockOf does the first n steps of a block, in which i is the first step and row the
// column's first word, and adds the size of a block to row.
func (e *emitter) panelBlocks(k, steps int, row, column, i reg.Register, blockOf func(n int)) {
	e.do(x86.LEAQ(operand.Mem{Base: row, Index: column, Scale: 4}, row))
	// Columns 16..31 follow those below 16 after a half block.
	low := e.label("low")
	e.do(x86.CMPQ(column, operand.U8(16)))
	e.do(x86.JLT(ref(low)))
	e.addImm(halfBlock-64, row)
	e.bind(low)
	e.do(x86.XORQ(i, i))
	if full := k / steps; full > 0 {
		top := e.label("block")
		e.bind(top)
		blockOf(steps)
		e.addImm(steps, i)
		e.do(x86.CMPQ(i, operand.U32(steps*full)))
		e.do(x86.JLT(ref(top)))
	}
	if k%steps != 0 {
		blockOf(k % steps)
	}
}

// interleaver returns an emitter of the lower or upper half of the lanes of even and odd in turn.
func (e *emitter) interleaver(even, odd reg.Register) func(half int, x reg.Register) {
	if !e.wide() {
		return func(half int, x reg.Register) {
			high := e.vec()
			e.do(x86.VUNPCKLPS(odd, even, x)) // within halves of the registers
			e.do(x86.VUNPCKHPS(odd, even, high))
			e.do(x86.VPERM2F128(operand.U8(0x20+0x11*uint8(half)), high, x, x))
		}
	}
	var order [2]reg.Register // lanes of even and odd that make each half
	for h := range order {
		w := make([]uint32, 16)
		for i := range w {
			w[i] = uint32(8*h + i/2 + i%2*16)
		}
		order[h] = e.vec()
		e.loadWords(w, order[h])
	}
	return func(half int, x reg.Register) {
		e.do(x86.VMOVDQA32(even, x))
		e.do(x86.VPERMT2D(odd, order[half], x))
	}
}
