package emu

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// This file owns the tensor core instructions: mma.sync, and wgmma with its descriptors, fragments
// and the order that it demands.
//
// Fragments: PTX ISA, figures "register-fragment-wgmma-64n16-d", "…-64n16-a" and the fragments of
// mma.m16n8k16. Descriptors: "asynchronous-warpgroup-level-matrix-shared-memory-layout-matrix-descriptor".
// Both agree with CUTLASS, cute/arch/mma_sm90_desc.hpp and cute/atom/mma_traits_sm90_gmma.hpp.

var matrix = map[string]func(*decoder){"mma": decodeMma, "wgmma": decodeWgmma}

// dot is Σ a·b of one slice of 16 in float64: products of 16-bit floats are exact, and the sum is
// rounded to f32 once, with the accumulator. The order and the truncation of the hardware are not
// documented; they are within the error of any f32 sum.
func dot(a, b *[16]float64) float64 {
	s := a[0]*b[0] + a[1]*b[1] + a[2]*b[2] + a[3]*b[3]
	t := a[4]*b[4] + a[5]*b[5] + a[6]*b[6] + a[7]*b[7]
	u := a[8]*b[8] + a[9]*b[9] + a[10]*b[10] + a[11]*b[11]
	v := a[12]*b[12] + a[13]*b[13] + a[14]*b[14] + a[15]*b[15]
	return (s + t) + (u + v)
}

func decodeMma(d *decoder) {
	want := []string{"sync", "aligned", "", "row", "col", "f32", "", "", "f32"}
	if len(d.mods) != len(want) {
		d.fail("the emulator knows mma.sync.aligned.m16n8k16.row.col.f32.T.T.f32 and k8, T = bf16 or f16")
	}
	for i, m := range want {
		if m != "" && d.mods[i] != m {
			d.fail(".%s where .%s is expected", d.mods[i], m)
		}
	}
	k := map[string]int{"m16n8k16": 16, "m16n8k8": 8}[d.mods[2]]
	h, ok := halves[d.mods[6]]
	if k == 0 || !ok || d.mods[6] != d.mods[7] {
		d.fail("the emulator does not know mma of .%s, .%s and .%s", d.mods[2], d.mods[6], d.mods[7])
	}
	d.arity(4, 4)
	in := d.in
	in.aligned = true
	dr, ar, br, cr := d.vector(0, 4, "f32", true), d.vector(1, k/4, "b32", false), d.vector(2, k/8, "b32", false), d.vector(3, 4, "f32", false)
	in.run = func(w *warp, in *instr, m uint32) action {
		var a, b [16][16]float64 // rows of A, columns of B
		for q, r := range ar {
			for l, v := range w.reg(r) {
				row, col := fragmentA(l, q)
				a[row][col] = float64(h.from(uint16(v)))
				a[row][col+1] = float64(h.from(uint16(v >> 16)))
			}
		}
		for q, r := range br {
			for l, v := range w.reg(r) {
				col := 2*(l%4) + 8*q
				b[l/4][col] = float64(h.from(uint16(v)))
				b[l/4][col+1] = float64(h.from(uint16(v >> 16)))
			}
		}
		var out [4][32]uint64
		for i := range out {
			c := w.reg(cr[i])
			for l := range 32 {
				row, col := fragmentD(l, i)
				out[i][l] = bits32(float32(float64(f32(c[l])) + dot(&a[row], &b[col])))
			}
		}
		for i, r := range dr {
			*w.reg(r) = out[i]
		}
		return actNext
	}
}

// fragmentA is the row and first column that lane l holds in register q of a 16×16 A fragment.
func fragmentA(l, q int) (row, col int) { return l/4 + 8*(q&1), 2*(l%4) + 8*(q>>1) }

// fragmentD is the row and column that lane l holds in register i of a 16×N f32 D fragment.
func fragmentD(l, i int) (row, col int) { return l/4 + 8*(i/2%2), 8*(i/4) + 2*(l%4) + i%2 }

// wgmma.

