package emu

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// This file owns what warps do together: named barriers, mbarriers, cluster barriers, fences,
// shuffles and votes, and the register pool.

var synchronization = map[string]func(*decoder){
	"bar": decodeBar, "barrier": decodeBar, "mbarrier": decodeMbarrier, "fence": decodeFence, "membar": decodeMembar,
	"shfl": decodeShfl, "vote": decodeVote, "redux": decodeRedux, "elect": decodeElect, "activemask": decodeActivemask,
	"setmaxnreg": decodeSetmaxnreg, "nanosleep": decodeNanosleep, "griddepcontrol": decodeGriddep,
	"mapa": decodeMapa, "getctarank": decodeGetctarank,
}

// uniform returns the value of a register that must be equal in all lanes of m.
func (w *warp) uniform(r int32, m uint32, what string) uint64 {
	v := w.reg(r)
	first := v[bits.TrailingZeros32(m)]
	for rest := m; rest != 0; rest &= rest - 1 {
		if l := bits.TrailingZeros32(rest); v[l] != first {
			w.fail(Operand, "%s is %d in one lane and %d in another", what, first, v[l])
		}
	}
	return first
}

// Named barriers.

// barPhase is one use of a named barrier, from the first arrival to the last.
type barPhase struct {
	done bool
	know clocks
	line int
}

type namedBarrier struct {
	phase    *barPhase
	expected int // threads
	arrived  int
}

func decodeBar(d *decoder) {
	if d.has("cluster") {
		d.clusterBarrier()
		return
	}
	if d.has("warp") {
		d.has("sync")
		d.done()
		d.arity(1, 1)
		d.in.a = d.src(0, "b32")
		d.in.run = func(w *warp, in *instr, m uint32) action { return w.members(in.a, m) }
		return
	}
	d.ignore("cta", "aligned")
	arrive := d.has("arrive")
	if !arrive && !d.has("sync") {
		d.fail("a barrier without .sync or .arrive")
	}
	d.done()
	d.arity(1, 2)
	in := d.in
	in.aligned = true
	in.a = d.src(0, "b32")
	if len(d.st.args) == 2 {
		in.b = d.src(1, "b32")
	} else if arrive {
		d.fail("an arrive without a number of threads")
	}
	in.run = func(w *warp, in *instr, m uint32) action { return w.barrier(in, m, arrive) }
}

func (w *warp) barrier(in *instr, m uint32, arriveOnly bool) action {
	g := &w.groups[w.cur]
	if p := g.token; p != nil {
		g.token = nil
		w.acquire(&p.know)
		return actNext
	}
	id := w.uniform(in.a, m, "the barrier")
	if id >= 16 {
		w.fail(Barrier, "barrier %d, a CTA has 16", id)
	}
	all := 32 * len(w.cta.warps)
	n := all
	if in.b >= 0 {
		n = int(w.uniform(in.b, m, "the number of threads"))
	}
	switch {
	case n%32 != 0 || n == 0:
		w.fail(Barrier, "%d threads at barrier %d, which is not a number of whole warps", n, id)
	case n > all:
		w.fail(Barrier, "%d threads at barrier %d, the CTA has %d", n, id, all)
	case n == all && w.cta.live < len(w.cta.warps):
		w.fail(Barrier, "barrier %d is for all %d threads, but %d warps have exited", id, n, len(w.cta.warps)-w.cta.live)
	}
	b := &w.cta.bars[id]
	if b.phase == nil {
		b.phase = &barPhase{know: newClocks(w.cta.cluster.ents), line: in.line}
		b.expected, b.arrived = n, 0
	}
	if b.expected != n {
		w.fail(Barrier, "%d threads at barrier %d, the warp that came in line %d said %d", n, id, b.phase.line, b.expected)
	}
	p := b.phase
	w.release(&p.know)
	b.arrived += 32
	if b.arrived == b.expected {
		p.done = true
		b.phase = nil
		w.sim.progress()
		if !arriveOnly {
			w.acquire(&p.know)
		}
		return actNext
	}
	if arriveOnly {
		w.sim.progress()
		return actNext
	}
	g.token = p
	return w.waitFor(func() string {
		return fmt.Sprintf("barrier %d: %d of %d threads are there", id, b.arrived, b.expected)
	}, func() bool { return p.done })
}

