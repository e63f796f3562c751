package ptx

import (
	"fmt"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the matmul on wgmma: who does what in a CTA, the order of tiles, and the loop over
// K. wgmma_epilogue.go has what follows, kernel/wgmma.go the choice of tiles.
//
// A CTA is a warpgroup whose first thread issues the copies and one warpgroup of consumers for each
// 64 rows of the tile. CTAs are persistent: the copies of the next tile run under the epilogue of
// this one. The CTAs of a cluster work on tiles of the same weights and different rows; each copies
// its share of the weights to all of them. A tile of fewer than 64 rows is one for small batches: a
// warpgroup multiplies 64 rows, of which the last are zeros, and the copies bring only those of the tile.
//
// Sums over K have one accumulator and go in steps of 16 from the start, whatever the tile.

// Registers of a thread: the producer gives up what the consumers take (PTX ISA, "setmaxnreg"). With two
// consumers the CTA has 3·168, with one and another CTA beside it 2·128.
const producerRegs = 40

var consumerRegs = [...]int{1: 216, 2: 232}

// bandRows is how many rows of A are multiplied by all weights before the next ones: with K = 1536
// they are 6 MB of the 50 MB of the second-level cache, which the weights pass by.
const bandRows = 2048

// wgmmaTile is the tile of a CTA, rows × rows of the weight matrix, its stages and its cluster, and of how
// many steps the weights are fetched before the launch ahead has ended.
type wgmmaTile struct{ m, n, stages, cluster, ahead int }

func newWgmmaTile(s kernel.Spec, p kernel.Plan) wgmmaTile {
	return wgmmaTile{m: p.MicroM, n: p.MicroN, stages: p.BlockN, cluster: p.BlockM / p.MicroM, ahead: kernel.WgmmaAhead(s, p)}
}

// A CTA has a consumer for each 64 rows or part of them. padded is the rows that they multiply.
func (t wgmmaTile) consumers() int { return ceilDiv(t.m, 64) }
func (t wgmmaTile) padded() int    { return 64 * t.consumers() }

// stageBytes are those of a step of 64 of K: rows of A, then of B. copiedBytes are those of them that
// are copied.
func (t wgmmaTile) stageBytes() int  { return (t.padded() + t.n) * swizzleRow }
func (t wgmmaTile) copiedBytes() int { return (t.m + t.n) * swizzleRow }

// wgmmaGemm writes the entry of one tile.
type wgmmaGemm struct {
	*entry
	wgmmaTile
	spec  kernel.Spec
	order cuda.Order

	a, b, rows reg // maps of A and B, address of the number of rows
	operands   epilogueOperands
	rank       reg // in the cluster
	count      reg // of rows
	ring       ring
}

// weightOrder is the order of the weights of a matmul on wgmma. Logits keep that of the panels: rows
// of f32 fill sectors as they are, and the table stays shared with the gather.
func weightOrder(s kernel.Spec) cuda.Order {
	switch {
	case s.Epilogue.Has(kernel.Rope):
		return cuda.Order{Head: s.HeadDim}
	case s.Out == ir.F32 && !s.Epilogue.Has(kernel.Residual):
		return cuda.Order{}
	}
	return cuda.Order{Quads: true}
}

// wgmmaGemms returns the variants of a matmul.
func wgmmaGemms(symbol string, k kernel.Kernel) []variant {
	var out []variant
	for i, v := range kernel.WgmmaVariants(k.Spec, k.Plan) {
		out = append(out, variant{v.MaxRows, []part{newWgmmaGemm(fmt.Sprintf("%s_%d", symbol, i), k.Spec, newWgmmaTile(k.Spec, v.Plan))}})
	}
	return out
}

// newWgmmaGemm writes the entry of tile t, whose name says cluster and tile, and returns it with its
// launch.
func newWgmmaGemm(symbol string, s kernel.Spec, t wgmmaTile) part {
	g := &wgmmaGemm{
		entry:     newEntry(fmt.Sprintf("%s_%dx%dx%d", symbol, t.cluster, t.m, t.n), (1+t.consumers())*warpgroup),
		wgmmaTile: t, spec: s, order: weightOrder(s),
	}
	g.minCTAs = 1
	if t.consumers() == 1 {
		g.minCTAs = 2 // of this launch, or of this and the next
	}
	source := cuda.Param{Kind: cuda.ParamMap, Operand: cuda.OperandSrc, Box: []int{swizzleCols, t.m}}
	if s.In == ir.F32 {
		source.Kind = cuda.ParamShadowMap
	}
	g.a = g.mapParam(source)
	g.b = g.mapParam(cuda.Param{Kind: cuda.ParamMap, Operand: cuda.OperandW, Box: []int{swizzleCols, t.n / t.cluster}, Order: g.order})
	g.rows = g.param(cuda.Param{Kind: cuda.ParamRows})
	g.operands = g.declareEpilogue()

	base := g.shared()
	g.ring = ring{slots: t.stages, bytes: t.stageBytes()}
	used := g.layout(base, &g.ring)
	if t.cluster > 1 {
		g.rank = g.r("mov.u32", "%cluster_ctarank")
	}
	tid := g.r("mov.u32", "%tid.x")
	work, done := g.label("work"), g.label("done")
	g.doIf(g.p("setp.ne.u32", tid, 0), "bra", work)
	g.do("prefetch.tensormap", at(g.a, 0))
	g.do("prefetch.tensormap", at(g.b, 0))
	g.initBarriers(&g.ring, t.cluster*t.consumers()*4)
	g.do("fence.mbarrier_init.release.cluster")
	g.bind(work)
	g.zeroRows(g.ring, t.m, t.padded(), tid)
	g.sync()

	consume := g.label("consume")
	g.doIf(g.p("setp.ge.u32", tid, warpgroup), "bra", consume)
	g.do("setmaxnreg.dec.sync.aligned.u32", producerRegs)
	g.doIf(g.p("setp.ne.u32", tid, 0), "bra", done)
	g.do("griddepcontrol.launch_dependents")
	g.produce()
	g.do("bra", done)
	g.bind(consume)
	g.do("setmaxnreg.inc.sync.aligned.u32", consumerRegs[t.consumers()])
	g.do("griddepcontrol.wait")
	g.consume(tid)
	g.bind(done)
	if t.cluster > 1 {
		// The shared memory of a CTA must outlive the copies and arrivals of the others.
		g.do("barrier.cluster.arrive.release")
		g.do("barrier.cluster.wait.acquire")
	}
	g.do("ret")

	l := g.launch(used+sharedSlack, t.cluster,
		cuda.Grid{Kind: cuda.GridTiles, TileM: t.m, TileN: t.n, N: s.WeightRows(), Persistent: true})
	l.Dependent = true
	return part{g.entry, l}
}

// sync waits for all threads of the CTA, or of the cluster.
func (g *wgmmaGemm) sync() {
	if g.cluster == 1 {
		g.do("bar.sync", 0)
		return
	}
	g.do("barrier.cluster.arrive.release")
	g.do("barrier.cluster.wait.acquire")
}

// eachTile writes the loop over the tiles of this CTA; do gets the first row and column. Clusters
// take tiles in turn. A band of rows is done column by column.
func (g *wgmmaGemm) eachTile(do func(row, col reg)) {
	tile, step := g.r("mov.u32", "%ctaid.x"), g.r("mov.u32", "%nctaid.x")
	if g.cluster > 1 {
		tile, step = g.r("div.u32", tile, g.cluster), g.r("div.u32", step, g.cluster)
	}
	g.count = g.r("ld.global.u32", at(g.rows, 0))
	height := g.m * g.cluster
	blocks := g.r("div.u32", g.r("add.u32", g.count, height-1), height)
	columns := (g.spec.WeightRows() + g.n - 1) / g.n
	tiles := g.r("mul.lo.u32", blocks, columns)
	loop, end := g.label("tile"), g.label("tiles")
	g.bind(loop)
	g.doIf(g.p("setp.ge.u32", tile, tiles), "bra", end)

	band := bandRows / height
	first := g.r("mul.lo.u32", g.r("div.u32", tile, band*columns), band)
	within := g.r("rem.u32", tile, band*columns)
	size := g.r("min.u32", g.r("sub.u32", blocks, first), band)
	column := g.r("div.u32", within, size)
	block := g.r("add.u32", first, g.r("rem.u32", within, size))
	if g.cluster > 1 {
		block = g.r("mad.lo.u32", block, g.cluster, g.rank)
	}
	do(g.r("mul.lo.u32", block, g.m), g.r("mul.lo.u32", column, g.n))

	g.do("add.u32", tile, tile, step)
	g.do("bra", loop)
	g.bind(end)
}

// steps is how many stages a tile takes.
func (g *wgmmaGemm) steps() int { return (g.spec.K + swizzleCols - 1) / swizzleCols }

// produce writes the work of the thread that issues the copies. Weights do not depend on the launch
// before, so those of the first stages are under way before it has ended, and those of the steps up to
// ahead are fetched into the second-level cache.
func (g *wgmmaGemm) produce() {
	c := g.begin(&g.ring, true)
	var mask, share, shareAt reg
	if g.cluster > 1 {
		mask = g.b16()
		g.do("mov.b16", mask, 1<<g.cluster-1)
		share = g.r("mul.lo.u32", g.rank, g.n/g.cluster)
		shareAt = g.r("mad.lo.u32", share, swizzleRow, g.padded()*swizzleRow)
	}
	expect := func(full reg) {
		g.do("mbarrier.arrive.expect_tx.shared::cta.b64", "_", at(full, 0), g.copiedBytes())
	}
	weights := func(slot, full, k, col reg) {
		if g.cluster > 1 {
			g.copyBox(g.r("add.u32", slot, shareAt), g.b, full, mask, k, col)
		} else {
			g.copyBox(g.r("add.u32", slot, g.padded()*swizzleRow), g.b, full, nil, k, col)
		}
	}
	first := g.r("mov.u32", 1)
	begun := g.r("mov.u32", 0) // stages whose weights are under way
	g.eachTile(func(row, col reg) {
		if g.cluster > 1 {
			col = g.r("add.u32", col, share)
		}
		g.when(g.p("setp.ne.u32", first, 0), func() {
			g.do("mov.u32", begun, min(g.stages, g.steps()))
			for i := range min(g.stages, g.steps()) {
				full := g.r("add.u32", g.ring.full, 8*i)
				expect(full)
				weights(g.r("add.u32", g.ring.data, i*g.stageBytes()), full, g.r("mov.u32", i*swizzleCols), col)
			}
			if g.ahead > g.stages {
				k := g.r("mov.u32", g.stages*swizzleCols)
				g.loop(k, g.ahead*swizzleCols, swizzleCols, func() { g.prefetchBox(g.b, k, col) })
			}
			g.do("griddepcontrol.wait")
			g.do("mov.u32", first, 0)
		})
		k := g.r("mov.u32", 0)
		g.loop(k, g.steps()*swizzleCols, swizzleCols, func() {
			full, slot := g.barrier(g.ring.full, c), g.buffer(c)
			whole := g.p("setp.eq.u32", begun, 0)
			g.when(whole, func() {
				g.wait(g.barrier(g.ring.empty, c), c.parity)
				expect(full)
				weights(slot, full, k, col)
			})
			g.doUnless(whole, "sub.u32", begun, begun, 1)
			g.copyBox(slot, g.a, full, nil, k, row)
			g.next(c)
		})
	})
}

// consume writes the work of a warpgroup: 64 rows of each tile.
func (g *wgmmaGemm) consume(tid reg) {
	c := g.begin(&g.ring, false)
	lane := g.r("and.b32", tid, 31)
	group := g.r("sub.u32", g.r("shr.u32", tid, 7), 1)
	// Row of the tile of the thread's first accumulators; the others are 8 rows below.
	inTile := g.r("mad.lo.u32", g.r("shr.u32", g.r("sub.u32", tid, warpgroup), 5), 16, g.r("shr.u32", lane, 2))
	quad := g.r("and.b32", lane, 3)

	a := g.descriptorLow(g.r("mad.lo.u32", group, 64*swizzleRow, g.ring.data))
	b := g.descriptorLow(g.r("add.u32", g.ring.data, g.padded()*swizzleRow))
	// One lane of a warp arrives for each CTA of the cluster: its copies went there too.
	releases := g.p("setp.lt.u32", lane, g.cluster)
	empty := g.ring.empty
	if g.cluster > 1 {
		empty = g.r("mapa.shared::cluster.u32", empty, g.r("min.u32", lane, g.cluster-1))
	}
	release := func(p, slot reg) {
		op := "mbarrier.arrive.shared::cta.b64"
		if g.cluster > 1 {
			// Not .release.cluster, for which ptxas puts a fence of the whole GPU into the loop: wgmma has
			// read, and nothing was written.
			op = "mbarrier.arrive.shared::cluster.b64"
		}
		g.doIf(p, op, "_", at(g.r("mad.lo.u32", slot, 8, empty), 0))
	}
	acc := many(g.n/2, g.f32)
	before := g.r("mov.u32", 0) // the slot of the step before

	g.eachTile(func(row, col reg) {
		step := g.r("mov.u32", 0)
		loop := g.label("multiply")
		g.bind(loop)
		g.wait(g.barrier(g.ring.full, c), c.parity)
		later := g.p("setp.ne.u32", step, 0)
		lowA := g.r("mad.lo.u32", c.slot, g.stageBytes()>>4, a)
		lowB := g.r("mad.lo.u32", c.slot, g.stageBytes()>>4, b)
		g.do("wgmma.fence.sync.aligned")
		for k := range maxK16 {
			var scale any = 1
			if k == 0 {
				scale = later
			}
			g.do(fmt.Sprintf("wgmma.mma_async.sync.aligned.m64n%dk16.f32.bf16.bf16", g.n), vec(acc...),
				g.descriptor(lowA, k*kStep, kMajor), g.descriptor(lowB, k*kStep, kMajor), scale, 1, 1, 0, 0)
		}
		g.do("wgmma.commit_group.sync.aligned")
		// The products of the step before are done, so its slot is free.
		g.do("wgmma.wait_group.sync.aligned", 1)
		release(g.p("setp.ne.and.u32", step, 0, releases), before)
		g.do("mov.u32", before, c.slot)
		g.next(c)
		g.do("add.u32", step, step, 1)
		g.doIf(g.p("setp.lt.u32", step, g.steps()), "bra", loop)

		x := g.tileOperands(row, inTile, col, quad)
		g.do("wgmma.wait_group.sync.aligned", 0)
		release(releases, before)
		x.epilogue(acc)
	})
}
