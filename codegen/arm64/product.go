package arm64

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns the register tile: up to MicroM rows times some vectors of 4 columns of a panel
// of 32, as many as there are accumulators for. Each accumulator sums over K from 0 up, so that
// neither the shape of the tile nor anything around it changes a bit.

// panelBytes is one row of K of an f32 panel, and two rows of a bf16 panel.
const panelBytes = 4 * kernel.PanelN

// A block of a bf16 panel is 32 steps of K: 16 pairs of them × 16 columns, then the same pairs ×
// the other 16 columns. A block of a panel of codes has quads of steps in the place of pairs.
const (
	blockPairs = 16
	pairBytes  = 64
	halfBlock  = blockPairs * pairBytes
)

// turnPairs is the number of pairs of one turn of the loop over a half block.
const turnPairs = 4

// product is the register tile of a function.
type product struct {
	e       *emitter
	inst    kernel.Inst
	weight  ir.DType // of the panels; 0 for those that attention packs
	blocks  bool     // they consist of blocks: those of bf16, and of codes
	rows    int      // at most so many
	aStride int      // bytes from one row of the left factor to the next

	// Registers of the tile that is being emitted.
	h, w    int // units of rows (see unit), vectors of 4 columns
	acc     []vec
	a, b    []vec
	mask    vec // of the upper half of each lane, for bf16 panels that are widened
	from    []gpr
	right   gpr // where the panel is read
	counter gpr
}

// instOf returns the multiply-accumulate instruction of a plan.
func instOf(k kernel.Kernel) kernel.Inst {
	t, _ := kernel.LookupTarget(k.Plan.Target)
	i, _ := t.Inst(k.Plan.Inst)
	return i
}

// newProduct returns the register tile of a plan.
func (e *emitter) newProduct(k kernel.Kernel, aStride int) *product {
	w := k.Spec.Weight
	return &product{e: e, inst: instOf(k), weight: w, blocks: w == ir.BF16 || w == ir.I8, rows: k.Plan.MicroM, aStride: aStride}
}

// unit is the number of rows that one left register holds: the matrix instruction multiplies
// pairs of rows.
func (p *product) unit() int {
	if p.inst.Rows > 1 {
		return p.inst.Rows
	}
	return 1
}

// tile is a call of the register tile: rows at a times the panel at b, into the rows at c.
type tile struct {
	a, b, c gpr // c is moved on by the columns of a panel
	cStride int
	k       int // steps of K, if it is a constant
	kReg    gpr // else the register that has them
	dynamic bool
	load    bool // c holds the sums so far
	bias    gpr  // of the panel's columns, moved on by them
	hasBias bool
	exact   bool // c ends where its rows end
	rows    gpr  // how many they are, if exact
	// scales sets a register to the address of the scales of the columns at c, if the factors are codes.
	scales func(d, c gpr)
}

// quads reports whether the panels are quads (see matrix.go). Those of attention are, for the
// matrix instruction, and f32 otherwise.
func (p *product) quads() bool { return p.unit() > 1 && !p.blocks }

// emit emits t once for every height of the tile, and jumps to the one that the register h holds,
// in units of rows.
func (p *product) emit(h gpr, t tile) {
	e := p.e
	most := (p.rows + p.unit() - 1) / p.unit()
	end := e.label("tileEnd")
	labels := make([]string, most+1)
	for n := most; n > 1; n-- {
		labels[n] = e.label("tile")
		e.cmpi(h, n)
		e.branch("EQ", labels[n])
	}
	for n := 1; n <= most; n++ {
		if n > 1 {
			e.bind(labels[n])
		}
		e.scope(func() { p.height(n, t) })
		if n < most {
			e.jump(end)
		}
	}
	e.bind(end)
}

