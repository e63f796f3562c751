package arm64

// This file owns the part of the register tile that BFMMLA does: it multiplies two rows of 4
// steps of K by two columns of 4 steps. Packed rows lie in pairs, so that one load has both. The
// panels have pairs of steps for single columns, and two loads and two ZIPs make of them the right
// factors of 4 columns: the loop spends one ZIP for every 2 columns and 4 steps, whatever the
// number of rows.

// quadMatrix emits 4 steps of K, the q-th of the turn, for the vectors from first on.
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
				e.bfmmla(p.at(r, first+v+i/2)[i%2], p.a[r%len(p.a)], b[c])
			}
		}
	}
}

// finishMatrix adds the bias and writes the accumulators, each of which has two rows of two
// columns.
func (p *product) finishMatrix(t tile) {
	e := p.e
	second := e.gp("second")
	p.eachRow(t, func(r int, row gpr) {
		e.addi(second, row, t.cStride)
		for v := range p.w {
			acc := p.at(r, v)
			rows := p.b[:2]
			e.zip1d(rows[0], acc[0], acc[1])
			e.zip2d(rows[1], acc[0], acc[1])
			if t.hasBias {
				e.ldrQ(p.b[2], t.bias, 16*v)
			}
			for i, to := range []gpr{row, second} {
				if t.hasBias {
					e.fadd(rows[i], rows[i], p.b[2])
				}
				e.strQ(rows[i], to, 16*v)
			}
		}
	})
}
