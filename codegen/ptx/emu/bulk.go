package emu

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
)

// This file owns asynchronous copies: cp.async, cp.async.bulk and its tensor forms, their groups, and
// the queue in which asynchronous operations wait until chance completes them.

var bulk = map[string]func(*decoder){"cp": decodeCp}

// async is an operation, or the rest of one, that is still to be done.
type async struct {
	ready func() bool // nil: at any time
	run   func()
}

// fire completes one random asynchronous operation, if one is ready.
func (s *sim) fire() bool {
	start := s.rng.intn(len(s.async))
	for i := range s.async {
		j := (start + i) % len(s.async)
		op := s.async[j]
		if op.ready != nil && !op.ready() {
			continue
		}
		s.async = slices.Delete(s.async, j, j+1)
		op.run()
		s.progress()
		return true
	}
	return false
}

// copyOp is a copy that belongs to a group.
type copyOp struct {
	lanes uint32 // that issued it
	read  bool   // the source was read
	done  bool
	clk   uint32
	line  int
}

// asyncGroups are the groups of a warp's lanes.
type asyncGroups struct {
	open   []*copyOp
	groups []copyGroup
	clk    uint32
}

type copyGroup struct {
	lanes uint32
	ops   []*copyOp
}

func (g *asyncGroups) commit(m uint32) {
	c := copyGroup{lanes: m}
	var rest []*copyOp
	for _, op := range g.open {
		if op.lanes&m != 0 {
			c.ops = append(c.ops, op)
		}
		if op.lanes&^m != 0 {
			rest = append(rest, op)
		}
	}
	g.open = rest
	g.groups = append(g.groups, c)
}

// old returns the operations of the groups of the lanes of m beyond the newest n of each.
func (g *asyncGroups) old(m uint32, n int) []*copyOp {
	var out []*copyOp
	var count [32]int
	for i := len(g.groups) - 1; i >= 0; i-- {
		c := &g.groups[i]
		take := false
		lanesOf(c.lanes&m, func(l int) {
			count[l]++
			take = take || count[l] > n
		})
		if take {
			out = append(out, c.ops...)
		}
	}
	return out
}

// wait waits for groups; read: only until their sources were read.
func (g *asyncGroups) wait(w *warp, m uint32, n int, read bool, ent int, proxy bool) action {
	ops := g.old(m, n)
	pending := func() *copyOp {
		for _, op := range ops {
			if !op.done && !(read && op.read) {
				return op
			}
		}
		return nil
	}
	if pending() != nil {
		return w.waitFor(func() string { return fmt.Sprintf("the copy of line %d", pending().line) }, func() bool { return pending() == nil })
	}
	for _, op := range ops {
		w.clock[ent] = max(w.clock[ent], op.clk)
		if proxy {
			w.proxy[ent] = max(w.proxy[ent], op.clk)
		}
	}
	for len(g.groups) > 0 && !slices.ContainsFunc(g.groups[0].ops, func(op *copyOp) bool { return !op.done }) && len(g.groups) > 64 {
		g.groups = g.groups[1:]
	}
	return actNext
}

func decodeCp(d *decoder) {
	reduce := d.has("reduce")
	if !d.has("async") {
		d.fail("cp without .async")
	}
	if d.has("bulk") {
		switch {
		case d.has("commit_group"):
			d.done()
			d.arity(0, 0)
			d.in.run = func(w *warp, in *instr, m uint32) action { w.bulk.commit(m); return actNext }
		case d.has("wait_group"):
			read := d.has("read")
			d.done()
			d.arity(1, 1)
			n := d.imm(0)
			d.in.run = func(w *warp, in *instr, m uint32) action { return w.bulk.wait(w, m, n, read, w.bulkEnt(), true) }
		default:
			d.bulkCopy(reduce)
		}
		return
	}
	switch {
	case d.has("commit_group"):
		d.done()
		d.arity(0, 0)
		d.in.run = func(w *warp, in *instr, m uint32) action { w.copies.commit(m); return actNext }
	case d.has("wait_group"), d.has("wait_all"):
		d.done()
		n := 0
		all := len(d.st.args) == 0
		if !all {
			d.arity(1, 1)
			n = d.imm(0)
		}
		d.in.run = func(w *warp, in *instr, m uint32) action {
			if all {
				w.copies.commit(m)
			}
			return w.copies.wait(w, m, n, false, w.copyEnt(), false)
		}
	case d.has("mbarrier"):
		d.copyArrive()
	default:
		d.asyncCopy()
	}
}

