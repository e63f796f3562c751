package ptx

import (
	"fmt"

	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the plumbing of the Hopper kernels: mbarriers, rings of buffers in shared memory,
// tensor copies (TMA), clusters, and the descriptors by which wgmma reads what a copy has put
// there. PTX ISA: "mbarrier", "cp.async.bulk.tensor", "Asynchronous Warpgroup Level Matrix
// Shared Memory Layout".

const (
	// swizzleRow is the bytes of a row of a tile whose 16-byte chunks are swizzled over 128 bytes,
	// and swizzleCols the bf16 elements of it. Eight rows are an atom, which tiles are aligned to.
	swizzleRow  = 128
	swizzleCols = swizzleRow / 2
	swizzleAtom = 8 * swizzleRow

	warpgroup = 128 // threads
)

// kMajor and mnMajor are the upper halves of descriptors of tiles of swizzled rows: the layout
// (bits 62–63) and the bytes between atoms (bits 32–45). In the first a row is along K, in the other
// along the rows of A or the columns of B, with 64 of them. lboOne is the stride that neither
// uses (bits 16–29), which is set to 1.
const (
	kMajor  = 1<<30 | swizzleAtom>>4
	mnMajor = kMajor
	lboOne  = 1 << 16
)

// Steps of K, 16 of them, in units of the address of a descriptor, which is in 16 bytes.
const (
	kStep  = 16 * 2 >> 4          // along the row
	mnStep = 16 * swizzleRow / 16 // 16 rows on
	maxK16 = swizzleCols / 16     // steps in a row
)

// shared returns the address of the dynamic shared memory, rounded up to an atom: the driver
// promises no more than 16 bytes. A launch asks for sharedSlack bytes more.
func (e *entry) shared() reg {
	base := e.r("mov.u32", "smem")
	return e.r("and.b32", e.r("add.u32", base, swizzleAtom-1), -swizzleAtom)
}

const sharedSlack = swizzleAtom

// ring is a ring of buffers in shared memory between copies and the warps that read them. Barrier
// full of a slot completes when its bytes have arrived, barrier empty when all readers are done.
type ring struct {
	slots, bytes int
	full, empty  reg // addresses of the barriers of slot 0, one a slot
	data         reg // address of slot 0
}

// barriers is the bytes of the barriers of a ring.
func (r ring) barriers() int { return 2 * 8 * r.slots }

// layout places rings behind each other: all barriers in the first atom, then the data.
// It returns the bytes that they take.
func (e *entry) layout(base reg, rings ...*ring) int {
	barriers, data := 0, swizzleAtom
	for _, r := range rings {
		r.full = e.r("add.u32", base, barriers)
		r.empty = e.r("add.u32", base, barriers+8*r.slots)
		r.data = e.r("add.u32", base, data)
		barriers += r.barriers()
		data += r.slots * r.bytes
	}
	return data
}

// initBarriers sets the barriers of rings up: one arrival, that of the producer, fills a slot,
// readers arrivals empty it.
func (e *entry) initBarriers(r *ring, readers int) {
	for i := range r.slots {
		e.do("mbarrier.init.shared::cta.b64", at(r.full, 8*i), 1)
		e.do("mbarrier.init.shared::cta.b64", at(r.empty, 8*i), readers)
	}
}

// zeroRows sets rows from..to of every slot of a ring, which no copy writes, to zero. All threads do a
// part; a barrier must follow.
func (e *entry) zeroRows(r ring, from, to int, tid reg) {
	if from == to {
		return
	}
	const chunk = 16
	zero := e.r("mov.u32", 0)
	for slot := range r.slots {
		p := e.r("mad.lo.u32", tid, chunk, e.r("add.u32", r.data, slot*r.bytes+from*swizzleRow))
		e.loop(p, e.r("add.u32", r.data, slot*r.bytes+to*swizzleRow), e.threads*chunk, func() {
			e.do("st.shared.v4.b32", at(p, 0), vec(zero, zero, zero, zero))
		})
	}
	e.do("fence.proxy.async.shared::cta")
}

// cursor is a place in a ring: the slot and the parity of its turn.
type cursor struct {
	*ring
	slot, parity reg
}

// begin returns the cursor at slot 0. A producer finds all slots empty: the phase before the first
// has parity 1.
func (e *entry) begin(r *ring, producer bool) cursor {
	parity := 0
	if producer {
		parity = 1
	}
	return cursor{r, e.r("mov.u32", 0), e.r("mov.u32", parity)}
}

// next moves the cursor on.
func (e *entry) next(c cursor) {
	if c.slots == 1 {
		e.do("xor.b32", c.parity, c.parity, 1)
		return
	}
	e.do("add.u32", c.slot, c.slot, 1)
	wrap := e.p("setp.eq.u32", c.slot, c.slots)
	e.doIf(wrap, "mov.u32", c.slot, 0)
	e.doIf(wrap, "xor.b32", c.parity, c.parity, 1)
}

// barrier returns the address of the barrier of the cursor's slot in a row of barriers.
func (e *entry) barrier(of reg, c cursor) reg { return e.r("mad.lo.u32", c.slot, 8, of) }

// buffer returns the address of the cursor's slot.
func (e *entry) buffer(c cursor) reg { return e.r("mad.lo.u32", c.slot, c.bytes, c.data) }

// wait spins until the phase of that parity of a barrier is complete.
func (e *entry) wait(barrier, parity reg) {
	loop, done := e.label("wait"), e.pred()
	e.bind(loop)
	e.do("mbarrier.try_wait.parity.shared::cta.b64", done, at(barrier, 0), parity)
	e.doUnless(done, "bra", loop)
}

// copyBox copies the box of a tensor map at coordinates, innermost first, to shared memory, and
// counts its bytes at a barrier. Elements outside of the tensor become zeros and are counted too.
// A mask other than nil makes it copy to the same place in all CTAs of the mask.
func (e *entry) copyBox(dst, tensor, barrier reg, mask any, coords ...reg) {
	op := fmt.Sprintf("cp.async.bulk.tensor.%dd.shared::cluster.global.mbarrier::complete_tx::bytes", len(coords))
	operands := []any{at(dst, 0), "[" + string(tensor) + ", " + vec(coords...) + "]", at(barrier, 0)}
	if mask != nil {
		op += ".multicast::cluster"
		operands = append(operands, mask)
	}
	e.do(op, operands...)
}

// prefetchBox fetches the box of a tensor map into the second-level cache.
func (e *entry) prefetchBox(tensor reg, coords ...reg) {
	e.do(fmt.Sprintf("cp.async.bulk.prefetch.tensor.%dd.L2.global", len(coords)), "["+string(tensor)+", "+vec(coords...)+"]")
}

// descriptor returns that of a tile whose address, in units of 16 bytes and with lboOne, is low.
func (e *entry) descriptor(low reg, step, high int) reg {
	if step > 0 {
		low = e.r("add.u32", low, step)
	}
	return e.rd("mov.b64", vec(low, e.r("mov.u32", high)))
}

// descriptorLow returns the lower half of the descriptor of a tile.
func (e *entry) descriptorLow(address reg) reg {
	return e.r("or.b32", e.r("shr.u32", address, 4), lboOne)
}

// mapParam declares a tensor map of swizzled boxes.
func (e *entry) mapParam(p cuda.Param) reg {
	p.Swizzle = swizzleRow
	return e.param(p)
}
