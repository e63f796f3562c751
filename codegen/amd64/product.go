package amd64

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/kernel"
)

// This file owns the register tile: up to MicroM rows times one panel of 32 columns. Each
// accumulator sums over K from 0 up, one fused multiply-add a step, so that neither the size of
// the tile nor anything around it changes a bit. Where the registers do not hold all accumulators,
// they hold those of one half of the columns for a block of steps, then those of the other half,
// and the rest is in memory: so the panel is still read from front to back.

// panelBytes is one step of K of an f32 panel, and two of a bf16 panel.
const panelBytes = 4 * kernel.PanelN

// product is the register tile of a function. Its registers are shared by all heights.
type product struct {
	e    *emitter
	rows int
	acc  []reg.VecVirtual
	b    [2]reg.VecVirtual
	a    reg.VecVirtual
	high reg.VecVirtual // mask of the upper half of each lane, for bf16 panels; for codes a constant or a product

	bf16    bool // panels are those of bf16 weights
	codes   int  // bytes of a packed code where rows and panels are codes of 8 bits, else 0
	pairs   bool // rows and panels are pairs of bf16, which are multiplied two steps at a time
	aStride int  // bytes from one row of the left factor to the next
}

// newProduct returns a tile of at most rows rows.
func (e *emitter) newProduct(rows, aStride int, bf16, pairs bool) *product {
	p := &product{e: e, rows: rows, bf16: bf16, pairs: pairs, aStride: aStride, a: e.vec(), b: [2]reg.VecVirtual{e.vec(), e.vec()}}
	for h := 1; h <= rows; h++ {
		for n := h * p.parts(h)[0].n; len(p.acc) < n; {
			p.acc = append(p.acc, e.vec())
		}
	}
	if bf16 && !pairs {
		p.high = e.vec()
		e.loadConst(0xffff0000, p.high)
	}
	return p
}

// newCodes returns a tile of integer sums, of packed codes of so many bytes.
func (e *emitter) newCodes(rows, aStride, codeBytes int) *product {
	p := e.newProduct(rows, aStride, false, false)
	p.codes, p.high = codeBytes, e.vec()
	if codeBytes == 1 {
		e.loadConst(0x80808080, p.high)
	}
	return p
}

// newScratch returns a product that has the registers alone which softmax and the epilogues take
// from it, for a function whose products are those of tiles.
func (e *emitter) newScratch() *product {
	return &product{e: e, a: e.vec(), b: [2]reg.VecVirtual{e.vec(), e.vec()}, acc: []reg.VecVirtual{e.vec(), e.vec()}}
}

// part is accumulators that are in registers at a time: h rows times n vectors of columns, from
// vector first on.
type part struct{ h, first, n int }

// parts returns the parts of a tile of h rows, one or two. All but a quarter of the registers hold
// accumulators at most; the rest are for factors and a constant.
func (p *product) parts(h int) []part {
	all := kernel.PanelN / p.e.lanes
	n, most := all, 24
	if !p.e.wide() {
		most = 12
	}
	if h*n <= most {
		return []part{{h, 0, n}}
	}
	return []part{{h, 0, n / 2}, {h, n / 2, n / 2}}
}

// row returns the accumulators of row r.
func (p *product) row(w part, r int) []reg.VecVirtual { return p.acc[w.n*r : w.n*(r+1)] }

// place is memory for the accumulators of a tile, in rows that are stride bytes apart.
type place struct {
	c      reg.Register
	stride int
}

// begin starts the sums of h rows at zero, or at what c holds.
func (p *product) begin(h int, c place, zero bool) {
	parts := p.parts(h)
	switch {
	case zero:
		p.zero(parts[0])
		if len(parts) > 1 {
			p.store(parts[0], c)
			p.store(parts[1], c)
		}
	case len(parts) == 1:
		p.load(parts[0], c)
	}
}

