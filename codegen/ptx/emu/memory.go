package emu

import (
	"encoding/binary"
	"fmt"

	"math/bits"
	"slices"
	"strconv"
)

// This file owns memory as warps see it: state spaces, checked accesses, loads, stores, atomics,
// ldmatrix and stmatrix.

type space uint8

const (
	spaceGeneric space = iota
	spaceGlobal
	spaceShared
	spaceConst
	spaceParam
	spaceCluster // shared::cluster
)

var spaceNames = []string{"", "global", "shared", "const", "param"}

// Windows of the generic address space. In the shared window, and in addresses of shared::cluster,
// bits 24 and up are the rank in the cluster plus one; 0 is the own CTA.
const (
	sharedWindow = 0x7f00_0000_0000
	paramBase    = 0x6e00_0000_0000
	rankShift    = 24
)

// States of a byte of shared memory.
const (
	byteUnwritten = iota
	byteWritten
	byteBarrier // part of an mbarrier
)

// use is what an access does.
type use uint8

const (
	useRead use = iota
	useWrite
	useAtomic
	useOpaque // bytes of an mbarrier
)

func itoa(n int) string { return strconv.Itoa(n) }

// resolve turns an address into a CTA and an offset in its shared memory.
func (w *warp) resolve(addr uint64, n int, cluster bool) (*cta, int) {
	c := w.cta
	if rank := addr >> rankShift; rank > 0 {
		if !cluster || rank > uint64(len(c.cluster.ctas)) {
			w.fail(OutOfBounds, "address %#x is not in the shared memory of the CTA%s", addr, map[bool]string{true: " or its cluster"}[cluster])
		}
		c = c.cluster.ctas[rank-1]
		if c.live == 0 {
			w.fail(OutOfBounds, "CTA %d has ended, its shared memory is gone", c.index)
		}
		addr &= 1<<rankShift - 1
	}
	if addr < sharedBase || addr+uint64(n) > uint64(sharedBase+len(c.shared)) {
		w.fail(OutOfBounds, "%d bytes at shared address %#x; the CTA has [%#x, %#x)", n, addr, sharedBase, sharedBase+len(c.shared))
	}
	return c, int(addr) - sharedBase
}

// bytes returns n bytes at an address, which it checks for bounds, alignment and, for reads, that
// they were written.
func (w *warp) bytes(sp space, addr uint64, n int, u use, weak bool) []byte {
	if addr&uint64(n-1) != 0 && n&(n-1) == 0 {
		w.fail(Misaligned, "address %#x of %d bytes", addr, n)
	}
	if sp == spaceGeneric {
		switch {
		case addr >= sharedWindow && addr < sharedWindow+(9<<rankShift):
			sp, addr = spaceCluster, addr-sharedWindow
		case addr >= paramBase && addr < paramBase+maxParams:
			sp = spaceParam
		default:
			sp = spaceGlobal
		}
	}
	switch sp {
	case spaceShared, spaceCluster:
		c, off := w.resolve(addr, n, sp == spaceCluster)
		c.checkState(w, off, n, u)
		if u != useAtomic && weak {
			a := w.actor()
			c.touch(&a, off, n, u == useWrite)
		}
		return c.shared[off : off+n]
	case spaceParam:
		off := addr - paramBase
		if off+uint64(n) > uint64(len(w.sim.params)) {
			w.fail(OutOfBounds, "%d bytes at byte %d of the parameters, which have %d", n, off, len(w.sim.params))
		}
		if u != useRead {
			w.fail(OutOfBounds, "writes parameters")
		}
		return w.sim.params[off : off+uint64(n)]
	}
	a := w.global(addr, n)
	off := int(addr - a.base)
	w.usesGlobal(a, off, n, u != useRead)
	if u != useRead {
		a.know(off, n)
		if u == useWrite && weak {
			w.globalWrite(a, off, n)
		}
	} else if i := a.unknown(off, n); i >= 0 {
		w.fail(Uninitialised, "loads global memory that was never written: %s", w.sim.dev.where(addr+uint64(i)))
	} else if weak {
		w.globalRead(a, off, n)
	}
	return a.data[off : off+n]
}

