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

// This file owns the block function of a matmul: the order of tiles and the epilogue. The
// prologue is a row norm; see rowwise.go.

var gemmArgs rt.GemmArgs

// gemm is the state of the block function.
type gemm struct {
	*emitter
	spec kernel.Spec
	tile *product
	// tiles are those of a plan that has them; the registers of tile are the epilogue's then.
	tiles *tiles
	ahead *prefetch // nil where rows of f32 are multiplied

	rowBytes   int // from a packed row to the next
	groupBytes int // bytes of a row of the scratch tile
	panelOut   int // bytes of a row of output of one panel

	// Of the current group of panels.
	panels, b, scales, bias, dst, res, col operand.Mem
	// Of the current tile of rows.
	rows, a, rowDst, rowRes, rowPos operand.Mem
	height, groupPanels             operand.Mem
}

// gemmBlock emits: for every group of panels, for every tile of rows: the products, into the
// scratch tile, then the epilogue on it. So a panel is read once from far away and then again
// from the second-level cache, where the packed rows are too.
func gemmBlock(e *emitter, k kernel.Kernel) {
	s := k.Spec
	g := &gemm{emitter: e, spec: s,
		rowBytes:   k.RowBytes(),
		groupBytes: s.Group() * panelBytes,
		panelOut:   s.PanelOut() * s.Out.Size(),
		panels:     e.argSlot(unsafe.Offsetof(gemmArgs.Panels)),
		b:          e.argSlot(unsafe.Offsetof(gemmArgs.B)),
		dst:        e.argSlot(unsafe.Offsetof(gemmArgs.Dst)),
		rows:       e.slot(), a: e.slot(), rowDst: e.slot(), height: e.slot(), groupPanels: e.slot(),
	}
	switch {
	case tiled(k):
		g.tile, g.tiles, g.ahead = e.newScratch(), e.newTiles(instOf(k).Name), e.newPrefetch(stepLines)
	case s.Math == ir.I8:
		g.tile, g.ahead = e.newCodes(k.Plan.MicroM, g.rowBytes, instOf(k).CodeBytes), e.newPrefetch(halfLines)
	case s.Weight == ir.BF16:
		g.tile, g.ahead = e.newProduct(k.Plan.MicroM, g.rowBytes, true, pairs(k)), e.newPrefetch(halfLines)
	default:
		g.tile = e.newProduct(k.Plan.MicroM, g.rowBytes, false, false)
	}
	if s.Math == ir.I8 {
		g.scales = e.argSlot(unsafe.Offsetof(gemmArgs.WScale))
	}
	if s.Epilogue.Has(kernel.Bias) {
		g.bias = e.argSlot(unsafe.Offsetof(gemmArgs.Bias))
	}
	if s.Epilogue.Has(kernel.Residual) {
		g.res, g.rowRes = e.argSlot(unsafe.Offsetof(gemmArgs.Res)), e.slot()
	}
	if g.needsCol() {
		g.col = e.argSlot(unsafe.Offsetof(gemmArgs.Col))
	}
	if s.Epilogue.Has(kernel.Rope) {
		g.rowPos = e.slot()
	}

	groups, lastGroup := e.label("group"), e.label("group")
	e.bind(groups)
	r := e.load(g.panels)
	e.do(x86.CMPQ(r, operand.U32(s.Group())))
	e.do(x86.JLE(ref(lastGroup)))
	e.do(x86.MOVQ(operand.U32(s.Group()), r))
	e.bind(lastGroup)
	e.do(x86.MOVQ(r, g.groupPanels))

	g.group(k.Plan.MicroM)

	e.addImm(s.Group()*s.PanelBytes(), g.b)
	e.addImm(s.Group()*g.panelOut, g.dst)
	if s.Math == ir.I8 {
		e.addImm(g.groupBytes, g.scales)
	}
	if s.Epilogue.Has(kernel.Bias) {
		e.addImm(g.groupBytes, g.bias)
	}
	if s.Epilogue.Has(kernel.Residual) {
		e.addImm(s.Group()*s.PanelOut()*4, g.res)
	}
	if g.needsCol() {
		e.addImm(s.Group()*s.PanelOut(), g.col)
	}
	e.do(x86.SUBQ(operand.U32(s.Group()), g.panels))
	e.do(x86.JG(ref(groups)))
	if g.tiles != nil {
		g.tiles.release()
	}
}

