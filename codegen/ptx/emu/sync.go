package emu

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// This file owns what warps do together besides barriers: fences, shuffles and votes, the register pool,
// addresses in a cluster.

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

// Fences.

// fenceInits makes the mbarriers that the warp initialised visible to the async proxy.
func (w *warp) fenceInits() {
	for _, b := range w.inits {
		b.fenced = true
	}
	w.inits = nil
}

// fenceProxy makes everything that happened before visible to the async proxy.
func (w *warp) fenceProxy() {
	w.fenceInits()
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
		d.in.run = func(w *warp, in *instr, m uint32) action { w.fenceInits(); return actNext }
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
