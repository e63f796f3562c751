package ptx

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns what the plain kernels share: loops, reductions over lanes, and the way to the
// result. A unit is 32 columns of one row, a slot of its statistics; 16 lanes have two
// neighbouring columns each.

// statsCols is the columns of a slot of row statistics (cuda.Kernel.StatsCols), unitLanes the lanes of
// a unit.
const (
	statsCols = 32
	unitLanes = statsCols / 2
)

// slots returns how many slots of statistics a row of so many columns has.
func slots(cols int) int { return ceilDiv(cols, statsCols) }

// ceilDiv returns a/b rounded up.
func ceilDiv(a, b int) int { return (a + b - 1) / b }

// loop emits body for i, which has been set, until it reaches limit.
func (e *entry) loop(i reg, limit, step any, body func()) {
	top, end := e.label("loop"), e.label("done")
	e.bind(top)
	e.doIf(e.p("setp.ge.u32", i, limit), "bra", end)
	body()
	e.do("add.u32", i, i, step)
	e.do("bra", top)
	e.bind(end)
}

// when emits body for where p is true.
func (e *entry) when(p reg, body func()) {
	end := e.label("skip")
	e.doUnless(p, "bra", end)
	body()
	e.bind(end)
}

// retIf ends the thread where p is true.
func (e *entry) retIf(p reg) { e.doIf(p, "ret") }

// rows declares the number of rows of the batch and returns it.
func (e *entry) rows() reg {
	return e.r("ld.global.u32", at(e.param(cuda.Param{Kind: cuda.ParamRows}), 0))
}

// and returns a && b; a nil name is true.
func (e *entry) and(a, b reg) reg {
	switch {
	case a == "":
		return b
	case b == "":
		return a
	}
	return e.p("and.pred", a, b)
}

// divMod returns x/n and x%n.
func (e *entry) divMod(x reg, n int) (quotient, rest reg) {
	if n == 1 {
		return x, e.r("mov.u32", 0)
	}
	q := e.r("div.u32", x, n)
	return q, e.r("sub.u32", x, e.r("mul.lo.u32", q, n))
}

// element returns the address base + row·pitch + col·size.
func (e *entry) element(base, row reg, pitch int, col reg, size int) reg {
	a := e.rd("mad.wide.u32", row, pitch, base)
	return e.rd("mad.wide.u32", col, size, a)
}

// ptrSet returns whether an address is not 0.
func (e *entry) ptrSet(a reg) reg { return e.p("setp.ne.u64", a, 0) }

// shuffle adds, or takes the larger, over lanes whose numbers differ in the bits of masks.
func (e *entry) shuffle(op string, x reg, masks ...int) {
	for _, m := range masks {
		e.do(op, x, x, e.f("shfl.sync.bfly.b32", x, m, 31, -1))
	}
}

// packBF16 returns two values rounded to bf16, lo in the lower half.
func (e *entry) packBF16(lo, hi reg) reg { return e.r("cvt.rn.bf16x2.f32", hi, lo) }

// unpackBF16 returns both halves as f32.
func (e *entry) unpackBF16(x reg) (lo, hi reg) {
	return e.f("mov.b32", e.r("shl.b32", x, 16)), e.f("mov.b32", e.r("and.b32", x, "0xffff0000"))
}

// columns are two neighbouring columns of a matrix: col, which is even, and whether each exists.
type columns struct {
	col    reg
	valid  [2]reg
	paired bool // both exist or none
}

// columnsBelow returns the columns col and col+1 as far as they are below limit and ok is true.
func (e *entry) columnsBelow(col reg, limit int, ok reg) columns {
	c := columns{col: col, paired: limit%2 == 0}
	c.valid[0] = e.and(e.p("setp.lt.u32", col, limit), ok)
	c.valid[1] = c.valid[0]
	if !c.paired {
		c.valid[1] = e.and(e.p("setp.lt.u32", e.r("add.u32", col, 1), limit), ok)
	}
	return c
}

// loadPair returns the two elements at address a, zero where they do not exist. aligned: a is a
// multiple of twice the size of an element.
func (e *entry) loadPair(a reg, d ir.DType, aligned bool, c columns) [2]reg {
	var v [2]reg
	switch {
	case d == ir.BF16 && aligned && c.paired:
		w := e.r("mov.b32", 0)
		e.doIf(c.valid[0], "ld.global.b32", w, at(a, 0))
		v[0], v[1] = e.unpackBF16(w)
	case d == ir.BF16:
		for i := range v {
			h := e.b16()
			e.do("mov.b16", h, 0)
			e.doIf(c.valid[i], "ld.global.b16", h, at(a, 2*i))
			v[i] = e.f("mov.b32", e.r("shl.b32", e.r("cvt.u32.u16", h), 16))
		}
	default:
		v[0], v[1] = e.f("mov.f32", 0.0), e.f("mov.f32", 0.0)
		if aligned && c.paired {
			e.doIf(c.valid[0], "ld.global.v2.f32", vec(v[0], v[1]), at(a, 0))
			break
		}
		for i := range v {
			e.doIf(c.valid[i], "ld.global.f32", v[i], at(a, 4*i))
		}
	}
	return v
}