// wgmmaInstr is what a wgmma.mma_async says.
type wgmmaInstr struct {
	n              int // columns
	typ            half
	d              []int32 // accumulators, N/2
	a              []int32 // A fragment, or nil
	descA, descB   int32
	scaleA, scaleB float64
	transA, transB bool
}

// Uses of registers by wgmma operations in flight.
const (
	heldD = 1 << iota
	heldA
)

// wgmmaOp is one operation of a warpgroup.
type wgmmaOp struct {
	in     *instr
	issued int // warps
	descs  [2]uint64
	scaleD bool
	know   clocks
	clk    uint32 // of the warpgroup's agent
	done   bool
	who    int // the first warp, for messages
}

type warpgroup struct {
	cta    *cta
	index  int
	warps  [4]*warp
	ops    []*wgmmaOp // not done, in order
	base   int        // operations before ops[0]
	clk    uint32
	setmax []int // counts of setmaxnreg so far
}

// warpWgmma is the wgmma state of one warp.
type warpWgmma struct {
	issued int
	open   []*wgmmaOp
	groups [][]*wgmmaOp // committed, oldest first
}

func (w *warp) group() *warpgroup {
	i := w.index / 4
	if i >= len(w.cta.groups) {
		w.fail(WgmmaOrder, "warp %d is in an incomplete warpgroup", w.index)
	}
	return w.cta.groups[i]
}

func decodeWgmma(d *decoder) {
	if len(d.mods) < 3 {
		d.fail("wgmma without an operation")
	}
	op := d.mods[0]
	for _, m := range []string{"sync", "aligned"} {
		if !d.has(m) {
			d.fail("wgmma without .%s", m)
		}
	}
	in := d.in
	in.aligned = true
	d.mods = d.mods[1:]
	switch op {
	case "fence":
		d.done()
		d.arity(0, 0)
		in.run = func(w *warp, in *instr, m uint32) action { w.fences++; return actNext }
	case "commit_group":
		d.done()
		d.arity(0, 0)
		in.run = func(w *warp, in *instr, m uint32) action {
			g := &w.wgmma
			g.groups = append(g.groups, g.open)
			g.open = nil
			return actNext
		}
	case "wait_group":
		d.done()
		d.arity(1, 1)
		n := d.imm(0)
		if n < 0 || n > 7 {
			d.fail("wait_group %d, the limits are 0 and 7", n)
		}
		in.run = func(w *warp, in *instr, m uint32) action { return w.waitWgmma(n) }
	case "mma_async":
		d.mmaAsync()
	}
}

func (d *decoder) mmaAsync() {
	if len(d.mods) != 4 {
		d.fail("the emulator knows wgmma.mma_async.sync.aligned.m64nNk16.f32.T.T, T = bf16 or f16")
	}
	shape, ok := strings.CutPrefix(d.mods[0], "m64n")
	shape, ok2 := strings.CutSuffix(shape, "k16")
	n, err := strconv.Atoi(shape)
	h, ok3 := halves[d.mods[2]]
	if !ok || !ok2 || !ok3 || err != nil || n < 8 || n > 256 || n%8 != 0 || d.mods[1] != "f32" || d.mods[2] != d.mods[3] {
		d.fail("the emulator does not know wgmma of %s", strings.Join(d.mods, "."))
	}
	in := d.in
	g := &wgmmaInstr{n: n, typ: h}
	in.wg = g
	if len(d.st.args) < 7 {
		d.fail("%d operands, want 7 or 8", len(d.st.args))
	}
	g.d = d.vector(0, n/2, "f32", true)
	rs := d.arg(1).kind == opVector
	if rs {
		d.arity(7, 7)
		g.a = d.vector(1, 4, "b32", false)
	} else {
		d.arity(8, 8)
		g.descA = d.src(1, "b64")
	}
	g.descB = d.src(2, "b64")
	in.dsts, in.srcs = nil, nil // issue checks them by itself
	in.n = -1
	if o := d.arg(3); o.kind == opImm {
		if in.n = d.imm(3); in.n != 0 && in.n != 1 {
			d.fail("scale-d is %d, want a predicate, 0 or 1", in.n)
		}
	} else {
		d.predSrc(3)
	}
	scale := func(i int) float64 {
		v := d.imm(i)
		if v != 1 && v != -1 {
			d.fail("operand %d is %d, want 1 or -1", i+1, v)
		}
		return float64(v)
	}
	trans := func(i int) bool {
		v := d.imm(i)
		if v != 0 && v != 1 {
			d.fail("operand %d is %d, want 0 or 1", i+1, v)
		}
		return v == 1
	}
	g.scaleA, g.scaleB = scale(4), scale(5)
	if rs {
		g.transB = trans(6)
	} else {
		g.transA, g.transB = trans(6), trans(7)
	}
	in.run = func(w *warp, in *instr, m uint32) action { w.issueWgmma(in); return actNext }
}

