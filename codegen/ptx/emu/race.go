package emu

import "math/bits"

// This file owns race detection: vector clocks of happens-before, and what each 4 bytes of shared
// memory remember of their last accesses.
//
// An entity is a warp, or an agent that acts asynchronously: for each warp one of its bulk copies to
// global memory and one of its cp.async, one for the wgmma of each warpgroup, and one for each
// mbarrier, of the bulk copies that complete there. Lanes of one warp are one entity; between them
// every .sync instruction and every wait orders. Every warp has two clocks: what happened before it in the
// generic proxy, and which of those writes the async proxy sees. fence.proxy.async joins the second
// with the first. Accesses of agents are recorded when the operation is issued, so that what is
// reported does not depend on when it completes. A wgmma is over for others when all four warps have
// waited for it: each warp's wait_group speaks for its own quarter (DeepGEMM releases a stage once
// per warp), so the agent of a warpgroup has four entries in a clock.

type vclock []uint32

func (v vclock) join(o vclock) {
	for i, c := range o {
		if c > v[i] {
			v[i] = c
		}
	}
}

// meet keeps what both know.
func (v vclock) meet(o vclock) {
	for i, c := range o {
		if c < v[i] {
			v[i] = c
		}
	}
}

// clocks is the knowledge that barriers pass on.
type clocks struct {
	clock, proxy vclock
	waited       bool // a griddepcontrol.wait happened before
}

func newClocks(n int) clocks { return clocks{clock: make(vclock, n), proxy: make(vclock, n)} }

func (c *clocks) join(o *clocks) {
	c.clock.join(o.clock)
	c.proxy.join(o.proxy)
	c.waited = c.waited || o.waited
}

// barrierEntities is how many mbarriers of a CTA have an entity of their own; beyond, they share.
const barrierEntities = 32

// entitiesPerCTA counts the warps, their bulk agents, their cp.async agents, four entries for each
// warpgroup, and mbarriers.
func entitiesPerCTA(warps int) int { return 3*warps + (warps+3)&^3 + barrierEntities }

func (c *cta) entity(n int) int { return c.rank*entitiesPerCTA(len(c.warps)) + n }

func (w *warp) ent() int       { return w.cta.entity(w.index) }
func (w *warp) bulkEnt() int   { return w.cta.entity(len(w.cta.warps) + w.index) }
func (w *warp) copyEnt() int   { return w.cta.entity(2*len(w.cta.warps) + w.index) }
func (wg *warpgroup) ent() int { return wg.cta.entity(3*len(wg.cta.warps) + 4*wg.index) }

func (c *cta) barrierEnt(n int) int {
	return c.entity(entitiesPerCTA(len(c.warps)) - barrierEntities + n%barrierEntities)
}

func (w *warp) initClocks() {
	n := w.cta.cluster.ents
	w.clock, w.proxy = make(vclock, n), make(vclock, n)
	w.clock[w.ent()] = 1
}

// knows is what lanes of the warp pass on.
func (w *warp) knows(lanes uint32) *clocks {
	return &clocks{w.clock, w.proxy, w.waited&lanes != 0}
}

// release passes on what lanes of the warp know and begins its next epoch.
func (w *warp) release(to *clocks, lanes uint32) {
	to.join(w.knows(lanes))
	w.clock[w.ent()]++
}

func (w *warp) acquire(from *clocks, lanes uint32) {
	w.syncs++
	w.clock.join(from.clock)
	w.proxy.join(from.proxy)
	if from.waited {
		w.waited |= lanes
	}
}

// access is one access as a cell remembers it.
type access struct {
	clk   uint32
	line  int32
	ent   uint16
	mask  uint8 // of the 4 bytes
	async bool
	quad  bool   // of a warpgroup, with four entries
	lane  uint8  // of a warp's access: the lane, or manyLanes
	syncs uint32 // and how often its lanes had been synchronized
}

// manyLanes stands for more than one lane.
const manyLanes = 32

// before reports whether an access is part of what a clock knows.
func (p *access) before(v vclock) bool {
	if p.quad {
		q := v[p.ent : p.ent+4]
		return p.clk <= min(q[0], q[1], q[2], q[3])
	}
	return p.clk <= v[p.ent]
}

// maxReaders bounds the readers that a cell remembers; with more, the oldest is forgotten.
const maxReaders = 4

type cell struct {
	write access
	reads [maxReaders]access
	next  uint8
}

// actor is who accesses shared memory, and what it knows.
type actor struct {
	w     *warp // for the report
	ent   int
	clk   uint32
	async bool   // of the async proxy
	quad  bool   // a warpgroup
	clock vclock // everything that happened before
	proxy vclock // writes that the async proxy sees; used when async
	line  int
	lane  uint8
	syncs uint32
}