// partial reports whether the last panel has fewer output columns than the others.
func (g *gemm) partial() bool { return g.spec.N%g.spec.PanelOut() != 0 }

func (g *gemm) needsCol() bool { return g.partial() || g.spec.Epilogue.Has(kernel.Rope) }

// group emits the loop over the tiles of rows for one group of panels.
func (g *gemm) group(microM int) {
	e := g.emitter
	start := func(from operand.Op, to operand.Mem) {
		r := e.GP64()
		e.do(x86.MOVQ(from, r))
		e.do(x86.MOVQ(r, to))
	}
	start(e.field(unsafe.Offsetof(gemmArgs.Rows)), g.rows)
	start(e.field(unsafe.Offsetof(gemmArgs.A)), g.a)
	start(g.dst, g.rowDst)
	if g.spec.Epilogue.Has(kernel.Residual) {
		start(g.res, g.rowRes)
	}
	if g.spec.Epilogue.Has(kernel.Rope) {
		start(e.field(unsafe.Offsetof(gemmArgs.Pos)), g.rowPos)
	}
	if g.ahead != nil {
		// A single tile of rows leaves its next panel to the processor: it walks through its own.
		bytes, next := g.spec.Group()*g.spec.PanelBytes(), e.load(g.b)
		few := e.label("few")
		e.do(x86.CMPQ(g.rows, operand.U32(microM)))
		e.do(x86.JLE(ref(few)))
		e.addImm(bytes, next)
		e.bind(few)
		g.ahead.start(e, next, bytes)
	}
	tiles, lastTile := e.label("rows"), e.label("rows")
	e.bind(tiles)
	h := e.load(g.rows)
	e.do(x86.CMPQ(h, operand.U32(microM)))
	e.do(x86.JLE(ref(lastTile)))
	e.do(x86.MOVQ(operand.U32(microM), h))
	e.bind(lastTile)
	e.do(x86.MOVQ(h, g.height))
	if g.spec.Epilogue.Has(kernel.Residual) {
		g.prefetchResidual(h)
	}

	if g.tiles != nil {
		g.tileProducts(h)
	} else {
		g.products(h)
	}
	if g.spec.Epilogue.Has(kernel.Rope) {
		g.rope()
	}
	g.output()

	e.addImm(microM*g.rowBytes, g.a)
	e.do(x86.SUBQ(operand.U32(microM), g.rows))
	e.do(x86.JG(ref(tiles)))
}

// prefetchResidual asks for the residual of a tile before its products: a line or two of each of so many rows,
// which no processor foresees (docs/tuning.md).
func (g *gemm) prefetchResidual(h reg.Register) {
	e := g.emitter
	res, stride, n := e.load(g.rowRes), e.arg(unsafe.Offsetof(gemmArgs.ResStride)), e.GP64()
	e.do(x86.MOVQ(h, n))
	e.times(n, func() {
		for at := 0; at < 4*g.spec.PanelOut()*g.spec.Group(); at += 64 {
			e.do(x86.PREFETCHT0(operand.Mem{Base: res, Disp: at}))
		}
		e.do(x86.ADDQ(stride, res))
	})
}