// height emits t for h units of rows: a loop over the columns of the panel, as many at a time as
// the registers allow.
func (p *product) height(h int, t tile) {
	e := p.e
	p.take(h)
	column := e.gp("column") // bytes from the start of a block to the columns of the tile
	limit := panelBytes
	switch {
	case p.quads():
		limit = quadBytes
	case p.blocks:
		limit = 2 * halfBlock
	}
	subs := e.label("columns")
	e.movi(column, 0)
	if p.w < 8 {
		e.bind(subs)
	}
	e.mov(p.from[0], t.a)
	if p.weight == ir.I8 {
		e.addi(p.from[0], t.a, kernel.CodesAt*p.unit())
	}
	for i := range p.from[1:] {
		e.addi(p.from[i+1], p.from[i], p.aStride*p.unit())
	}
	e.add(p.right, t.b, column)
	p.begin(t)
	e.hold(p.acc)
	switch {
	case p.quads():
		p.sumQuads(t)
	case p.blocks:
		e.scope(func() { p.sumBlocks(t.k) })
	default:
		p.sumF32(t)
	}
	e.release()
	p.finish(t)
	if p.w == 8 {
		return
	}
	p.nextColumns(column)
	e.cmpi(column, limit)
	e.branch("LT", subs)
}

// nextColumns moves column on. A panel of blocks has its columns 16 and up half a block away.
func (p *product) nextColumns(column gpr) {
	e := p.e
	switch {
	case p.quads():
		e.addi(column, column, 32*p.w)
	case !p.blocks:
		e.addi(column, column, 16*p.w)
	case p.w == 4:
		e.addi(column, column, halfBlock)
	default:
		same := e.label("half")
		e.eori(column, column, 32)
		e.tst(column, 32)
		e.branch("NE", same)
		e.addi(column, column, halfBlock)
		e.bind(same)
	}
}

// take takes the registers of a tile of h units.
func (p *product) take(h int) {
	e := p.e
	p.h, p.w = h, p.inst.TileVectors(p.weight, h*p.unit())
	p.acc = e.vs(h*p.w*p.unit(), "acc")
	switch {
	case p.quads():
		p.a, p.b = e.vs(h, "a"), e.vs(2, "b")
	case p.unit() > 1:
		p.b = e.vs(5, "b")
		p.a = e.vs(min(h, len(e.vecs.free)), "a")
	case p.weight == ir.BF16:
		p.a, p.b, p.mask = e.vs(h, "a"), e.vs(2, "b"), e.v("mask")
		e.constBits(p.mask, 0xffff0000)
	default:
		p.a = e.vs(h, "a")
		p.b = e.vs(min(4, len(e.vecs.free)), "b")
	}
	p.from = nil
	for range h {
		p.from = append(p.from, e.gp("row"))
	}
	p.right, p.counter = e.gp("right"), e.gp("k")
}

// at returns the accumulator of a unit of rows and a vector of columns; the matrix instruction
// has two, of two columns each.
func (p *product) at(r, v int) []vec {
	u := p.unit()
	return p.acc[(r*p.w+v)*u:][:u]
}

// begin sets the accumulators.
func (p *product) begin(t tile) {
	e := p.e
	if !t.load {
		for _, x := range p.acc {
			e.zero(x)
		}
		return
	}
	if p.unit() > 1 {
		p.beginMatrix(t)
		return
	}
	p.eachRow(t, func(r int, row gpr) {
		for v := range p.w {
			e.ldrQ(p.at(r, v)[0], row, 16*v)
		}
	})
}

// eachRow calls body for each unit of rows, with a register that has the address of its first row
// in c.
func (p *product) eachRow(t tile, body func(r int, row gpr)) {
	e := p.e
	e.scope(func() {
		row := e.gp("out")
		e.mov(row, t.c)
		for r := range p.h {
			body(r, row)
			if r < p.h-1 {
				e.addi(row, row, t.cStride*p.unit())
			}
		}
	})
}

// finish makes f32 of sums of codes, adds the bias and writes the accumulators.
func (p *product) finish(t tile) {
	e := p.e
	if p.weight == ir.I8 {
		p.headers(t)
	}
	if p.unit() == 1 {
		if p.weight == ir.I8 {
			p.scaleRows()
		}
		if t.hasBias {
			for v := range p.w {
				e.ldrQ(p.b[0], t.bias, 16*v)
				for r := range p.h {
					e.fadd(p.at(r, v)[0], p.at(r, v)[0], p.b[0])
				}
			}
		}
		p.eachRow(t, func(r int, row gpr) {
			for v := range p.w {
				e.strQ(p.at(r, v)[0], row, 16*v)
			}
		})
	} else {
		p.finishMatrix(t)
	}
	e.addi(t.c, t.c, 16*p.w)
	if t.hasBias {
		e.addi(t.bias, t.bias, 16*p.w)
	}
}

