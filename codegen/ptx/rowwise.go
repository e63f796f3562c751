package ptx

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns norms of rows. A warp has a row, which it reads for the mean, again for the
// variance around it, and again to write it: the second and third time from the first-level cache.

func rowwise(symbol string, k kernel.Kernel) []variant {
	s := k.Spec
	e := newEntry(symbol, 32*k.Plan.BlockM)
	src, gamma, beta := e.pointer(cuda.OperandSrc), e.pointer(cuda.OperandGamma), reg("")
	if s.Beta {
		beta = e.pointer(cuda.OperandBeta)
	}
	out := e.result(s.Out, s.K)
	rows := e.rows()

	tid := e.r("mov.u32", "%tid.x")
	row := e.r("mad.lo.u32", e.r("mov.u32", "%ctaid.x"), k.Plan.BlockM, e.r("shr.u32", tid, 5))
	e.retIf(e.p("setp.ge.u32", row, rows))
	half := e.r("and.b32", e.r("shr.u32", tid, 4), 1)
	pitch, size := cuda.Pitch(s.K, s.In == ir.BF16), s.In.Size()
	n := slots(s.K)
	// slot, in steps of two, is the unit of the lower half of the warp.
	each := func(body func(slot reg, c columns, v [2]reg)) {
		i := e.r("mov.u32", 0)
		e.loop(i, n, 2, func() {
			slot := e.r("add.u32", i, half)
			c := e.columnsBelow(e.pairOf(slot), s.K, "")
			body(slot, c, e.loadPair(e.element(src, row, pitch, c.col, size), s.In, pitch%(2*size) == 0, c))
		})
	}
	mean := e.f("mov.f32", 0.0)
	if s.Prologue == kernel.LayerNorm {
		each(func(_ reg, c columns, v [2]reg) {
			for i := range v {
				e.doIf(c.valid[i], "add.rn.f32", mean, mean, v[i])
			}
		})
		e.shuffle("add.rn.f32", mean, 1, 2, 4, 8, 16)
		e.do("mul.rn.f32", mean, mean, 1/float64(s.K))
	}
	squares := e.f("mov.f32", 0.0)
	each(func(_ reg, c columns, v [2]reg) {
		for i := range v {
			d := e.f("sub.rn.f32", v[i], mean)
			e.doIf(c.valid[i], "fma.rn.f32", squares, d, d, squares)
		}
	})
	e.shuffle("add.rn.f32", squares, 1, 2, 4, 8, 16)
	scale := e.f("rsqrt.approx.ftz.f32", e.f("fma.rn.f32", squares, 1/float64(s.K), s.Eps))
	each(func(slot reg, c columns, v [2]reg) {
		g := e.loadPair(e.rd("mad.wide.u32", c.col, 4, gamma), ir.F32, true, c)
		var b [2]reg
		if s.Beta {
			b = e.loadPair(e.rd("mad.wide.u32", c.col, 4, beta), ir.F32, true, c)
		}
		for i := range v {
			v[i] = e.f("mul.rn.f32", e.f("mul.rn.f32", e.f("sub.rn.f32", v[i], mean), scale), g[i])
			if s.Beta {
				v[i] = e.f("add.rn.f32", v[i], b[i])
			}
		}
		e.store(out, row, slot, "", c, v)
	})
	e.do("ret")
	g := cuda.Grid{Kind: cuda.GridRows, TileM: k.Plan.BlockM}
	return []variant{{parts: []part{{e, e.launch(0, 0, g)}}}}
}