// asyncCopy decodes cp.async of 4, 8 or 16 bytes per lane.
func (d *decoder) asyncCopy() {
	cg := d.has("cg")
	if !cg && !d.has("ca") {
		d.fail("cp.async without .ca or .cg")
	}
	d.cacheHints()
	if s := d.space(); s != spaceShared {
		d.fail("cp.async copies to .shared")
	}
	if d.space() != spaceGlobal {
		d.fail("cp.async copies from .global")
	}
	d.done()
	d.arity(3, 4)
	in := d.in
	in.a, in.off = d.address(0)
	in.b, in.off2 = d.address(1)
	in.size = d.imm(2)
	if in.size != 16 && (cg || in.size != 4 && in.size != 8) {
		d.fail("cp.async of %d bytes", in.size)
	}
	if len(d.st.args) == 4 {
		in.c = d.src(3, "b32")
	}
	in.run = func(w *warp, in *instr, m uint32) action {
		w.copies.clk++
		op := &copyOp{lanes: m, clk: w.copies.clk, line: in.line}
		w.copies.open = append(w.copies.open, op)
		a := actor{w: w, ent: w.copyEnt(), clk: op.clk, clock: w.clock, line: in.line}
		type part struct{ dst, src []byte }
		var parts []part
		all := m
		lanesOf(m, func(l int) {
			w.mask = 1 << l
			n := in.size
			if in.c >= 0 {
				n = min(n, int(w.reg(in.c)[l]))
			}
			addr := w.reg(in.a)[l] + uint64(in.off)
			if addr&uint64(in.size-1) != 0 {
				w.fail(Misaligned, "shared address %#x of a copy of %d bytes", addr, in.size)
			}
			c, off := w.resolve(addr, in.size, false)
			c.checkState(w, off, in.size, useWrite)
			c.touch(&a, off, in.size, true)
			p := part{dst: c.shared[off : off+in.size]}
			src := w.reg(in.b)[l] + uint64(in.off2)
			if src&uint64(in.size-1) != 0 {
				w.fail(Misaligned, "global address %#x of a copy of %d bytes", src, in.size)
			}
			if n > 0 {
				p.src = w.bytes(spaceGlobal, src, n, useRead, true)[:n:n]
			}
			for i := range p.dst {
				p.dst[i] = 0xff
			}
			parts = append(parts, p)
		})
		w.mask = all
		w.cta.inflight++
		w.cta.copying(&a)
		w.sim.async = append(w.sim.async, &async{run: func() {
			for _, p := range parts {
				clear(p.dst[copy(p.dst, p.src):])
			}
			op.done = true
			w.cta.inflight--
		}})
		return actNext
	}
}

// copyArrive decodes cp.async.mbarrier.arrive: an arrival when the lane's earlier copies are done.
func (d *decoder) copyArrive() {
	if !d.has("arrive") {
		d.fail("cp.async.mbarrier without .arrive")
	}
	noinc := d.has("noinc")
	d.has("b64")
	s := d.space()
	d.done()
	d.arity(1, 1)
	in := d.in
	in.a, in.off = d.address(0)
	in.run = func(w *warp, in *instr, m uint32) action {
		var ops []*copyOp
		ops = append(ops, w.copies.open...)
		for _, g := range w.copies.groups {
			ops = append(ops, g.ops...)
		}
		clk := w.copies.clk
		ent := w.copyEnt()
		lanesOf(m, func(l int) {
			b := w.mbarrier(w.reg(in.a)[l]+uint64(in.off), s)
			if !noinc {
				b.pending++
			}
			w.sim.async = append(w.sim.async, &async{
				ready: func() bool {
					return !slices.ContainsFunc(ops, func(op *copyOp) bool { return op.lanes>>l&1 != 0 && !op.done })
				},
				run: func() {
					b.next.clock[ent] = max(b.next.clock[ent], clk)
					w.in = in
					b.arrive(w, 1)
				},
			})
		})
		return actNext
	}
}

// bulkInstr is a decoded bulk copy.
type bulkInstr struct {
	dims      int  // of a tensor; 0: none
	toShared  bool // global to shared, with an mbarrier
	fromCTA   bool // shared::cta to shared::cluster
	multicast bool
	reduce    string
	typ       string
	coords    []int32 // registers
	size      int32   // register with the number of bytes
	mbar      int32
	mbarOff   int64
	mask      int32
}

