package ptx

import (
	"math"

	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the reduction of a row of logits: its largest one, the sum of the exponentials and
// the best entries, the higher logit first, then the lower id. A CTA has a row, of which thread t has
// the columns t, t+topThreads and so on; each keeps its best entry, and the one whose entry was taken
// looks for its next. All orders are fixed, so that results have fixed bits.

const (
	topThreads = 1024
	topLoads   = 4 // that a thread has under way at a time
)

// topEntry is a pair of registers: a logit and its column.
type topEntry struct{ logit, id reg }

// TopK returns the entry that reduces rows of n logits, for cuda.Program.TopK.
func TopK(symbol string, n int) Unit {
	e := newEntry(symbol, topThreads)
	src := e.pointer(cuda.OperandSrc)
	param := func(k cuda.ParamKind) reg { return e.param(cuda.Param{Kind: k}) }
	count := e.r("ld.global.u32", at(param(cuda.ParamTopK), 0))
	ids, logits, sums := param(cuda.ParamTopIDs), param(cuda.ParamTopLogits), param(cuda.ParamTopSums)
	rows := e.rows()
	row := e.r("mov.u32", "%ctaid.x")
	e.retIf(e.p("setp.ge.u32", row, rows))
	src = e.rd("mad.wide.u32", row, 4*n, src)
	ids, logits = e.rd("mad.wide.u32", row, 4*cuda.MaxTopK, ids), e.rd("mad.wide.u32", row, 4*cuda.MaxTopK, logits)
	tid := e.r("mov.u32", "%tid.x")
	first := e.p("setp.eq.u32", tid, 0)
	// Columns that do not exist are read as −∞, which is no better than any and whose exponential is 0.
	each := func(body func(i, x reg)) {
		i := e.r("mov.u32", tid)
		e.loop(i, n, topLoads*topThreads, func() {
			from := e.rd("mad.wide.u32", i, 4, src)
			var cols, x [topLoads]reg
			for u := range topLoads {
				cols[u], x[u] = e.r("add.u32", i, u*topThreads), e.f("mov.f32", math.Inf(-1))
				e.doIf(e.p("setp.lt.u32", cols[u], n), "ld.global.f32", x[u], at(from, 4*u*topThreads))
			}
			for u := range topLoads {
				body(cols[u], x[u])
			}
		})
	}

	mine := topEntry{e.f("mov.f32", math.Inf(-1)), e.r("mov.u32", math.MaxInt32)}
	each(func(i, x reg) {
		better := e.p("setp.gt.f32", x, mine.logit)
		e.doIf(better, "mov.f32", mine.logit, x)
		e.doIf(better, "mov.u32", mine.id, i)
	})
	best := e.best(tid, mine)

	sum := e.f("mov.f32", 0.0)
	each(func(_, x reg) {
		t := e.f("mul.rn.f32", e.f("sub.rn.f32", x, best.logit), math.Log2E)
		e.do("add.rn.f32", sum, sum, e.f("ex2.approx.ftz.f32", t))
	})
	sum = e.sumOfAll(tid, sum)
	e.doIf(first, "st.global.v2.f32", at(e.rd("mad.wide.u32", row, 8, sums), 0), vec(best.logit, sum))

	t := e.r("mov.u32", 0)
	e.loop(t, count, 1, func() {
		e.doIf(first, "st.global.u32", at(e.rd("mad.wide.u32", t, 4, ids), 0), best.id)
		e.doIf(first, "st.global.f32", at(e.rd("mad.wide.u32", t, 4, logits), 0), best.logit)
		e.when(e.p("setp.eq.u32", mine.id, best.id), func() {
			e.do("mov.f32", mine.logit, math.Inf(-1))
			e.do("mov.u32", mine.id, math.MaxInt32)
			each(func(i, x reg) {
				later := e.p("setp.gt.u32", i, best.id)
				behind := e.p("setp.eq.and.f32", x, best.logit, later)
				lower := e.p("setp.lt.or.f32", x, best.logit, behind)
				better := e.p("setp.gt.and.f32", x, mine.logit, lower)
				e.doIf(better, "mov.f32", mine.logit, x)
				e.doIf(better, "mov.u32", mine.id, i)
			})
		})
		next := e.best(tid, mine)
		e.do("mov.f32", best.logit, next.logit)
		e.do("mov.u32", best.id, next.id)
	})
	e.do("ret")
	l := e.launch(8*topThreads/32, 0, cuda.Grid{Kind: cuda.GridRows, TileM: 1})
	return Unit{PTX: e.text(), Kernel: cuda.Kernel{Variants: []cuda.Variant{{Launches: []cuda.Launch{l}}}}}
}

// keepBetter puts b into a where b is before it.
func (e *entry) keepBetter(a, b topEntry) {
	lower := e.p("setp.lt.u32", b.id, a.id)
	equal := e.p("setp.eq.and.f32", b.logit, a.logit, lower)
	better := e.p("setp.gt.or.f32", b.logit, a.logit, equal)
	e.doIf(better, "mov.f32", a.logit, b.logit)
	e.doIf(better, "mov.u32", a.id, b.id)
}

// best returns the best entry of all threads.
func (e *entry) best(tid reg, mine topEntry) topEntry {
	b := topEntry{e.f("mov.f32", mine.logit), e.r("mov.u32", mine.id)}
	for _, m := range []int{1, 2, 4, 8, 16} {
		e.keepBetter(b, topEntry{e.f("shfl.sync.bfly.b32", b.logit, m, 31, -1), e.r("shfl.sync.bfly.b32", b.id, m, 31, -1)})
	}
	e.acrossWarps(tid, func(at string) { e.do("st.shared.v2.b32", at, vec(b.logit, b.id)) },
		func(at string) {
			o := topEntry{e.f32(), e.b32()}
			e.do("ld.shared.v2.b32", vec(o.logit, o.id), at)
			e.keepBetter(b, o)
		})
	return b
}

// sumOfAll returns the sum of x of all threads.
func (e *entry) sumOfAll(tid, x reg) reg {
	e.shuffle("add.rn.f32", x, 1, 2, 4, 8, 16)
	sum := e.f("mov.f32", 0.0)
	e.acrossWarps(tid, func(at string) { e.do("st.shared.f32", at, x) },
		func(at string) { e.do("add.rn.f32", sum, sum, e.f("ld.shared.f32", at)) })
	return sum
}

// acrossWarps has the first lane of each warp write at a place of 8 bytes and all threads read those of
// all warps in order.
func (e *entry) acrossWarps(tid reg, write, read func(at string)) {
	smem := e.r("mov.u32", "smem")
	e.when(e.p("setp.eq.u32", e.r("and.b32", tid, 31), 0), func() {
		write(at(e.r("mad.lo.u32", e.r("shr.u32", tid, 5), 8, smem), 0))
	})
	e.do("bar.sync", 0)
	for w := range topThreads / 32 {
		read(at(smem, 8*w))
	}
	e.do("bar.sync", 0)
}
