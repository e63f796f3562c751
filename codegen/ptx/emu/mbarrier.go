package emu

import (
	"fmt"
	"math/bits"
)

// This file owns mbarriers: PTX ISA, "Parallel Synchronization and Communication Instructions: mbarrier".

// maxTx is the limit of the tx-count (PTX ISA, "mbarrier Contents": −(2^20−1) to 2^20−1).
const maxTx = 1<<20 - 1

type mbarrier struct {
	cta      *cta
	off      int
	line     int  // of its init
	fenced   bool // the init is visible to the async proxy
	phase    int  // completed phases
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
		b.done.join(&b.next)
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
				b.next.join(w.knows(1 << l)) // the new epoch begins behind all lanes
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
	b := &mbarrier{cta: c, off: off, line: w.in.line, expected: int(count), pending: int(count), next: newClocks(n), done: newClocks(n), ent: c.barrierEnt(c.barriers)}
	c.mbars[uint32(off)] = b
	w.inits = append(w.inits, b)
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
			w.acquire(&b.done, 1<<l)
		} else if first == nil {
			first = b
		}
	}
	g := &w.groups[w.cur]
	if try && v == 0 && (g.tried || w.sim.rng.intn(16) >= w.sim.spurious) {
		g.tried = true
		phase := first.phase
		return w.waitFor(first.String, func() bool { return first.phase != phase })
	}
	g.tried = false
	w.setPreds(in, v, m)
	return actNext
}
