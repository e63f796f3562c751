package emu

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// This file owns warps: the groups of lanes that are at one pc, and how they execute, diverge, meet
// and end.

// group is a set of lanes of a warp at one pc.
type group struct {
	pc    int
	mask  uint32
	ready func() bool   // nil: the group can run
	why   func() string // what it waits for
	token *barPhase     // the barrier phase that it has arrived at and waits for
	tried bool          // try_wait has blocked already
}

type warp struct {
	sim    *sim
	cta    *cta
	index  int // in the CTA
	regs   []uint64
	bad    []uint32 // lanes in which a register must not be read: never written, or in flight
	held   []uint8  // registers of wgmma operations in flight: heldD, heldA
	stamp  []uint32 // value of fences when a register was written, plus one
	preds  []uint32
	pbad   []uint32
	groups []group
	cur    int // the group that runs
	alive  uint32
	in     *instr
	mask   uint32
	alloc  *alloc // the last that was accessed
	nregs  int    // hardware registers of a thread
	setmax int    // setmaxnreg executed

	fences uint32 // wgmma.fence executed
	wgmma  warpWgmma
	bulk   asyncGroups // cp.async.bulk
	copies asyncGroups // cp.async

	inits       []*mbarrier // initialised, and no fence since
	clusterWait int         // phase of the cluster barrier that it arrived at, plus one; 0: none

	syncs uint32 // how often its lanes were synchronized
	clock vclock // what happened before, for the generic proxy,
	proxy vclock // and for the async proxy

	waited uint32 // lanes that are behind a griddepcontrol.wait
}

// fail ends the launch with a report about the current instruction.
func (w *warp) fail(kind Kind, format string, args ...any) {
	w.failLanes(kind, w.mask, format, args...)
}

func (w *warp) failLanes(kind Kind, lanes uint32, format string, args ...any) {
	panic(w.report(kind, w.in, lanes, fmt.Sprintf(format, args...)))
}

func (w *warp) report(kind Kind, in *instr, lanes uint32, msg string) *Report {
	r := &Report{Kind: kind, Kernel: w.sim.k.Name, CTA: w.cta.id, Warp: w.index, Lanes: lanes, Msg: msg}
	if in != nil {
		r.Line, r.Text = in.line, w.sim.lineText(in.line)
	}
	return r
}

func newWarp(s *sim, c *cta, index int) *warp {
	k := s.k
	w := &warp{sim: s, cta: c, index: index, alive: ^uint32(0)}
	w.regs = make([]uint64, k.nregs*32)
	w.bad = make([]uint32, k.nregs)
	w.held = make([]uint8, k.nregs)
	w.stamp = make([]uint32, k.nregs)
	w.preds = make([]uint32, k.npreds)
	w.pbad = make([]uint32, k.npreds)
	for i := range w.bad {
		w.bad[i] = ^uint32(0)
	}
	for i := range w.pbad {
		w.pbad[i] = ^uint32(0)
	}
	for i := range w.regs {
		w.regs[i] = 0xffffffffffffffff
	}
	for _, c := range k.consts {
		w.bad[c.reg] = 0
		r := w.reg(c.reg)
		for l := range r {
			r[l] = c.val
		}
	}
	for _, sp := range k.specs {
		w.bad[sp.reg] = 0
		r := w.reg(sp.reg)
		for l := range r {
			r[l] = w.specialValue(sp.name, l)
		}
	}
	w.groups = []group{{mask: ^uint32(0)}}
	return w
}

// specialRegisters are those that the emulator knows; PTX ISA, "Special Registers".
var specialRegisters = []string{
	"%tid.x", "%tid.y", "%tid.z", "%ntid.x", "%ntid.y", "%ntid.z", "%ctaid.x", "%ctaid.y", "%ctaid.z",
	"%nctaid.x", "%nctaid.y", "%nctaid.z", "%clusterid.x", "%clusterid.y", "%clusterid.z",
	"%nclusterid.x", "%nclusterid.y", "%nclusterid.z", "%cluster_ctaid.x", "%cluster_ctaid.y", "%cluster_ctaid.z",
	"%cluster_nctaid.x", "%cluster_nctaid.y", "%cluster_nctaid.z", "%cluster_ctarank", "%cluster_nctarank",
	"%laneid", "%warpid", "%nwarpid", "%smid", "%nsmid", "%dynamic_smem_size", "%total_smem_size",
	"%lanemask_eq", "%lanemask_lt", "%lanemask_le", "%lanemask_gt", "%lanemask_ge", "%clock", "%clock64", "%globaltimer",
}