// Cluster barriers.

type clusterBarrier struct {
	phase   int
	arrived int // warps
	next    clocks
	done    clocks
}

func (cl *cluster) checkBarrier(s *sim) {
	b := &cl.bar
	if b.arrived > 0 && b.arrived >= cl.warps {
		b.phase++
		b.arrived = 0
		b.done = clocks{slices.Clone(b.next.clock), slices.Clone(b.next.proxy)}
		s.progress()
	}
}

func (d *decoder) clusterBarrier() {
	arrive := d.has("arrive")
	if !arrive && !d.has("wait") {
		d.fail("barrier.cluster without .arrive or .wait")
	}
	relaxed := d.has("relaxed")
	d.ignore("release", "acquire")
	d.in.aligned = true
	d.has("aligned")
	d.done()
	d.arity(0, 0)
	if arrive {
		d.in.run = func(w *warp, in *instr, m uint32) action {
			b := &w.cta.cluster.bar
			if w.clusterWait > 0 {
				w.fail(Barrier, "a second arrive at the cluster barrier without a wait")
			}
			if b.next.clock == nil {
				b.next = newClocks(w.cta.cluster.ents)
			}
			if relaxed {
				w.clock[w.ent()]++
			} else {
				w.release(&b.next)
			}
			w.clusterWait = b.phase + 1
			b.arrived++
			w.cta.cluster.checkBarrier(w.sim)
			return actNext
		}
		return
	}
	d.in.run = func(w *warp, in *instr, m uint32) action {
		b := &w.cta.cluster.bar
		if w.clusterWait == 0 {
			w.fail(Barrier, "waits at the cluster barrier without an arrive")
		}
		if b.phase < w.clusterWait {
			return w.waitFor(func() string {
				return fmt.Sprintf("the cluster barrier: %d of %d warps are there", b.arrived, w.cta.cluster.warps)
			}, func() bool { return b.phase >= w.clusterWait })
		}
		w.clusterWait = 0
		w.acquire(&b.done)
		return actNext
	}
}

// mbarriers.

// maxTx is the limit of the tx-count (PTX ISA, "mbarrier Contents": −(2^20−1) to 2^20−1).
const maxTx = 1<<20 - 1

type mbarrier struct {
	cta      *cta
	off      int
	line     int // of its init
	phase    int // completed phases
	expected int
	pending  int
	tx       int
	next     clocks // of arrivals
	done     clocks // of completed phases
	ent      int    // of the bulk copies that complete here
	clk      uint32 // and their clock
}

func (b *mbarrier) String() string {
	return fmt.Sprintf("the mbarrier at %#x of CTA %d (initialised in line %d): parity %d, %d of %d arrivals pending, tx-count %d",
		b.off+sharedBase, b.cta.index, b.line, b.phase&1, b.pending, b.expected, b.tx)
}

func (b *mbarrier) check() {
	if b.pending == 0 && b.tx == 0 {
		b.phase++
		b.pending = b.expected
		b.done.clock.join(b.next.clock)
		b.done.proxy.join(b.next.proxy)
	}
	b.cta.sim.progress()
}

// expectTx and completeTx change the tx-count; fail reports.
func (b *mbarrier) addTx(n int, fail func(kind Kind, format string, args ...any)) {
	b.tx += n
	if b.tx > maxTx || b.tx < -maxTx {
		fail(TxCount, "%s: the tx-count is beyond ±%d", b, maxTx)
	}
	b.check()
}

func (b *mbarrier) arrive(w *warp, n int) {
	if n > b.pending {
		w.fail(Barrier, "%d arrivals too many at %s", n-b.pending, b)
	}
	b.pending -= n
	b.check()
}