// products emits the loop over the panels of the group: the register tile, plus the bias, into
// the scratch tile.
func (g *gemm) products(h reg.Register) {
	e, s := g.emitter, g.spec
	panels := e.load(g.groupPanels)
	c := e.arg(unsafe.Offsetof(gemmArgs.Tile))
	panel := e.load(g.b)
	var bias, scales reg.Register
	if s.Epilogue.Has(kernel.Bias) {
		bias = e.load(g.bias)
	}
	codes := s.Math == ir.I8
	if codes {
		scales = e.load(g.scales)
	}
	a, b, whole := e.GP64(), e.GP64(), e.GP64()
	e.times(panels, func() {
		e.do(x86.MOVQ(g.a, a))
		e.do(x86.MOVQ(panel, b))
		e.addImm(s.PanelBytes(), panel)
		g.tile.heights(h, func(h int) {
			sums := place{c, g.groupBytes}
			if codes {
				g.tile.beginCodes(h, a, sums)
				e.addImm(kernel.CodesAt, a)
			} else {
				g.tile.begin(h, sums, true)
			}
			if g.tile.bf16 || codes {
				g.tile.sumBF16(h, a, b, panel, sums, g.ahead)
			} else {
				e.do(x86.LEAQ(operand.Mem{Base: b, Disp: s.K / turnSteps(h) * turnSteps(h) * panelBytes}, whole))
				g.tile.sumRows(h, a, b, whole, panel, sums)
			}
			var add func(part)
			if bias != nil || codes {
				add = func(w part) {
					if codes {
						g.tile.scale(w, scales, a, kernel.CodesAt+g.tile.codes*s.KPad())
					}
					if bias != nil {
						g.addBias(w, bias)
					}
				}
			}
			g.tile.finish(h, sums, add)
		})
		e.addImm(panelBytes, c)
		if codes {
			e.addImm(panelBytes, scales)
		}
		if bias != nil {
			e.addImm(panelBytes, bias)
		}
	})
}

// tileProducts is products with tiles, whose sums are in the scratch tile before the bias is added.
func (g *gemm) tileProducts(h reg.Register) {
	e, s := g.emitter, g.spec
	g.tiles.configure(h)
	// walk is a slot that starts as another.
	walk := func(from operand.Mem) operand.Mem {
		to := e.slot()
		e.do(x86.MOVQ(e.load(from), to))
		return to
	}
	panels, panel := walk(g.groupPanels), walk(g.b)
	c := e.arg(unsafe.Offsetof(gemmArgs.Tile))
	var bias, scales operand.Mem
	if s.Epilogue.Has(kernel.Bias) {
		bias = walk(g.bias)
	}
	if s.Math == ir.I8 {
		scales = walk(g.scales)
	}
	e.times(panels, func() {
		a := e.load(g.a)
		if s.Math == ir.I8 {
			e.addImm(kernel.CodesAt, a)
		}
		g.tiles.multiply(g.height, tileProduct{
			a: a, aStride: g.rowBytes,
			b: e.load(panel), bStride: tileRow, bSide: halfBlock, bStep: 2 * halfBlock,
			c: c, cStride: g.groupBytes, steps: operand.U32(s.PanelBytes() / (2 * halfBlock)), zero: true, ahead: g.ahead,
		})
		g.finishTiles(c, bias, scales)
		e.addImm(s.PanelBytes(), panel)
		e.addImm(panelBytes, c)
	})
}

// finishTiles makes f32 of integer sums and adds the bias, in the scratch tile of a panel at c.
func (g *gemm) finishTiles(c reg.Register, bias, scales operand.Mem) {
	e, codes, biased := g.emitter, g.spec.Math == ir.I8, g.spec.Epilogue.Has(kernel.Bias)
	if !codes && !biased {
		return
	}
	x, add, columns := g.tile.a, g.tile.b, [2]reg.VecVirtual{}
	// vectors loads a panel's f32 and moves on to the next panel's.
	vectors := func(from operand.Mem, to [2]reg.VecVirtual) {
		r := e.load(from)
		for i, x := range to {
			e.do(x86.VMOVUPS(operand.Mem{Base: r, Disp: e.vecBytes() * i}, x))
		}
		e.addImm(panelBytes, from)
	}
	if biased {
		vectors(bias, add)
	}
	var packed reg.GPVirtual // the rows, which begin with their scales
	if codes {
		columns = [2]reg.VecVirtual{e.vec(), e.vec()}
		vectors(scales, columns)
		packed = e.load(g.a)
	}
	row, n := e.GP64(), e.load(g.height)
	e.do(x86.MOVQ(c, row))
	e.times(n, func() {
		for i := range add {
			m := operand.Mem{Base: row, Disp: e.vecBytes() * i}
			if codes {
				e.do(x86.VCVTDQ2PS(m, x))
				e.do(x86.VMULPS(columns[i], x, x))
				e.opOne(mulPS, operand.Mem{Base: packed}, x, x)
			} else {
				e.do(x86.VMOVUPS(m, x))
			}
			if biased {
				e.do(x86.VADDPS(add[i], x, x))
			}
			e.do(x86.VMOVUPS(x, m))
		}
		e.addImm(g.groupBytes, row)
		if codes {
			e.addImm(g.rowBytes, packed)
		}
	})
}

