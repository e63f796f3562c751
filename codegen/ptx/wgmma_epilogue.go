package ptx

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns what happens to the accumulators of a tile before they are written. All of it is in
// registers: the order of the weight rows (cuda.Order) puts together what a thread needs.
//
// A thread has columns of two rows, eight apart. In each 16 columns it has four of each row, d[0],
// d[1], d[4], d[5] of the first and d[2], d[3], d[6], d[7] of the second (PTX ISA, the D fragment of
// wgmma.mma_async).

// epilogueOperands are the parameters of the epilogue.
type epilogueOperands struct {
	dst, bias, colSum, stats, res, shadow, statsOut, pos, cos, sin reg
}

func (g *wgmmaGemm) hasBias() bool { return g.spec.Epilogue.Has(kernel.Bias) || g.spec.Beta }

// declareEpilogue declares the parameters that the Spec needs.
func (g *wgmmaGemm) declareEpilogue() epilogueOperands {
	s := g.spec
	o := epilogueOperands{dst: g.pointer(cuda.OperandDst)}
	if g.hasBias() {
		o.bias = g.pointer(cuda.OperandBias)
	}
	if s.Prologue != kernel.NoPrologue {
		o.stats = g.param(cuda.Param{Kind: cuda.ParamStats, Operand: cuda.OperandSrc})
	}
	if s.Prologue == kernel.LayerNorm {
		o.colSum = g.param(cuda.Param{Kind: cuda.ParamColSum, Operand: cuda.OperandW})
	}
	if s.Epilogue.Has(kernel.Residual) {
		o.res = g.pointer(cuda.OperandRes)
	}
	if s.Out == ir.F32 {
		o.shadow = g.param(cuda.Param{Kind: cuda.ParamShadow, Operand: cuda.OperandDst})
		o.statsOut = g.param(cuda.Param{Kind: cuda.ParamStats, Operand: cuda.OperandDst})
	}
	if s.Epilogue.Has(kernel.Rope) {
		o.pos, o.cos, o.sin = g.pointer(cuda.OperandPos), g.pointer(cuda.OperandCos), g.pointer(cuda.OperandSin)
	}
	return o
}

// tileRow is one of the two rows of a thread in a tile.
type tileRow struct {
	valid            reg // the row exists
	dst, res, shadow reg // at the first column of the tile and of the thread
	stats            reg // at the first slot of the tile
	writeShadow      reg // the row exists and the buffer has a shadow
	writeStats       reg // and statistics, and the thread is the one that writes them
	scale, negMean   reg // of the norm
	cos, sin         [][]reg
}

// tileEpilogue is the epilogue of a tile.
type tileEpilogue struct {
	*wgmmaGemm
	inTile       reg // the row in the tile of the thread's first accumulators
	col, quad    reg
	rows         [2]tileRow
	bias, colSum reg // at the first column of the thread; under Rope at the thread's place in a head
	hasStats     reg
	end          string
	old          map[[2]int][]reg // of the residual, by row and column
}

// residualAhead is for how many panels the residual is under way: it is in memory that the stores go
// to, so that the assembler moves no load before a store.
const residualAhead = 3

// quadCols is how many neighbouring columns a thread has.
func (g *wgmmaGemm) quadCols() int {
	if g.order.Quads {
		return 4
	}
	return 2
}

// outCols is how many columns n rows of the weight matrix make.
func (g *wgmmaGemm) outCols(n int) int {
	if g.spec.Epilogue.Has(kernel.GLU) {
		return n / 2
	}
	return n
}