// finish writes the sums of h rows to c, after add has changed them, which may be nil.
func (p *product) finish(h int, c place, add func(w part)) {
	parts := p.parts(h)
	for _, w := range parts {
		if len(parts) > 1 {
			if add == nil {
				return
			}
			p.load(w, c)
		}
		if add != nil {
			add(w)
		}
		p.store(w, c)
	}
}

// heights emits body once for every height from the tallest down, and jumps to the one that
// the register rows holds.
func (p *product) heights(rows operand.Op, body func(h int)) {
	e := p.e
	end := e.label("tileEnd")
	labels := make([]string, p.rows+1)
	for h := p.rows; h > 1; h-- {
		labels[h] = e.label("tile")
		e.do(x86.CMPQ(rows, operand.U8(uint8(h))))
		e.do(x86.JEQ(ref(labels[h])))
	}
	for h := 1; h <= p.rows; h++ {
		if h > 1 {
			e.bind(labels[h])
		}
		body(h)
		if h < p.rows {
			e.do(x86.JMP(ref(end)))
		}
	}
	e.bind(end)
}

// zero clears the accumulators of w.
func (p *product) zero(w part) {
	for _, x := range p.acc[:w.h*w.n] {
		p.e.zero(x)
	}
}

// load reads the accumulators of w.
func (p *product) load(w part, c place) {
	p.each(w, c, func(m operand.Mem, x reg.Register) { p.e.do(x86.VMOVUPS(m, x)) })
}

// store writes the accumulators of w.
func (p *product) store(w part, c place) {
	p.each(w, c, func(m operand.Mem, x reg.Register) { p.e.do(x86.VMOVUPS(x, m)) })
}

func (p *product) each(w part, c place, body func(m operand.Mem, x reg.Register)) {
	for r := range w.h {
		for v, x := range p.row(w, r) {
			body(operand.Mem{Base: c.c, Disp: r*c.stride + p.e.vecBytes()*(w.first+v)}, x)
		}
	}
}

// unroll returns how many of most steps the loop of a tile of h rows has, a power of two: enough
// work for a loop, code that is not too long.
func unroll(h, most int) int {
	u := most
	for u > 2 && u*h > 16 {
		u /= 2
	}
	return u
}

// turnSteps is the length of the main loop of sumRows.
func turnSteps(h int) int { return unroll(h, 32) }

// rowsBlock is the steps between two changes of the part, a multiple of all turns: little enough that
// the second part finds the rows of both factors in the first-level cache, and enough that loading
// and storing the sums costs little (docs/tuning.md).
const rowsBlock = 32

// sumRows adds the products of a panel that is rows of 32 f32, or of 32 pairs of bf16, for h rows
// of the left factor. It consumes a and b; end is the address after the last row of the panel,
// and whole that after the last full turn of the main loop. c is for the parts.
func (p *product) sumRows(h int, a, b, whole, end reg.Register, c place) {
	parts := p.parts(h)
	if len(parts) == 1 {
		p.sumPart(parts[0], a, b, whole, end)
		return
	}
	e := p.e
	fromA, fromB, blockWhole, blockEnd := e.GP64(), e.GP64(), e.GP64(), e.GP64()
	top := e.label("block")
	e.bind(top)
	e.do(x86.MOVQ(a, fromA))
	e.do(x86.MOVQ(b, fromB))
	e.do(x86.LEAQ(operand.Mem{Base: b, Disp: rowsBlock * panelBytes}, blockEnd))
	e.atMost(end, blockEnd)
	e.do(x86.MOVQ(blockEnd, blockWhole))
	e.atMost(whole, blockWhole)
	for i, w := range parts {
		if i > 0 {
			e.do(x86.MOVQ(fromA, a))
			e.do(x86.LEAQ(operand.Mem{Base: fromB, Disp: e.vecBytes() * w.first}, b))
		}
		p.load(w, c)
		p.sumPart(w, a, b, blockWhole, blockEnd)
		p.store(w, c)
	}
	e.do(x86.MOVQ(blockEnd, b))
	e.do(x86.CMPQ(b, end))
	e.do(x86.JLT(ref(top)))
}