func (g *gemm) addBias(w part, bias reg.Register) {
	e := g.emitter
	for v := range w.n {
		x := g.tile.b[v%2]
		e.do(x86.VMOVUPS(operand.Mem{Base: bias, Disp: e.vecBytes() * (w.first + v)}, x))
		for r := range w.h {
			acc := g.tile.row(w, r)[v]
			e.do(x86.VADDPS(x, acc, acc))
		}
	}
}

// rope rotates the columns of the scratch tile that lie below RopeCols: in each head, column j
// with column j + HeadDim/2, by the angle of the row's position.
func (g *gemm) rope() {
	e, s := g.emitter, g.spec
	half := s.HeadDim / 2
	none := e.label("rope")
	width := e.GP64() // bytes of the columns to rotate
	e.do(x86.MOVQ(operand.U32(s.RopeCols()), width))
	e.do(x86.SUBQ(g.col, width))
	e.do(x86.JLE(ref(none)))
	whole := e.label("rope")
	e.do(x86.SHLQ(operand.U8(2), width))
	e.do(x86.CMPQ(width, operand.U32(g.groupBytes)))
	e.do(x86.JLE(ref(whole)))
	e.do(x86.MOVQ(operand.U32(g.groupBytes), width))
	e.bind(whole)

	tail := e.tail(half)
	row := e.arg(unsafe.Offsetof(gemmArgs.Tile))
	pos, n := e.load(g.rowPos), e.load(g.height)
	cosTable, sinTable := e.arg(unsafe.Offsetof(gemmArgs.Cos)), e.arg(unsafe.Offsetof(gemmArgs.Sin))
	cosRow, sinRow, x, end := e.GP64(), e.GP64(), e.GP64(), e.GP64()
	lo, hi, cos, sin, t := g.tile.acc[0], g.tile.acc[1], g.tile.b[0], g.tile.b[1], g.tile.a
	e.times(n, func() {
		e.do(x86.MOVLQSX(operand.Mem{Base: pos}, cosRow))
		e.addImm(4, pos)
		e.mulImm(4*half, cosRow, cosRow)
		e.do(x86.MOVQ(cosRow, sinRow))
		e.do(x86.ADDQ(cosTable, cosRow))
		e.do(x86.ADDQ(sinTable, sinRow))
		e.do(x86.MOVQ(row, x))
		e.do(x86.LEAQ(operand.Mem{Base: row, Index: width, Scale: 1}, end))
		heads := e.label("head")
		e.bind(heads)
		for j := 0; j < half; j += e.lanes {
			var only mask
			if half-j < e.lanes {
				only = tail
			}
			m := func(base reg.Register, offset int) operand.Mem {
				return operand.Mem{Base: base, Disp: 4 * (j + offset)}
			}
			e.loadVec(ir.F32, m(x, 0), only, lo)
			e.loadVec(ir.F32, m(x, half), only, hi)
			e.loadVec(ir.F32, m(cosRow, 0), only, cos)
			e.loadVec(ir.F32, m(sinRow, 0), only, sin)
			e.do(x86.VMULPS(sin, hi, t))
			e.do(x86.VFMSUB231PS(cos, lo, t)) // t = lo·cos − hi·sin
			e.storeVec(ir.F32, t, m(x, 0), only, nil)
			e.do(x86.VMULPS(sin, lo, t))
			e.do(x86.VFMADD231PS(cos, hi, t)) // t = hi·cos + lo·sin
			e.storeVec(ir.F32, t, m(x, half), only, nil)
		}
		e.addImm(4*s.HeadDim, x)
		e.do(x86.CMPQ(x, end))
		e.do(x86.JLT(ref(heads)))
		e.addImm(g.groupBytes, row)
	})
	e.do(x86.MOVQ(pos, g.rowPos))
	e.bind(none)
}