// mbarrier finds the mbarrier at an address and notes that the warp used it.
func (w *warp) mbarrier(addr uint64, sp space) *mbarrier {
	if addr&7 != 0 {
		w.fail(Misaligned, "address %#x of an mbarrier", addr)
	}
	if sp == spaceGeneric {
		if addr < sharedWindow {
			w.fail(OutOfBounds, "address %#x of an mbarrier is not in shared memory", addr)
		}
		addr -= sharedWindow
	}
	c, off := w.resolve(addr, 8, sp != spaceShared)
	b := c.mbars[uint32(off)]
	if b == nil {
		w.fail(Barrier, "no mbarrier was initialised at %#x of CTA %d", off+sharedBase, c.index)
	}
	a := w.actor()
	c.touch(&a, off, 8, false)
	return b
}

func decodeMbarrier(d *decoder) {
	if len(d.mods) == 0 {
		d.fail("mbarrier without an operation")
	}
	op := d.mods[0]
	d.mods = d.mods[1:]
	relaxed := d.has("relaxed")
	d.ignore("release", "acquire", "cta", "cluster", "b64")
	expect := op == "arrive" && d.has("expect_tx") || op == "arrive_drop" && d.has("expect_tx")
	parity := (op == "test_wait" || op == "try_wait") && d.has("parity")
	s := d.space()
	d.done()
	in := d.in
	each := func(f func(w *warp, addr uint64, l int)) runner {
		return func(w *warp, in *instr, m uint32) action {
			base := *w.reg(in.a)
			all := m
			for rest := m; rest != 0; rest &= rest - 1 {
				l := bits.TrailingZeros32(rest)
				w.mask = 1 << l
				f(w, base[l]+uint64(in.off), l)
			}
			w.mask = all
			return actNext
		}
	}
	switch op {
	case "init":
		d.arity(2, 2)
		in.a, in.off = d.address(0)
		in.b = d.src(1, "b32")
		in.run = each(func(w *warp, addr uint64, l int) { w.initMbarrier(addr, s, w.reg(in.b)[l]) })
	case "inval":
		d.arity(1, 1)
		in.a, in.off = d.address(0)
		in.run = each(func(w *warp, addr uint64, l int) {
			b := w.mbarrier(addr, s)
			a := w.actor()
			b.cta.touch(&a, b.off, 8, true)
			delete(b.cta.mbars, uint32(b.off))
			clear(b.cta.state[b.off : b.off+8])
		})
	case "arrive", "arrive_drop":
		d.arity(2, 3)
		if d.arg(0).kind != opSink {
			in.d = d.dst(0, "b64")
		}
		in.a, in.off = d.address(1)
		if len(d.st.args) == 3 {
			in.b = d.src(2, "b32")
		} else if expect {
			d.fail("expect_tx without a number of bytes")
		}
		in.run = each(func(w *warp, addr uint64, l int) {
			b := w.mbarrier(addr, s)
			if in.d >= 0 {
				w.reg(in.d)[l] = uint64(b.phase)
			}
			n := 1
			if in.b >= 0 && !expect {
				n = int(w.reg(in.b)[l])
			}
			if !relaxed {
				w.releaseLater(&b.next)
			}
			if expect {
				b.tx += int(int32(w.reg(in.b)[l]))
				if b.tx > maxTx {
					w.fail(TxCount, "%s: the tx-count is beyond %d", b, maxTx)
				}
			}
			if op == "arrive_drop" {
				b.expected -= n
			}
			b.arrive(w, n)
		})
		each := in.run
		in.run = func(w *warp, in *instr, m uint32) action {
			a := each(w, in, m)
			w.clock[w.ent()]++
			return a
		}
	case "expect_tx", "complete_tx":
		d.arity(2, 2)
		in.a, in.off = d.address(0)
		in.b = d.src(1, "b32")
		in.run = each(func(w *warp, addr uint64, l int) {
			n := int(int32(w.reg(in.b)[l]))
			if op == "complete_tx" {
				n = -n
			}
			w.mbarrier(addr, s).addTx(n, w.fail)
		})
	case "test_wait", "try_wait":
		d.arity(3, 4)
		d.predDst(0)
		in.a, in.off = d.address(1)
		if parity {
			in.b = d.src(2, "b32")
		} else {
			in.b = d.src(2, "b64")
		}
		if len(d.st.args) == 4 {
			d.src(3, "b32")
		}
		try := op == "try_wait"
		in.run = func(w *warp, in *instr, m uint32) action { return w.waitMbarrier(in, m, s, parity, try) }
	}
}