// storePair writes two elements at address a where they exist.
func (e *entry) storePair(a reg, d ir.DType, aligned bool, c columns, v [2]reg) {
	switch {
	case d == ir.BF16 && aligned && c.paired:
		e.doIf(c.valid[0], "st.global.b32", at(a, 0), e.packBF16(v[0], v[1]))
	case d == ir.BF16:
		for i := range v {
			h := e.b16()
			e.do("cvt.rn.bf16.f32", h, v[i])
			e.doIf(c.valid[i], "st.global.b16", at(a, 2*i), h)
		}
	case aligned && c.paired:
		e.doIf(c.valid[0], "st.global.v2.f32", at(a, 0), vec(v[0], v[1]))
	default:
		for i := range v {
			e.doIf(c.valid[i], "st.global.f32", at(a, 4*i), v[i])
		}
	}
}

// result is the buffer that a kernel writes, with its shadow and its statistics.
type result struct {
	dtype              ir.DType
	cols               int
	dst, shadow, stats reg // shadow and stats: "" unless dtype is f32
}

// result declares the parameters of the result.
func (e *entry) result(d ir.DType, cols int) result {
	r := result{dtype: d, cols: cols, dst: e.pointer(cuda.OperandDst)}
	if d == ir.F32 {
		r.shadow = e.param(cuda.Param{Kind: cuda.ParamShadow, Operand: cuda.OperandDst})
		r.stats = e.param(cuda.Param{Kind: cuda.ParamStats, Operand: cuda.OperandDst})
	}
	return r
}

// store writes two columns of a row of a unit, whose number in the row is slot. All lanes of the warp
// are here. rowOK tells whether the row exists.
func (e *entry) store(r result, row, slot reg, rowOK reg, c columns, v [2]reg) {
	pitch := cuda.Pitch(r.cols, r.dtype == ir.BF16)
	size := r.dtype.Size()
	e.storePair(e.element(r.dst, row, pitch, c.col, size), r.dtype, pitch%(2*size) == 0, c, v)
	if r.dtype != ir.F32 {
		return
	}
	e.when(e.ptrSet(r.shadow), func() {
		e.storePair(e.element(r.shadow, row, cuda.Pitch(r.cols, true), c.col, 2), ir.BF16, true, c, v)
	})
	e.when(e.ptrSet(r.stats), func() {
		sum, squares := e.f("mov.f32", 0.0), e.f("mov.f32", 0.0)
		for i := range v {
			e.doIf(c.valid[i], "add.rn.f32", sum, sum, v[i])
			e.doIf(c.valid[i], "fma.rn.f32", squares, v[i], v[i], squares)
		}
		e.shuffle("add.rn.f32", sum, 1, 2, 4, 8)
		e.shuffle("add.rn.f32", squares, 1, 2, 4, 8)
		first := e.p("setp.eq.u32", e.r("and.b32", e.r("mov.u32", "%tid.x"), unitLanes-1), 0)
		n := slots(r.cols)
		ok := e.and(e.and(first, rowOK), e.p("setp.lt.u32", slot, n))
		e.doIf(ok, "st.global.v2.f32", at(e.element(r.stats, row, 8*n, slot, 8), 0), vec(sum, squares))
	})
}

// units emits body for units 0..n−1, which warps take in turn, two at a time, from the warp's number
// on. All lanes of a warp run body; ok is false for the missing unit of an odd n.
func (e *entry) units(n int, body func(unit, ok reg)) {
	tid := e.r("mov.u32", "%tid.x")
	half := e.r("and.b32", e.r("shr.u32", tid, 4), 1)
	i := e.r("shl.b32", e.r("shr.u32", tid, 5), 1)
	e.loop(i, n, e.threads/unitLanes, func() {
		unit := e.r("add.u32", i, half)
		ok := reg("")
		if n%2 != 0 {
			ok = e.p("setp.lt.u32", unit, n)
		}
		body(unit, ok)
	})
}

// pairOf returns the first of the two columns that a lane has in a unit.
func (e *entry) pairOf(slot reg) reg {
	lane := e.r("and.b32", e.r("mov.u32", "%tid.x"), unitLanes-1)
	return e.r("mad.lo.u32", slot, statsCols, e.r("shl.b32", lane, 1))
}