func (d *decoder) bulkCopy(reduce bool) {
	b := &bulkInstr{mask: -1}
	in := d.in
	if d.has("prefetch") {
		d.bulkPrefetch()
		return
	}
	if d.has("tensor") {
		b.dims = d.dims()
		d.ignore("tile")
	}
	if reduce {
		for _, op := range []string{"add", "min", "max", "and", "or", "xor", "inc", "dec"} {
			if d.has(op) {
				b.reduce = op
			}
		}
		if b.reduce == "" {
			d.fail("cp.reduce without an operation")
		}
		d.ignore("noftz")
		if b.dims == 0 {
			b.typ = d.typ()
		}
	}
	hint := d.has("L2::cache_hint")
	b.multicast = d.has("multicast::cluster")
	complete := d.has("mbarrier::complete_tx::bytes")
	group := d.has("bulk_group")
	form := strings.Join(d.mods, " ")
	b.toShared = complete
	n := 3
	switch form {
	case "shared::cluster global", "shared::cta global":
		if !complete || reduce {
			d.fail("a copy to shared memory completes at an mbarrier")
		}
	case "shared::cluster shared::cta":
		if !complete || b.dims > 0 || reduce {
			d.fail("a copy between shared memories completes at an mbarrier")
		}
		b.fromCTA = true
	case "global shared::cta":
		if !group {
			d.fail("a copy to global memory completes by .bulk_group")
		}
		n = 2
	default:
		d.fail("the emulator does not know this bulk copy")
	}
	if b.dims == 0 {
		n++
	}
	if b.multicast {
		n++
	}
	if hint {
		n++
	}
	d.arity(n, n)
	tensor, plain := 0, 1
	if b.toShared {
		tensor, plain = 1, 0
	}
	at := 2
	if b.dims == 0 {
		in.a, in.off = d.address(0)
		in.b, in.off2 = d.address(1)
		b.size = d.src(2, "b32")
		at = 3
	} else {
		in.a, in.off = d.address(plain)
		in.b, in.off2 = d.address(tensor)
		d.coordinates(b, tensor)
	}
	if b.toShared {
		b.mbar, b.mbarOff = d.address(at)
		at++
	}
	if b.multicast {
		b.mask = d.src(at, "b16")
		at++
	}
	if hint {
		d.src(at, "b64")
	}
	in.run = func(w *warp, in *instr, m uint32) action {
		all := m
		lanesOf(m, func(l int) {
			w.mask = 1 << l
			if b.toShared {
				w.bulkLoad(in, b, l)
			} else {
				w.bulkStore(in, b, l)
			}
		})
		w.mask = all
		w.sim.progress()
		return actNext
	}
}

// bulkPrefetch decodes a prefetch into the second-level cache. It moves nothing, and reads memory as a copy
// does.
func (d *decoder) bulkPrefetch() {
	b := &bulkInstr{}
	in := d.in
	n := 2
	if d.has("tensor") {
		n = 1
		b.dims = d.dims()
		d.ignore("tile")
	}
	if d.has("L2::cache_hint") {
		n++
	}
	d.ignore("L2", "global")
	d.done()
	d.arity(n, n)
	in.a, in.off = d.address(0)
	if b.dims > 0 {
		d.coordinates(b, 0)
	} else {
		b.size = d.src(1, "b32")
	}
	in.run = func(w *warp, in *instr, m uint32) action {
		lanesOf(m, func(l int) {
			src := w.reg(in.a)[l] + uint64(in.off)
			if b.dims > 0 {
				t := w.tensorMap(src)
				w.readsBox(t, w.coordinates(b, t, l))
				return
			}
			n := int(w.reg(b.size)[l])
			if n%16 != 0 || n == 0 || src&15 != 0 {
				w.fail(Misaligned, "a prefetch of %d bytes at %#x, multiples of 16 are wanted", n, src)
			}
			al := w.global(src, n)
			w.usesGlobal(al, int(src-al.base), n, false)
			w.globalRead(al, int(src-al.base), n)
		})
		return actNext
	}
}

// dims returns the dimensions of a tensor copy.
func (d *decoder) dims() (dims int) {
	for n := 1; n <= 5; n++ {
		if d.has(fmt.Sprintf("%dd", n)) {
			dims = n
		}
	}
	if dims == 0 {
		d.fail("a tensor copy without its number of dimensions")
	}
	return dims
}

// coordinates decodes those of a box, which stand behind the address of the map.
func (d *decoder) coordinates(b *bulkInstr, arg int) {
	if len(d.arg(arg).list) != b.dims {
		d.fail("%d coordinates of a tensor of %d dimensions", len(d.arg(arg).list), b.dims)
	}
	for i := range d.arg(arg).list {
		r := d.value(&d.arg(arg).list[i], "b32")
		d.in.srcs = append(d.in.srcs, r)
		b.coords = append(b.coords, r)
	}
}