// issueWgmma is one warp's part of the issue. The operation starts when all four warps of the
// warpgroup have issued it.
func (w *warp) issueWgmma(in *instr) {
	g := in.wg
	wg := w.group()
	all := ^uint32(0)
	if w.fences == 0 {
		w.fail(WgmmaOrder, "no wgmma.fence before the first wgmma")
	}
	var descs [2]uint64
	if g.a == nil {
		if w.bad[g.descA] != 0 {
			w.badRead(g.descA, w.bad[g.descA])
		}
		descs[0] = w.uniform(g.descA, all, "the descriptor of A")
	}
	if w.bad[g.descB] != 0 {
		w.badRead(g.descB, w.bad[g.descB])
	}
	descs[1] = w.uniform(g.descB, all, "the descriptor of B")
	scaleD := in.n == 1
	if in.ps >= 0 {
		p := w.preds[in.ps]
		if in.psNeg {
			p = ^p
		}
		if p != 0 && p != all {
			w.fail(Operand, "scale-d differs within the warp")
		}
		scaleD = p != 0
	}
	for _, r := range g.d {
		switch {
		case w.held[r]&heldA != 0:
			w.badWrite(r)
		case w.held[r]&heldD != 0:
			if !w.accumulates(g) {
				w.fail(InFlight, "accumulates in %s, which a wgmma of another shape in flight writes", w.regName(r))
			}
		case scaleD && w.bad[r] != 0:
			w.badRead(r, w.bad[r])
		case w.stamp[r] == w.fences+1:
			w.fail(WgmmaOrder, "accumulator %s was written after the last wgmma.fence", w.regName(r))
		}
	}
	for _, r := range g.a {
		switch {
		case w.held[r]&heldD != 0:
			w.badRead(r, all)
		case w.held[r] == 0 && w.bad[r] != 0:
			w.badRead(r, w.bad[r])
		case w.stamp[r] == w.fences+1:
			w.fail(WgmmaOrder, "A register %s was written after the last wgmma.fence", w.regName(r))
		}
	}
	i := w.wgmma.issued - wg.base
	w.wgmma.issued++
	if i == len(wg.ops) {
		n := w.cta.cluster.ents
		op := &wgmmaOp{in: in, descs: descs, scaleD: scaleD, know: newClocks(n), who: w.index}
		copy(op.know.clock, w.clock)
		copy(op.know.proxy, w.proxy)
		wg.ops = append(wg.ops, op)
	}
	op := wg.ops[i]
	if op.in != in || op.descs != descs || op.scaleD != scaleD {
		w.fail(WgmmaOrder, "warp %d of the warpgroup issued another wgmma: line %d, descriptors %#x and %#x, scale-d %v; this one has %#x, %#x, %v",
			op.who, op.in.line, op.descs[0], op.descs[1], op.scaleD, descs[0], descs[1], scaleD)
	}
	op.know.clock.meet(w.clock)
	op.know.proxy.meet(w.proxy)
	op.issued++
	w.wgmma.open = append(w.wgmma.open, op)
	w.hold(op)
	if op.issued == 4 {
		w.startWgmma(wg, op)
	}
}