// sumPart is sumRows for a part, whose columns b points to.
func (p *product) sumPart(w part, a, b, whole, end reg.Register) {
	e := p.e
	turn := func(steps int) {
		for k := range steps {
			for v := 0; v < w.n; v += 2 {
				for i, x := range p.b {
					e.do(x86.VMOVUPS(operand.Mem{Base: b, Disp: k*panelBytes + e.vecBytes()*(v+i)}, x))
				}
				if p.pairs {
					p.stepInst("VDPBF16PS", w, 0, p.b[0], a, 4*k)
					p.stepInst("VDPBF16PS", w, 1, p.b[1], a, 4*k)
				} else {
					p.step(w, v, p.b[:], a, 4*k)
				}
			}
		}
		e.addImm(4*steps, a)
		e.addImm(panelBytes*steps, b)
	}
	loop := func(steps int, limit reg.Register) {
		top, done := e.label("k"), e.label("k")
		e.do(x86.CMPQ(b, limit))
		e.do(x86.JGE(ref(done)))
		e.align()
		e.bind(top)
		turn(steps)
		e.do(x86.CMPQ(b, limit))
		e.do(x86.JLT(ref(top)))
		e.bind(done)
	}
	loop(turnSteps(w.h), whole)
	loop(1, end)
}

// A block of a bf16 panel is 32 steps of K: 16 pairs of them × 16 columns, then the same pairs ×
// the other 16 columns. A block of a panel of codes has 64 steps, of which four take the place of a
// pair.
const (
	blockPairs = 16
	halfBlock  = blockPairs * 64
)

// prefetchAhead is two blocks. It pays for tiles that do more than prefetchWork multiply-accumulates
// per line of the panel: they do not ask for the panel fast enough to keep the processor's own
// prefetching going. Others are bound by memory and lose with it (docs/tuning.md).
const (
	prefetchAhead = 4 * halfBlock
	prefetchWork  = 8
)

// sumBF16 adds the products of a panel of bf16, or of codes, for h rows. It consumes a and b; end is the address
// after the panel; c is for the parts; ahead moves on. It reads the panel from front to back, the columns of one
// half block at a time, because the processor prefetches one sequential stream and not two: with
// both halves in one loop a single row ran at half the bandwidth of the memory.
func (p *product) sumBF16(h int, a, b, end reg.Register, c place, ahead *prefetch) {
	e, fetch := p.e, p.e.load(ahead.at)
	pairs := unroll(h, blockPairs)
	pairBytes, work := 8, 2*h // bytes of a pair of a packed row, multiply-accumulates per line
	switch {
	case p.codes == 2:
		work = 4 * h
	case p.pairs || p.codes == 1:
		pairBytes, work = 4, h
	}
	parts := p.parts(h)
	n := 16 / e.lanes // registers of the columns of a half block
	x, half := p.b[:n], e.GP64()
	top := e.label("block")
	e.bind(top)
	for side := range 2 {
		for line := range ahead.lines {
			e.do(x86.PREFETCHT1(operand.Mem{Base: fetch, Disp: 64 * line}))
		}
		ahead.step(e, fetch)
		w, v := parts[0], side*n
		if len(parts) > 1 {
			w, v = parts[side], 0
			p.load(w, c)
		}
		next := e.label("k")
		if pairs < blockPairs {
			e.do(x86.LEAQ(operand.Mem{Base: b, Disp: halfBlock}, half))
			e.align()
			e.bind(next)
		}
		for pair := range pairs {
			m := operand.Mem{Base: b, Disp: 64 * pair}
			if work > prefetchWork {
				e.do(x86.PREFETCHT0(m.Offset(prefetchAhead)))
			}
			switch {
			case p.codes == 1:
				e.op(xor, m, p.high, x[0])
				p.stepInst("VPDPBUSD", w, v, x[0], a, 4*pair)
				continue
			case p.codes == 2:
				for odd := range 2 {
					for i, x := range x {
						p.loadWords(m.Offset(e.vecBytes()*i), odd, x)
					}
					p.stepWords(w, v, x, a, 8*pair+4*odd)
				}
				continue
			case p.pairs:
				e.do(x86.VMOVUPS(m, x[0]))
				p.stepInst("VDPBF16PS", w, v, x[0], a, 4*pair)
				continue
			}
			for i, x := range x {
				e.shiftUp(m.Offset(e.vecBytes()*i), x)
			}
			p.step(w, v, x, a, 8*pair)
			for i, x := range x {
				e.op(and, m.Offset(e.vecBytes()*i), p.high, x)
			}
			p.step(w, v, x, a, 8*pair+4)
		}
		e.addImm(pairBytes*pairs, a)
		e.addImm(64*pairs, b)
		if pairs < blockPairs {
			e.do(x86.CMPQ(b, half))
			e.do(x86.JLT(ref(next)))
		}
		if side == 0 {
			e.addImm(-pairBytes*blockPairs, a)
		}
		if len(parts) > 1 {
			p.store(w, c)
		}
	}
	e.do(x86.CMPQ(b, end))
	e.do(x86.JLT(ref(top)))
	e.do(x86.MOVQ(fetch, ahead.at))
}

