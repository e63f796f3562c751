package emu

import (
	"fmt"
	"slices"
)

// This file owns named barriers and the barrier of a cluster.

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
		d.in.run = func(w *warp, in *instr, m uint32) action {
			a := w.members(in.a, m)
			if a == actNext && w.waited&m != 0 {
				w.waited |= m
			}
			return a
		}
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
		w.acquire(&p.know, m)
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
	w.release(&p.know, m)
	b.arrived += 32
	if b.arrived == b.expected {
		p.done = true
		b.phase = nil
		w.sim.progress()
		if !arriveOnly {
			w.acquire(&p.know, m)
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
		b.done = clocks{slices.Clone(b.next.clock), slices.Clone(b.next.proxy), b.next.waited}
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
				w.release(&b.next, m)
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
		w.acquire(&b.done, m)
		return actNext
	}
}
