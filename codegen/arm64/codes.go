package arm64

import (
	"unsafe"

	"github.com/bertc/bertc/kernel"
)

// This file owns codes of 8 bits: how a prologue quantises rows, the products by SDOT, and what
// becomes of integer sums. The products by SMMLA are those of matrix.go.
//
// Codes of activations and of weights are both signed, so that nothing is undone as on amd64, and
// packed rows have no offset (kernel/quantize.go).

// loadCodes loads count codes at base + off as f32. Lanes beyond them are zero and their memory is
// not touched. t is a temporary register that only a count of 3 uses.
func (e *emitter) loadCodes(x vec, base gpr, off, count int, t vec) {
	switch count {
	case 1:
		e.ldrB(x, base, off)
	case 2:
		e.ldrH(x, base, off)
	case 3:
		e.ldrH(x, base, off)
		e.ldrB(t, base, off+2)
		e.zip1h(x, x, t)
	default:
		e.ldrS(x, base, off)
	}
	e.sxtlB(x, x)
	e.sxtlH(x, x)
	e.scvtf(x, x)
}

// quantize writes a packed row of codes (kernel/quantize.go). normal computes 4 numbers into x, zero
// beyond count; it is called twice for each, so that they need no memory. free are free registers.
func (e *emitter) quantize(r rows, streams []stream, free []vec, x vec, normal func(at, count int)) {
	const unroll = 4
	most, code, inverse := free[:unroll], free[unroll], free[unroll+1]
	e.constF32(most[0], kernel.LeastMagnitude)
	for _, m := range most[1:] {
		e.vmov(m, most[0])
	}
	e.vectors(r.spec.K, unroll, streams, func(at, copy, count int) {
		normal(at, count)
		e.fabs(code, x)
		e.umax(most[copy], most[copy], code) // magnitudes are ordered as integers, NaN last
	})
	e.umax(most[0], most[0], most[1])
	e.umax(most[2], most[2], most[3])
	e.umax(most[0], most[0], most[2])
	e.umaxp(most[0], most[0], most[0])
	e.umaxp(most[0], most[0], most[0])
	e.constF32(code, kernel.Code)
	e.fdiv(inverse, code, most[0])
	e.fdiv(most[0], most[0], code)
	e.strS(most[0], r.dst, 0)
	// store writes 4 codes. Rows of a pair alternate every 8; loops move on by multiples of that.
	store := func(base gpr, at int) {
		offset := kernel.CodesAt + at
		if r.pairs {
			offset = 2*(kernel.CodesAt+at/8*8) + at%8
		}
		e.strS(code, base, offset)
	}
	e.vectors(r.spec.K, unroll, streams, func(at, _, count int) {
		normal(at, count)
		e.fmul(x, x, inverse)
		e.fcvtns(code, x) // a NaN becomes 0
		e.xtnS(code, code)
		e.xtnH(code, code)
		store(r.dst, at)
	})
	e.scope(func() {
		whole, end := r.spec.K/8*8, e.gp("end")
		e.addi(end, r.dst, whole*r.columnBytes())
		e.zero(code)
		for at := roundUp(r.spec.K, 4); at < r.pad; at += 4 {
			store(end, at-whole)
		}
	})
}

// rowSteps emits 4 rows of a half block, of 4 steps of K each, for the vectors from first on.
func (p *product) rowSteps(first, vectors int) {
	e := p.e
	for r, x := range p.a {
		e.ldrQ(x, p.from[r], 0)
	}
	for s := range 4 {
		for v := range vectors {
			b := p.b[v%len(p.b)]
			e.ldrQ(b, p.right, s*pairBytes+16*v)
			for r, x := range p.a {
				e.sdotLane(p.at(r, first+v)[0], b, x.s(s))
			}
		}
	}
}

// scalesAt sets d to the address of the scales of the columns that c, in the scratch tile, is the
// place of.
func (g *gemm) scalesAt(d, c gpr) {
	g.scope(func() {
		t := g.arg("tile", unsafe.Offsetof(gemmArgs.Tile))
		g.sub(d, c, t)
		g.argTo(t, unsafe.Offsetof(gemmArgs.WScale))
		g.add(d, d, t)
		g.lsl(t, g.panel, log2(panelBytes))
		g.add(d, d, t)
	})
}

// headers moves the addresses of the left factor, which have reached the end of the packed rows, back
// to their headers, and right to the scales of the columns.
func (p *product) headers(t tile) {
	for _, x := range p.from {
		p.e.addi(x, x, -p.aStride*p.unit())
	}
	t.scales(p.right, t.c)
}

// scale makes f32 of the sums of 4 columns of a row: times the scales of the columns, times that of
// the row.
func (e *emitter) scale(x, columns vec, row lane) {
	e.scvtf(x, x)
	e.fmul(x, x, columns)
	e.fmulLane(x, x, row)
}

// scaleRows makes f32 of the sums of SDOT.
func (p *product) scaleRows() {
	e := p.e
	for r, x := range p.a {
		e.ldrS(x, p.from[r], 0)
	}
	for v := range p.w {
		e.ldrQ(p.b[0], p.right, 16*v)
		for r, x := range p.a {
			e.scale(p.at(r, v)[0], p.b[0], x.s(0))
		}
	}
}
