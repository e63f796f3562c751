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

// panelBytes is one row of K of an f32 panel, and two rows of a bf16 panel.
const panelBytes = 4 * kernel.PanelN

// product is the register tile of a function. Its registers are shared by all heights.
type product struct {
	e    *emitter
	acc  [][2]reg.VecVirtual
	b    [2]reg.VecVirtual
	a    reg.VecVirtual
	high reg.VecVirtual // mask of the upper half of each lane, for bf16 panels

	bf16    bool // panels are pairs of bf16, k inside
	aStride int  // bytes from one row of the left factor to the next
	// prefetch is how many bytes ahead the panel is prefetched, 0 for not at all.
	prefetch int
}

// newProduct returns a tile of at most rows rows.
func (e *emitter) newProduct(rows, aStride int, bf16 bool) *product {
	p := &product{e: e, bf16: bf16, aStride: aStride, a: e.ZMM(), b: [2]reg.VecVirtual{e.ZMM(), e.ZMM()}}
	for range rows {
		p.acc = append(p.acc, [2]reg.VecVirtual{e.ZMM(), e.ZMM()})
	}
	if bf16 {
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

// step emits one step of K for h rows: A at a plus offset, the two vectors of B in p.b.
func (p *product) step(h int, a reg.Register, offset int) {
	for r, acc := range p.acc[:h] {
		p.e.do(x86.VBROADCASTSS(operand.Mem{Base: a, Disp: r*p.aStride + offset}, p.a))
		p.e.do(x86.VFMADD231PS(p.b[0], p.a, acc[0]))
		p.e.do(x86.VFMADD231PS(p.b[1], p.a, acc[1]))
	}
}

// unroll is how many steps of K the loop of a tile of h rows has: enough work for a loop, a
// power of two, at most one block of a bf16 panel.
func unroll(h int) int {
	u := 32
	for u > 4 && u*h > 32 {
		u /= 2
	}
	return u
}

// sumF32 adds the products of an f32 panel for h rows. It consumes a and b; end is the address
// after the last row of K of the panel, and whole that after the last full turn of the loop.
func (p *product) sumF32(h int, a, b, whole, end reg.Register) {
	e := p.e
	turn := func(steps int) {
		for k := range steps {
			for v, x := range p.b {
				e.do(x86.VMOVUPS(operand.Mem{Base: b, Disp: k*panelBytes + 64*v}, x))
				if p.prefetch > 0 {
					e.do(x86.PREFETCHT0(operand.Mem{Base: b, Disp: k*panelBytes + 64*v + p.prefetch}))
				}
			}
			p.step(h, a, 4*k)
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
	loop(unroll(h), whole)
	loop(1, end)
}

// sumBF16 adds the products of a bf16 panel for h rows. It consumes a and b; end is the address
// after the panel. A block of the panel is 32 steps of K: 16 pairs × 16 columns, twice.
func (p *product) sumBF16(h int, a, b, end reg.Register) {
	e := p.e
	const half = 16 * 64 // bytes of 16 columns of a block
	pairs := unroll(h) / 2
	inner := e.GP64()
	top, next := e.label("block"), e.label("k")
	e.bind(top)
	if pairs < 16 {
		e.do(x86.LEAQ(operand.Mem{Base: b, Disp: half}, inner))
		e.align()
		e.bind(next)
	}
	for k := range pairs {
		for odd := range 2 {
			for v, x := range p.b {
				m := operand.Mem{Base: b, Disp: 64*k + half*v}
				if odd == 0 {
					e.do(x86.VPSLLD(operand.U8(16), m, x))
					if p.prefetch > 0 {
						e.do(x86.PREFETCHT0(m.Offset(p.prefetch)))
					}
				} else {
					e.do(x86.VPANDD(m, p.high, x))
				}
			}
			p.step(h, a, 4*(2*k+odd))
		}
	}
	e.addImm(8*pairs, a)
	if pairs < 16 {
		e.addImm(64*pairs, b)
		e.do(x86.CMPQ(b, inner))
		e.do(x86.JLT(ref(next)))
		e.addImm(half, b)
	} else {
		e.addImm(2*half, b)
	}
	e.do(x86.CMPQ(b, end))
	e.do(x86.JLT(ref(top)))
}