// tileOperands computes what the epilogue needs besides the accumulators. row and col are the tile's first
// row and its first row of the weight matrix, inTile is the row in the tile of the thread's first ones.
func (g *wgmmaGemm) tileOperands(row, inTile, col, quad reg) *tileEpilogue {
	s, o := g.spec, g.operands
	x := &tileEpilogue{wgmmaGemm: g, inTile: inTile, col: col, quad: quad, end: g.label("written"), old: map[[2]int][]reg{}}
	last, end := g.r("sub.u32", g.count, 1), g.count
	if g.m < g.padded() {
		// The rows beyond are another CTA's, which may be writing over what is added to them.
		end = g.r("min.u32", end, g.r("add.u32", row, g.m))
	}

	// The first column of the thread, in the panels and in the result.
	panelCol, outCol := g.b32(), g.b32()
	if g.order.Head > 0 {
		g.do("shl.b32", panelCol, quad, 1)
	} else {
		g.do("mad.lo.u32", panelCol, quad, g.quadCols(), col)
	}
	g.do("mov.u32", outCol, panelCol)
	if s.Epilogue.Has(kernel.GLU) {
		g.do("mad.lo.u32", outCol, quad, g.quadCols(), g.r("shr.u32", col, 1))
	}
	if o.bias != "" {
		x.bias = g.rd("mad.wide.u32", panelCol, 4, o.bias)
	}
	if o.colSum != "" {
		x.colSum = g.rd("mad.wide.u32", panelCol, 4, o.colSum)
	}
	if o.statsOut != "" {
		x.hasStats = g.p("setp.ne.u64", o.statsOut, 0)
	}
	for h := range x.rows {
		r := &x.rows[h]
		at8 := g.r("add.u32", g.r("add.u32", row, inTile), 8*h)
		r.valid = g.p("setp.lt.u32", at8, end)
		// Rows that do not exist read what belongs to the last one, and are not written.
		clamped := g.r("min.u32", at8, last)
		place := func(base reg, pitch, size int) reg {
			return g.rd("mad.wide.u32", outCol, size, g.rd("mad.wide.u32", clamped, pitch, base))
		}
		r.dst = place(o.dst, cuda.Pitch(s.N, s.Out == ir.BF16), s.Out.Size())
		if o.res != "" {
			r.res = place(o.res, cuda.Pitch(s.N, false), 4)
		}
		if s.Out == ir.F32 {
			r.shadow = place(o.shadow, cuda.Pitch(s.N, true), 2)
			r.writeShadow = g.p("setp.ne.and.u64", o.shadow, 0, r.valid)
			slot := g.r("mad.lo.u32", clamped, slots(s.N), g.r("div.u32", col, statsCols))
			r.stats = g.rd("mad.wide.u32", slot, 8, o.statsOut)
			r.writeStats = g.p("setp.eq.and.u32", quad, 0, r.valid)
		}
		if s.Prologue != kernel.NoPrologue {
			x.norm(r, clamped)
		}
		if s.Epilogue.Has(kernel.Rope) {
			x.angles(r, clamped)
		}
	}
	for p := range residualAhead {
		x.loadResidual(p)
	}
	return x
}

// panels is how many panels of the tile exist in its first place, the leftmost one.
func (x *tileEpilogue) panels() int { return min(x.n/kernel.PanelN, x.spec.Panels()) }

// loadResidual loads what is added to the columns of a panel.
func (x *tileEpilogue) loadResidual(panel int) {
	if x.operands.res == "" || panel >= x.panels() {
		return
	}
	width := x.outCols(kernel.PanelN)
	for col := panel * width; col < (panel+1)*width; col += 16 {
		for h, r := range x.rows {
			exists := x.partial(r.valid, col)
			if x.spec.WeightRows()%x.n != 0 {
				exists = x.p("setp.lt.and.s32", x.col, x.spec.WeightRows()-panel*kernel.PanelN, exists)
			}
			old := many(4, x.f32)
			for _, f := range old {
				x.do("mov.f32", f, 0.0)
			}
			x.doIf(exists, "ld.global.v4.f32", vec(old...), at(r.res, 4*col))
			x.old[[2]int{h, col}] = old
		}
	}
}

// norm sums the statistics of a row, each of the four threads of a row a quarter of the slots, and
// computes its scale and mean.
func (x *tileEpilogue) norm(r *tileRow, row reg) {
	g, s := x.wgmmaGemm, x.spec
	n := slots(s.K)
	p := g.rd("mad.wide.u32", g.r("mad.lo.u32", row, n, x.quad), 8, g.operands.stats)
	sums := [2]reg{g.f("mov.f32", 0.0), g.f("mov.f32", 0.0)}
	// The loads are all under way before the first is used.
	var parts [][2]reg
	for first := 0; first < n; first += 4 {
		part := [2]reg{g.f("mov.f32", 0.0), g.f("mov.f32", 0.0)}
		if load := at(p, 8*first); first+4 <= n {
			g.do("ld.global.v2.f32", vec(part[:]...), load)
		} else {
			g.doIf(g.p("setp.lt.u32", x.quad, n-first), "ld.global.v2.f32", vec(part[:]...), load)
		}
		parts = append(parts, part)
	}
	for _, part := range parts {
		for i := range sums {
			g.do("add.rn.f32", sums[i], sums[i], part[i])
		}
	}
	for i := range sums {
		g.quadSum(sums[i])
		g.do("mul.rn.f32", sums[i], sums[i], 1/float64(s.K))
	}
	square := sums[1]
	if s.Prologue == kernel.LayerNorm {
		r.negMean = g.f("neg.f32", sums[0])
		g.do("fma.rn.f32", square, r.negMean, sums[0], square)
		g.do("max.f32", square, square, 0.0)
	}
	r.scale = g.f("rsqrt.approx.ftz.f32", g.f("add.rn.f32", square, s.Eps))
}