func (w *warp) specialValue(name string, lane int) uint64 {
	b, c := w.sim.cfg.Block, w.cta
	if axis := strings.IndexByte("xyz", name[len(name)-1]); axis >= 0 && name[len(name)-2] == '.' {
		t := w.index*32 + lane
		size := w.sim.cfg.Cluster
		switch name[:len(name)-2] {
		case "%tid":
			return uint64([3]int{t % b[0], t / b[0] % b[1], t / b[0] / b[1]}[axis])
		case "%ntid":
			return uint64(b[axis])
		case "%ctaid":
			return uint64(c.id[axis])
		case "%nctaid":
			return uint64(w.sim.cfg.Grid[axis])
		case "%clusterid":
			return uint64(c.cluster.id[axis])
		case "%nclusterid":
			return uint64(w.sim.cfg.Grid[axis] / size[axis])
		case "%cluster_ctaid":
			return uint64(c.id[axis] % size[axis])
		case "%cluster_nctaid":
			return uint64(size[axis])
		}
	}
	switch name {
	case "%cluster_ctarank":
		return uint64(c.rank)
	case "%cluster_nctarank":
		return uint64(w.sim.cfg.Cluster[0] * w.sim.cfg.Cluster[1] * w.sim.cfg.Cluster[2])
	case "%laneid":
		return uint64(lane)
	case "%warpid":
		return uint64(w.index)
	case "%nwarpid":
		return uint64(b[0] * b[1] * b[2] / 32)
	case "%smid":
		return uint64(c.index % w.sim.dev.opt.SMs)
	case "%nsmid":
		return uint64(w.sim.dev.opt.SMs)
	case "%dynamic_smem_size":
		return uint64(w.sim.cfg.Shared)
	case "%total_smem_size":
		return uint64(len(c.shared))
	case "%lanemask_eq":
		return 1 << lane
	case "%lanemask_lt":
		return 1<<lane - 1
	case "%lanemask_le":
		return 2<<lane - 1
	case "%lanemask_gt":
		return 0xffffffff &^ (2<<lane - 1)
	case "%lanemask_ge":
		return 0xffffffff &^ (1<<lane - 1)
	}
	return 0 // the clocks, which mov reads by itself
}

func (w *warp) runnable() bool {
	for i := range w.groups {
		if g := &w.groups[i]; g.ready == nil || g.ready() {
			return true
		}
	}
	return false
}

// pick chooses the group to run: mostly the one with the lowest pc, so that groups meet again.
func (w *warp) pick() bool {
	best := -1
	for i := range w.groups {
		g := &w.groups[i]
		if g.ready != nil {
			if !g.ready() {
				continue
			}
			g.ready = nil
		}
		if best < 0 || g.pc < w.groups[best].pc {
			best = i
		}
	}
	if best < 0 {
		return false
	}
	if len(w.groups) > 2 || len(w.groups) == 2 && w.sim.rng.next()&7 == 0 {
		if i := w.sim.rng.intn(len(w.groups)); w.groups[i].ready == nil && w.sim.rng.next()&3 == 0 {
			best = i
		}
	}
	w.cur = best
	return true
}

// meet joins groups at the pc of the current one.
func (w *warp) meet() {
	g := &w.groups[w.cur]
	for i := 0; i < len(w.groups); {
		o := &w.groups[i]
		if i == w.cur || o.pc != g.pc || o.token != nil || g.token != nil {
			i++
			continue
		}
		g.mask |= o.mask
		w.groups = append(w.groups[:i], w.groups[i+1:]...)
		if i < w.cur {
			w.cur--
		}
		g = &w.groups[w.cur]
	}
}