// stepsF32 is the length of the main loop over an f32 panel.
func (p *product) stepsF32() int {
	if p.h < 4 {
		return 16
	}
	return 8
}

// sumF32 adds the products of an f32 panel.
func (p *product) sumF32(t tile) {
	e := p.e
	turn := func(steps int) {
		for k := 0; k < steps; k += 4 {
			for r, x := range p.a {
				if steps == 1 {
					e.ldrS(x, p.from[r], 0)
				} else {
					e.ldrQ(x, p.from[r], 4*k)
				}
			}
			for s := range min(4, steps) {
				for v := range p.w {
					b := p.b[v%len(p.b)]
					e.ldrQ(b, p.right, (k+s)*panelBytes+16*v)
					for r, x := range p.a {
						e.fmlaLane(p.at(r, v)[0], b, x.s(s))
					}
				}
			}
		}
		for _, x := range p.from {
			e.addi(x, x, 4*steps)
		}
		e.addi(p.right, p.right, panelBytes*steps)
	}
	p.turns(t, p.stepsF32(), 1, turn)
}

// turns emits the loops over K: turns of most steps, a power of two, and then of least, which
// divides K.
func (p *product) turns(t tile, most, least int, turn func(steps int)) {
	e := p.e
	for _, n := range []int{most, least} {
		skip := e.label("k")
		switch {
		case t.dynamic && n == most:
			e.lsr(p.counter, t.kReg, log2(n))
		case t.dynamic:
			e.andi(p.counter, t.kReg, most-1)
			if least > 1 {
				e.lsr(p.counter, p.counter, log2(least))
			}
		case n == most && t.k >= most:
			e.movi(p.counter, t.k/most)
		case n == least && t.k%most != 0:
			e.movi(p.counter, t.k%most/least)
		default:
			continue
		}
		if t.dynamic {
			e.cmpi(p.counter, 0)
			e.branch("EQ", skip)
		}
		e.align()
		e.times(p.counter, func() { turn(n) })
		if t.dynamic {
			e.bind(skip)
		}
	}
}

func log2(n int) int {
	l := 0
	for 1<<l < n {
		l++
	}
	return l
}

// sumBlocks adds the products of a panel of k steps, whole blocks of them. It reads the panel
// from front to back when the tile has all columns, and every other half block when it has not.
func (p *product) sumBlocks(k int) {
	e := p.e
	blocks := e.gp("blocks")
	e.movi(blocks, k*p.weight.Size()/pairBytes)
	turnBytes := 8 * turnPairs // of a packed row, or a pair of them
	if p.weight == ir.I8 && p.unit() == 1 {
		turnBytes /= 2
	}
	half := func(first, vectors int) {
		e.movi(p.counter, blockPairs/turnPairs)
		e.align()
		e.times(p.counter, func() {
			switch {
			case p.unit() > 1:
				p.quadMatrix(0, first, vectors)
				p.quadMatrix(1, first, vectors)
			case p.weight == ir.I8:
				p.rowSteps(first, vectors)
			default:
				p.quadWidened(0, first, vectors)
				p.quadWidened(1, first, vectors)
			}
			for _, x := range p.from {
				e.addi(x, x, turnBytes)
			}
			e.addi(p.right, p.right, turnPairs*pairBytes)
		})
	}
	e.times(blocks, func() {
		half(0, min(4, p.w))
		if p.w < 8 {
			e.addi(p.right, p.right, halfBlock)
			return
		}
		for _, x := range p.from {
			e.addi(x, x, -blockPairs/turnPairs*turnBytes)
		}
		half(4, 4)
	})
}

// quadWidened emits 4 steps of K, the q-th of the turn, for the vectors from first on.
func (p *product) quadWidened(q, first, vectors int) {
	e := p.e
	for r, x := range p.a {
		e.ldrQ(x, p.from[r], 16*q)
	}
	even, odd := p.b[0], p.b[1]
	for pair := range 2 {
		for v := range vectors {
			e.ldrQ(odd, p.right, (2*q+pair)*pairBytes+16*v)
			e.shl(even, odd, 16)
			e.vand(odd, odd, p.mask)
			for s, b := range []vec{even, odd} {
				for r, x := range p.a {
					e.fmlaLane(p.at(r, first+v)[0], b, x.s(2*pair+s))
				}
			}
		}
	}
}