// quadSum adds x over the four threads of a row.
func (e *entry) quadSum(x reg) {
	for _, distance := range []int{1, 2} {
		e.do("add.rn.f32", x, x, e.f("shfl.sync.bfly.b32", x, distance, 31, -1))
	}
}

// angles loads the cosines and sines of a row, of all 16 columns of a head in turn: those of the
// first 16 columns of the tile first.
func (x *tileEpilogue) angles(r *tileRow, row reg) {
	g, d := x.wgmmaGemm, x.spec.HeadDim
	pos := g.r("ld.global.nc.u32", at(g.rd("mad.wide.u32", row, 4, g.operands.pos), 0))
	element := g.r("mad.lo.u32", pos, d/2, g.r("shl.b32", x.quad, 1))
	block := g.r("rem.u32", g.r("shr.u32", x.col, 4), d/16)
	for range min(d/16, g.n/16) {
		index := g.r("mad.lo.u32", block, 8, element)
		load := func(table reg) []reg {
			v := many(2, g.f32)
			g.do("ld.global.nc.v2.f32", vec(v...), at(g.rd("mad.wide.u32", index, 4, table), 0))
			return v
		}
		r.cos, r.sin = append(r.cos, load(g.operands.cos)), append(r.sin, load(g.operands.sin))
		g.do("add.u32", block, block, 1)
		g.doIf(g.p("setp.eq.u32", block, d/16), "mov.u32", block, 0)
	}
}

// epilogue writes the tile. Warps whose rows are all beyond it have nothing to write.
func (x *tileEpilogue) epilogue(acc []reg) {
	if x.m < x.padded() {
		x.doIf(x.p("setp.ge.u32", x.inTile, x.m), "bra.uni", x.end)
	}
	switch {
	case x.order.Head > 0:
		x.heads(acc)
	case x.spec.Epilogue.Has(kernel.GLU):
		x.eachPanel(func(p int) { x.gated(acc, p) })
	default:
		x.eachPanel(func(p int) { x.columns(acc, p) })
	}
	x.bind(x.end)
}

// eachPanel calls do for each panel of the tile; panels beyond the matrix are jumped over.
func (x *tileEpilogue) eachPanel(do func(p int)) {
	for p := range x.panels() {
		x.stopAt(p * kernel.PanelN)
		x.loadResidual(p + residualAhead)
		do(p)
	}
}

// stopAt ends the tile where its columns from n on do not exist.
func (x *tileEpilogue) stopAt(n int) {
	if rows := x.spec.WeightRows(); rows%x.n != 0 && n > 0 {
		x.doIf(x.p("setp.ge.s32", x.col, rows-n), "bra.uni", x.end)
	}
}

// four returns the accumulators of 16 columns in one of the two rows, after norm and bias. bias and
// colSum are those of the columns.
func (x *tileEpilogue) four(acc []reg, group, h int, bias, colSum []reg) []reg {
	r := x.rows[h]
	var out []reg
	for i, d := range []int{0, 1, 4, 5} {
		v := x.f("mov.f32", acc[8*group+2*h+d])
		if colSum != nil {
			x.do("fma.rn.f32", v, r.negMean, colSum[i], v)
		}
		switch {
		case r.scale != "" && bias != nil:
			x.do("fma.rn.f32", v, v, r.scale, bias[i])
		case r.scale != "":
			x.do("mul.rn.f32", v, v, r.scale)
		case bias != nil:
			x.do("add.rn.f32", v, v, bias[i])
		}
		out = append(out, v)
	}
	return out
}