// run executes up to n instructions and reports whether the warp may go on.
func (w *warp) run(n int) bool {
	code := w.sim.k.code
	for again := true; again; {
		again = false
		if !w.pick() {
			return false
		}
		for ; n > 0; n-- {
			if len(w.groups) > 1 {
				w.meet()
			}
			g := &w.groups[w.cur]
			if g.pc >= len(code) {
				w.mask = g.mask
				w.exit(g.mask)
				if len(w.groups) == 0 {
					return false
				}
				again = true
				break
			}
			in := &code[g.pc]
			w.sim.steps++
			m := g.mask
			w.in, w.mask = in, m
			if in.guard >= 0 {
				if bad := w.pbad[in.guard] & m; bad != 0 {
					w.failLanes(Uninitialised, bad, "the predicate of the instruction was never written")
				}
				p := w.preds[in.guard]
				if in.neg {
					p = ^p
				}
				if in.aligned && p&m != 0 && p&m != m {
					w.fail(Convergence, "the predicate differs within the warp, all lanes must execute this instruction together")
				}
				m &= p
				w.mask = m
			}
			if m == 0 {
				g.pc++
				continue
			}
			if in.aligned && m != ^uint32(0) {
				w.converge(g.pc)
				again = true
				break
			}
			if in.aligned {
				w.syncs++
			}
			for _, r := range in.srcs {
				if bad := w.bad[r] & m; bad != 0 {
					w.badRead(r, bad)
				}
			}
			for _, p := range in.psrcs {
				if bad := w.pbad[p] & m; bad != 0 {
					w.failLanes(Uninitialised, bad, "a predicate that was never written")
				}
			}
			for _, r := range in.dsts {
				if w.held[r] != 0 {
					w.badWrite(r)
				}
			}
			switch in.run(w, in, m) {
			case actNext:
				for _, r := range in.dsts {
					w.bad[r] &^= m
					w.stamp[r] = w.fences + 1
				}
				w.groups[w.cur].pc++
				continue
			case actBranch:
				if len(w.groups) == 0 {
					return false
				}
				if len(w.groups) == 1 && w.cur == 0 {
					continue
				}
			}
			again = true
			n--
			break
		}
		if n <= 0 {
			return true
		}
	}
	return true
}

// converge makes the current group wait until the other lanes of its warp are at its pc.
func (w *warp) converge(pc int) {
	if w.alive != ^uint32(0) {
		w.failLanes(Convergence, ^w.alive, "lanes of the warp have exited, all must execute this instruction together")
	}
	w.wait("the other lanes of its warp", func() bool { return w.alive != ^uint32(0) || w.metAt(pc, ^uint32(0)) })
}

// metAt reports whether groups at a pc have all lanes of m.
func (w *warp) metAt(pc int, m uint32) bool {
	var have uint32
	for i := range w.groups {
		if w.groups[i].pc == pc && w.groups[i].token == nil {
			have |= w.groups[i].mask
		}
	}
	return have&m == m
}

// waitFor blocks the current group.
func (w *warp) waitFor(why func() string, ready func() bool) action {
	g := &w.groups[w.cur]
	g.ready, g.why = ready, why
	return actBlock
}

func (w *warp) wait(why string, ready func() bool) action {
	return w.waitFor(func() string { return why }, ready)
}

// badRead reports why a register must not be read.
func (w *warp) badRead(r int32, lanes uint32) {
	if w.held[r] != 0 {
		w.failLanes(InFlight, lanes, "reads register %s, which a wgmma in flight uses; wgmma.wait_group must come before", w.regName(r))
	}
	w.failLanes(Uninitialised, lanes, "reads register %s, which was never written", w.regName(r))
}

func (w *warp) badWrite(r int32) {
	w.fail(InFlight, "writes register %s, which a wgmma in flight uses; wgmma.wait_group must come before", w.regName(r))
}

func (w *warp) regName(r int32) string {
	if int(r) < len(w.sim.k.names) {
		return w.sim.k.names[r]
	}
	return "?"
}