// releaseLater is release without the new epoch, which the caller begins.
func (w *warp) releaseLater(to *clocks) {
	to.clock.join(w.clock)
	to.proxy.join(w.proxy)
}

func (w *warp) initMbarrier(addr uint64, s space, count uint64) {
	if addr&7 != 0 {
		w.fail(Misaligned, "address %#x of an mbarrier", addr)
	}
	if s == spaceGeneric {
		addr -= sharedWindow
	}
	c, off := w.resolve(addr, 8, false)
	if c.mbars[uint32(off)] != nil {
		w.fail(Barrier, "the mbarrier at %#x is initialised twice (first in line %d)", addr, c.mbars[uint32(off)].line)
	}
	if count < 1 || count > maxTx {
		w.fail(Barrier, "an mbarrier for %d arrivals, the limits are 1 and %d", count, maxTx)
	}
	a := w.actor()
	c.touch(&a, off, 8, true)
	for i := range 8 {
		c.state[off+i] = byteBarrier
	}
	n := c.cluster.ents
	c.mbars[uint32(off)] = &mbarrier{cta: c, off: off, line: w.in.line, expected: int(count), pending: int(count), next: newClocks(n), done: newClocks(n), ent: c.barrierEnt(c.barriers)}
	c.barriers++
}

// waitMbarrier is test_wait and try_wait. try_wait blocks until the phase is complete, but sometimes
// says without need that it is not, as the hardware may.
func (w *warp) waitMbarrier(in *instr, m uint32, s space, parity, try bool) action {
	complete := func(l int) (*mbarrier, bool) {
		b := w.mbarrier(w.reg(in.a)[l]+uint64(in.off), s)
		v := w.reg(in.b)[l]
		if parity {
			if v > 1 {
				w.fail(Operand, "a phase parity of %d", v)
			}
			return b, uint64(b.phase&1) != v
		}
		return b, uint64(b.phase) != v
	}
	var v uint32
	var first *mbarrier
	for rest := m; rest != 0; rest &= rest - 1 {
		l := bits.TrailingZeros32(rest)
		b, ok := complete(l)
		if ok {
			v |= 1 << l
			w.acquire(&b.done)
		} else if first == nil {
			first = b
		}
	}
	g := &w.groups[w.cur]
	if try && v == 0 && (g.tried || w.sim.rng.next()&15 != 0) {
		g.tried = true
		phase := first.phase
		return w.waitFor(first.String, func() bool { return first.phase != phase })
	}
	g.tried = false
	w.setPreds(in, v, m)
	return actNext
}

// Fences.

// fenceProxy makes everything that happened before visible to the async proxy.
func (w *warp) fenceProxy() {
	w.proxy.join(w.clock)
	w.clock[w.ent()]++
}

func decodeFence(d *decoder) {
	nop := func(w *warp, in *instr, m uint32) action { return actNext }
	d.arity(0, 4)
	switch {
	case d.has("proxy"):
		for _, m := range d.mods {
			if name, sub, _ := strings.Cut(m, "::"); name == "tensormap" || sub == "generic" {
				d.in.run = nop
				return
			}
		}
		if d.has("alias") {
			d.in.run = nop
			return
		}
		if !d.has("async") {
			d.fail("the emulator does not know this proxy")
		}
		if s := d.space(); s == spaceGlobal {
			d.done()
			d.in.run = nop
			return
		}
		d.done()
		d.in.run = func(w *warp, in *instr, m uint32) action { w.fenceProxy(); return actNext }
	case d.has("mbarrier_init"):
		if !d.has("release") || !d.has("cluster") {
			d.fail("fence.mbarrier_init is .release.cluster")
		}
		d.done()
		d.in.run = nop
	default:
		d.ignore("acq_rel", "sc", "acquire", "release")
		gpu := d.has("gpu") || d.has("sys")
		d.ignore("cta", "cluster")
		d.done()
		d.in.run = fenceRun(gpu)
	}
}