// columnValues loads the four values of the thread's columns in 16 of a row of f32. second is the
// distance from the first two columns to the last two in elements.
func (x *tileEpilogue) columnValues(base reg, col, second int) []reg {
	if base == "" {
		return nil
	}
	v := many(4, x.f32)
	if second == 2 {
		x.do("ld.global.nc.v4.f32", vec(v...), at(base, 4*col))
		return v
	}
	x.do("ld.global.nc.v2.f32", vec(v[:2]...), at(base, 4*col))
	x.do("ld.global.nc.v2.f32", vec(v[2:]...), at(base, 4*(col+second)))
	return v
}

// second is the distance from the first two columns of a thread in 16 to the last two.
func (x *tileEpilogue) second() int {
	switch {
	case x.order.Head > 0:
		return x.order.Head / 2
	case x.order.Quads:
		return 2
	}
	return 8
}

// partial returns the row's condition, and that the thread's column of the result exists, for
// results whose columns end within a panel. count is how many columns there are from col on.
func (x *tileEpilogue) partial(valid reg, col int) reg {
	n := x.spec.N
	if n%x.outCols(kernel.PanelN) == 0 {
		return valid
	}
	first := x.r("mad.lo.u32", x.quad, x.quadCols(), x.col)
	if x.spec.Epilogue.Has(kernel.GLU) {
		first = x.r("mad.lo.u32", x.quad, x.quadCols(), x.r("shr.u32", x.col, 1))
	}
	return x.p("setp.lt.and.u32", x.r("add.u32", first, col), n, valid)
}

// pack rounds two values to bf16.
func (e *entry) pack(low, high reg) reg { return e.r("cvt.rn.bf16x2.f32", high, low) }

// gated writes the product of a panel of 16 gate and 16 up columns.
func (x *tileEpilogue) gated(acc []reg, panel int) {
	col := panel * kernel.PanelN
	var bias, colSum [2][]reg
	for i := range 2 {
		bias[i] = x.columnValues(x.bias, col+16*i, x.second())
		colSum[i] = x.columnValues(x.colSum, col+16*i, x.second())
	}
	for h := range x.rows {
		gate := x.four(acc, 2*panel, h, bias[0], colSum[0])
		up := x.four(acc, 2*panel+1, h, bias[1], colSum[1])
		x.siluPair(gate[0], gate[1])
		x.siluPair(gate[2], gate[3])
		for i := range gate {
			x.do("mul.rn.f32", gate[i], gate[i], up[i])
		}
		x.finish(h, col/2, gate)
	}
}

// columns writes a panel of independent columns.
func (x *tileEpilogue) columns(acc []reg, panel int) {
	var sums [2][2]reg // of a slot, by row: of the values and of their squares
	for i := range 2 {
		group := 2*panel + i
		bias := x.columnValues(x.bias, 16*group, x.second())
		colSum := x.columnValues(x.colSum, 16*group, x.second())
		for h := range x.rows {
			v := x.four(acc, group, h, bias, colSum)
			switch {
			case x.spec.Epilogue.Has(kernel.SiLU):
				x.siluPair(v[0], v[1])
				x.siluPair(v[2], v[3])
			case x.spec.Epilogue.Has(kernel.Tanh):
				for _, f := range v {
					x.tanh(f)
				}
			}
			x.finish(h, 16*group, v)
			if x.spec.Out == ir.F32 {
				x.square(&sums[h], v)
			}
		}
	}
	if x.spec.Out != ir.F32 {
		return
	}
	skip := x.label("stats")
	x.doUnless(x.hasStats, "bra.uni", skip)
	for h, r := range x.rows {
		x.quadSum(sums[h][0])
		x.quadSum(sums[h][1])
		x.doIf(r.writeStats, "st.global.v2.f32", at(r.stats, 8*panel), vec(sums[h][:]...))
	}
	x.bind(skip)
}

// square adds four values, and their squares, to sums.
func (x *tileEpilogue) square(sums *[2]reg, v []reg) {
	total := x.f("add.rn.f32", x.f("add.rn.f32", v[0], v[1]), x.f("add.rn.f32", v[2], v[3]))
	squares := x.f("mul.rn.f32", v[0], v[0])
	for _, f := range v[1:] {
		x.do("fma.rn.f32", squares, f, f, squares)
	}
	if sums[0] == "" {
		*sums = [2]reg{total, squares}
		return
	}
	x.do("add.rn.f32", sums[0], sums[0], total)
	x.do("add.rn.f32", sums[1], sums[1], squares)
}