// accumulates reports whether all operations in flight that share accumulators with g have the same.
func (w *warp) accumulates(g *wgmmaInstr) bool {
	same := func(ops []*wgmmaOp) bool {
		for _, op := range ops {
			o := op.in.wg
			if o.n != g.n {
				for _, r := range o.d {
					for _, q := range g.d {
						if r == q {
							return false
						}
					}
				}
			}
		}
		return true
	}
	for _, ops := range w.wgmma.groups {
		if !same(ops) {
			return false
		}
	}
	return same(w.wgmma.open)
}

// hold marks the registers of an operation as in use.
func (w *warp) hold(op *wgmmaOp) {
	for _, r := range op.in.wg.d {
		w.held[r] |= heldD
		w.bad[r] = ^uint32(0)
	}
	for _, r := range op.in.wg.a {
		w.held[r] |= heldA
		w.bad[r] = ^uint32(0)
	}
}

// waitWgmma waits until at most n committed groups are pending.
func (w *warp) waitWgmma(n int) action {
	g := &w.wgmma
	if len(g.groups) <= n {
		return actNext
	}
	old := g.groups[:len(g.groups)-n]
	pending := func() *wgmmaOp {
		for _, ops := range old {
			for _, op := range ops {
				if !op.done {
					return op
				}
			}
		}
		return nil
	}
	if pending() != nil {
		return w.waitFor(func() string {
			op := pending()
			return fmt.Sprintf("the wgmma of line %d, which %d of 4 warps issued", op.in.line, op.issued)
		}, func() bool { return pending() == nil })
	}
	agent := w.group().ent() + w.index%4
	for _, ops := range old {
		for _, op := range ops {
			for _, rs := range [][]int32{op.in.wg.d, op.in.wg.a} {
				for _, r := range rs {
					w.held[r] = 0
					w.bad[r] = 0
				}
			}
			w.clock[agent] = max(w.clock[agent], op.clk)
			w.proxy[agent] = max(w.proxy[agent], op.clk)
		}
	}
	g.groups = append([][]*wgmmaOp(nil), g.groups[len(g.groups)-n:]...)
	for _, ops := range g.groups {
		for _, op := range ops {
			w.hold(op)
		}
	}
	for _, op := range g.open {
		w.hold(op)
	}
	return actNext
}

// A matrix descriptor.
type descriptor struct {
	start    int // shared address
	lbo, sbo int // bytes
	swizzle  int // bytes of a swizzled row: 16 (none), 32, 64, 128
}

// parseDescriptor splits the 64 bits; it reports bits that must be zero.
func parseDescriptor(v uint64) (d descriptor, err error) {
	d.start = int(v&0x3fff) << 4
	d.lbo = int(v>>16&0x3fff) << 4
	d.sbo = int(v>>32&0x3fff) << 4
	d.swizzle = []int{16, 128, 64, 32}[v>>62]
	if v&0x3ff1_c000_c000_c000 != 0 {
		return d, fmt.Errorf("descriptor %#x has bits that must be zero", v)
	}
	if v>>49&7 != 0 {
		return d, fmt.Errorf("descriptor %#x has base offset %d; the emulator knows only 0, tiles that begin at a multiple of the swizzle's repeat", v, v>>49&7)
	}
	return d, nil
}

// swizzleAddress is the XOR of a swizzle with rows of the given bytes on a shared address: bits
// 4…4+B ^= bits 7…7+B, B = 3, 2, 1 for 128, 64, 32 bytes (CuTe Swizzle<B,4,3>).
func swizzleAddress(addr, row int) int {
	return addr ^ addr>>3&(row-16)
}

// element is the shared address of element (mn, k) of an operand with 2-byte elements and k < 16.
func (d descriptor) element(mn, k int, trans bool) int {
	if trans {
		e := d.swizzle / 2
		return swizzleAddress(d.start+mn%e*2+mn/e*d.lbo+k%8*d.swizzle+k/8*d.sbo, d.swizzle)
	}
	if d.swizzle == 16 {
		return d.start + mn/8*d.sbo + mn%8*16 + k/8*d.lbo + k%8*2
	}
	return swizzleAddress(d.start+mn/8*d.sbo+mn%8*d.swizzle+2*k, d.swizzle)
}