// apart reports whether two accesses of one warp are by different lanes that nothing has
// synchronized in between. Lanes of one instruction count as one.
func (a *actor) apart(p *access) bool {
	return !a.async && int(p.ent) == a.ent && p.syncs == a.syncs && (p.lane != a.lane || p.lane == manyLanes) && int(p.line) != a.line
}

func (a *actor) access(m uint8) access {
	return access{a.clk, int32(a.line), uint16(a.ent), m, a.async, a.quad, a.lane, a.syncs}
}

func (w *warp) actor() actor {
	lane := uint8(manyLanes)
	if w.mask&(w.mask-1) == 0 {
		lane = uint8(bits.TrailingZeros32(w.mask))
	}
	return actor{w: w, ent: w.ent(), clk: w.clock[w.ent()], clock: w.clock, line: w.in.line, lane: lane, syncs: w.syncs}
}

// copying notes that an agent's copy uses the shared memory of c.
func (c *cta) copying(a *actor) {
	c.copies[a.ent] = access{clk: a.clk, line: int32(a.line), ent: uint16(a.ent)}
}

// touch records an access to n bytes of the shared memory of c and reports a race.
func (c *cta) touch(a *actor, off, n int, write bool) {
	for n > 0 {
		in := off & 3
		k := min(4-in, n)
		m := uint8(1<<k-1) << in
		cl := &c.cells[off>>2]
		off += k
		n -= k
		if p := &cl.write; p.mask&m != 0 && a.apart(p) {
			c.race(a, p, off-k, write, true)
		} else if p.mask&m != 0 && (int(p.ent) != a.ent || a.async) {
			know := a.clock
			if a.async && !p.async {
				know = a.proxy
			}
			if !p.before(know) {
				c.race(a, p, off-k, write, true)
			}
		}
		if !write {
			c.addRead(cl, a, m)
			continue
		}
		for i := range cl.reads {
			p := &cl.reads[i]
			if p.mask&m == 0 {
				continue
			}
			if a.apart(p) || (int(p.ent) != a.ent || a.async) && !p.before(a.clock) {
				c.race(a, p, off-k, write, false)
			}
			p.mask = 0
		}
		cl.write = a.access(m)
	}
}

func (c *cta) addRead(cl *cell, a *actor, m uint8) {
	free := -1
	for i := range cl.reads {
		p := &cl.reads[i]
		if int(p.ent) == a.ent && p.mask != 0 {
			lane := a.lane
			if p.syncs == a.syncs && p.lane != lane {
				lane = manyLanes
			}
			m |= p.mask
			*p = a.access(m)
			p.lane = lane
			return
		}
		if p.mask == 0 || p.before(a.clock) {
			free = i
		}
	}
	if free < 0 {
		free = int(cl.next)
		cl.next = (cl.next + 1) % maxReaders
	}
	cl.reads[free] = a.access(m)
}

func (c *cta) race(a *actor, p *access, off int, write, wrote bool) {
	word := map[bool]string{true: "writes", false: "reads"}
	hint := ""
	if a.async && !p.async && wrote && p.before(a.clock) {
		hint = "; it happened before, but without fence.proxy.async the async proxy does not see it"
	}
	if a.apart(p) {
		hint = ": they are lanes of one warp, and no bar.warp.sync or other .sync instruction is between"
	}
	s := a.w.sim
	panic(a.w.report(Race, &instr{line: a.line}, a.w.mask, "of shared memory: "+a.who()+" "+word[write]+
		" byte "+itoa(off+sharedBase)+" of CTA "+itoa(c.index)+", which "+c.cluster.entityName(int(p.ent))+" "+word[wrote]+" in line "+
		itoa(int(p.line))+" ("+s.lineText(int(p.line))+"), and nothing orders the two"+hint))
}

func (a *actor) who() string { return a.w.cta.cluster.entityName(a.ent) }

// entityName names an entity in words.
func (cl *cluster) entityName(e int) string {
	nw := len(cl.ctas[0].warps)
	per := entitiesPerCTA(nw)
	where := " of CTA " + itoa(cl.ctas[e/per].index)
	switch n := e % per; {
	case n < nw:
		return "warp " + itoa(n) + where
	case n >= per-barrierEntities:
		return "a bulk copy that completes at an mbarrier" + where
	case n < 2*nw:
		return "a bulk copy of warp " + itoa(n-nw) + where
	case n < 3*nw:
		return "a cp.async of warp " + itoa(n-2*nw) + where
	default:
		return "a wgmma of warpgroup " + itoa((n-3*nw)/4) + where
	}
}
