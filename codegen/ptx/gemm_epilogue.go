package ptx

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns what follows the sums of a matmul by mma.sync: the scale of the norm, bias, rotation,
// activation, residual, and the way to the result, two columns of a row at a time.

// norms puts the scale of each row of the tile, and its mean where a mean is taken off, into shared
// memory. Variance is mean(x²) − mean(x)².
func (g *mmaGemm) norms() {
	s := g.spec
	if s.Prologue == kernel.NoPrologue {
		return
	}
	row := g.r("add.u32", g.row0, g.tid)
	mine := g.p("setp.lt.u32", g.tid, g.m)
	g.when(g.and(mine, g.p("setp.lt.u32", row, g.rows)), func() {
		n := slots(s.K)
		sum, squares := g.f("mov.f32", 0.0), g.f("mov.f32", 0.0)
		from := g.rd("mad.wide.u32", row, 8*n, g.stats)
		i := g.r("mov.u32", 0)
		g.loop(i, n, 1, func() {
			a, b := g.f32(), g.f32()
			g.do("ld.global.v2.f32", vec(a, b), at(from, 0))
			g.do("add.rn.f32", sum, sum, a)
			g.do("add.rn.f32", squares, squares, b)
			g.do("add.u64", from, from, 8)
		})
		mean, square := g.f("mul.rn.f32", sum, 1/float64(s.K)), g.f("mul.rn.f32", squares, 1/float64(s.K))
		if s.Prologue == kernel.LayerNorm {
			square = g.f("max.f32", g.f("sub.rn.f32", square, g.f("mul.rn.f32", mean, mean)), 0.0)
		}
		scale := g.f("rsqrt.approx.ftz.f32", g.f("add.rn.f32", square, s.Eps))
		g.do("st.shared.v2.f32", at(g.r("mad.lo.u32", g.tid, 8, g.smem), g.normAt()), vec(scale, mean))
	})
}

// keepSums puts the fragments of the warp into shared memory.
func (g *mmaGemm) keepSums(acc [][][]reg) {
	lane := g.r("and.b32", g.tid, 31)
	row := g.r("add.u32", g.warpRow, g.r("shr.u32", lane, 2))
	col := g.r("add.u32", g.warpCol, g.r("shl.b32", g.r("and.b32", lane, 3), 1))
	to := g.r("mad.lo.u32", row, g.sumsRow(), g.r("mad.lo.u32", col, 4, g.smem))
	for i := range acc {
		for j, d := range acc[i] {
			offset := i*16*g.sumsRow() + 32*j
			g.do("st.shared.v2.f32", at(to, offset), vec(d[0], d[1]))
			g.do("st.shared.v2.f32", at(to, offset+8*g.sumsRow()), vec(d[2], d[3]))
		}
	}
	g.do("bar.sync", 0)
}

// sumRow is a row of sums.
type sumRow struct {
	at          reg // address in shared memory
	scale, mean reg // of the norm
}

// values returns the sums of two neighbouring columns of the tile, scaled, with the bias. Only those
// that ok says are there.
func (g *mmaGemm) values(r sumRow, col reg, ok reg) [2]reg {
	var v [2]reg
	v[0], v[1] = g.f("mov.f32", 0.0), g.f("mov.f32", 0.0)
	g.doIf(ok, "ld.shared.v2.f32", vec(v[0], v[1]), at(g.r("mad.lo.u32", col, 4, r.at), 0))
	n := g.r("add.u32", g.col0, col)
	both := columns{col: n, valid: [2]reg{ok, ok}, paired: true}
	if g.colSum != "" {
		c := g.loadPair(g.rd("mad.wide.u32", n, 4, g.colSum), ir.F32, true, both)
		for i := range v {
			g.do("sub.rn.f32", v[i], v[i], g.f("mul.rn.f32", r.mean, c[i]))
		}
	}
	if r.scale != "" {
		for i := range v {
			g.do("mul.rn.f32", v[i], v[i], r.scale)
		}
	}
	if g.bias != "" {
		b := g.loadPair(g.rd("mad.wide.u32", n, 4, g.bias), ir.F32, true, both)
		for i := range v {
			g.do("add.rn.f32", v[i], v[i], b[i])
		}
	}
	return v
}