// exit ends lanes of the warp.
func (w *warp) exit(m uint32) {
	w.alive &^= m
	for i := 0; i < len(w.groups); {
		g := &w.groups[i]
		if g.mask &^= m; g.mask == 0 {
			w.groups = append(w.groups[:i], w.groups[i+1:]...)
		} else {
			i++
		}
	}
	w.cur = 0
	w.sim.progress()
	if len(w.groups) > 0 {
		return
	}
	w.atEnd()
	s := w.sim
	for i, o := range s.warps {
		if o == w {
			s.warps = append(s.warps[:i], s.warps[i+1:]...)
			break
		}
	}
	if s.starved == w && len(s.warps) > 0 {
		s.starved = s.warps[s.rng.intn(len(s.warps))]
	}
	w.cta.live--
	w.cta.cluster.warps--
	if w.clusterWait == w.cta.cluster.bar.phase+1 {
		w.cta.cluster.bar.arrived-- // a warp that arrived and exited is not waited for, nor counted
	}
	w.cta.cluster.checkBarrier(s)
	if w.cta.live > 0 {
		return
	}
	if w.cta.inflight > 0 {
		w.fail(InFlight, "the CTA ends while %d asynchronous operations use its shared memory", w.cta.inflight)
	}
	for _, ent := range slices.Sorted(maps.Keys(w.cta.copies)) {
		if p := w.cta.copies[ent]; !slices.ContainsFunc(w.cta.warps, func(o *warp) bool { return p.before(o.clock) }) {
			w.fail(InFlight, "the CTA ends and nothing has waited for %s in line %d (%s), which uses its shared memory",
				w.cta.cluster.entityName(ent), p.line, s.lineText(int(p.line)))
		}
	}
	s.grid.end(w.cta)
	for i, c := range s.running {
		if c == w.cta {
			s.running = append(s.running[:i], s.running[i+1:]...)
			break
		}
	}
}

// Control flow.

var control = map[string]func(*decoder){
	"bra": decodeBra, "ret": decodeExit, "exit": decodeExit, "trap": decodeTrap,
}

func decodeBra(d *decoder) {
	d.ignore("uni")
	d.done()
	d.arity(1, 1)
	d.in.target = d.label(0)
	d.in.run = func(w *warp, in *instr, m uint32) action {
		g := &w.groups[w.cur]
		if m == g.mask {
			g.pc = in.target
			return actBranch
		}
		g.mask &^= m
		g.pc++
		w.groups = append(w.groups, group{pc: in.target, mask: m})
		return actBranch
	}
}

func decodeExit(d *decoder) {
	d.ignore("uni")
	d.done()
	d.arity(0, 0)
	d.in.run = func(w *warp, in *instr, m uint32) action {
		if g := &w.groups[w.cur]; g.mask != m {
			g.pc++
		}
		w.exit(m)
		return actBranch
	}
}

func decodeTrap(d *decoder) {
	d.done()
	d.arity(0, 0)
	d.in.run = func(w *warp, in *instr, m uint32) action {
		w.fail(Operand, "the kernel traps")
		return actNext
	}
}

// atEnd checks that a warp leaves nothing behind.
func (w *warp) atEnd() {
	if n := len(w.wgmma.open); n > 0 {
		w.fail(WgmmaOrder, "the warp ends with %d wgmma that no commit_group closed (the first in line %d)", n, w.wgmma.open[0].in.line)
	}
	for _, ops := range w.wgmma.groups {
		for _, op := range ops {
			if !op.done {
				w.fail(WgmmaOrder, "the warp ends without wgmma.wait_group while the wgmma of line %d is in flight", op.in.line)
			}
		}
	}
	if w.cta.live == 1 {
		for _, g := range w.cta.groups {
			for _, o := range g.warps {
				if o.setmax != len(g.setmax) {
					w.fail(Registers, "warp %d executed %d setmaxnreg, another of its warpgroup %d", o.index, o.setmax, len(g.setmax))
				}
			}
		}
	}
	for i := range w.cta.bars {
		if b := &w.cta.bars[i]; b.phase != nil && b.expected == 32*len(w.cta.warps) {
			w.fail(Barrier, "the warp exits while others wait for all %d threads at barrier %d (line %d)", b.expected, i, b.phase.line)
		}
	}
}