// readsBox checks that what the box has of the tensor is memory, and records that it is read.
func (w *warp) readsBox(t *tensorMap, coords []int32) {
	t.rows(coords, func(_ int, addr uint64, from, to int) {
		if to > from {
			first, n := addr+uint64(from*t.elem), (to-from)*t.elem
			al := w.global(first, n)
			w.usesGlobal(al, int(first-al.base), n, false)
			w.globalRead(al, int(first-al.base), n)
		}
	})
}

func (w *warp) coordinates(b *bulkInstr, t *tensorMap, l int) []int32 {
	if len(t.Dims) != b.dims {
		w.fail(Operand, "a tensor map of %d dimensions where the instruction has %d", len(t.Dims), b.dims)
	}
	c := make([]int32, b.dims)
	for i, r := range b.coords {
		c[i] = int32(w.reg(r)[l])
	}
	return c
}

// part is bytes of a copy and where they go.
type part struct{ dst, src []byte }

// bulkLoad copies to shared memory and completes at an mbarrier. The bytes land late: until then the
// destination is 0xff.
func (w *warp) bulkLoad(in *instr, b *bulkInstr, l int) {
	dst := w.reg(in.a)[l] + uint64(in.off)
	mbar := w.reg(b.mbar)[l] + uint64(b.mbarOff)
	src := w.reg(in.b)[l] + uint64(in.off2)
	var t *tensorMap
	var coords []int32
	n := 0
	if b.dims > 0 {
		t = w.tensorMap(src)
		coords = w.coordinates(b, t, l)
		n = t.boxBytes()
		if dst&127 != 0 {
			w.fail(Misaligned, "shared address %#x of a tensor copy, a multiple of 128 is wanted", dst)
		}
	} else {
		n = int(w.reg(b.size)[l])
		if n%16 != 0 || n == 0 || dst&15 != 0 || src&15 != 0 {
			w.fail(Misaligned, "a bulk copy of %d bytes from %#x to %#x, multiples of 16 are wanted", n, src, dst)
		}
	}
	c, off := w.resolve(dst, n, true)
	mc, moff := w.resolve(mbar, 8, true)
	if mc != c {
		w.fail(Operand, "the destination is in CTA %d, the mbarrier in CTA %d", c.index, mc.index)
	}
	targets := []*cta{c}
	if b.multicast {
		mask := w.reg(b.mask)[l]
		if mask == 0 || mask>>len(w.cta.cluster.ctas) != 0 {
			w.fail(Operand, "a multicast mask of %#x in a cluster of %d CTAs", mask, len(w.cta.cluster.ctas))
		}
		targets = nil
		for ; mask != 0; mask &= mask - 1 {
			targets = append(targets, w.cta.cluster.ctas[bits.TrailingZeros64(mask)])
		}
	}
	var source []byte
	fromOff := -1
	if b.fromCTA {
		sc, soff := w.resolve(src, n, false)
		sc.checkState(w, soff, n, useRead)
		fromOff = soff
		source = sc.shared[soff : soff+n]
		sc.inflight++
	} else if t == nil {
		al := w.global(src, n)
		first := int(src - al.base)
		if i := al.unknown(first, n); i >= 0 {
			w.fail(Uninitialised, "copies global memory that was never written: %s", w.sim.dev.where(src+uint64(i)))
		}
		source = al.data[first : first+n]
		w.usesGlobal(al, first, n, false)
		w.globalRead(al, first, n)
	} else {
		w.readsBox(t, coords)
	}
	for _, c := range targets {
		if c.live == 0 {
			w.fail(OutOfBounds, "CTA %d has ended, its shared memory is gone", c.index)
		}
		bar := c.mbars[uint32(moff)]
		if moff%8 != 0 || bar == nil {
			w.fail(Barrier, "no mbarrier was initialised at %#x of CTA %d", moff+sharedBase, c.index)
		}
		if !bar.fenced {
			w.fail(Race, "uses %s; between its init and the copy is neither fence.mbarrier_init nor fence.proxy.async", bar)
		}
		u := w.actor()
		c.touch(&u, moff, 8, false)
		bar.clk++
		a := actor{w: w, ent: bar.ent, clk: bar.clk, async: true, clock: w.clock, proxy: w.proxy, line: in.line}
		if fromOff >= 0 {
			w.cta.touch(&a, fromOff, n, false)
		}
		c.checkState(w, off, n, useWrite)
		c.touch(&a, off, n, true)
		for i := range n {
			c.shared[off+i] = 0xff
		}
		c.inflight++
		c.copying(&a)
		line := w.in
		w.sim.async = append(w.sim.async, &async{run: func() {
			if t == nil {
				copy(c.shared[off:], source)
			} else {
				w.sim.landBox(t, coords, c, off)
			}
			c.inflight--
			if fromOff >= 0 {
				w.cta.inflight--
			}
			bar.next.clock[a.ent] = max(bar.next.clock[a.ent], a.clk)
			bar.next.proxy[a.ent] = max(bar.next.proxy[a.ent], a.clk)
			bar.addTx(-n, func(kind Kind, format string, args ...any) {
				panic(w.report(kind, line, 1<<l, fmt.Sprintf(format, args...)))
			})
		}})
	}
}

