package amd64

import (
	"math"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/kernel"
)

// This file owns codes of 8 bits: how a prologue quantises rows, and what a register tile of integer
// sums starts and ends with. The products are in product.go.
//
// VPDPBUSD takes the weights as unsigned bytes: w+128, which is w with its highest bit changed. The
// sums start at −128·Σ a to undo that. VPMADDWD takes pairs of i16: of a quad of codes the even
// ones, then the odd ones.

var maxUD = op{x86.VPMAXUD, x86.VPMAXUD, x86.VPMAXUD_BCST}

// quantize writes a packed row of codes (kernel/quantize.go). normal computes a vector of numbers
// into x; it is called twice for each, so that they need no memory. acc and t are free.
func (e *emitter) quantize(r rows, tail mask, acc []reg.VecVirtual, x, t reg.VecVirtual, normal func(i reg.Register, offset int, lanes mask)) {
	s := r.spec
	most, inverse, sum := acc[:2], acc[2], acc[3]
	for _, m := range most {
		e.loadConst(math.Float32bits(kernel.LeastMagnitude), m)
	}
	e.vectors(s.K, 2, tail, func(i reg.Register, offset, copy int, m mask) {
		normal(i, offset, m)
		e.opConst(and, 1<<31-1, x, x) // magnitudes are ordered as integers, NaN last
		e.op(maxUD, x, most[copy], most[copy])
	})
	e.op(maxUD, most[1], most[0], most[0])
	e.foldLanes(most[:1], t, x86.VPMAXUD)
	e.loadConst(bits(kernel.Code), inverse)
	e.do(x86.VDIVPS(most[0], inverse, inverse))
	e.opConst(divPS, bits(kernel.Code), most[0], most[0])
	e.do(x86.VMOVD(most[0].AsX(), operand.Mem{Base: r.dst}))
	e.zero(sum)
	lanes := e.lanes
	store := func(m operand.Mem) {
		if r.codes == 2 {
			// even codes of a quad, then odd ones
			e.do(x86.VPSHUFD(operand.U8(0xd8), x, x))
		}
		switch {
		case r.codes == 1:
			e.do(x86.VPMOVDB(x, m))
		case e.wide():
			e.do(x86.VPMOVDW(x, m))
		default:
			e.opConst(and, 0xffff, x, x)
			e.do(x86.VPACKUSDW(x, x, x))            // within halves
			e.do(x86.VPERMQ(operand.U8(0x8), x, x)) // the first quarter of each
			e.do(x86.VMOVDQU(x.AsX(), m))
		}
	}
	// Lanes beyond K are zero, and rows are longer than whole vectors.
	e.vectors(s.K, 2, tail, func(i reg.Register, offset, _ int, m mask) {
		normal(i, offset, m)
		e.do(x86.VMULPS(inverse, x, x))
		e.do(x86.VCVTPS2DQ(x, x))
		e.do(x86.VPADDD(x, sum, sum))
		store(at(r.dst, i, offset, r.codes).Offset(kernel.CodesAt))
	})
	for c := (s.K + lanes - 1) / lanes * lanes; c < r.pad; c += lanes {
		e.zero(x)
		store(operand.Mem{Base: r.dst, Disp: kernel.CodesAt + r.codes*c})
	}
	e.foldLanes([]reg.VecVirtual{sum}, t, x86.VPADDD)
	e.do(x86.VPSLLD(operand.U8(7), sum, sum))
	e.zero(x)
	e.do(x86.VPSUBD(sum, x, x))
	e.do(x86.VMOVD(x.AsX(), operand.Mem{Base: r.dst, Disp: kernel.OffsetAt}))
}

// loadConst sets all lanes of x to a constant.
func (e *emitter) loadConst(word uint32, x reg.Register) { e.do(x86.VPBROADCASTD(e.words(word), x)) }

// beginCodes starts the sums of h rows, whose packed rows begin at a.
func (p *product) beginCodes(h int, a reg.Register, c place) {
	if p.codes == 2 {
		p.begin(h, c, true)
		return
	}
	w := p.parts(h)[0]
	for r := range h {
		acc := p.row(w, r)
		p.e.do(x86.VPBROADCASTD(operand.Mem{Base: a, Disp: r*p.aStride + kernel.OffsetAt}, acc[0]))
		for _, x := range acc[1:] {
			p.e.do(x86.VMOVDQA32(acc[0], x))
		}
	}
}

// scale makes f32 of the sums of codes: times the scales of the panel's columns, times that of the
// row, which is behind bytes before a.
func (p *product) scale(w part, scales, a reg.Register, behind int) {
	for v := range w.n {
		x := p.b[v%2]
		p.e.do(x86.VMOVUPS(operand.Mem{Base: scales, Disp: p.e.vecBytes() * (w.first + v)}, x))
		for r := range w.h {
			acc := p.row(w, r)[v]
			p.e.do(x86.VCVTDQ2PS(acc, acc))
			p.e.do(x86.VMULPS(x, acc, acc))
			p.e.opOne(mulPS, operand.Mem{Base: a, Disp: r*p.aStride - behind}, acc, acc)
		}
	}
}