// epilogue goes over the units of the tile.
func (g *mmaGemm) epilogue(acc [][][]reg) {
	s := g.spec
	g.keepSums(acc)
	cols, perCol := g.n, 1
	if s.Epilogue.Has(kernel.GLU) {
		cols, perCol = g.n/2, 2
	}
	n := slots(cols)
	g.units(g.m*n, func(unit, ok reg) {
		inTile, slot := g.divMod(unit, n)
		row := g.r("add.u32", g.row0, inTile)
		ok = g.and(g.p("setp.lt.u32", row, g.rows), ok)
		col := g.pairOf(slot) // of the tile
		first := g.col0
		if perCol == 2 {
			first = g.r("shr.u32", g.col0, 1)
		}
		if cols%statsCols != 0 {
			ok = g.and(g.p("setp.lt.u32", col, cols), ok)
		}
		c := g.columnsBelow(g.r("add.u32", first, col), s.N, ok)

		r := sumRow{at: g.r("mad.lo.u32", inTile, g.sumsRow(), g.smem)}
		if s.Prologue != kernel.NoPrologue {
			r.scale, r.mean = g.f("mov.f32", 0.0), g.f("mov.f32", 0.0)
			g.doIf(ok, "ld.shared.v2.f32", vec(r.scale, r.mean), at(g.r("mad.lo.u32", inTile, 8, g.smem), g.normAt()))
		}
		var v [2]reg
		if s.Epilogue.Has(kernel.GLU) {
			v = g.gated(r, col, c.valid[0])
		} else {
			v = g.values(r, col, c.valid[0])
		}
		switch {
		case s.Epilogue.Has(kernel.Rope):
			v = g.rotated(r, row, col, c, v)
		case s.Epilogue.Has(kernel.SiLU):
			g.silu(v[0])
			g.silu(v[1])
		case s.Epilogue.Has(kernel.Tanh):
			g.tanh(v[0])
			g.tanh(v[1])
		}
		if s.Epilogue.Has(kernel.Residual) {
			w := g.loadPair(g.element(g.res, row, 4*s.N, c.col, 4), ir.F32, s.N%2 == 0, c)
			for i := range v {
				g.do("add.rn.f32", v[i], v[i], w[i])
			}
		}
		g.store(g.out, row, g.r("shr.u32", c.col, 5), ok, c, v)
	})
}

// gated returns silu(gate)·up of two columns: gate and up are 16 columns apart, in panels of 32.
func (g *mmaGemm) gated(r sumRow, col, ok reg) [2]reg {
	panel := g.r("and.b32", col, ^(kernel.GLUWidth - 1))
	gate := g.values(r, g.r("add.u32", col, panel), ok)
	up := g.values(r, g.r("add.u32", g.r("add.u32", col, panel), kernel.GLUWidth), ok)
	for i := range gate {
		g.silu(gate[i])
		g.do("mul.rn.f32", gate[i], gate[i], up[i])
	}
	return gate
}

// rotated returns the columns after the rotation of their head, which lies in the tile as a whole. The
// other element of each pair is half a head away.
func (g *mmaGemm) rotated(r sumRow, row, col reg, c columns, v [2]reg) [2]reg {
	s := g.spec
	half := s.HeadDim / 2
	pos := g.r("mov.u32", 0)
	rotate := g.columnsBelow(c.col, s.RopeCols(), c.valid[0])
	g.doIf(rotate.valid[0], "ld.global.u32", pos, at(g.rd("mad.wide.u32", row, 4, g.pos), 0))
	var out [2]reg
	for i := range v {
		at0 := g.r("add.u32", col, i)
		_, j := g.divMod(at0, s.HeadDim)
		low := g.p("setp.lt.u32", j, half)
		other := g.r("selp.b32", g.r("add.u32", at0, half), g.r("sub.u32", at0, half), low)
		angle := g.r("selp.b32", j, g.r("sub.u32", j, half), low)
		// The pair of columns that has the other element.
		w := g.values(r, g.r("and.b32", other, -2), rotate.valid[i])
		x := g.f("selp.f32", w[1], w[0], g.p("setp.ne.u32", g.r("and.b32", other, 1), 0))
		cos := g.load(g.element(g.cos, pos, 4*half, angle, 4), rotate.valid[i])
		sin := g.load(g.element(g.sin, pos, 4*half, angle, 4), rotate.valid[i])
		sin = g.f("selp.f32", g.f("neg.f32", sin), sin, low)
		turned := g.f("fma.rn.f32", v[i], cos, g.f("mul.rn.f32", x, sin))
		out[i] = g.f("selp.f32", turned, v[i], rotate.valid[i])
	}
	return out
}

// load returns the f32 at address a, 0 where ok is false.
func (e *entry) load(a, ok reg) reg {
	v := e.f("mov.f32", 0.0)
	e.doIf(ok, "ld.global.f32", v, at(a, 0))
	return v
}