// bulkStore copies from shared to global memory in a bulk group. It reads late and writes later.
func (w *warp) bulkStore(in *instr, b *bulkInstr, l int) {
	var src, dst uint64
	var t *tensorMap
	var coords []int32
	n := 0
	if b.dims > 0 {
		src = w.reg(in.a)[l] + uint64(in.off)
		t = w.tensorMap(w.reg(in.b)[l] + uint64(in.off2))
		coords = w.coordinates(b, t, l)
		n = t.boxBytes()
		if src&127 != 0 {
			w.fail(Misaligned, "shared address %#x of a tensor copy, a multiple of 128 is wanted", src)
		}
	} else {
		dst = w.reg(in.a)[l] + uint64(in.off)
		src = w.reg(in.b)[l] + uint64(in.off2)
		n = int(w.reg(b.size)[l])
		if n%16 != 0 || n == 0 || dst&15 != 0 || src&15 != 0 {
			w.fail(Misaligned, "a bulk copy of %d bytes from %#x to %#x, multiples of 16 are wanted", n, src, dst)
		}
	}
	c, off := w.resolve(src, n, false)
	w.bulk.clk++
	a := actor{w: w, ent: w.bulkEnt(), clk: w.bulk.clk, async: true, clock: w.clock, proxy: w.proxy, line: in.line}
	c.checkState(w, off, n, useRead)
	c.touch(&a, off, n, false)
	op := &copyOp{lanes: 1 << l, clk: a.clk, line: in.line}
	w.bulk.open = append(w.bulk.open, op)
	typ := b.typ
	if t != nil && b.reduce != "" {
		typ = map[DataType]string{Uint32: "u32", Int32: "s32", Uint64: "u64", Int64: "s64", Float16: "f16", Float32: "f32", Float64: "f64", BFloat16: "bf16"}[t.Type]
		if typ == "" {
			w.fail(Operand, "a reduction of tensor type %d", t.Type)
		}
	}
	var combine func(a, b, c uint64) uint64
	if b.reduce != "" {
		combine = (&decoder{st: &statement{}}).atomic(b.reduce, typ)
	}
	var targets []part
	buffer := make([]byte, n)
	target := func(addr uint64, from, to int) {
		al := w.global(addr, to-from)
		o := int(addr - al.base)
		w.usesGlobal(al, o, to-from, true)
		if combine == nil {
			w.globalWrite(al, o, to-from)
		} else if i := al.unknown(o, to-from); i >= 0 {
			w.fail(Uninitialised, "reduces into global memory that was never written: %s", w.sim.dev.where(addr+uint64(i)))
		}
		al.know(o, to-from)
		targets = append(targets, part{al.data[o : o+to-from], buffer[from:to]})
	}
	if t == nil {
		target(dst, 0, n)
	} else {
		t.rows(coords, func(o int, addr uint64, from, to int) {
			if to > from {
				target(addr+uint64(from*t.elem), o+from*t.elem, o+to*t.elem)
			}
		})
	}
	c.inflight++
	c.copying(&a)
	w.sim.async = append(w.sim.async, &async{run: func() {
		if t == nil {
			copy(buffer, c.shared[off:])
		} else {
			t.place(off+sharedBase, 0, n, func(i, at int) { copy(buffer[i:i+16], c.shared[at-sharedBase:]) })
		}
		op.read = true
		c.inflight--
		w.sim.async = append(w.sim.async, &async{run: func() {
			for _, p := range targets {
				if combine == nil {
					copy(p.dst, p.src)
					continue
				}
				size := typeBytes[typ]
				for i := 0; i < len(p.dst); i += size {
					store(p.dst[i:i+size], combine(load(p.dst[i:i+size], false), load(p.src[i:i+size], false), 0))
				}
			}
			op.done = true
		}})
	}})
}
