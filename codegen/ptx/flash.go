package ptx

import (
	"fmt"
	"math"

	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns attention on wgmma, for heads of 64 elements: the online softmax of Milakov and
// Gimelshein (arXiv 1805.02867) in the arrangement of FlashAttention-3 (Shah and others, arXiv
// 2407.08608), where the products of the next keys and of the last values run under the softmax.
// Consumers take turns in issuing them, so that one multiplies while the others are in the softmax.
//
// A CTA is a warpgroup whose first thread issues the copies and consumers of 64 packed rows (query × head
// of the group) each: three, or for small batches one, whose rows are whole queries, up to 64. Blocks of
// keys go from the start of the sequence, so a row depends on its own sequence alone. Boxes that reach
// beyond it bring what lies there: keys are masked, values set to zero, since 0·NaN is NaN, and queries
// not written.

const (
	flashHead    = 64
	flashKeys    = 128 // of a block
	flashQueries = 2   // blocks of queries

	// Named barriers: of all consumers, and the first of those that pass the turn on.
	zeroBarrier = 1
	turnBarrier = 2
)

// flashShort are lengths of sequences up to which code of its own works on as many keys of the one block, in
// steps of flashPart.
var flashShort = []int{flashPart, 2 * flashPart, 3 * flashPart}

const flashPart = 32

// flashTile is how a CTA is made: its consumers; the rows of an item, of the 64 that each of them
// multiplies; blocks of keys, and of values, under way; CTAs of a multiprocessor; and the registers of a
// thread of the producer and of a consumer, which are together those at entry: 2·128 and 4·128.
type flashTile struct {
	consumers, item, stages, minCTAs int
	producerRegs, consumerRegs       int
}

// newFlashTile returns the tile for items of so many rows.
func newFlashTile(item int) flashTile {
	if item <= 64 {
		return flashTile{consumers: 1, item: item, stages: 2, minCTAs: 2, producerRegs: 40, consumerRegs: 216}
	}
	return flashTile{consumers: 3, item: item, stages: 3, minCTAs: 1, producerRegs: 32, consumerRegs: 160}
}

// padded is the rows that the consumers multiply.
func (t flashTile) padded() int { return 64 * t.consumers }

// flash writes the entry.
type flash struct {
	*entry
	flashTile
	spec                kernel.Spec
	group               int // heads that share a key/value head
	q, kv, part         reg // tensor maps: of queries, of a block of keys or values, of a part of one
	dst, items, count   reg
	queries, keys, vals ring
}

// flashAttention returns the variants of attention.
func flashAttention(symbol string, k kernel.Kernel) []variant {
	var out []variant
	for i, v := range kernel.WgmmaVariants(k.Spec, k.Plan) {
		out = append(out, variant{v.MaxRows, []part{newFlash(fmt.Sprintf("%s_%d", symbol, i), k.Spec, newFlashTile(v.Plan.BlockM))}})
	}
	return out
}

// newFlash writes the entry of attention, whose name says the rows of an item, and returns it with its
// launch.
func newFlash(symbol string, s kernel.Spec, t flashTile) part {
	f := &flash{
		entry:     newEntry(fmt.Sprintf("%s_%d", symbol, t.item), (1+t.consumers)*warpgroup),
		flashTile: t, spec: s, group: s.Heads / s.KVHeads,
	}
	f.entry.minCTAs = t.minCTAs
	f.q = f.mapParam(cuda.Param{Kind: cuda.ParamMap, Operand: cuda.OperandSrc, Box: []int{flashHead, f.group, t.item / f.group}})
	f.kv = f.mapParam(cuda.Param{Kind: cuda.ParamMap, Operand: cuda.OperandSrc, Box: []int{flashHead, flashKeys}})
	f.part = f.mapParam(cuda.Param{Kind: cuda.ParamMap, Operand: cuda.OperandSrc, Box: []int{flashHead, flashPart}})
	f.dst = f.pointer(cuda.OperandDst)
	f.items = f.param(cuda.Param{Kind: cuda.ParamItems})
	f.count = f.param(cuda.Param{Kind: cuda.ParamItemCount})

	base := f.shared()
	f.queries = ring{slots: flashQueries, bytes: t.padded() * swizzleRow}
	f.keys = ring{slots: t.stages, bytes: flashKeys * swizzleRow}
	f.vals = ring{slots: t.stages, bytes: flashKeys * swizzleRow}
	used := f.layout(base, &f.queries, &f.keys, &f.vals)
	tid := f.r("mov.u32", "%tid.x")
	work, consume, done := f.label("work"), f.label("consume"), f.label("done")
	f.doIf(f.p("setp.ne.u32", tid, 0), "bra", work)
	for _, tensor := range []reg{f.q, f.kv, f.part} {
		f.do("prefetch.tensormap", at(tensor, 0))
	}
	for _, r := range []*ring{&f.queries, &f.keys, &f.vals} {
		f.initBarriers(r, t.consumers*4)
	}
	f.do("fence.mbarrier_init.release.cluster")
	f.bind(work)
	f.zeroRows(f.queries, t.item, t.padded(), tid)
	f.do("bar.sync", 0)

	f.doIf(f.p("setp.ge.u32", tid, warpgroup), "bra", consume)
	f.do("setmaxnreg.dec.sync.aligned.u32", t.producerRegs)
	f.doIf(f.p("setp.ne.u32", tid, 0), "bra", done)
	f.do("griddepcontrol.launch_dependents")
	f.do("griddepcontrol.wait")
	f.produce()
	f.do("bra", done)
	f.bind(consume)
	f.do("setmaxnreg.inc.sync.aligned.u32", t.consumerRegs)
	f.do("griddepcontrol.wait")
	f.consume(tid)
	f.bind(done)
	f.do("ret")
	l := f.launch(used+sharedSlack, 0, cuda.Grid{Kind: cuda.GridItems, TileM: t.item, Persistent: true})
	l.Dependent = true
	return part{f.entry, l}
}

// flashItem is a cuda.Item in registers.
type flashItem struct{ start, tokens, head, row reg }

// eachItem writes the loop over the work items of this CTA.
func (f *flash) eachItem(do func(flashItem)) {
	index, step := f.r("mov.u32", "%ctaid.x"), f.r("mov.u32", "%nctaid.x")
	count := f.r("ld.global.u32", at(f.count, 0))
	loop, end := f.label("item"), f.label("items")
	f.bind(loop)
	f.doIf(f.p("setp.ge.u32", index, count), "bra", end)
	i := many(4, f.b32)
	f.do("ld.global.nc.v4.u32", vec(i...), at(f.rd("mad.wide.u32", index, 16, f.items), 0))
	do(flashItem{i[0], i[1], i[2], i[3]})
	f.do("add.u32", index, index, step)
	f.do("bra", loop)
	f.bind(end)
}

// produce writes the work of the thread that issues the copies.
func (f *flash) produce() {
	queries, keys, vals := f.begin(&f.queries, true), f.begin(&f.keys, true), f.begin(&f.vals, true)
	load := func(c cursor, rows any, copies func(slot, full reg)) {
		f.wait(f.barrier(c.empty, c), c.parity)
		full := f.barrier(c.full, c)
		f.do("mbarrier.arrive.expect_tx.shared::cta.b64", "_", at(full, 0), f.r("mul.lo.u32", rows, swizzleRow))
		copies(f.buffer(c), full)
		f.next(c)
	}
	f.eachItem(func(i flashItem) {
		load(queries, f.item, func(slot, full reg) {
			query := f.r("add.u32", i.start, f.r("div.u32", i.row, f.group))
			f.copyBox(slot, f.q, full, nil, f.r("mov.u32", 0), f.r("mul.lo.u32", i.head, f.group), query)
		})
		keyCol := f.r("mad.lo.u32", i.head, flashHead, f.spec.Heads*flashHead)
		valCol := f.r("add.u32", keyCol, f.spec.KVHeads*flashHead)
		token := f.r("mov.u32", i.start)
		end := f.r("add.u32", i.start, i.tokens)
		loop, done := f.label("load"), f.label("loaded")
		f.doIf(f.p("setp.gt.u32", i.tokens, flashShort[len(flashShort)-1]), "bra", loop)
		rows := f.r("and.b32", f.r("add.u32", i.tokens, flashPart-1), -flashPart)
		parts := func(col reg) func(slot, full reg) {
			return func(slot, full reg) {
				f.do("mov.u32", token, i.start)
				f.loop(token, end, flashPart, func() {
					f.copyBox(slot, f.part, full, nil, col, token)
					f.do("add.u32", slot, slot, flashPart*swizzleRow)
				})
			}
		}
		load(keys, rows, parts(keyCol))
		load(vals, rows, parts(valCol))
		f.do("bra", done)

		block := func(col reg) func(slot, full reg) {
			return func(slot, full reg) { f.copyBox(slot, f.kv, full, nil, col, token) }
		}
		f.bind(loop)
		load(keys, flashKeys, block(keyCol))
		load(vals, flashKeys, block(valCol))
		f.do("add.u32", token, token, flashKeys)
		f.doIf(f.p("setp.lt.u32", token, end), "bra", loop)
		f.bind(done)
	})
}

// flashRow is one of the two rows of a thread: the running maximum and the thread's part of the sum.
type flashRow struct{ largest, sum reg }

// flashConsumer is a warpgroup that works on 64 packed rows.
type flashConsumer struct {
	*flash
	tid, lane           reg
	queries, keys, vals cursor
	q                   reg   // descriptor of the queries in slot 0
	s, o                []reg // scores of a block of keys, sums of values
	weights             []reg // probabilities as bf16 pairs
	rows                [2]flashRow
	remaining           reg // keys from the current block on
	firstLane           reg
	turn, after         reg // named barriers: of this consumer's turn, and of that after it
}

// consume writes the work of a warpgroup.
func (f *flash) consume(tid reg) {
	c := &flashConsumer{
		flash: f, tid: tid, lane: f.r("and.b32", tid, 31),
		queries: f.begin(&f.queries, false), keys: f.begin(&f.keys, false), vals: f.begin(&f.vals, false),
		remaining: f.b32(),
	}
	c.firstLane = f.p("setp.eq.u32", c.lane, 0)
	group := f.r("sub.u32", f.r("shr.u32", tid, 7), 1)
	c.q = f.descriptorLow(f.r("mad.lo.u32", group, 64*swizzleRow, f.queries.data))
	if c.consumers > 1 {
		last := f.p("setp.eq.u32", group, c.consumers-1)
		c.turn = f.r("add.u32", group, turnBarrier)
		c.after = f.r("selp.b32", turnBarrier, f.r("add.u32", c.turn, 1), last)
		f.when(last, c.pass) // the first turn
	}

	f.eachItem(func(i flashItem) {
		f.do("mov.u32", c.remaining, i.tokens)
		f.wait(f.barrier(c.queries.full, c.queries), c.queries.parity)
		end := f.label("written")
		for _, n := range flashShort {
			longer := f.label("longer")
			f.doIf(f.p("setp.gt.u32", c.remaining, n), "bra.uni", longer)
			c.withRegisters(n).oneBlock(n, i)
			f.do("bra.uni", end)
			f.bind(longer)
		}
		c.withRegisters(flashKeys).blocks(i)
		f.bind(end)
	})
	if c.consumers > 1 {
		f.when(f.p("setp.eq.u32", group, 0), c.take) // the turn that nobody takes
	}
}

// withRegisters returns c with registers of its own for blocks of n keys: ptxas serializes wgmma (C7511) of
// several widths that share accumulators.
func (c *flashConsumer) withRegisters(n int) *flashConsumer {
	own := *c
	own.s, own.o, own.weights = many(n/2, c.f32), many(flashHead/2, c.f32), many(n/4, c.b32)
	for h := range own.rows {
		own.rows[h] = flashRow{c.f32(), c.f32()}
	}
	return &own
}

// oneBlock does an item of a sequence of at most n keys.
func (c *flashConsumer) oneBlock(n int, i flashItem) {
	c.firstKeys(n)
	c.lastValues(n, 0)
	c.write(i)
}

// blocks does an item of a sequence of any length.
func (c *flashConsumer) blocks(i flashItem) {
	added := c.pred() // values have been added
	c.do("setp.ne.u32", added, 0, 0)
	c.firstKeys(flashKeys)

	loop, tail, last := c.label("keys"), c.label("tail"), c.label("last")
	c.doIf(c.p("setp.le.u32", c.remaining, flashKeys), "bra.uni", last)
	c.bind(loop)
	c.do("sub.u32", c.remaining, c.remaining, flashKeys)
	c.take()
	c.scores(flashKeys)
	c.values(flashKeys, added)
	c.pass()
	c.do("wgmma.wait_group.sync.aligned", 1)
	c.release(c.keys)
	alpha := c.softmax(flashKeys, false)
	c.do("setp.eq.u32", added, 0, 0)
	// The end of the loop is in two parts since ptxas moves the exponentials behind the wait,
	// where nothing runs beside them, unless a branch is between.
	c.doIf(c.p("setp.le.u32", c.remaining, flashKeys), "bra.uni", tail)
	c.settle(alpha)
	c.do("bra.uni", loop)
	c.bind(tail)
	c.settle(alpha)

	c.bind(last)
	c.lastValues(flashKeys, added)
	c.write(i)
}

// firstKeys makes probabilities of the first n keys.
func (c *flashConsumer) firstKeys(n int) {
	c.take()
	c.scores(n)
	c.pass()
	c.do("wgmma.wait_group.sync.aligned", 0)
	c.release(c.keys)
	c.softmax(n, true)
	c.round(n)
}

// lastValues adds the products of the last block, of which n keys are worked on.
func (c *flashConsumer) lastValues(n int, added any) {
	c.release(c.queries)
	c.zeroValues(n)
	c.values(n, added)
	c.do("wgmma.wait_group.sync.aligned", 0)
	c.release(c.vals)
}

// take waits for this consumer's turn, pass gives it on. One alone has it always.
func (c *flashConsumer) take() {
	if c.consumers > 1 {
		c.do("bar.sync", c.turn, 2*warpgroup)
	}
}

func (c *flashConsumer) pass() {
	if c.consumers > 1 {
		c.do("bar.arrive", c.after, 2*warpgroup)
	}
}

// release tells the producer that this warp is done with the cursor's slot, and moves on.
func (c *flashConsumer) release(slot cursor) {
	c.doIf(c.firstLane, "mbarrier.arrive.shared::cta.b64", "_", at(c.barrier(slot.empty, slot), 0))
	c.next(slot)
}

// scores issues the products of the queries and the first n of the next block of keys.
func (c *flashConsumer) scores(n int) {
	c.wait(c.barrier(c.keys.full, c.keys), c.keys.parity)
	q := c.r("mad.lo.u32", c.queries.slot, c.queries.bytes>>4, c.q)
	k := c.descriptorLow(c.buffer(c.keys))
	c.do("wgmma.fence.sync.aligned")
	for step := range maxK16 {
		c.do(fmt.Sprintf("wgmma.mma_async.sync.aligned.m64n%dk16.f32.bf16.bf16", n), vec(c.s[:n/2]...),
			c.descriptor(q, step*kStep, kMajor), c.descriptor(k, step*kStep, kMajor), min(step, 1), 1, 1, 0, 0)
	}
	c.do("wgmma.commit_group.sync.aligned")
}

// values issues the products of the probabilities and the first n of the next block of values, which are
// added to o where added is true.
func (c *flashConsumer) values(n int, added any) {
	c.wait(c.barrier(c.vals.full, c.vals), c.vals.parity)
	v := c.descriptorLow(c.buffer(c.vals))
	c.do("wgmma.fence.sync.aligned")
	for step := range n / 16 {
		var scale any = 1
		if step == 0 {
			scale = added
		}
		c.do(fmt.Sprintf("wgmma.mma_async.sync.aligned.m64n%dk16.f32.bf16.bf16", flashHead), vec(c.o...),
			vec(c.weights[4*step:4*step+4]...), c.descriptor(v, step*mnStep, mnMajor), scale, 1, 1, 1)
	}
	c.do("wgmma.commit_group.sync.aligned")
}

// softmax turns the scores of n keys, of the first block or a later one, into probabilities. It returns
// what the sums of values of each row are to be multiplied by.
func (c *flashConsumer) softmax(n int, first bool) (alpha [2]reg) {
	c.mask(n)
	scale := c.spec.Scale * math.Log2E
	for h := range c.rows {
		r := c.rows[h]
		// The scores of a row are d[4j+2h] and d[4j+2h+1].
		score := func(i int) reg { return c.s[i/2*4+2*h+i%2] }
		largest := c.f("max.f32", score(0), score(1))
		for i := 2; i < n/4; i++ {
			c.do("max.f32", largest, largest, score(i))
		}
		if !first {
			c.do("max.f32", largest, largest, r.largest)
		}
		for _, distance := range []int{1, 2} {
			c.do("max.f32", largest, largest, c.f("shfl.sync.bfly.b32", largest, distance, 31, -1))
		}
		negScaled := c.f("mul.rn.f32", largest, -scale)
		if !first {
			alpha[h] = c.f("ex2.approx.ftz.f32", c.f("fma.rn.f32", r.largest, scale, negScaled))
		}
		c.do("mov.f32", r.largest, largest)
		for i := range n / 4 {
			x := score(i)
			c.do("fma.rn.f32", x, x, scale, negScaled)
			c.do("ex2.approx.ftz.f32", x, x)
		}
		// Two sums, so that additions do not wait for each other.
		sums := [2]reg{c.f("add.rn.f32", score(0), score(2)), c.f("add.rn.f32", score(1), score(3))}
		for i := 4; i < n/4; i++ {
			c.do("add.rn.f32", sums[i%2], sums[i%2], score(i))
		}
		total := c.f("add.rn.f32", sums[0], sums[1])
		if first {
			c.do("mov.f32", r.sum, total)
		} else {
			c.do("fma.rn.f32", r.sum, r.sum, alpha[h], total)
		}
	}
	return alpha
}

// settle waits for the values of the block before, multiplies their sums by alpha, and rounds the
// probabilities.
func (c *flashConsumer) settle(alpha [2]reg) {
	c.do("wgmma.wait_group.sync.aligned", 0)
	c.release(c.vals)
	for i, o := range c.o {
		c.do("mul.rn.f32", o, o, alpha[i/2%2])
	}
	c.round(flashKeys)
}

// round makes the probabilities of n keys factors of the values.
func (c *flashConsumer) round(n int) {
	for i, p := range c.weights[:n/4] {
		c.do("cvt.rn.bf16x2.f32", p, c.s[2*i+1], c.s[2*i])
	}
}

// mask sets the scores of keys beyond the sequence to −∞. There are none but in the last block.
func (c *flashConsumer) mask(n int) {
	whole := c.label("whole")
	c.doIf(c.p("setp.ge.u32", c.remaining, n), "bra.uni", whole)
	first := c.r("shl.b32", c.r("and.b32", c.lane, 3), 1)
	limit := c.r("sub.s32", c.remaining, first)
	for j := range n / 8 {
		for i := range 2 {
			beyond := c.p("setp.le.s32", limit, 8*j+i)
			for h := range 2 {
				s := c.s[4*j+2*h+i]
				c.do("selp.f32", s, math.Inf(-1), s, beyond)
			}
		}
	}
	c.bind(whole)
}

// zeroValues sets the values beyond the sequence, of the n of its last block, to zero. All consumers do a
// part, and wait for each other before wgmma reads them.
func (c *flashConsumer) zeroValues(n int) {
	whole, loop, zeroed := c.label("whole"), c.label("zero"), c.label("zeroed")
	c.doIf(c.p("setp.eq.u32", c.remaining, n), "bra.uni", whole)
	c.wait(c.barrier(c.vals.full, c.vals), c.vals.parity)
	buffer := c.buffer(c.vals)
	end := c.r("add.u32", buffer, n*swizzleRow)
	chunk := c.r("mad.lo.u32", c.remaining, swizzleRow, buffer)
	c.do("mad.lo.u32", chunk, c.r("sub.u32", c.tid, warpgroup), 16, chunk)
	zero := c.r("mov.u32", 0)
	c.bind(loop)
	c.doIf(c.p("setp.ge.u32", chunk, end), "bra", zeroed)
	c.do("st.shared.v4.b32", at(chunk, 0), vec(zero, zero, zero, zero))
	c.do("add.u32", chunk, chunk, c.consumers*warpgroup*16)
	c.do("bra", loop)
	c.bind(zeroed)
	c.do("fence.proxy.async.shared::cta")
	c.do("bar.sync", zeroBarrier, c.consumers*warpgroup)
	c.bind(whole)
}

// write divides by the sums and writes the rows that exist.
func (c *flashConsumer) write(i flashItem) {
	warp := c.r("shr.u32", c.r("sub.u32", c.tid, warpgroup), 5)
	inTile := c.r("mad.lo.u32", warp, 16, c.r("shr.u32", c.lane, 2))
	first := c.r("add.u32", i.row, inTile)
	quad := c.r("and.b32", c.lane, 3)
	for h, r := range c.rows {
		c.quadSum(r.sum)
		inverse := c.f("rcp.approx.ftz.f32", r.sum)
		row := c.r("add.u32", first, 8*h)
		query := c.r("div.u32", row, c.group)
		valid := c.p("setp.lt.u32", query, i.tokens)
		if c.item < c.padded() {
			valid = c.p("setp.lt.and.u32", inTile, c.item-8*h, valid)
		}
		head := c.r("mad.lo.u32", i.head, c.group, c.r("rem.u32", row, c.group))
		pitch := cuda.Pitch(c.spec.Heads*flashHead, true)
		dst := c.rd("mad.wide.u32", c.r("add.u32", i.start, query), pitch, c.dst)
		dst = c.rd("mad.wide.u32", c.r("mad.lo.u32", head, flashHead, c.r("shl.b32", quad, 3)), 2, dst)
		var words []reg // columns 8j+2·quad and the next
		for j := range flashHead / 8 {
			low, high := c.o[4*j+2*h], c.o[4*j+2*h+1]
			c.do("mul.rn.f32", low, low, inverse)
			c.do("mul.rn.f32", high, high, inverse)
			words = append(words, c.pack(low, high))
		}
		for j := 0; j < len(words); j += 4 {
			c.transpose(words[j : j+4])
			c.doIf(valid, "st.global.v4.b32", at(dst, 16*j), vec(words[j:j+4]...))
		}
	}
}

// transpose exchanges w[i] of thread q of a quad with w[q] of thread i.
func (c *flashConsumer) transpose(w []reg) {
	for _, bit := range []int{1, 2} {
		upper := c.p("setp.ne.u32", c.r("and.b32", c.lane, bit), 0)
		for i := range w {
			if i&bit != 0 {
				continue
			}
			// The upper threads give the lower word and the others the upper one.
			give := c.r("selp.b32", w[i], w[i|bit], upper)
			got := c.r("shfl.sync.bfly.b32", give, bit, 31, -1)
			c.do("selp.b32", w[i], got, w[i], upper)
			c.do("selp.b32", w[i|bit], w[i|bit], got, upper)
		}
	}
}