// global finds the allocation of n bytes.
func (w *warp) global(addr uint64, n int) *alloc {
	a := w.alloc
	if a == nil || a.freed || addr < a.base || addr+uint64(n) > a.end() {
		a = w.sim.dev.find(addr)
		if a == nil || a.freed || addr+uint64(n) > a.end() {
			w.fail(OutOfBounds, "%d bytes at global address %#x: %s", n, addr, w.sim.dev.where(addr))
		}
		w.alloc = a
	}
	return a
}

// checkState fails when bytes of shared memory must not be used so.
func (c *cta) checkState(w *warp, off, n int, u use) {
	s := c.state[off : off+n]
	for i, b := range s {
		switch {
		case b == byteBarrier:
			w.fail(Barrier, "accesses byte %d of shared memory, part of an mbarrier, as data", off+i+sharedBase)
		case u == useWrite:
			s[i] = byteWritten
		case b == byteUnwritten:
			w.fail(Uninitialised, "reads byte %d of shared memory, which was never written", off+i+sharedBase)
		}
	}
}

// Owners of global memory: launch (20 bits), bytes of the word (4), CTA (20), line (20).
func (w *warp) ownerTag() uint64 {
	return w.sim.dev.launches&(1<<20-1)<<44 | uint64(w.cta.index)&(1<<20-1)<<20 | uint64(w.in.line)&(1<<20-1)
}

// globalWrite reports writes of two CTAs of one launch to one byte. A CTA that has executed a fence
// or an acquire is trusted to be ordered behind others.
func (w *warp) globalWrite(a *alloc, off, n int) {
	if a.ro {
		w.fail(OutOfBounds, "writes %s, which is in constant memory", a.name)
	}
	if a.owner == nil {
		a.owner = make([]uint64, (len(a.data)+3)/4)
	}
	tag := w.ownerTag()
	for n > 0 {
		in := off & 3
		k := min(4-in, n)
		m := uint64(1<<k-1) << in
		o := &a.owner[off>>2]
		if *o>>44 == tag>>44 && *o>>20&(1<<20-1) != tag>>20&(1<<20-1) && *o>>40&m != 0 && !w.cta.cluster.acquired {
			w.globalRace(a, off, *o, "writes")
		}
		if *o>>44 == tag>>44 && *o>>20&(1<<20-1) == tag>>20&(1<<20-1) {
			m |= *o >> 40 & 15
		}
		*o = tag | m<<40
		off += k
		n -= k
	}
}

func (w *warp) globalRead(a *alloc, off, n int) {
	if a.owner == nil {
		return
	}
	tag := w.ownerTag()
	for end := off + n; off < end; off = off&^3 + 4 {
		o := a.owner[off>>2]
		if o>>44 == tag>>44 && o>>20&(1<<20-1) != tag>>20&(1<<20-1) && !w.cta.cluster.acquired {
			m := uint64(1<<min(4-off&3, end-off)-1) << (off & 3)
			if o>>40&m != 0 {
				w.globalRace(a, off, o, "reads")
			}
		}
	}
}

func (w *warp) globalRace(a *alloc, off int, o uint64, what string) {
	line := int(o & (1<<20 - 1))
	w.fail(Race, "of global memory: %s %s, which CTA %d wrote in line %d (%s) of the same launch",
		what, w.sim.dev.where(a.base+uint64(off)), o>>20&(1<<20-1), line, w.sim.lineText(line))
}

func load(b []byte, signed bool) uint64 {
	switch len(b) {
	case 1:
		if signed {
			return uint64(uint32(int8(b[0])))
		}
		return uint64(b[0])
	case 2:
		v := binary.LittleEndian.Uint16(b)
		if signed {
			return uint64(uint32(int16(v)))
		}
		return uint64(v)
	case 4:
		return uint64(binary.LittleEndian.Uint32(b))
	}
	return binary.LittleEndian.Uint64(b)
}