// chunks calls f for each 16 bytes of an operand with mn rows, with the first element in them.
func (d descriptor) chunks(mn int, trans bool, f func(addr, mn, k int)) {
	if trans {
		for k := range 16 {
			for i := 0; i < mn; i += 8 {
				f(d.element(i, k, true), i, k)
			}
		}
		return
	}
	for i := range mn {
		f(d.element(i, 0, false), i, 0)
		f(d.element(i, 8, false), i, 8)
	}
}

func (w *warp) checkDescriptor(a *actor, v uint64, mn int, trans bool, name string) {
	d, err := parseDescriptor(v)
	if err != nil {
		w.fail(Operand, "%s: %v", name, err)
	}
	if trans && d.swizzle == 16 {
		w.fail(Operand, "%s: the emulator does not know MN-major operands without swizzle", name)
	}
	c := w.cta
	d.chunks(mn, trans, func(addr, i, k int) {
		off := addr - sharedBase
		if off < 0 || off+16 > len(c.shared) {
			w.fail(OutOfBounds, "%s: element (%d, %d) is at shared address %#x; the CTA has [%#x, %#x)", name, i, k, addr, sharedBase, sharedBase+len(c.shared))
		}
		c.checkState(w, off, 16, useRead)
		c.touch(a, off, 16, false)
	})
}

// startWgmma checks the operands of an operation that all warps issued, and queues it.
func (w *warp) startWgmma(wg *warpgroup, op *wgmmaOp) {
	g := op.in.wg
	wg.clk++
	op.clk = wg.clk
	a := actor{w: w, ent: wg.ent(), clk: op.clk, async: true, quad: true, clock: op.know.clock, proxy: op.know.proxy, line: op.in.line}
	if g.a == nil {
		w.checkDescriptor(&a, op.descs[0], 64, g.transA, "A")
	}
	w.checkDescriptor(&a, op.descs[1], g.n, g.transB, "B")
	w.sim.async = append(w.sim.async, &async{
		ready: func() bool { return wg.ops[0] == op },
		run: func() {
			wg.compute(op)
			op.done = true
			wg.ops = wg.ops[1:]
			wg.base++
		},
	})
	w.sim.progress()
}

// operand reads a matrix as rows of 16.
func (wg *warpgroup) operand(v uint64, mn int, trans bool, h half, scale float64) [][16]float64 {
	d, _ := parseDescriptor(v)
	out := make([][16]float64, mn)
	d.chunks(mn, trans, func(addr, i, k int) {
		b := wg.cta.shared[addr-sharedBase:][:16]
		for j := range 8 {
			x := scale * float64(h.from(uint16(b[2*j])|uint16(b[2*j+1])<<8))
			if trans {
				out[i+j][k] = x
			} else {
				out[i][k+j] = x
			}
		}
	})
	return out
}

// compute does the operation.
func (wg *warpgroup) compute(op *wgmmaOp) {
	g := op.in.wg
	b := wg.operand(op.descs[1], g.n, g.transB, g.typ, g.scaleB)
	var a [][16]float64
	if g.a == nil {
		a = wg.operand(op.descs[0], 64, g.transA, g.typ, g.scaleA)
	} else {
		a = make([][16]float64, 64)
		for i, w := range wg.warps {
			for q, r := range g.a {
				for l, v := range w.reg(r) {
					row, col := fragmentA(l, q)
					a[16*i+row][col] = g.scaleA * float64(g.typ.from(uint16(v)))
					a[16*i+row][col+1] = g.scaleA * float64(g.typ.from(uint16(v>>16)))
				}
			}
		}
	}
	for i, w := range wg.warps {
		for j, r := range g.d {
			d := w.reg(r)
			for l := range d {
				row, col := fragmentD(l, j)
				s := dot(&a[16*i+row], &b[col])
				if op.scaleD {
					s += float64(f32(d[l]))
				}
				d[l] = bits32(float32(s))
			}
		}
	}
}

func lanesOf(m uint32, f func(l int)) {
	for ; m != 0; m &= m - 1 {
		f(bits.TrailingZeros32(m))
	}
}