// output writes the scratch tile: the activation, the residual, the conversion. It moves the
// output and residual rows on to the next tile.
func (g *gemm) output() {
	e, s := g.emitter, g.spec
	residual := s.Epilogue.Has(kernel.Residual)
	panels := e.load(g.groupPanels)
	c := e.arg(unsafe.Offsetof(gemmArgs.Tile))
	dst, dstStride := e.load(g.rowDst), e.arg(unsafe.Offsetof(gemmArgs.DstStride))
	var res, resStride reg.Register
	if residual {
		res, resStride = e.load(g.rowRes), e.arg(unsafe.Offsetof(gemmArgs.ResStride))
	}
	rowC, rowDst, rowRes, n := e.GP64(), e.GP64(), e.GP64(), e.GP64()
	t, u, v := g.tile.a, g.tile.acc[0], g.tile.acc[1]
	x := g.tile.b[:]
	for len(x) < kernel.PanelN/e.lanes {
		x = append(x, e.vec())
	}
	// tileRows writes the rows of a panel: count vectors of each, the last under a mask.
	tileRows := func(count int, last mask) {
		e.times(n, func() {
			used := [][]reg.VecVirtual{x[:count]}
			if s.Epilogue.Has(kernel.GLU) {
				used = append(used, x[len(x)/2:len(x)/2+count])
			}
			for part, vecs := range used {
				for i, x := range vecs {
					e.do(x86.VMOVUPS(operand.Mem{Base: rowC, Disp: e.vecBytes()*i + part*panelBytes/2}, x))
				}
			}
			for i, x := range used[0] {
				switch {
				case s.Epilogue.Has(kernel.GLU):
					e.silu(x, t, u, v)
					e.do(x86.VMULPS(used[1][i], x, x))
				case s.Epilogue.Has(kernel.SiLU):
					e.silu(x, t, u, v)
				case s.Epilogue.Has(kernel.Tanh):
					e.tanh(x, t, u, v)
				}
			}
			for i, x := range used[0] {
				var only mask
				if i == count-1 {
					only = last
				}
				if residual {
					e.loadVec(ir.F32, operand.Mem{Base: rowRes, Disp: e.vecBytes() * i}, only, t)
					e.do(x86.VADDPS(t, x, x))
				}
				e.storeVec(s.Out, x, operand.Mem{Base: rowDst, Disp: e.lanes * i * s.Out.Size()}, only, t)
			}
			e.addImm(g.groupBytes, rowC)
			e.do(x86.ADDQ(dstStride, rowDst))
			if residual {
				e.do(x86.ADDQ(resStride, rowRes))
			}
		})
	}
	whole := s.PanelOut() / e.lanes
	var left reg.GPVirtual // output columns from the current panel on
	var last mask
	if g.partial() {
		left = e.GP64()
		e.do(x86.MOVQ(operand.U32(s.N), left))
		e.do(x86.SUBQ(g.col, left))
		last = e.tail(s.N % s.PanelOut())
	}
	e.times(panels, func() {
		e.do(x86.MOVQ(c, rowC))
		e.do(x86.MOVQ(dst, rowDst))
		if residual {
			e.do(x86.MOVQ(res, rowRes))
		}
		e.do(x86.MOVQ(g.height, n))
		if g.partial() {
			part, done := e.label("part"), e.label("done")
			e.do(x86.SUBQ(operand.U8(uint8(s.PanelOut())), left))
			e.do(x86.JLT(ref(part)))
			tileRows(whole, mask{})
			e.do(x86.JMP(ref(done)))
			e.bind(part)
			tileRows((s.N%s.PanelOut()+e.lanes-1)/e.lanes, last)
			e.bind(done)
		} else {
			tileRows(whole, mask{})
		}
		e.addImm(panelBytes, c)
		e.addImm(g.panelOut, dst)
		if residual {
			e.addImm(4*s.PanelOut(), res)
		}
	})
	h := e.load(g.height)
	advance := func(row operand.Mem, stride reg.Register) {
		d := e.GP64()
		e.do(x86.MOVQ(stride, d))
		e.do(x86.IMULQ(h, d))
		e.do(x86.ADDQ(d, row))
	}
	advance(g.rowDst, dstStride)
	if residual {
		advance(g.rowRes, resStride)
	}
}
