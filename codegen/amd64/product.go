package amd64

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/kernel"
)

// This file owns the register tile: up to MicroM rows times one panel of 32 columns, or times
// half of them where the registers do not hold all. Each accumulator sums over K from 0 up, one
// fused multiply-add a step, so that neither the size of the tile nor anything around it changes a
// bit.

// panelBytes is one step of K of an f32 panel, and two of a bf16 panel.
const panelBytes = 4 * kernel.PanelN

// product is the register tile of a function. Its registers are shared by all heights.
type product struct {
	e    *emitter
	rows int
	acc  []reg.VecVirtual
	b    [2]reg.VecVirtual
	a    reg.VecVirtual
	high reg.VecVirtual // mask of the upper half of each lane, for bf16 panels

	bf16    bool // panels are those of bf16 weights
	pairs   bool // rows and panels are pairs of bf16, which are multiplied two steps at a time
	aStride int  // bytes from one row of the left factor to the next
}

// newProduct returns a tile of at most rows rows.
func (e *emitter) newProduct(rows, aStride int, bf16, pairs bool) *product {
	p := &product{e: e, rows: rows, bf16: bf16, pairs: pairs, aStride: aStride, a: e.vec(), b: [2]reg.VecVirtual{e.vec(), e.vec()}}
	for h := 1; h <= rows; h++ {
		for n := h * p.sweeps(h)[0].n; len(p.acc) < n; {
			p.acc = append(p.acc, e.vec())
		}
	}
	if bf16 && !pairs {
		p.high = e.vec()
		e.do(x86.VPBROADCASTD(e.words(0xffff0000), p.high))
	}
	return p
}

// sweep is one pass over a panel: h rows times the n vectors of its columns from first on.
type sweep struct{ h, first, n int }

// sweeps returns the passes of a tile of h rows. All but a quarter of the registers hold
// accumulators at most; the rest are for factors and a constant.
func (p *product) sweeps(h int) []sweep {
	all := kernel.PanelN / p.e.lanes
	n, most := all, 24
	if !p.e.wide() {
		most = 12
	}
	for n > 2 && h*n > most {
		n /= 2
	}
	var s []sweep
	for first := 0; first < all; first += n {
		s = append(s, sweep{h, first, n})
	}
	return s
}

// start is the offset in a panel of the columns of w.
func (p *product) start(w sweep) int {
	if p.bf16 {
		return w.first * p.e.lanes / 16 * halfBlock
	}
	return w.first * p.e.vecBytes()
}

// row returns the accumulators of row r.
func (p *product) row(w sweep, r int) []reg.VecVirtual { return p.acc[w.n*r : w.n*(r+1)] }

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
func (p *product) zero(w sweep) {
	for _, x := range p.acc[:w.h*w.n] {
		p.e.zero(x)
	}
}

// load sets the accumulators of w from rows of memory that are stride bytes apart.
func (p *product) load(w sweep, c reg.Register, stride int) {
	p.each(w, c, stride, func(m operand.Mem, x reg.Register) { p.e.do(x86.VMOVUPS(m, x)) })
}

// store writes the accumulators of w to rows of memory that are stride bytes apart.
func (p *product) store(w sweep, c reg.Register, stride int) {
	p.each(w, c, stride, func(m operand.Mem, x reg.Register) { p.e.do(x86.VMOVUPS(x, m)) })
}

func (p *product) each(w sweep, c reg.Register, stride int, body func(m operand.Mem, x reg.Register)) {
	for r := range w.h {
		for v, x := range p.row(w, r) {
			body(operand.Mem{Base: c, Disp: r*stride + p.e.vecBytes()*(w.first+v)}, x)
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

// sumRows adds the products of a panel that is rows of 32 f32, or of 32 pairs of bf16. It consumes
// a, and b, which is start(w) bytes into the panel; end is the address after the last row of the
// panel, and whole that after the last full turn of the main loop.
func (p *product) sumRows(w sweep, a, b, whole, end reg.Register) {
	e := p.e
	turn := func(steps int) {
		for k := range steps {
			for v := 0; v < w.n; v += 2 {
				for i, x := range p.b {
					e.do(x86.VMOVUPS(operand.Mem{Base: b, Disp: k*panelBytes + e.vecBytes()*(v+i)}, x))
				}
				if p.pairs {
					p.stepPair(w, 0, p.b[0], a, 4*k)
					p.stepPair(w, 1, p.b[1], a, 4*k)
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
// the other 16 columns.
const (
	blockPairs = 16
	halfBlock  = blockPairs * 64
)

// prefetchAhead is four of the half blocks that a sweep reads. It pays for tiles that do more than
// prefetchWork multiply-accumulates per line of the panel: they do not ask for the panel fast
// enough to keep the processor's own prefetching going. Others are bound by memory and lose with
// it (docs/tuning.md). A sweep over every other half block needs it always, because the processor
// does not foresee its next one.
const (
	prefetchAhead = 4 * halfBlock
	prefetchWork  = 8
)

// sumBF16 adds the products of a bf16 panel. It consumes a, and b, which is start(w) bytes into the
// panel; end is the address after the panel. It reads the panel from front to back, the columns of
// one half block at a time, because the processor prefetches one sequential stream and not two:
// with both halves in one loop a single row ran at half the bandwidth of the memory.
func (p *product) sumBF16(w sweep, a, b, end reg.Register) {
	e := p.e
	pairs := unroll(w.h, blockPairs)
	pairBytes, work := 8, 2*w.h // bytes of a pair of a packed row, multiply-accumulates per line
	if p.pairs {
		pairBytes, work = 4, w.h
	}
	parts := 16 / e.lanes // registers of the columns of a half block
	halves := w.n / parts
	x, half := p.b[:parts], e.GP64()
	top := e.label("block")
	e.bind(top)
	for side := range halves {
		v := side * parts
		next := e.label("k")
		if pairs < blockPairs {
			e.do(x86.LEAQ(operand.Mem{Base: b, Disp: halfBlock}, half))
			e.align()
			e.bind(next)
		}
		for pair := range pairs {
			m := operand.Mem{Base: b, Disp: 64 * pair}
			if work > prefetchWork || halves == 1 {
				e.do(x86.PREFETCHT0(m.Offset(prefetchAhead * 2 / halves)))
			}
			if p.pairs {
				e.do(x86.VMOVUPS(m, x[0]))
				p.stepPair(w, v, x[0], a, 4*pair)
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
		if side+1 < halves {
			e.addImm(-pairBytes*blockPairs, a)
		}
	}
	if halves == 1 {
		e.addImm(halfBlock, b) // over the columns of other sweeps
	}
	e.do(x86.CMPQ(b, end))
	e.do(x86.JLT(ref(top)))
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
func (p *product) step(w sweep, v int, xs []reg.VecVirtual, a reg.Register, offset int) {
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

// stepPair emits two steps of K for one vector.
func (p *product) stepPair(w sweep, v int, x, a reg.Register, offset int) {
	for r := range w.h {
		p.e.do(node("VDPBF16PS", []string{broadcast}, operand.Mem{Base: a, Disp: r*p.aStride + offset}, x, p.row(w, r)[v]))
	}
}