func fenceRun(gpu bool) runner {
	return func(w *warp, in *instr, m uint32) action {
		if gpu {
			w.cta.cluster.acquired = true
		}
		return actNext
	}
}

func decodeMembar(d *decoder) {
	gpu := d.has("gl") || d.has("sys")
	d.ignore("cta")
	d.done()
	d.in.run = fenceRun(gpu)
}

// Shuffles and votes.

// members makes the current group wait until all lanes of the member mask in register r are there,
// with m the lanes that execute the instruction.
func (w *warp) members(r int32, m uint32) action {
	want := uint32(w.uniform(r, m, "the member mask"))
	g := &w.groups[w.cur]
	switch {
	case m&^want != 0:
		w.failLanes(Convergence, m&^want, "lanes that are not in the member mask %#x", want)
	case want&^w.alive != 0:
		w.failLanes(Convergence, want&^w.alive, "lanes of the member mask %#x have exited", want)
	case want == m:
		w.syncs++
		return actNext
	case want&g.mask&^m != 0:
		w.failLanes(Convergence, want&g.mask&^m, "the predicate keeps lanes of the member mask %#x away", want)
	}
	pc := g.pc
	return w.wait("the other lanes of its member mask", func() bool { return want&^w.alive != 0 || w.metAt(pc, want) })
}

func decodeShfl(d *decoder) {
	if !d.has("sync") {
		d.fail("shfl without .sync, which sm_70 and later do not have")
	}
	d.has("b32")
	if len(d.mods) != 1 {
		d.fail("shfl has one mode")
	}
	mode := d.mods[0]
	if !slices.Contains([]string{"up", "down", "bfly", "idx"}, mode) {
		d.fail("the emulator does not know shfl.%s", mode)
	}
	d.arity(5, 5)
	in := d.in
	o := *d.arg(0)
	if o.pair != "" && o.pair != "_" {
		in.pd = d.pred(o.pair)
	}
	in.d, in.a, in.b, in.c = d.dst(0, "b32"), d.src(1, "b32"), d.src(2, "b32"), d.src(3, "b32")
	r := d.src(4, "b32")
	in.run = func(w *warp, in *instr, m uint32) action {
		if a := w.members(r, m); a != actNext {
			return a
		}
		a, b, c := *w.reg(in.a), w.reg(in.b), w.reg(in.c)
		d := w.reg(in.d)
		var from [32]int
		var inRange uint32
		for l := range 32 {
			j, ok := shflSource(mode, l, int(b[l]&31), int(c[l]))
			from[l] = j
			if ok {
				inRange |= 1 << l
			}
		}
		for rest := m; rest != 0; rest &= rest - 1 {
			l := bits.TrailingZeros32(rest)
			if m>>from[l]&1 == 0 {
				w.failLanes(Convergence, 1<<l, "lane %d reads lane %d, which does not take part", l, from[l])
			}
		}
		for rest := m; rest != 0; rest &= rest - 1 {
			l := bits.TrailingZeros32(rest)
			d[l] = a[from[l]]
		}
		w.setPreds(in, inRange, m)
		return actNext
	}
}

// shflSource is the lane that a lane reads; PTX ISA, pseudocode of "shfl.sync".
func shflSource(mode string, lane, b, c int) (int, bool) {
	clamp, seg := c&31, c>>8&31
	limit := lane&seg | clamp&^seg
	j := lane & seg // of idx: the segment's first lane
	ok := true
	switch mode {
	case "up":
		j = lane - b
		ok = j >= limit
	case "down":
		j = lane + b
		ok = j <= limit
	case "bfly":
		j = lane ^ b
		ok = j <= limit
	case "idx":
		j |= b &^ seg
		ok = j <= limit
	}
	if !ok {
		j = lane
	}
	return j, ok
}

