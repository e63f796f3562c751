package arm64

import (
	"unsafe"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns the gather kernel: rows of a table by index, plus rows of a second table.

var gatherArgs rt.GatherArgs

// gathering is the state of the gather function.
type gathering struct {
	*emitter
	spec     kernel.Spec
	row, dst gpr // current row of the table, of the result
	posRow   gpr // with Spec.Positions
	x, t     vec
	scale    vec // of the row of a table of codes
	pieces   [4]vec
	round    *rounder
}

// gather emits a loop over indices.
func gather(e *emitter, k kernel.Kernel) {
	s := k.Spec
	g := &gathering{emitter: e, spec: s, row: e.gp("row"), dst: e.arg("dst", unsafe.Offsetof(gatherArgs.Dst)),
		x: e.v("x"), t: e.v("t"), pieces: [4]vec(e.vs(4, "piece")), round: e.newRounder(s.Out == ir.BF16)}
	if s.Weight == ir.I8 {
		g.scale = e.v("scale")
	}
	index, pos := e.arg("index", unsafe.Offsetof(gatherArgs.Index)), e.gp("pos")
	if s.Positions {
		g.posRow = e.gp("posRow")
		e.argTo(pos, unsafe.Offsetof(gatherArgs.Pos))
	}
	var body func(number gpr)
	switch panel := s.WeightLayout(); {
	case s.Table == kernel.RowMajor:
		body = g.rowMajor
	case s.Table == panel && s.Weight == ir.F32:
		body = g.panelF32
	case s.Table == panel:
		body = g.panelBlocks
	default:
		e.fail("no gather from a %s table of layout %s", s.Weight, s.Table)
		return
	}
	n, number := e.arg("n", unsafe.Offsetof(gatherArgs.Rows)), e.gp("number")
	e.times(n, func() {
		if s.Positions {
			e.ldInt32(number, pos)
			e.addi(pos, pos, 4)
			e.argTo(g.posRow, unsafe.Offsetof(gatherArgs.PosTable))
			e.plusMul(g.posRow, g.posRow, number, 4*s.K)
		}
		e.ldInt32(number, index)
		e.addi(index, index, 4)
		if s.Weight == ir.I8 {
			e.argTo(g.row, unsafe.Offsetof(gatherArgs.WScale))
			e.plusMul(g.row, g.row, number, 4)
			e.ld1r(g.scale, g.row)
		}
		e.argTo(g.row, unsafe.Offsetof(gatherArgs.Table))
		body(number)
		e.scope(func() { e.add(g.dst, g.dst, e.arg("stride", unsafe.Offsetof(gatherArgs.DstStride))) })
	})
}

// streams are the arrays that a row is written to and added from, and the row itself with
// elements of so many bytes.
func (g *gathering) streams(size int) []stream {
	s := []stream{{g.row, size}, {g.dst, g.spec.Out.Size()}}
	if g.spec.Positions {
		s = append(s, stream{g.posRow, 4})
	}
	return s
}

// finish scales codes, adds the position row to x and stores it.
func (g *gathering) finish(at, count int) {
	if g.spec.Weight == ir.I8 {
		g.fmul(g.x, g.x, g.scale)
	}
	if g.spec.Positions {
		g.load(ir.F32, g.t, g.posRow, at, count, g.pieces[0])
		g.fadd(g.x, g.x, g.t)
	}
	g.round.store(g.spec.Out, g.x, g.dst, at, count)
}

func (g *gathering) rowMajor(number gpr) {
	size := g.spec.Weight.Size()
	g.plusMul(g.row, g.row, number, g.spec.K*size)
	g.vectors(g.spec.K, 4, g.streams(size), func(at, _, count int) {
		g.load(g.spec.Weight, g.x, g.row, at, count, g.t)
		g.finish(at, count)
	})
}

// panelRow moves the row on to the column of that number; number becomes the column in the panel.
func (g *gathering) panelRow(number gpr) {
	g.scope(func() {
		panel := g.gp("panel")
		g.lsr(panel, number, log2(kernel.PanelN))
		g.plusMul(g.row, g.row, panel, g.spec.PanelBytes())
		g.andi(number, number, kernel.PanelN-1)
		g.lsl(panel, number, 2)
		g.add(g.row, g.row, panel)
	})
}

// panelF32 reads a row whose elements are a row of the panel apart.
func (g *gathering) panelF32(number gpr) {
	g.panelRow(number)
	g.vectors(g.spec.K, 2, g.streams(panelBytes), func(at, _, count int) {
		p := g.pieces
		for i := range p {
			if i < count {
				g.ldrS(p[i], g.row, (at+i)*panelBytes)
			} else {
				g.zero(p[i])
			}
		}
		g.zip1s(p[0], p[0], p[1])
		g.zip1s(p[2], p[2], p[3])
		g.zip1d(g.x, p[0], p[2])
		g.finish(at, count)
	})
}

// panelBlocks reads a row whose pairs of elements, of codes quads, are pairBytes apart, in blocks of
// blockPairs of them that are two half blocks apart. The panel is padded to whole blocks, so all
// pairs exist.
func (g *gathering) panelBlocks(number gpr) {
	steps := 4 / g.spec.Weight.Size() // in a pair or quad
	blockK := blockPairs * steps
	g.panelRow(number)
	low := g.label("low")
	g.cmpi(number, kernel.PanelN/2)
	g.branch("LT", low)
	g.addi(g.row, g.row, halfBlock-pairBytes)
	g.bind(low)
	block := func(n int) {
		// The row moves by a half block here, by another one below.
		g.vectors(n, 2, g.streams(pairBytes/steps), func(at, _, count int) {
			if g.spec.Weight == ir.I8 {
				g.loadCodes(g.x, g.row, at/4*pairBytes, 4, g.t)
				g.finish(at, count)
				return
			}
			p := g.pieces
			g.ldrS(p[0], g.row, at/2*pairBytes)
			g.ldrS(p[1], g.row, (at/2+1)*pairBytes)
			g.zip1s(p[0], p[0], p[1])
			g.shll(g.x, p[0])
			g.finish(at, count)
		})
	}
	move := func(n int) {
		g.addi(g.row, g.row, n*2*halfBlock)
		for _, s := range g.streams(0)[1:] {
			g.addi(s.p, s.p, n*blockK*s.size)
		}
	}
	blocks := g.spec.K / blockK
	if blocks > 0 {
		g.scope(func() {
			i := g.gp("blocks")
			g.movi(i, blocks)
			g.times(i, func() {
				block(blockK)
				move(1)
			})
		})
	}
	if n := g.spec.K % blockK; n > 0 {
		block(n)
	}
	move(-blocks)
}