// finish adds the residual and writes four values of a row; col is the thread's column, relative to
// its first one in the tile. Values of columns that do not exist become 0.
func (x *tileEpilogue) finish(h, col int, v []reg) {
	r := x.rows[h]
	for i, f := range x.old[[2]int{h, col}] {
		x.do("add.rn.f32", v[i], v[i], f)
	}
	halves := [][]reg{v}
	if x.second() != 2 {
		halves = [][]reg{v[:2], v[2:]}
	}
	for i, part := range halves {
		col := col + i*x.second()
		exists := x.partial(r.valid, col)
		shadow := r.writeShadow
		if exists != r.valid && x.spec.Out == ir.F32 {
			for _, f := range part {
				x.do("selp.f32", f, f, 0.0, exists)
			}
			shadow = x.p("and.pred", shadow, exists)
		}
		if x.spec.Out == ir.F32 {
			x.doIf(exists, "st.global."+vector(len(part))+"f32", at(r.dst, 4*col), vec(part...))
			x.storeBF16(shadow, r.shadow, col, part)
		} else {
			x.storeBF16(exists, r.dst, col, part)
		}
	}
}

// vector is the part of an opcode for n elements at once.
func vector(n int) string {
	if n == 1 {
		return ""
	}
	return "v" + string('0'+rune(n)) + "."
}

// storeBF16 writes two or four values as bf16.
func (e *entry) storeBF16(p, base reg, col int, v []reg) {
	var packed []reg
	for i := 0; i < len(v); i += 2 {
		packed = append(packed, e.pack(v[i], v[i+1]))
	}
	operand := string(packed[0])
	if len(packed) > 1 {
		operand = vec(packed...)
	}
	e.doIf(p, "st.global."+vector(len(packed))+"b32", at(base, 2*col), operand)
}

// heads rotates the pairs of the query and key heads and writes all heads. The low halves of pairs
// are the first two of a thread's four columns, the high halves the others.
func (x *tileEpilogue) heads(acc []reg) {
	s, d := x.spec, x.spec.HeadDim
	block := x.r("rem.u32", x.r("shr.u32", x.col, 4), d/16)
	head := x.r("div.u32", x.r("shr.u32", x.col, 4), d/16)
	// The column of the low half, without the thread's place.
	col := x.r("mad.lo.u32", head, d, x.r("shl.b32", block, 3))
	for group := range min(x.n, s.N) / 16 {
		x.stopAt(16 * group)
		var bias, colSum []reg
		if x.bias != "" {
			bias = x.columnValues(x.rd("mad.wide.u32", col, 4, x.bias), 0, x.second())
		}
		if x.colSum != "" {
			colSum = x.columnValues(x.rd("mad.wide.u32", col, 4, x.colSum), 0, x.second())
		}
		var v [2][]reg
		for h := range x.rows {
			v[h] = x.four(acc, group, h, bias, colSum)
		}
		values := x.label("values")
		x.doIf(x.p("setp.ge.u32", col, s.RopeCols()), "bra.uni", values)
		for h, r := range x.rows {
			cos, sin := r.cos[group%(d/16)], r.sin[group%(d/16)]
			for i := range 2 {
				low, high := v[h][i], v[h][2+i]
				turned := x.f("mul.rn.f32", high, sin[i])
				turned = x.f("neg.f32", turned)
				turned = x.f("fma.rn.f32", low, cos[i], turned)
				x.do("mul.rn.f32", low, low, sin[i])
				x.do("fma.rn.f32", high, high, cos[i], low)
				x.do("mov.f32", low, turned)
			}
		}
		x.bind(values)
		for h, r := range x.rows {
			dst := x.rd("mad.wide.u32", col, 2, r.dst)
			x.storeBF16(r.valid, dst, 0, v[h][:2])
			x.storeBF16(r.valid, dst, d/2, v[h][2:])
		}
		// On to the next 8 low halves: of this head, or beyond the high halves of it.
		x.do("add.u32", block, block, 1)
		wrap := x.p("setp.eq.u32", block, d/16)
		x.do("add.u32", col, col, 8)
		x.doIf(wrap, "add.u32", col, col, d/2)
		x.doIf(wrap, "mov.u32", block, 0)
	}
}