// shiftUp loads the lower halves of 32-bit lanes as the upper ones.
func (e *emitter) shiftUp(m operand.Mem, x reg.Register) {
	if e.wide() {
		e.do(x86.VPSLLD(operand.U8(16), m, x))
		return
	}
	e.do(x86.VMOVUPS(m, x))
	e.do(x86.VPSLLD(operand.U8(16), x, x))
}

// step emits one step of K for the vectors from v on, which are multiplied by xs.
func (p *product) step(w part, v int, xs []reg.VecVirtual, a reg.Register, offset int) {
	for r := range w.h {
		m, acc := operand.Mem{Base: a, Disp: r*p.aStride + offset}, p.row(w, r)[v:]
		if len(xs) == 1 {
			p.e.do(x86.VFMADD231PS_BCST(m, xs[0], acc[0]))
			continue
		}
		p.e.do(x86.VBROADCASTSS(m, p.a))
		for i, x := range xs {
			p.e.do(x86.VFMADD231PS(x, p.a, acc[i]))
		}
	}
}

// stepInst emits the steps of K that an instruction does at a time, for one vector.
func (p *product) stepInst(name string, w part, v int, x, a reg.Register, offset int) {
	for r := range w.h {
		p.e.do(node(name, []string{broadcast}, operand.Mem{Base: a, Disp: r*p.aStride + offset}, x, p.row(w, r)[v]))
	}
}

// loadWords loads the even or the odd codes of quads as i16.
func (p *product) loadWords(m operand.Mem, odd int, x reg.Register) {
	p.e.do(x86.VMOVUPS(m, x))
	if odd == 0 {
		p.e.do(x86.VPSLLW(operand.U8(8), x, x))
	}
	p.e.do(x86.VPSRAW(operand.U8(8), x, x))
}

// stepWords emits two steps of K for the vectors from v on, which are multiplied by xs, with the
// register high for the products.
func (p *product) stepWords(w part, v int, xs []reg.VecVirtual, a reg.Register, offset int) {
	for r := range w.h {
		p.e.do(x86.VPBROADCASTD(operand.Mem{Base: a, Disp: r*p.aStride + offset}, p.a))
		for i, x := range xs {
			acc := p.row(w, r)[v+i]
			p.e.do(x86.VPMADDWD(x, p.a, p.high))
			p.e.do(x86.VPADDD(p.high, acc, acc))
		}
	}
}
