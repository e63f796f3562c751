package arm64

import (
	"math"
	"unsafe"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns one step of the online softmax on a tile of rows.

// softmax emits a loop over the rows of a tile: the largest score so far, the probabilities in
// place of the scores, their sum, and the output so far on the new scale. A score beyond Keys
// counts as −∞, whose exponential is exactly 0.
func (e *emitter) softmax(k kernel.Kernel, height, scores, o, max, sum gpr) {
	s, p := k.Spec, k.Plan
	width := roundUp(s.HeadDim, kernel.PanelN)
	n, x, full := e.gp("n"), e.gp("x"), e.gp("full")
	e.mov(n, height)
	top, total, scale, infinite, tail := e.v("top"), e.v("total"), e.v("scale"), e.v("infinite"), e.v("tail")
	v, temps, round := e.v("v"), e.vs(expTemps, "temp"), e.newRounder(s.Math == ir.BF16)
	e.constF32(infinite, math.Inf(-1))
	// The mask of the last vector of scores has 1 to 4 lanes.
	e.scope(func() {
		masks := e.words(firstLanes(1))
		for lanes := 2; lanes <= 4; lanes++ {
			if at := e.words(firstLanes(lanes)); at != masks+16*(lanes-1) {
				e.fail("the masks of lanes are not one after another")
			}
		}
		keys, last := e.arg("keys", unsafe.Offsetof(attentionArgs.Keys)), e.gp("last")
		e.subi(keys, keys, 1)
		e.andi(last, keys, 3)
		e.lsl(last, last, 4)
		e.add(last, last, e.consts)
		e.ldrQ(tail, last, masks)
		e.lsr(full, keys, 2) // whole vectors before the last one
	})
	// each runs body on all vectors of scores; the last one is completed with −∞.
	each := func(body func()) {
		e.scope(func() {
			i, last, loop := e.gp("i"), e.label("last"), e.label("score")
			e.mov(x, scores)
			e.mov(i, full)
			e.cmpi(i, 0)
			e.branch("EQ", last)
			e.bind(loop)
			e.ldrQ(v, x, 0)
			body()
			e.addi(x, x, 16)
			e.countDown(i, loop)
			e.bind(last)
			e.ldrQ(temps[0], x, 0)
			e.vmov(v, tail)
			e.bsl(v, temps[0], infinite)
			body()
		})
	}
	write := func() {
		round.to(s.Math, v)
		e.strQ(v, x, 0)
	}
	nextRow := func() {}
	var pair, to gpr // the row in its pair of packed probabilities, and where the next ones go
	quads := instOf(k).Rows > 1
	if quads {
		// They take the place of scores that have been read.
		pair, to = e.gp("pair"), e.gp("to")
		e.mov(pair, scores)
		nextRow = e.alternate(pair, 8*p.BlockN)
		write = func() {
			e.strD(round.narrow(v), to, 0)
			e.addi(to, to, 16)
		}
	}
	out := []stream{{o, 4}}
	e.times(n, func() {
		again, joined := e.label("again"), e.label("joined")
		e.vmov(top, infinite)
		each(func() { e.fmax(top, top, v) })
		e.maxLanes(top)
		e.scope(func() {
			first := e.arg("first", unsafe.Offsetof(attentionArgs.First))
			e.cmpi(first, 0)
			e.branch("EQ", again)
		})
		e.zero(scale)
		e.vectors(width, 8, out, func(at, _, _ int) { e.strQ(scale, o, 4*at) })
		e.jump(joined)

		e.bind(again)
		e.ld1r(scale, max)
		e.fmax(top, top, scale)
		e.fsub(scale, scale, top)
		e.exp(scale, temps)
		e.vectors(width, 8, out, func(at, _, _ int) {
			e.ldrQ(v, o, 4*at)
			e.fmul(v, v, scale)
			e.strQ(v, o, 4*at)
		})
		e.ld1r(v, sum)
		e.fmul(scale, scale, v)
		e.bind(joined)

		e.zero(total)
		if quads {
			e.mov(to, pair)
		}
		each(func() {
			e.fsub(v, v, top)
			e.exp(v, temps)
			e.fadd(total, total, v)
			write()
		})
		nextRow()
		e.sumLanes(total)
		e.fadd(total, total, scale) // scale holds the old sum on the new scale
		e.strS(top, max, 0)
		e.strS(total, sum, 0)
		e.addi(scores, scores, 4*p.BlockN)
		e.addi(o, o, 4*width)
		e.addi(max, max, 4)
		e.addi(sum, sum, 4)
	})
}