func decodeVote(d *decoder) {
	if !d.has("sync") {
		d.fail("vote without .sync")
	}
	if len(d.mods) != 2 {
		d.fail("vote has one mode and a type")
	}
	mode, typ := d.mods[0], d.mods[1]
	d.arity(3, 3)
	in := d.in
	if typ == "pred" {
		d.predDst(0)
	} else {
		in.d = d.dst(0, "b32")
	}
	p, negate := d.predArg(1)
	r := d.src(2, "b32")
	if (mode == "ballot") != (typ == "b32") || !slices.Contains([]string{"ballot", "all", "any", "uni"}, mode) {
		d.fail("the emulator does not know vote.%s.%s", mode, typ)
	}
	in.run = func(w *warp, in *instr, m uint32) action {
		if a := w.members(r, m); a != actNext {
			return a
		}
		v := (w.preds[p] ^ negate) & m
		if mode == "ballot" {
			for rest := m; rest != 0; rest &= rest - 1 {
				w.reg(in.d)[bits.TrailingZeros32(rest)] = uint64(v)
			}
			return actNext
		}
		ok := mode == "all" && v == m || mode == "any" && v != 0 || mode == "uni" && (v == 0 || v == m)
		if ok {
			w.setPreds(in, m, m)
		} else {
			w.setPreds(in, 0, m)
		}
		return actNext
	}
}

func decodeRedux(d *decoder) {
	if !d.has("sync") {
		d.fail("redux without .sync")
	}
	typ := d.typ()
	if len(d.mods) != 1 || isFloat(typ) {
		d.fail("the emulator does not know this redux")
	}
	f := d.atomic(d.mods[0], typ)
	d.arity(3, 3)
	in := d.in
	in.d, in.a = d.dst(0, typ), d.src(1, typ)
	r := d.src(2, "b32")
	in.run = func(w *warp, in *instr, m uint32) action {
		if a := w.members(r, m); a != actNext {
			return a
		}
		a := w.reg(in.a)
		first := bits.TrailingZeros32(m)
		v := a[first]
		for rest := m & (m - 1); rest != 0; rest &= rest - 1 {
			v = f(v, a[bits.TrailingZeros32(rest)], 0)
		}
		for rest := m; rest != 0; rest &= rest - 1 {
			w.reg(in.d)[bits.TrailingZeros32(rest)] = v
		}
		return actNext
	}
}

// decodeElect: which lane is elected is not specified; the schedule's seed chooses.
func decodeElect(d *decoder) {
	d.has("sync")
	d.done()
	d.arity(2, 2)
	in := d.in
	o := *d.arg(0)
	if o.pair == "" {
		d.fail("elect.sync writes d|p")
	}
	in.pd = d.pred(o.pair)
	in.d = d.dst(0, "b32")
	r := d.src(1, "b32")
	in.run = func(w *warp, in *instr, m uint32) action {
		if a := w.members(r, m); a != actNext {
			return a
		}
		// One lane for a member mask through the whole launch: the same thread is to issue and to
		// wait for its bulk groups.
		leader := bits.TrailingZeros32(m)
		if w.sim.dev.opt.Seed&1 != 0 {
			leader = 31 - bits.LeadingZeros32(m)
		}
		for rest := m; rest != 0; rest &= rest - 1 {
			w.reg(in.d)[bits.TrailingZeros32(rest)] = uint64(leader)
		}
		w.setPreds(in, 1<<leader, m)
		return actNext
	}
}

func decodeActivemask(d *decoder) {
	d.has("b32")
	d.done()
	d.arity(1, 1)
	d.in.d = d.dst(0, "b32")
	d.in.run = func(w *warp, in *instr, m uint32) action {
		for rest := m; rest != 0; rest &= rest - 1 {
			w.reg(in.d)[bits.TrailingZeros32(rest)] = uint64(m)
		}
		return actNext
	}
}

