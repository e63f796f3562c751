package ptx

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns gathers: rows of a table by index, optionally plus rows of a second table. A CTA
// has BlockM rows, whose units its warps take in turn.

func gather(symbol string, k kernel.Kernel) []variant {
	s := k.Spec
	e := newEntry(symbol, 128)
	index, table := e.pointer(cuda.OperandIndex), reg("")
	dtype, pitch := s.Weight, tablePitch(s)
	if s.Activations {
		dtype, pitch = s.In, cuda.Pitch(s.K, s.In == ir.BF16)
		table = e.pointer(cuda.OperandSrc)
	} else {
		table = e.pointer(cuda.OperandW)
	}
	var pos, posTable reg
	if s.Positions {
		pos, posTable = e.pointer(cuda.OperandPos), e.pointer(cuda.OperandPosTable)
	}
	out := e.result(s.Out, s.K)
	rows := e.rows()

	first := e.r("mul.lo.u32", e.r("mov.u32", "%ctaid.x"), k.Plan.BlockM)
	n := slots(s.K)
	e.units(k.Plan.BlockM*n, func(unit, ok reg) {
		r, slot := e.divMod(unit, n)
		row := e.r("add.u32", first, r)
		ok = e.and(e.p("setp.lt.u32", row, rows), ok)
		c := e.columnsBelow(e.pairOf(slot), s.K, ok)
		i := e.r("mov.u32", 0)
		e.doIf(ok, "ld.global.u32", i, at(e.rd("mad.wide.u32", row, 4, index), 0))
		size := dtype.Size()
		v := e.loadPair(e.element(table, i, pitch, c.col, size), dtype, pitch%(2*size) == 0, c)
		if s.Positions {
			p := e.r("mov.u32", 0)
			e.doIf(ok, "ld.global.u32", p, at(e.rd("mad.wide.u32", row, 4, pos), 0))
			w := e.loadPair(e.element(posTable, p, 4*s.K, c.col, 4), ir.F32, s.K%2 == 0, c)
			for i := range v {
				v[i] = e.f("add.rn.f32", v[i], w[i])
			}
		}
		e.store(out, row, slot, ok, c, v)
	})
	e.do("ret")
	g := cuda.Grid{Kind: cuda.GridRows, TileM: k.Plan.BlockM}
	return []variant{{parts: []part{{e, e.launch(0, 0, g)}}}}
}

// tablePitch returns the bytes from one row of a gather's table to the next.
func tablePitch(s kernel.Spec) int { return ceilDiv(s.K, 32) * 32 * s.Weight.Size() }
