package arm64

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns the part of the register tile that BFMMLA does: it multiplies two rows of 4
// steps of K by two columns of 4 steps. Packed rows lie in pairs, so that one load has both. The
// panels have pairs of steps for single columns, and two loads and two ZIPs make of them the right
// factors of 4 columns: the loop spends one ZIP for every 2 columns and 4 steps, whatever the
// number of rows. SMMLA is the same with codes, twice as many steps in as many bytes.

// multiply adds a product of the matrix instruction.
func (p *product) multiply(acc, a, b vec) {
	if p.weight == ir.I8 {
		p.e.smmla(acc, a, b)
		return
	}
	p.e.bfmmla(acc, a, b)
}

// quadMatrix emits 4 steps of K, of codes 8, the q-th of the turn, for the vectors from first on.
func (p *product) quadMatrix(q, first, vectors int) {
	e := p.e
	loadRow := func(r int) { e.ldrQ(p.a[r%len(p.a)], p.from[r], 16*q) }
	if len(p.a) == p.h {
		for r := range p.h {
			loadRow(r)
		}
	}
	// Two vectors at a time: 4 registers of columns 0–1, 2–3, 4–5 and 6–7, and one to spare.
	for v := 0; v < vectors; v += 2 {
		b := p.b
		for i := range 2 {
			e.ldrQ(b[2*i], p.right, 2*q*pairBytes+16*(v+i))
			e.ldrQ(b[2*i+1], p.right, (2*q+1)*pairBytes+16*(v+i))
		}
		e.zip1s(b[4], b[0], b[1])
		e.zip2s(b[1], b[0], b[1])
		e.zip1s(b[0], b[2], b[3])
		e.zip2s(b[3], b[2], b[3])
		columns := [4]int{4, 1, 0, 3}
		for r := range p.h {
			if len(p.a) < p.h {
				loadRow(r)
			}
			for i, c := range columns {
				p.multiply(p.at(r, first+v+i/2)[i%2], p.a[r%len(p.a)], b[c])
			}
		}
	}
}

// quadBytes are 4 steps of K of a panel that attention packs for BFMMLA, a quad: for each of its
// 32 columns the 4 steps, so that one load has two columns and nothing has to be zipped.
const quadBytes = 4 * 2 * kernel.PanelN

// sumQuads adds the products of a panel of quads.
func (p *product) sumQuads(t tile) {
	e := p.e
	p.turns(t, 16, 4, func(steps int) {
		for q := range steps / 4 {
			for r, x := range p.a {
				e.ldrQ(x, p.from[r], 16*q)
			}
			for pair := range 2 * p.w {
				b := p.b[pair%len(p.b)]
				e.ldrQ(b, p.right, q*quadBytes+16*pair)
				for r, x := range p.a {
					e.bfmmla(p.at(r, pair/2)[pair%2], x, b)
				}
			}
		}
		for _, x := range p.from {
			e.addi(x, x, 4*steps)
		}
		e.addi(p.right, p.right, steps/4*quadBytes)
	})
}

// eachPair calls body for each pair of rows with the addresses of both in c. The second one of
// an odd number of rows is the first again when there is no room for it.
func (p *product) eachPair(t tile, body func(r int, first, second gpr)) {
	e := p.e
	e.scope(func() {
		second := e.gp("second")
		p.eachRow(t, func(r int, first gpr) {
			e.addi(second, first, t.cStride)
			if t.exact && r == p.h-1 {
				e.tst(t.rows, 1)
				e.csel("EQ", second, second, first)
			}
			body(r, first, second)
		})
	})
}

// beginMatrix reads the accumulators, each of which has two rows of two columns.
func (p *product) beginMatrix(t tile) {
	e := p.e
	p.eachPair(t, func(r int, first, second gpr) {
		for v := range p.w {
			acc, rows := p.at(r, v), p.b[:2]
			e.ldrQ(rows[0], first, 16*v)
			e.ldrQ(rows[1], second, 16*v)
			e.zip1d(acc[0], rows[0], rows[1])
			e.zip2d(acc[1], rows[0], rows[1])
		}
	})
}

// finishMatrix makes f32 of sums of codes, adds the bias and writes the accumulators, the second row
// before the first, which may be at the same address.
func (p *product) finishMatrix(t tile) {
	e := p.e
	p.eachPair(t, func(r int, first, second gpr) {
		for v := range p.w {
			acc, rows := p.at(r, v), p.b[:2]
			e.zip1d(rows[0], acc[0], acc[1])
			e.zip2d(rows[1], acc[0], acc[1])
			if p.weight == ir.I8 {
				columns, header := p.b[3], p.b[4] // of both rows, 8 bytes each
				e.ldrQ(columns, p.right, 16*v)
				e.ldrQ(header, p.from[r], 0)
				e.scale(rows[0], columns, header.s(0))
				e.scale(rows[1], columns, header.s(2))
			}
			if t.hasBias {
				e.ldrQ(p.b[2], t.bias, 16*v)
				e.fadd(rows[0], rows[0], p.b[2])
				e.fadd(rows[1], rows[1], p.b[2])
			}
			e.strQ(rows[1], second, 16*v)
			e.strQ(rows[0], first, 16*v)
		}
	})
}