// decodeSetmaxnreg: the registers of a CTA are one pool. dec gives to it, inc waits until it has
// enough. All warps of a warpgroup must execute the same.
func decodeSetmaxnreg(d *decoder) {
	inc := d.has("inc")
	if !inc && !d.has("dec") {
		d.fail("setmaxnreg without .inc or .dec")
	}
	d.ignore("sync", "aligned", "u32")
	d.done()
	d.arity(1, 1)
	n := d.imm(0)
	if n < 24 || n > 256 || n%8 != 0 {
		d.fail("%d registers; the count is a multiple of 8 between 24 and 256", n)
	}
	if d.e.maxTid[0] == 0 && d.e.reqTid[0] == 0 || d.e.minCTAs == 0 {
		d.fail("setmaxnreg is ignored by ptxas without .maxntid and .minnctapersm")
	}
	d.in.aligned = true
	d.in.run = func(w *warp, in *instr, m uint32) action {
		switch {
		case inc && n < w.nregs:
			w.fail(Registers, ".inc to %d registers, the warp has %d", n, w.nregs)
		case !inc && n > w.nregs:
			w.fail(Registers, ".dec to %d registers, the warp has %d", n, w.nregs)
		}
		need := 32 * (n - w.nregs)
		if need > w.cta.pool {
			c := w.cta
			return w.waitFor(func() string {
				return fmt.Sprintf("%d registers, the pool of the CTA has %d", need, c.pool)
			}, func() bool { return c.pool >= need })
		}
		w.cta.pool -= need
		w.nregs = n
		g := w.group()
		if w.setmax < len(g.setmax) && g.setmax[w.setmax] != n {
			w.fail(Registers, "%d registers, another warp of the warpgroup says %d", n, g.setmax[w.setmax])
		}
		if w.setmax == len(g.setmax) {
			g.setmax = append(g.setmax, n)
		}
		w.setmax++
		w.sim.progress()
		return actNext
	}
}

func decodeNanosleep(d *decoder) {
	d.has("u32")
	d.done()
	d.arity(1, 1)
	d.src(0, "b32")
	d.in.run = func(w *warp, in *instr, m uint32) action { return actNext }
}

func decodeGriddep(d *decoder) {
	if !d.has("launch_dependents") && !d.has("wait") {
		d.fail("griddepcontrol is .launch_dependents or .wait")
	}
	d.done()
	d.arity(0, 0)
	d.in.run = func(w *warp, in *instr, m uint32) action { return actNext }
}

// decodeMapa: an address of the own CTA's shared memory becomes that of another in the cluster.
func decodeMapa(d *decoder) {
	s := d.space()
	typ := d.typ()
	d.done()
	d.arity(3, 3)
	in := d.in
	in.d, in.a, in.b = d.dst(0, typ), d.src(1, typ), d.src(2, "b32")
	var base uint64
	if s == spaceGeneric {
		base = sharedWindow
	}
	in.run = func(w *warp, in *instr, m uint32) action {
		for rest := m; rest != 0; rest &= rest - 1 {
			l := bits.TrailingZeros32(rest)
			a, rank := w.reg(in.a)[l]-base, w.reg(in.b)[l]
			if rank >= uint64(len(w.cta.cluster.ctas)) {
				w.failLanes(OutOfBounds, 1<<l, "rank %d, the cluster has %d CTAs", rank, len(w.cta.cluster.ctas))
			}
			w.reg(in.d)[l] = base + (rank+1)<<rankShift + a&(1<<rankShift-1)
		}
		return actNext
	}
}

func decodeGetctarank(d *decoder) {
	s := d.space()
	typ := d.typ()
	d.done()
	d.arity(2, 2)
	in := d.in
	var base uint64
	if s == spaceGeneric {
		base = sharedWindow
	}
	in.d, in.a = d.dst(0, "b32"), d.src(1, typ)
	in.run = func(w *warp, in *instr, m uint32) action {
		for rest := m; rest != 0; rest &= rest - 1 {
			l := bits.TrailingZeros32(rest)
			rank := (w.reg(in.a)[l] - base) >> rankShift
			if rank == 0 {
				rank = uint64(w.cta.rank) + 1
			}
			w.reg(in.d)[l] = rank - 1
		}
		return actNext
	}
}
