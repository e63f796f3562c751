package arm64

import (
	"unsafe"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns the block function of a matmul: the order of tiles and the epilogue. The
// prologue is a row norm; see rowwise.go.

var gemmArgs rt.GemmArgs

// gemm is the state of the block function. It keeps two counters; every address follows from
// them and the arguments.
type gemm struct {
	*emitter
	spec kernel.Spec
	tile *product

	groupBytes int // bytes of a row of the scratch tile

	panel, panels gpr // first panel of the group, relative to the call's, and panels in it
	row, height   gpr // first row of the tile and rows in it
}

// gemmBlock emits: for every group of panels, for every tile of rows: the products, into the
// scratch tile, then the epilogue on it. So a panel is read once from far away and then again
// from the second-level cache, where the packed rows are too.
func gemmBlock(e *emitter, k kernel.Kernel) {
	s := k.Spec
	g := &gemm{emitter: e, spec: s, groupBytes: s.Group() * panelBytes, tile: e.newProduct(k, k.RowBytes()),
		panel: e.gp("panel"), panels: e.gp("panels"), row: e.gp("row"), height: e.gp("height")}
	e.movi(g.panel, 0)
	groups, tiles := e.label("group"), e.label("rows")
	e.bind(groups)
	g.rest(g.panels, unsafe.Offsetof(gemmArgs.Panels), g.panel, s.Group())
	e.movi(g.row, 0)
	e.bind(tiles)
	g.rest(g.height, unsafe.Offsetof(gemmArgs.Rows), g.row, k.Plan.MicroM)

	e.scope(g.products)
	if s.Epilogue.Has(kernel.Rope) {
		e.scope(g.rope)
	}
	e.scope(g.output)

	g.next(g.row, k.Plan.MicroM, unsafe.Offsetof(gemmArgs.Rows), tiles)
	g.next(g.panel, s.Group(), unsafe.Offsetof(gemmArgs.Panels), groups)
}

// rest sets d to what is left of a field after done, but at most most.
func (e *emitter) rest(d gpr, field uintptr, done gpr, most int) {
	e.scope(func() {
		all := e.arg("all", field)
		e.sub(d, all, done)
		e.minImm(all, d, most)
		e.mov(d, all)
	})
}

// next adds step to a counter and jumps to top while it is below a field.
func (e *emitter) next(counter gpr, step int, field uintptr, top string) {
	e.scope(func() {
		e.addi(counter, counter, step)
		all := e.arg("all", field)
		e.cmp(counter, all)
		e.branch("LT", top)
	})
}

// rowsAt sets d to a field plus the distance of the tile's first row, whose rows are as far apart
// as the field stride says.
func (g *gemm) rowsAt(d gpr, base, stride uintptr) {
	g.scope(func() {
		s := g.arg("stride", stride)
		g.mul(s, s, g.row)
		g.argTo(d, base)
		g.add(d, d, s)
	})
}

// partial reports whether the last panel has fewer output columns than the others.
func (g *gemm) partial() bool { return g.spec.N%g.spec.PanelOut() != 0 }

// products emits the loop over the panels of the group: the register tile, plus the bias, into
// the scratch tile.
func (g *gemm) products() {
	e, s := g.emitter, g.spec
	n := e.gp("n")
	t := tile{a: e.gp("a"), b: e.gp("b"), c: e.gp("c"), cStride: g.groupBytes, k: s.KPad(), hasBias: s.Epilogue.Has(kernel.Bias)}
	h := e.gp("h")
	e.addi(h, g.height, g.tile.unit()-1)
	if g.tile.unit() > 1 {
		e.lsr(h, h, log2(g.tile.unit()))
	}
	e.mov(n, g.panels)
	e.argTo(t.a, unsafe.Offsetof(gemmArgs.A))
	e.plusMul(t.a, t.a, g.row, g.tile.aStride)
	e.argTo(t.b, unsafe.Offsetof(gemmArgs.B))
	e.plusMul(t.b, t.b, g.panel, s.PanelBytes())
	e.argTo(t.c, unsafe.Offsetof(gemmArgs.Tile))
	if t.hasBias {
		t.bias = e.arg("bias", unsafe.Offsetof(gemmArgs.Bias))
		e.plusMul(t.bias, t.bias, g.panel, panelBytes)
	}
	if s.Math == ir.I8 {
		t.scales = g.scalesAt
	}
	e.times(n, func() {
		g.tile.emit(h, t)
		e.addi(t.b, t.b, s.PanelBytes())
	})
}

// rope rotates the columns of the scratch tile that lie below RopeCols: in each head, column j
// with column j + HeadDim/2, by the angle of the row's position.
func (g *gemm) rope() {
	e, s := g.emitter, g.spec
	half := s.HeadDim / 2
	none := e.label("rope")
	width := e.gp("width") // bytes of the columns to rotate
	e.scope(func() {
		col, cols := e.arg("col", unsafe.Offsetof(gemmArgs.Col)), e.gp("cols")
		e.plusMul(col, col, g.panel, s.PanelOut())
		e.movi(cols, s.RopeCols())
		e.sub(width, cols, col)
		e.cmpi(width, 0)
		e.branch("LE", none)
		e.lsl(width, width, 2)
		e.minImm(cols, width, g.groupBytes)
		e.mov(width, cols)
	})

	row, pos, n := e.arg("row", unsafe.Offsetof(gemmArgs.Tile)), e.arg("pos", unsafe.Offsetof(gemmArgs.Pos)), e.gp("n")
	e.plusMul(pos, pos, g.row, 4)
	e.mov(n, g.height)
	cos, sin, angle := e.gp("cos"), e.gp("sin"), e.gp("angle")
	lo, hi, end := e.gp("lo"), e.gp("hi"), e.gp("end")
	x, y, c, d, t := e.v("x"), e.v("y"), e.v("cos"), e.v("sin"), e.v("t")
	r := e.newRounder(false)
	e.times(n, func() {
		e.ldInt32(cos, pos)
		e.addi(pos, pos, 4)
		e.mulImm(angle, cos, 4*half)
		e.argTo(cos, unsafe.Offsetof(gemmArgs.Cos))
		e.add(cos, cos, angle)
		e.argTo(sin, unsafe.Offsetof(gemmArgs.Sin))
		e.add(sin, sin, angle)
		e.mov(lo, row)
		e.add(end, row, width)
		heads := e.label("head")
		e.bind(heads)
		e.addi(hi, lo, 4*half)
		e.vectors(half, 2, []stream{{lo, 4}, {hi, 4}, {cos, 4}, {sin, 4}}, func(at, _, count int) {
			e.load(ir.F32, x, lo, at, count, t)
			e.load(ir.F32, y, hi, at, count, t)
			e.load(ir.F32, c, cos, at, count, t)
			e.load(ir.F32, d, sin, at, count, t)
			e.fmul(t, y, d)
			e.fneg(t, t)
			e.fmla(t, x, c) // t = x·cos − y·sin
			e.fmul(d, x, d)
			e.fmla(d, y, c) // d = y·cos + x·sin
			r.store(ir.F32, t, lo, at, count)
			r.store(ir.F32, d, hi, at, count)
		})
		e.addi(lo, lo, 4*s.HeadDim)
		e.cmp(lo, end)
		e.branch("LT", heads)
		e.addi(row, row, g.groupBytes)
	})
	e.bind(none)
}

// output writes the scratch tile: the activation, the residual, the conversion. The panel that
// ends the matrix has code of its own when it has fewer columns.
func (g *gemm) output() {
	e, s := g.emitter, g.spec
	n, c, dst := e.gp("n"), e.arg("c", unsafe.Offsetof(gemmArgs.Tile)), e.gp("dst")
	e.mov(n, g.panels)
	g.rowsAt(dst, unsafe.Offsetof(gemmArgs.Dst), unsafe.Offsetof(gemmArgs.DstStride))
	e.plusMul(dst, dst, g.panel, s.PanelOut()*s.Out.Size())
	var res gpr
	if s.Epilogue.Has(kernel.Residual) {
		res = e.gp("res")
		g.rowsAt(res, unsafe.Offsetof(gemmArgs.Res), unsafe.Offsetof(gemmArgs.ResStride))
		e.plusMul(res, res, g.panel, 4*s.PanelOut())
	}
	var left gpr // output columns from the current panel on
	if g.partial() {
		left = e.arg("left", unsafe.Offsetof(gemmArgs.Col))
		e.plusMul(left, left, g.panel, s.PanelOut())
		e.scope(func() {
			t := e.gp("columns")
			e.movi(t, s.N)
			e.sub(left, t, left)
		})
	}
	w := g.newWriter()
	e.times(n, func() {
		done := e.label("panel")
		if g.partial() {
			whole := e.label("whole")
			e.cmpi(left, s.PanelOut())
			e.branch("GE", whole)
			e.scope(func() { w.panel(c, dst, res, s.N%s.PanelOut()) })
			e.jump(done)
			e.bind(whole)
			e.subi(left, left, s.PanelOut())
		}
		e.scope(func() { w.panel(c, dst, res, s.PanelOut()) })
		e.bind(done)
		e.addi(c, c, panelBytes)
		e.addi(dst, dst, s.PanelOut()*s.Out.Size())
		if s.Epilogue.Has(kernel.Residual) {
			e.addi(res, res, 4*s.PanelOut())
		}
	})
}

// writer writes panels of the scratch tile.
type writer struct {
	*gemm
	x, y  vec
	temps []vec
	round *rounder
}

func (g *gemm) newWriter() *writer {
	return &writer{gemm: g, x: g.v("x"), y: g.v("y"), temps: g.vs(siluTemps, "temp"), round: g.newRounder(g.spec.Out == ir.BF16)}
}

// panel emits the loop over the rows of a panel of which so many output columns exist.
func (w *writer) panel(c, dst, res gpr, columns int) {
	e, s := w.emitter, w.spec
	n, rowC, rowDst, rowRes := e.gp("rows"), e.gp("rowC"), e.gp("rowDst"), e.gp("rowRes")
	e.mov(n, w.height)
	e.mov(rowC, c)
	e.mov(rowDst, dst)
	streams := []stream{{rowC, 4}, {rowDst, s.Out.Size()}}
	if s.Epilogue.Has(kernel.Residual) {
		e.mov(rowRes, res)
		streams = append(streams, stream{rowRes, 4})
	}
	e.times(n, func() {
		e.vectors(columns, 2, streams, func(at, _, count int) {
			e.ldrQ(w.x, rowC, 4*at)
			switch {
			case s.Epilogue.Has(kernel.GLU):
				e.silu(w.x, w.temps)
				e.ldrQ(w.y, rowC, 4*(at+kernel.GLUWidth))
				e.fmul(w.x, w.x, w.y)
			case s.Epilogue.Has(kernel.SiLU):
				e.silu(w.x, w.temps)
			case s.Epilogue.Has(kernel.Tanh):
				e.tanh(w.x, w.temps)
			}
			if s.Epilogue.Has(kernel.Residual) {
				e.load(ir.F32, w.y, rowRes, at, count, w.temps[0])
				e.fadd(w.x, w.x, w.y)
			}
			w.round.store(s.Out, w.x, rowDst, at, count)
		})
		e.addi(rowC, rowC, w.groupBytes)
		e.scope(func() {
			stride := e.arg("stride", unsafe.Offsetof(gemmArgs.DstStride))
			e.add(rowDst, rowDst, stride)
			if s.Epilogue.Has(kernel.Residual) {
				e.argTo(stride, unsafe.Offsetof(gemmArgs.ResStride))
				e.add(rowRes, rowRes, stride)
			}
		})
	})
}