func store(b []byte, v uint64) {
	switch len(b) {
	case 1:
		b[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(b, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(b, uint32(v))
	default:
		binary.LittleEndian.PutUint64(b, v)
	}
}

var memory = map[string]func(*decoder){
	"ld": decodeLoad, "st": decodeStore, "ldu": decodeLoad, "atom": decodeAtom, "red": decodeAtom,
	"ldmatrix": decodeLdmatrix, "stmatrix": decodeStmatrix, "prefetch": decodePrefetch, "isspacep": decodeIsspacep,
	"createpolicy": decodeCreatepolicy,
}

// vectorLength removes .v2 or .v4.
func (d *decoder) vectorLength() int {
	switch {
	case d.has("v2"):
		return 2
	case d.has("v4"):
		return 4
	}
	return 1
}

// cacheHints removes hints, which change speed only. The operand of .L2::cache_hint stays.
func (d *decoder) cacheHints() {
	d.mods = slices.DeleteFunc(slices.Clone(d.mods), func(m string) bool {
		return slices.Contains([]string{"ca", "cg", "cs", "lu", "cv", "wb", "wt"}, m) ||
			len(m) > 4 && (m[:4] == "L1::" || m[:4] == "L2::") && m != "L2::cache_hint"
	})
}

// ordering removes .weak, .relaxed, .acquire, .release, .acq_rel, .volatile and the scope.
func (d *decoder) ordering() (weak, acquire bool) {
	weak = !d.has("relaxed") && !d.has("volatile")
	if d.has("acquire") || d.has("acq_rel") {
		weak, acquire = false, true
	}
	if d.has("release") {
		weak = false
	}
	d.ignore("weak", "cta", "cluster", "gpu", "sys")
	return weak, acquire
}

// readOnly reports a .nc load of what the launch wrote: the read-only cache is not coherent with it.
func (w *warp) readOnly(addr uint64, n int) {
	a := w.global(addr, n)
	if a.owner == nil {
		return
	}
	for off := int(addr - a.base); off < int(addr-a.base)+n; off++ {
		o := a.owner[off>>2]
		if o>>44 == w.ownerTag()>>44 && o>>40>>(off&3)&1 != 0 {
			w.fail(Race, "ld.global.nc of %s, which this launch wrote in line %d", w.sim.dev.where(addr), o&(1<<20-1))
		}
	}
}

func decodeLoad(d *decoder) {
	weak, acquire := d.ordering()
	nc := d.has("nc")
	d.cacheHints()
	hint := d.has("L2::cache_hint")
	n := d.vectorLength()
	s := d.space()
	typ := d.typ()
	d.done()
	if hint {
		d.arity(3, 3)
		d.src(2, "b64")
	} else {
		d.arity(2, 2)
	}
	in := d.in
	in.size = typeBytes[typ]
	in.a, in.off = d.address(1)
	in.vec = d.vector(0, n, loadType(typ), true)
	total := in.size * n
	if in.size > 8 || total > 16 {
		d.fail("%d bytes in one load", total)
	}
	signed := isSigned(typ)
	in.run = func(w *warp, in *instr, m uint32) action {
		if acquire {
			w.cta.cluster.acquired = true
		}
		base := *w.reg(in.a)
		all := m
		for rest := m; rest != 0; rest &= rest - 1 {
			l := bits.TrailingZeros32(rest)
			w.mask = 1 << l
			b := w.bytes(s, base[l]+uint64(in.off), total, useRead, weak)
			if nc {
				w.readOnly(base[l]+uint64(in.off), total)
			}
			for i, r := range in.vec {
				w.reg(r)[l] = load(b[i*in.size:(i+1)*in.size], signed)
			}
		}
		w.mask = all
		return actNext
	}
}

// loadType: registers may be wider than 8- and 16-bit types.
func loadType(typ string) string {
	if typeBytes[typ] < 4 {
		return ""
	}
	return typ
}

func decodeStore(d *decoder) {
	weak, _ := d.ordering()
	d.cacheHints()
	hint := d.has("L2::cache_hint")
	n := d.vectorLength()
	s := d.space()
	typ := d.typ()
	d.done()
	if hint {
		d.arity(3, 3)
		d.src(2, "b64")
	} else {
		d.arity(2, 2)
	}
	in := d.in
	in.size = typeBytes[typ]
	in.a, in.off = d.address(0)
	in.vec = d.vector(1, n, loadType(typ), false)
	total := in.size * n
	if in.size > 8 || total > 16 {
		d.fail("%d bytes in one store", total)
	}
	in.run = func(w *warp, in *instr, m uint32) action {
		base := w.reg(in.a)
		all := m
		for rest := m; rest != 0; rest &= rest - 1 {
			l := bits.TrailingZeros32(rest)
			w.mask = 1 << l
			b := w.bytes(s, base[l]+uint64(in.off), total, useWrite, weak)
			for i, r := range in.vec {
				store(b[i*in.size:(i+1)*in.size], w.reg(r)[l])
			}
		}
		w.mask = all
		w.sim.progress()
		return actNext
	}
}

// atomics are the operations of atom and red on the old value and the operand.
func (d *decoder) atomic(op, typ string) func(a, b, c uint64) uint64 {
	m := ^uint64(0) >> (64 - 8*typeBytes[typ])
	switch op {
	case "add":
		switch typ {
		case "f32":
			return func(a, b, _ uint64) uint64 { return bits32(f32(a) + f32(b)) }
		case "f64":
			return func(a, b, _ uint64) uint64 { return bits64(f64(a) + f64(b)) }
		case "bf16", "bf16x2", "f16", "f16x2":
			g := packed(typ, func(a, b, _ float64) float64 { return a + b })
			return func(a, b, _ uint64) uint64 { return g(a, b, 0) }
		}
		return func(a, b, _ uint64) uint64 { return (a + b) & m }
	case "and":
		return func(a, b, _ uint64) uint64 { return a & b }
	case "or":
		return func(a, b, _ uint64) uint64 { return a | b }
	case "xor":
		return func(a, b, _ uint64) uint64 { return a ^ b }
	case "exch":
		return func(_, b, _ uint64) uint64 { return b }
	case "min", "max":
		return func(a, b, _ uint64) uint64 {
			less := a < b
			if isSigned(typ) {
				less = extend(a, typ) < extend(b, typ)
			}
			if less == (op == "min") {
				return a
			}
			return b
		}
	case "inc":
		return func(a, b, _ uint64) uint64 {
			if a >= b {
				return 0
			}
			return a + 1
		}
	case "dec":
		return func(a, b, _ uint64) uint64 {
			if a == 0 || a > b {
				return b
			}
			return a - 1
		}
	case "cas":
		return func(a, b, c uint64) uint64 {
			if a == b {
				return c
			}
			return a
		}
	}
	d.fail("the emulator does not know the atomic operation .%s", op)
	return nil
}

func decodeAtom(d *decoder) {
	_, acquire := d.ordering()
	d.ignore("noftz")
	s := d.space()
	typ := d.typ()
	if len(d.mods) != 1 {
		d.fail("%d operations, want one", len(d.mods))
	}
	op := d.mods[0]
	f := d.atomic(op, typ)
	in := d.in
	red := d.st.op[0] == "red"
	n := 3
	if op == "cas" {
		n = 4
	}
	if red {
		n--
	}
	d.arity(n, n)
	at := 0
	if !red {
		in.d = d.dst(0, loadType(typ))
		at = 1
	}
	in.a, in.off = d.address(at)
	in.b = d.src(at+1, loadType(typ))
	if op == "cas" {
		in.c = d.src(at+2, loadType(typ))
	}
	in.size = typeBytes[typ]
	in.run = func(w *warp, in *instr, m uint32) action {
		if acquire {
			w.cta.cluster.acquired = true
		}
		base := *w.reg(in.a)
		all := m
		for rest := m; rest != 0; rest &= rest - 1 {
			l := bits.TrailingZeros32(rest)
			w.mask = 1 << l
			addr := base[l] + uint64(in.off)
			w.bytes(s, addr, in.size, useRead, false)
			b := w.bytes(s, addr, in.size, useAtomic, false)
			old := load(b, false)
			var c uint64
			if in.c >= 0 {
				c = w.reg(in.c)[l]
			}
			store(b, f(old, w.reg(in.b)[l], c))
			if in.d >= 0 {
				w.reg(in.d)[l] = old
			}
		}
		w.mask = all
		w.sim.progress()
		return actNext
	}
}

// matrixMods decodes the modifiers that ldmatrix and stmatrix share.
func (d *decoder) matrixMods() (n int, trans bool, s space) {
	for _, m := range []string{"sync", "aligned", "m8n8", "b16"} {
		if !d.has(m) {
			d.fail("%s without .%s", d.st.op[0], m)
		}
	}
	for _, k := range []int{1, 2, 4} {
		if d.has(fmt.Sprintf("x%d", k)) {
			n = k
		}
	}
	if n == 0 {
		d.fail("%s without .x1, .x2 or .x4", d.st.op[0])
	}
	trans = d.has("trans")
	s = d.space()
	if s != spaceShared && s != spaceGeneric {
		d.fail("%s of a space other than .shared", d.st.op[0])
	}
	d.done()
	d.arity(2, 2)
	d.in.aligned = true
	return n, trans, s
}

// matrixRows returns the 8·n rows of 8 16-bit elements: row r of matrix i is at the address of lane
// 8i+r (PTX ISA, "ldmatrix").
func (w *warp) matrixRows(in *instr, n int, s space, u use) [32][]byte {
	var rows [32][]byte
	base := *w.reg(in.a)
	all := w.mask
	for l := range 8 * n {
		w.mask = 1 << l
		rows[l] = w.bytes(s, base[l]+uint64(in.off), 16, u, true)
	}
	w.mask = all
	return rows
}

func decodeLdmatrix(d *decoder) {
	n, trans, s := d.matrixMods()
	in := d.in
	in.a, in.off = d.address(1)
	in.vec = d.vector(0, n, "b32", true)
	in.run = func(w *warp, in *instr, m uint32) action {
		rows := w.matrixRows(in, n, s, useRead)
		for i, r := range in.vec {
			d := w.reg(r)
			for l := range d {
				d[l] = 0
				for h := range 2 {
					row, col := matrixElement(l, h, trans)
					d[l] |= load(rows[8*i+row][2*col:2*col+2], false) << (16 * h)
				}
			}
		}
		return actNext
	}
}

func decodeStmatrix(d *decoder) {
	n, trans, s := d.matrixMods()
	in := d.in
	in.a, in.off = d.address(0)
	in.vec = d.vector(1, n, "b32", false)
	in.run = func(w *warp, in *instr, m uint32) action {
		rows := w.matrixRows(in, n, s, useWrite)
		for i, r := range in.vec {
			v := w.reg(r)
			for l := range v {
				for h := range 2 {
					row, col := matrixElement(l, h, trans)
					store(rows[8*i+row][2*col:2*col+2], v[l]>>(16*h)&0xffff)
				}
			}
		}
		w.sim.progress()
		return actNext
	}
}

// matrixElement is which element of an 8×8 matrix lane l holds in half h of its register: row l/4,
// columns 2(l%4) and the next; with .trans the transposed one.
func matrixElement(l, h int, trans bool) (row, col int) {
	row, col = l/4, 2*(l%4)+h
	if trans {
		return col, row
	}
	return row, col
}

func decodePrefetch(d *decoder) {
	tensor := d.has("tensormap")
	d.space()
	d.cacheHints()
	d.ignore("L1", "L2")
	d.done()
	d.arity(1, 1)
	in := d.in
	in.a, in.off = d.address(0)
	in.run = func(w *warp, in *instr, m uint32) action {
		if tensor {
			for rest := m; rest != 0; rest &= rest - 1 {
				w.tensorMap(w.reg(in.a)[bits.TrailingZeros32(rest)] + uint64(in.off))
			}
		}
		return actNext
	}
}

// decodeCreatepolicy: cache policies change speed only.
func decodeCreatepolicy(d *decoder) {
	d.arity(1, 4)
	d.in.d = d.dst(0, "b64")
	d.in.run = func(w *warp, in *instr, m uint32) action {
		lanesOf(m, func(l int) { w.reg(in.d)[l] = 0 })
		return actNext
	}
}

func decodeIsspacep(d *decoder) {
	s := d.space()
	d.done()
	d.arity(2, 2)
	d.predDst(0)
	d.in.a = d.src(1, "b64")
	d.in.run = func(w *warp, in *instr, m uint32) action {
		var v uint32
		for l, a := range w.reg(in.a) {
			shared := a >= sharedWindow && a < sharedWindow+(9<<rankShift)
			if (s == spaceShared || s == spaceCluster) && shared || s == spaceGlobal && !shared && a < paramBase {
				v |= 1 << l
			}
		}
		w.setPreds(in, v, m)
		return actNext
	}
}
