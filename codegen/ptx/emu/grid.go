package emu

import (
	"fmt"
	"math/bits"
	"slices"
)

// This file owns programmatic dependent launch: which grids may still run while another does, what of global
// memory each has read and written, and which accesses of a dependent grid are therefore faults. Grids run
// one after the other all the same, so that what is reported does not depend on the schedule.
//
// PTX ISA, "griddepcontrol": a dependent grid can start when every CTA of the grid ahead has executed
// launch_dependents or has ended, and wait waits until the grid ahead has completed and its memory operations
// are visible to the whole dependent grid. It says nothing of the grids further ahead: those have completed
// when the grid ahead has waited for them. Threads that have not waited themselves are behind a
// wait when a barrier orders them so.

// Stream is a queue of launches. What the other streams of a device do is not ordered with it.
type Stream struct {
	dev  *Device
	last *chain // nil: everything in the queue has completed
}

// chain is launches that may overlap: one that waits for all before it, and the dependent ones that follow.
type chain struct {
	last *grid
	over bool // all have completed
}

// grid is a launch as those behind it see it.
type grid struct {
	kernel *Kernel
	number uint64 // of the launches of the device, from 1
	chain  *chain
	ahead  *grid // that griddepcontrol.wait waits for; nil: the grid starts when all before it have completed

	beside []*grid // may still run when the grid starts
	beyond []*grid // may still run behind its griddepcontrol.wait

	waited bool // a thread has executed griddepcontrol.wait: the grid completes behind those that it waits for
	late   bool // and dependents start behind them, too
}

func (g *grid) String() string { return fmt.Sprintf("launch %d (%s)", g.number, g.kernel.Name) }

// NewStream returns an empty queue.
func (d *Device) NewStream() *Stream { return &Stream{dev: d} }

// Sync waits for everything in the queue.
func (s *Stream) Sync() {
	if s.last != nil {
		s.last.over = true
		s.last = nil
	}
}

// Launch runs a kernel to its end. A fault of the kernel is a *Report; the memory of the device is
// then as the fault left it.
func (s *Stream) Launch(k *Kernel, c Config, params []byte) error {
	if !c.Dependent {
		s.Sync()
	}
	if s.last == nil {
		s.last = &chain{}
	}
	g := &grid{kernel: k, chain: s.last, ahead: s.last.last}
	if p := g.ahead; p != nil {
		g.beside = append(slices.Clone(p.left(p.late)), p)
		g.beyond = p.left(p.waited)
	}
	s.last.last = g
	err := s.dev.launch(k, c, params, g)
	if err != nil {
		s.Sync()
	}
	return err
}

// left is the grids ahead of g that may still run once some thread of g has, or has not, waited.
func (g *grid) left(waited bool) []*grid {
	if waited {
		return g.beyond
	}
	return g.beside
}

// end notes what a CTA of the grid has waited for.
func (g *grid) end(c *cta) {
	g.waited = g.waited || c.waited
	g.late = g.late || c.waited && !c.early
}

// footprint is what a grid has done to an allocation.
type footprint struct {
	grid        *grid
	read, wrote bitmap
}

// bitmap has a bit for each byte; nil has none set.
type bitmap []uint64

// bitmapWord returns the bits of the first word of n bytes from off, and how many bytes they are.
func bitmapWord(off, n int) (uint64, int) {
	k := min(64-off&63, n)
	return ^uint64(0) >> (64 - k) << (off & 63), k
}

func (b bitmap) set(off, n int) {
	for n > 0 {
		m, k := bitmapWord(off, n)
		b[off>>6] |= m
		off, n = off+k, n-k
	}
}

// first returns the first of n bytes that is set, or -1.
func (b bitmap) first(off, n int) int {
	for n > 0 && b != nil {
		m, k := bitmapWord(off, n)
		if m &= b[off>>6]; m != 0 {
			return off&^63 + bits.TrailingZeros64(m)
		}
		off, n = off+k, n-k
	}
	return -1
}

// print returns the footprint of a grid that runs, and forgets those of grids that have completed.
func (a *alloc) print(g *grid) *footprint {
	if n := len(a.prints); n > 0 && a.prints[n-1].grid == g {
		return &a.prints[n-1]
	}
	a.prints = append(slices.DeleteFunc(a.prints, func(p footprint) bool { return p.grid.chain.over }), footprint{grid: g})
	return &a.prints[len(a.prints)-1]
}

// usesGlobal records that the lanes of w.mask access n bytes of global memory, and reports a byte that grids
// which may still run have written, or, under a write, read. It is called when an access is issued.
func (w *warp) usesGlobal(a *alloc, off, n int, write bool) {
	if n == 0 {
		return
	}
	g := w.sim.grid
	running := g.left(w.mask&^w.waited == 0)
	for i := 0; i < len(a.prints) && len(running) > 0; i++ {
		p := &a.prints[i]
		at, did := p.wrote.first(off, n), "wrote"
		if at < 0 && write {
			at, did = p.read.first(off, n), "read"
		}
		if at >= 0 && slices.Contains(running, p.grid) {
			w.dependency(p.grid, a.base+uint64(at), write, did)
		}
	}
	p := a.print(g)
	b := &p.read
	if write {
		b = &p.wrote
	}
	if *b == nil {
		*b = make(bitmap, (len(a.data)+63)/64)
	}
	b.set(off, n)
}

// dependency reports an access to what another grid uses that may still run.
func (w *warp) dependency(other *grid, addr uint64, write bool, did string) {
	does := "reads"
	if write {
		does = "writes"
	}
	g := w.sim.grid
	why := "nothing has waited for it by griddepcontrol.wait"
	if slices.Contains(g.beyond, other) {
		why = fmt.Sprintf("griddepcontrol.wait waits for %s, which may complete before it", g.ahead)
	}
	w.fail(Dependency, "%s %s, which %s %s; that grid may still run: %s", does, w.sim.dev.where(addr), other, did, why)
}

func decodeGriddep(d *decoder) {
	launch := d.has("launch_dependents")
	if !launch && !d.has("wait") {
		d.fail("griddepcontrol is .launch_dependents or .wait")
	}
	d.done()
	d.arity(0, 0)
	d.in.run = func(w *warp, in *instr, m uint32) action {
		if launch {
			w.cta.early = w.cta.early || m&^w.waited != 0
		} else {
			w.waited |= m
			w.cta.waited = true
		}
		return actNext
	}
}
