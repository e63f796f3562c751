package amd64

import (
	"strings"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"
)

// This file owns the products of tiles: up to 2×2 accumulators of 16 rows × 16 columns, which are
// loaded, multiplied and stored inside one function. The Go runtime neither keeps tiles across a
// switch of threads nor interrupts assembly, so a function that configures tiles releases them
// before it returns.
//
// Tiles 0 and 1 accumulate the first 16 rows, 2 and 3 those after them; 4 and 5 are rows of the left
// factor, 6 and 7 columns of the right one. A step loads each factor once: 32 of K for bf16, whose
// sums are f32, 64 for codes, whose sums are integers.

const (
	tileRows  = 16
	tileRow   = 64 // bytes of a row: 16 f32, pairs of bf16, quads of codes
	tileK     = 32 // steps of K of a tile of bf16
	tilePairs = tileK / 2
)

// tiles is the configuration of a function's tiles.
type tiles struct {
	e      *emitter
	inst   string // of the products
	config operand.Mem
	height operand.Mem // rows that are configured, 0 at first
}

// newTiles puts the configuration on the stack (Intel SDM volume 2, LDTILECFG): palette 1, 64 bytes a
// row in all tiles, 16 rows until configure.
func (e *emitter) newTiles(inst string) *tiles {
	t := &tiles{e: e, inst: strings.ToUpper(inst), config: e.fn.AllocLocal(64), height: e.slot()}
	const rowBytes, rows = tileRow | tileRow<<16, 0x01010101 * tileRows
	z := e.ZMM()
	e.do(x86.VMOVUPS(e.words(1, 0, 0, 0, rowBytes, rowBytes, rowBytes, rowBytes, 0, 0, 0, 0, rows, rows, 0, 0), z))
	e.do(x86.VMOVUPS(z, t.config))
	e.do(x86.MOVQ(operand.U32(0), t.height))
	return t
}

// configure sets the rows of the tiles to h = 1..32, the second 16 being those of tiles 2, 3 and 5.
// It clears all tiles unless h is what they have.
func (t *tiles) configure(h reg.Register) {
	e := t.e
	same, whole, two := e.label("configured"), e.label("configured"), e.label("configured")
	e.do(x86.CMPQ(h, t.height))
	e.do(x86.JEQ(ref(same)))
	e.do(x86.MOVQ(h, t.height))
	first, second := e.GP64(), e.GP64()
	e.do(x86.MOVQ(operand.U32(tileRows), first))
	e.do(x86.MOVQ(h, second))
	e.do(x86.CMPQ(h, operand.U8(tileRows)))
	e.do(x86.JGE(ref(whole)))
	e.do(x86.MOVQ(h, first))
	e.bind(whole)
	e.do(x86.SUBQ(operand.U8(tileRows), second))
	e.do(x86.JG(ref(two)))
	e.do(x86.MOVQ(first, second)) // not used, but no rows would be an error
	e.bind(two)
	for tile, rows := range []reg.GPVirtual{first, first, second, second, first, second} {
		e.do(x86.MOVB(rows.As8(), t.config.Offset(48+tile)))
	}
	e.do(x86.LEAQ(t.config, first))
	e.do(node("LDTILECFG", nil, operand.Mem{Base: first}))
	e.bind(same)
}

func (t *tiles) release() { t.e.do(node("TILERELEASE", nil)) }

// tileProduct is C = A·B or C += A·B, of up to 32 rows and of 32 columns. Strides are in bytes from
// row to row.
type tileProduct struct {
	a, b             reg.Register // used up; a step of A is tileRow bytes
	aStride, bStride int
	bSide, bStep     int // from columns 0..15 of B to 16..31, and to the next step
	c                reg.Register
	cStride          int
	steps            operand.Op // at least 1
	zero             bool       // C is written without being read
	ahead            *prefetch  // of the tall form, or nil
}

// multiply emits p for the height that is configured, which height holds.
func (t *tiles) multiply(height operand.Op, p tileProduct) {
	e := t.e
	short, done := e.label("short"), e.label("multiplied")
	e.do(x86.CMPQ(height, operand.U8(tileRows)))
	e.do(x86.JLE(ref(short)))
	t.multiplyRows(2, p)
	e.do(x86.JMP(ref(done)))
	e.bind(short)
	t.multiplyRows(1, p)
	e.bind(done)
}

// multiplyRows is multiply with one or two tiles of rows.
func (t *tiles) multiplyRows(rows int, p tileProduct) {
	e := t.e
	tmm := func(n int) operand.Op { return tile{operand.U8(n)} }
	stride := func(n int) reg.Register {
		r := e.GP64()
		e.do(x86.MOVQ(operand.U32(n), r))
		return r
	}
	at := func(base, stride reg.Register, offset int) operand.Mem {
		return operand.Mem{Base: base, Disp: offset, Index: stride, Scale: 1}
	}
	// sums calls body with each accumulator and its place.
	sums := func(body func(acc operand.Op, m operand.Mem)) {
		by := stride(p.cStride)
		for acc := range 2 * rows {
			body(tmm(acc), at(p.c, by, acc/2*tileRows*p.cStride+acc%2*tileRow))
		}
	}
	if p.zero {
		for acc := range 2 * rows {
			e.do(node("TILEZERO", nil, tmm(acc)))
		}
	} else {
		sums(func(acc operand.Op, m operand.Mem) { e.do(node("TILELOADD", nil, m, acc)) })
	}
	aBy, bBy, n := stride(p.aStride), stride(p.bStride), e.GP64()
	e.do(x86.MOVQ(p.steps, n))
	var ahead reg.GPVirtual
	var lines int
	if p.ahead != nil && rows == 2 {
		ahead, lines = e.load(p.ahead.at), p.ahead.lines
	}
	e.align()
	e.times(n, func() {
		load := func(m operand.Mem, to int) { e.do(node("TILELOADD", nil, m, tmm(to))) }
		multiply := func(right, left, acc int) {
			e.do(node(t.inst, nil, tmm(right), tmm(left), tmm(acc)))
			for i := range lines / 4 {
				e.do(x86.PREFETCHT1(operand.Mem{Base: ahead, Disp: 64 * (acc*lines/4 + i)}))
			}
		}
		load(at(p.b, bBy, 0), 6)
		load(at(p.a, aBy, 0), 4)
		multiply(6, 4, 0)
		if rows == 2 {
			load(at(p.a, aBy, tileRows*p.aStride), 5)
			multiply(6, 5, 2)
		}
		load(at(p.b, bBy, p.bSide), 7)
		multiply(7, 4, 1)
		if rows == 2 {
			multiply(7, 5, 3)
		}
		e.addImm(tileRow, p.a)
		e.addImm(p.bStep, p.b)
		if lines > 0 {
			p.ahead.step(e, ahead)
		}
	})
	if lines > 0 {
		e.do(x86.MOVQ(ahead, p.ahead.at))
	}
	sums(func(acc operand.Op, m operand.Mem) { e.do(node("TILESTORED", nil, acc, m)) })
}
