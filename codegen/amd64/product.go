package amd64

import (
	asm "github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/kernel"
)

// This file owns the register tile: up to MicroM rows times one panel of 32 columns, two
// accumulators a row. Each accumulator sums over K from 0 up, one fused multiply-add a step, so
// that neither the height of the tile nor anything around it changes a bit.

type instr3 = func(ops ...operand.Op) (*asm.Instruction, error)

// panelBytes is one step of K of an f32 panel, and two of a bf16 panel.
const panelBytes = 4 * kernel.PanelN

// product is the register tile of a function. Its registers are shared by all heights.
type product struct {
	e    *emitter
	acc  [][2]reg.VecVirtual
	b    [2]reg.VecVirtual
	a    reg.VecVirtual
	high reg.VecVirtual // mask of the upper half of each lane, for bf16 panels

	bf16    bool // panels are those of bf16 weights
	pairs   bool // rows and panels are pairs of bf16, which are multiplied two steps at a time
	aStride int  // bytes from one row of the left factor to the next
}

// newProduct returns a tile of at most rows rows.
func (e *emitter) newProduct(rows, aStride int, bf16, pairs bool) *product {
	p := &product{e: e, bf16: bf16, pairs: pairs, aStride: aStride, a: e.ZMM(), b: [2]reg.VecVirtual{e.ZMM(), e.ZMM()}}
	for range rows {
		p.acc = append(p.acc, [2]reg.VecVirtual{e.ZMM(), e.ZMM()})
	}
	if bf16 && !pairs {
		p.high = e.ZMM()
		e.do(x86.VPBROADCASTD(e.words(0xffff0000), p.high))
	}
	return p
}

// heights emits body once for every height from the tallest down, and jumps to the one that
// the register rows holds.
func (p *product) heights(rows operand.Op, body func(h int)) {
	e := p.e
	end := e.label("tileEnd")
	labels := make([]string, len(p.acc)+1)
	for h := len(p.acc); h > 1; h-- {
		labels[h] = e.label("tile")
		e.do(x86.CMPQ(rows, operand.U8(uint8(h))))
		e.do(x86.JEQ(ref(labels[h])))
	}
	for h := 1; h <= len(p.acc); h++ {
		if h > 1 {
			e.bind(labels[h])
		}
		body(h)
		if h < len(p.acc) {
			e.do(x86.JMP(ref(end)))
		}
	}
	e.bind(end)
}

// zero clears the accumulators of h rows.
func (p *product) zero(h int) {
	for _, acc := range p.acc[:h] {
		for _, v := range acc {
			p.e.do(x86.VPXORD(v, v, v))
		}
	}
}

// load sets the accumulators of h rows from memory, stride bytes apart.
func (p *product) load(h int, c reg.Register, stride int) {
	for r, acc := range p.acc[:h] {
		for v, x := range acc {
			p.e.do(x86.VMOVUPS(operand.Mem{Base: c, Disp: r*stride + 64*v}, x))
		}
	}
}

// store writes the accumulators of h rows to memory, stride bytes apart.
func (p *product) store(h int, c reg.Register, stride int) {
	for r, acc := range p.acc[:h] {
		for v, x := range acc {
			p.e.do(x86.VMOVUPS(x, operand.Mem{Base: c, Disp: r*stride + 64*v}))
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

// sumRows adds the products of a panel that is rows of 32 f32, or of 32 pairs of bf16, for h rows
// of the left factor. It consumes a and b; end is the address after the last row of the panel,
// and whole that after the last full turn of the main loop.
func (p *product) sumRows(h int, a, b, whole, end reg.Register) {
	e := p.e
	turn := func(steps int) {
		for k := range steps {
			for v, x := range p.b {
				e.do(x86.VMOVUPS(operand.Mem{Base: b, Disp: k*panelBytes + 64*v}, x))
			}
			if p.pairs {
				p.stepPair(h, 0, p.b[0], a, 4*k)
				p.stepPair(h, 1, p.b[1], a, 4*k)
				continue
			}
			for r, acc := range p.acc[:h] {
				e.do(x86.VBROADCASTSS(operand.Mem{Base: a, Disp: r*p.aStride + 4*k}, p.a))
				e.do(x86.VFMADD231PS(p.b[0], p.a, acc[0]))
				e.do(x86.VFMADD231PS(p.b[1], p.a, acc[1]))
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
	loop(turnSteps(h), whole)
	loop(1, end)
}

// A block of a bf16 panel is 32 steps of K: 16 pairs of them × 16 columns, then the same pairs ×
// the other 16 columns.
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

// sumBF16 adds the products of a bf16 panel for h rows. It consumes a and b; end is the address
// after the panel. It reads the panel from front to back, the columns of one half block at a
// time, because the processor prefetches one sequential stream and not two: with both halves in
// one loop a single row ran at half the bandwidth of the memory.
func (p *product) sumBF16(h int, a, b, end reg.Register) {
	e := p.e
	pairs := unroll(h, blockPairs)
	pairBytes, work := 8, 2*h // bytes of a pair of a packed row, multiply-accumulates per line
	if p.pairs {
		pairBytes, work = 4, h
	}
	x, half := p.b[0], e.GP64()
	top := e.label("block")
	e.bind(top)
	for v := range 2 {
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
			if p.pairs {
				e.do(x86.VMOVUPS(m, x))
				p.stepPair(h, v, x, a, 4*pair)
				continue
			}
			e.do(x86.VPSLLD(operand.U8(16), m, x))
			p.stepBF16(h, v, x, a, 8*pair)
			e.do(x86.VPANDD(m, p.high, x))
			p.stepBF16(h, v, x, a, 8*pair+4)
		}
		e.addImm(pairBytes*pairs, a)
		e.addImm(64*pairs, b)
		if pairs < blockPairs {
			e.do(x86.CMPQ(b, half))
			e.do(x86.JLT(ref(next)))
		}
		if v == 0 {
			e.addImm(-pairBytes*blockPairs, a)
		}
	}
	e.do(x86.CMPQ(b, end))
	e.do(x86.JLT(ref(top)))
}

// stepBF16 emits one step of K for h rows and one of their two vectors.
func (p *product) stepBF16(h, v int, x, a reg.Register, offset int) {
	for r, acc := range p.acc[:h] {
		p.e.do(x86.VFMADD231PS_BCST(operand.Mem{Base: a, Disp: r*p.aStride + offset}, x, acc[v]))
	}
}

// stepPair emits two steps of K for h rows and one of their two vectors.
func (p *product) stepPair(h, v int, x, a reg.Register, offset int) {
	for r, acc := range p.acc[:h] {
		p.e.do(node("VDPBF16PS", []string{broadcast}, operand.Mem{Base: a, Disp: r*p.aStride + offset}, x, acc[v]))
	}
}
