package amd64

import (
	"math"
	"unsafe"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/kernel"
)

// This file owns one step of the online softmax on a tile of rows. It goes through the rows twice: for the largest
// scores, and for the probabilities. In one pass the exponentials of a row fill the schedulers of the
// processor while they wait for its largest score, and the next row does not begin (docs/tuning.md).

// softmaxRows is where the rows of a tile are: their number, the scores of the block, and of all blocks so far
// the output, the largest score and the sum of probabilities.
type softmaxRows struct{ height, scores, o, max, sum operand.Mem }

// softmax emits the step. A score beyond Keys counts as −∞, whose exponential is exactly 0.
func (e *emitter) softmax(k kernel.Kernel, tile *product, r softmaxRows) {
	s := k.Spec
	keys, i := e.arg(unsafe.Offsetof(attentionArgs.Keys)), e.GP64()
	// Scores are taken 16 at a time, so that their sum is the same whatever the width of vectors, or
	// two times 16, which become a vector of pairs.
	step, power := 16, e.exp
	if pairs(k) {
		step, power = 32, e.expCoarse
	}
	tail := e.scoreMasks(keys, step)
	e.do(x86.DECQ(keys))
	e.do(x86.ANDQ(operand.I32(-step), keys)) // index of the last step

	t, u, top, scale, infinite := tile.b[0], tile.b[1], e.vec(), e.vec(), e.vec()
	var v, total []reg.VecVirtual
	for range tail {
		v, total = append(v, e.vec()), append(total, e.vec())
	}
	e.do(x86.VBROADCASTSS(e.f32(math.Inf(-1)), infinite))
	n, x, out, m, l := e.GP64(), e.GP64(), e.GP64(), e.GP64(), e.GP64()
	width := roundUp(s.HeadDim, kernel.PanelN)
	// rows runs body for every row.
	rows := func(body func()) {
		for _, start := range []struct {
			from operand.Mem
			to   reg.Register
		}{{r.height, n}, {r.scores, x}, {r.o, out}, {r.max, m}, {r.sum, l}} {
			e.do(x86.MOVQ(start.from, start.to))
		}
		e.times(n, func() {
			body()
			e.addImm(4*k.Plan.BlockN, x)
			e.addImm(4*width, out)
			e.addImm(4, m)
			e.addImm(4, l)
		})
	}
	// each runs body with v, which is a step of the scores of a row, for all steps; the last is completed
	// with −∞.
	each := func(body func()) {
		loop, last := e.label("score"), e.label("score")
		m := func(part int) operand.Mem { return at(x, i, part*e.lanes, 4) }
		e.do(x86.XORQ(i, i))
		e.do(x86.CMPQ(keys, operand.U8(0)))
		e.do(x86.JEQ(ref(last)))
		e.bind(loop)
		for part, v := range v {
			e.do(x86.VMOVUPS(m(part), v))
		}
		body()
		e.addImm(step, i)
		e.do(x86.CMPQ(i, keys))
		e.do(x86.JLT(ref(loop)))
		e.bind(last)
		for part, v := range v {
			if e.wide() {
				e.do(x86.VMOVAPS(infinite, v))
				e.do(x86.VMOVUPS(m(part), tail[part], v))
			} else {
				e.do(x86.VBLENDVPS(tail[part], m(part), infinite, v))
			}
		}
		body()
	}

	// The largest scores; the output and the sum so far on the new scale.
	first := e.arg(unsafe.Offsetof(attentionArgs.First))
	rows(func() {
		again, joined := e.label("again"), e.label("again")
		e.do(x86.VMOVAPS(infinite, top))
		each(func() {
			for _, v := range v {
				e.do(x86.VMAXPS(v, top, top))
			}
		})
		e.maxLanes(top, t)
		e.do(x86.CMPQ(first, operand.U8(0)))
		e.do(x86.JEQ(ref(again)))

		e.zero(scale)
		for d := 0; d < width; d += e.lanes {
			e.do(x86.VMOVUPS(scale, operand.Mem{Base: out, Disp: 4 * d}))
		}
		e.do(x86.JMP(ref(joined)))

		e.bind(again)
		e.do(x86.VBROADCASTSS(operand.Mem{Base: m}, scale))
		e.do(x86.VMAXPS(scale, top, top))
		e.do(x86.VSUBPS(top, scale, scale))
		e.exp(scale, t, u) // never expCoarse: its errors would add up over the blocks
		for d := 0; d < width; d += e.lanes {
			e.do(x86.VMULPS(operand.Mem{Base: out, Disp: 4 * d}, scale, t))
			e.do(x86.VMOVUPS(t, operand.Mem{Base: out, Disp: 4 * d}))
		}
		e.opOne(mulPS, operand.Mem{Base: l}, scale, scale)
		e.bind(joined)
		e.do(x86.VMOVSS(top.AsX(), operand.Mem{Base: m}))
		e.do(x86.VMOVSS(scale.AsX(), operand.Mem{Base: l}))
	})

	// The probabilities, in place of the scores, and their sum.
	rows(func() {
		e.do(x86.VBROADCASTSS(operand.Mem{Base: m}, top))
		for _, x := range total {
			e.zero(x)
		}
		each(func() {
			for part, v := range v {
				e.do(x86.VSUBPS(top, v, v))
				power(v, t, u)
				e.do(x86.VADDPS(v, total[part], total[part]))
				if !pairs(k) {
					e.roundTo(s.Math, v, t)
					e.do(x86.VMOVUPS(v, at(x, i, part*e.lanes, 4)))
				}
			}
			if pairs(k) {
				// Half as wide as the scores, so never ahead of them.
				e.do(node("VCVTNE2PS2BF16", nil, v[0], v[1], t))
				e.do(x86.VMOVUPS(t, at(x, i, 0, 2)))
			}
		})
		e.sumLanes(total, t)
		e.do(x86.VADDSS(operand.Mem{Base: l}, total[0].AsX(), total[0].AsX()))
		e.do(x86.VMOVSS(total[0].AsX(), operand.Mem{Base: l}))
	})
}

// scoreMasks returns masks of the vectors of the last step of scores, of which there are (keys−1) mod step + 1.
func (e *emitter) scoreMasks(keys reg.GPVirtual, step int) []reg.Register {
	var masks []reg.Register
	last := e.GP64() // the number of the last one that exists
	e.do(x86.MOVQ(keys, last))
	e.do(x86.DECQ(last))
	e.do(x86.ANDQ(operand.U8(uint8(step-1)), last))
	if e.wide() {
		bits := e.GP64()
		e.do(x86.MOVQ(last, reg.RCX))
		e.do(x86.MOVQ(operand.U32(2), bits))
		e.do(x86.SHLQ(reg.CL, bits))
		e.do(x86.DECQ(bits))
		for first := 0; first < step; first += e.lanes {
			k := e.K()
			e.do(x86.KMOVW(bits.As32(), k))
			e.do(x86.SHRQ(operand.U8(uint8(e.lanes)), bits))
			masks = append(masks, k)
		}
		return masks
	}
	all := e.vec()
	e.do(x86.VMOVD(last.As32(), all.AsX()))
	e.do(x86.VPBROADCASTD(all.AsX(), all))
	for first := 0; first < step; first += e.lanes {
		m := e.vec()
		e.do(x86.VPCMPGTD(e.words(e.lanesTo(first-1, 1)...), all, m))
		masks = append(masks, m)
	}
	return masks
}
