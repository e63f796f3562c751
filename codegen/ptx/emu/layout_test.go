package emu

import (
	"fmt"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/num"
)

// cute evaluates a CuTe layout: the coordinate is split by the shape, the first mode fastest, and
// multiplied by the strides.
func cute(coord int, shape, stride []int) int {
	at := 0
	for i, n := range shape {
		at += coord % n * stride[i]
		coord /= n
	}
	return at
}

// TestFragments compares the fragments with the layouts of CUTLASS: cute/atom/mma_traits_sm90_gmma.hpp,
// CLayout_64xN and ALayout_64x16, and cute/atom/mma_traits_sm80.hpp, SM80_16x8x16. A layout maps a
// thread and a value to row + rows·column.
func TestFragments(t *testing.T) {
	for thread := range 128 {
		w, l := thread/32, thread%32
		for i := range 128 {
			row, col := fragmentD(l, i)
			want := cute(thread, []int{4, 8, 4}, []int{128, 1, 16}) + cute(i, []int{2, 2, 32}, []int{64, 8, 512})
			if got := 16*w + row + 64*col; got != want {
				t.Fatalf("D of wgmma: thread %d, value %d is at %d, want %d", thread, i, got, want)
			}
		}
		for v := range 8 {
			row, col := fragmentA(l, v/2)
			want := cute(thread, []int{4, 8, 4}, []int{128, 1, 16}) + cute(v, []int{2, 2, 2}, []int{64, 8, 512})
			if got := 16*w + row + 64*(col+v%2); got != want {
				t.Fatalf("A of wgmma: thread %d, value %d is at %d, want %d", thread, v, got, want)
			}
		}
	}
	for l := range 32 {
		for v := range 8 {
			row, col := fragmentA(l, v/2)
			want := cute(l, []int{4, 8}, []int{32, 1}) + cute(v, []int{2, 2, 2}, []int{16, 8, 128})
			if got := row + 16*(col+v%2); got != want {
				t.Fatalf("A of mma.sync: lane %d, value %d is at %d, want %d", l, v, got, want)
			}
		}
		for v := range 4 {
			row, col := fragmentD(l, v)
			want := cute(l, []int{4, 8}, []int{32, 1}) + cute(v, []int{2, 2}, []int{16, 8})
			if got := row + 16*col; got != want {
				t.Fatalf("D of mma.sync: lane %d, value %d is at %d, want %d", l, v, got, want)
			}
		}
	}
}

// TestSwizzle: in rows of 128 bytes, 16-byte column c of row r is at c ^ r%8; rows of 64 bytes go in
// pairs and rows of 32 bytes in fours, because the pattern repeats every 128 bytes of address.
func TestSwizzle(t *testing.T) {
	for _, width := range []int{32, 64, 128} {
		columns := width / 16
		perRow := 128 / width // rows in 128 bytes
		for r := range 64 {
			for c := range columns {
				want := r*width + (c^r/perRow%columns)*16
				if got := swizzleAddress(r*width+c*16, width); got != want {
					t.Fatalf("width %d, row %d, column %d: %d, want %d", width, r, c, got, want)
				}
			}
		}
	}
}

// TestDescriptors multiplies one 64×N×16 slice by wgmma for every layout that the emulator knows: TMA
// places the operands, the descriptor finds them.
func TestDescriptors(t *testing.T) {
	const n = 64
	layouts := []struct {
		name    string
		swizzle Swizzle
		layout  int // of the descriptor
	}{{"none", SwizzleNone, 0}, {"32B", Swizzle32B, 3}, {"64B", Swizzle64B, 2}, {"128B", Swizzle128B, 1}}
	for _, la := range layouts {
		for _, lb := range layouts {
			for trans := range 4 {
				ta, tb := trans&1 != 0, trans&2 != 0
				if ta && la.layout == 0 || tb && lb.layout == 0 {
					continue // MN-major without swizzle is refused
				}
				t.Run(fmt.Sprintf("A %s trans %v, B %s trans %v", la.name, ta, lb.name, tb), func(t *testing.T) {
					testDescriptor(t, n, la.swizzle, la.layout, ta, lb.swizzle, lb.layout, tb)
				})
			}
		}
	}
}

// operandLayout says how an operand with 64 rows and 16 of K lies: the boxes that TMA loads, each
// [rows][cols] of the stored matrix, and the descriptor without address.
func operandLayout(s Swizzle, layout int, trans bool) (boxRows, boxCols int, desc uint64) {
	w := 16 << s // bytes of a row
	enc := func(lbo, sbo int) uint64 {
		return uint64(layout)<<62 | uint64(sbo/16)<<32 | uint64(lbo/16)<<16
	}
	switch {
	case trans: // stored [k][mn]: 16 rows of K, W/2 columns in a box, boxes side by side
		return 16, w / 2, enc(16*w, 8*w)
	case s == SwizzleNone: // stored [mn][k]: boxes of 8 columns, 64 rows
		return 64, 8, enc(64*16, 8*16)
	}
	return 64, min(w/2, 16), enc(16, 8*w)
}

func testDescriptor(t *testing.T, n int, sa Swizzle, la int, ta bool, sb Swizzle, lb int, tb bool) {
	var load strings.Builder
	bytes := 0
	boxes := func(tm string, base, boxRows, boxCols, rows, cols int, step int) {
		for c := 0; c < cols; c += boxCols {
			fmt.Fprintf(&load, "add.u32 %%r2, %%r1, %d; cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%%r2], [%s, {%d, 0}], [%%r3];\n", base+c/boxCols*step, tm, c)
			bytes += boxRows * boxCols * 2
		}
	}
	// The stored matrices: [64][16], or [16][64] where transposed.
	shape := func(trans bool) (rows, cols int) {
		if trans {
			return 16, 64
		}
		return 64, 16
	}
	place := func(tm string, base int, s Swizzle, layout int, trans bool) (TensorMap, uint64) {
		br, bc, desc := operandLayout(s, layout, trans)
		rows, cols := shape(trans)
		boxCols := bc
		if s != SwizzleNone && !trans {
			// A K-major row of the swizzle's width holds 16 of K and zeros.
			boxCols = (16 << s) / 2
		}
		boxes(tm, base, br, boxCols, rows, cols, br*boxCols*2)
		return TensorMap{Type: BFloat16, Dims: []uint64{uint64(cols), uint64(rows)}, Strides: []uint64{uint64(2 * cols)}, Box: []uint32{uint32(boxCols), uint32(br)}, Swizzle: s}, desc
	}
	mapA, descA := place("%rd0", 0, sa, la, ta)
	mapB, descB := place("%rd1", 16384, sb, lb, tb)
	var d []string
	var st strings.Builder
	for i := range n / 2 {
		d = append(d, fmt.Sprintf("%%f%d", i))
		fmt.Fprintf(&st, "st.global.f32 [%%rd5+%d], %%f%d;\n", 4*i, i)
	}
	bit := map[bool]int{true: 1}
	m := mustParse(t, header+fmt.Sprintf(`
.extern .shared .align 1024 .b8 smem[];
.entry one(.param .align 64 .b8 ta[128], .param .align 64 .b8 tb[128], .param .u64 out) {
	.reg .pred %%p<2>; .reg .b32 %%r<8>; .reg .b64 %%rd<8>; .reg .f32 %%f<%d>;
	mov.u32 %%r0, %%tid.x; mov.u32 %%r1, smem; add.u32 %%r3, %%r1, 32768;
	mov.b64 %%rd0, ta; cvta.param.u64 %%rd0, %%rd0; mov.b64 %%rd1, tb; cvta.param.u64 %%rd1, %%rd1;
	setp.ne.u32 %%p0, %%r0, 0;
	@%%p0 bra LOADED;
	mbarrier.init.shared::cta.b64 [%%r3], 1; fence.mbarrier_init.release.cluster;
	mbarrier.arrive.expect_tx.shared::cta.b64 _, [%%r3], %d;
	%s
LOADED:
	bar.sync 0;
WAIT: mbarrier.try_wait.parity.shared::cta.b64 %%p1, [%%r3], 0; @!%%p1 bra WAIT;
	bfe.u32 %%r4, %%r1, 4, 14; cvt.u64.u32 %%rd2, %%r4; add.u64 %%rd3, %%rd2, 1024;
	or.b64 %%rd2, %%rd2, %d; or.b64 %%rd3, %%rd3, %d;
	wgmma.fence.sync.aligned;
	wgmma.mma_async.sync.aligned.m64n%dk16.f32.bf16.bf16 {%s}, %%rd2, %%rd3, 0, 1, -1, %d, %d;
	wgmma.commit_group.sync.aligned; wgmma.wait_group.sync.aligned 0;
	ld.param.u64 %%rd4, [out]; mul.wide.u32 %%rd5, %%r0, %d; add.u64 %%rd5, %%rd5, %%rd4;
	%s
}`, n/2, bytes, load.String(), descA, descB, n, strings.Join(d, ", "), bit[ta], bit[tb], 2*n, st.String()))
	h := newHost(t, 1)
	store := func(trans bool, seed uint64) (uint64, func(mn, k int) float64) {
		v, f := randomBF16(64*16, seed)
		return h.upload(v), func(mn, k int) float64 {
			if trans {
				return f[k*64+mn]
			}
			return f[mn*16+k]
		}
	}
	var a, b func(mn, k int) float64
	mapA.Address, a = store(ta, 1)
	mapB.Address, b = store(tb, 2)
	out := h.alloc(64 * n * 4)
	h.must(h.launch(m.Kernels[0], Config{Block: [3]int{128}, Shared: 32776}, h.encode(mapA), h.encode(mapB), out))
	got := make([]float32, 64*n)
	h.download(out, got)
	for thread := range 128 {
		for i := range n / 2 {
			at := cute(thread, []int{4, 8, 4}, []int{128, 1, 16}) + cute(i, []int{2, 2, 32}, []int{64, 8, 512})
			row, col := at%64, at/64
			var want float64
			for k := range 16 {
				want -= a(row, k) * b(col, k)
			}
			if g := float64(got[thread*n/2+i]); g-want > 1e-6 || want-g > 1e-6 || g != g {
				t.Fatalf("D[%d][%d] = %v, want %v", row, col, g, want)
			}
		}
	}
}

// TestDescriptorErrors: descriptors that cannot be are reported.
func TestDescriptorErrors(t *testing.T) {
	for _, v := range []uint64{1 << 14, 1 << 30, 1 << 46, 1 << 52, 1 << 49} {
		if _, err := parseDescriptor(v); err == nil {
			t.Errorf("descriptor %#x is accepted", v)
		}
	}
	d, err := parseDescriptor(2<<62 | 0x40<<32 | 0x20<<16 | 0x123)
	if err != nil || d != (descriptor{0x1230, 0x200, 0x400, 64}) {
		t.Errorf("got %+v, %v", d, err)
	}
}

// TestTMABox loads boxes that stick out of a 3-D tensor on every side and compares them with zeros
// outside, then stores a box that sticks out and looks for what must not change.
func TestTMABox(t *testing.T) {
	const X, Y, Z = 24, 5, 3 // elements, inner first
	const bx, by, bz = 16, 4, 2
	m := mustParse(t, header+`
.extern .shared .align 128 .b8 smem[];
.entry copy(.param .align 64 .b8 from[128], .param .align 64 .b8 to[128], .param .u32 x, .param .u32 y, .param .u32 z) {
	.reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %rd<4>;
	mov.u32 %r0, %tid.x; mov.u32 %r1, smem; add.u32 %r2, %r1, 512;
	mov.b64 %rd0, from; cvta.param.u64 %rd0, %rd0; mov.b64 %rd1, to; cvta.param.u64 %rd1, %rd1;
	ld.param.u32 %r3, [x]; ld.param.u32 %r4, [y]; ld.param.u32 %r5, [z];
	setp.ne.u32 %p0, %r0, 0;
	@%p0 ret;
	mbarrier.init.shared::cta.b64 [%r2], 1; fence.mbarrier_init.release.cluster;
	mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 256;
	cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd0, {%r3, %r4, %r5}], [%r2];
WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra WAIT;
	cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%rd1, {%r3, %r4, %r5}], [%r1];
	cp.async.bulk.commit_group;
	cp.async.bulk.wait_group 0;
}`)
	for _, c := range [][3]int{{0, 0, 0}, {8, 1, 1}, {16, 3, 2}, {-8, -2, -1}, {40, 0, 0}, {0, 0, -5}} {
		h := newHost(t, 3)
		src, _ := randomBF16(X*Y*Z, 1)
		marks := make([]uint16, X*Y*Z)
		for i := range marks {
			marks[i] = 0x1234
		}
		tm := TensorMap{Type: BFloat16, Dims: []uint64{X, Y, Z}, Strides: []uint64{2 * X, 2 * X * Y}, Box: []uint32{bx, by, bz}}
		from, to := tm, tm
		from.Address, to.Address = h.upload(src), h.upload(marks)
		h.must(h.launch(m.Kernels[0], Config{Block: [3]int{32}, Shared: 520}, h.encode(from), h.encode(to), int32(c[0]), int32(c[1]), int32(c[2])))
		got := make([]uint16, X*Y*Z)
		h.download(to.Address, got)
		for z := range Z {
			for y := range Y {
				for x := range X {
					i := (z*Y+y)*X + x
					inside := x >= c[0] && x < c[0]+bx && y >= c[1] && y < c[1]+by && z >= c[2] && z < c[2]+bz
					want := uint16(0x1234)
					if inside {
						want = src[i]
					}
					if got[i] != want {
						t.Fatalf("box at %v: element (%d, %d, %d) is %#x, want %#x", c, x, y, z, got[i], want)
					}
				}
			}
		}
	}
}

// TestTMAZeros: what a box has outside of the tensor is zero.
func TestTMAZeros(t *testing.T) {
	d := New(Options{})
	p, err := d.Alloc(64)
	if err != nil {
		t.Fatal(err)
	}
	tm := &tensorMap{TensorMap{Type: BFloat16, Address: p, Dims: []uint64{8, 4}, Strides: []uint64{16}, Box: []uint32{8, 4}}, 2}
	c := &cta{shared: make([]byte, 64)}
	for i := range c.shared {
		c.shared[i] = 0xaa
	}
	(&sim{dev: d}).landBox(tm, []int32{4, 2}, c, 0)
	for i := range 32 {
		got := c.shared[2*i]
		want := byte(0)
		if i%8 < 4 && i/8 < 2 {
			want = 0xff
		}
		if got != want {
			t.Fatalf("element %d is %#x, want %#x", i, got, want)
		}
	}
}

// TestMatrixMoves loads and stores 8×8 matrices with and without .trans.
func TestMatrixMoves(t *testing.T) {
	for _, trans := range []string{"", ".trans"} {
		m := mustParse(t, header+fmt.Sprintf(`
.entry move(.param .u64 in, .param .u64 out, .param .u64 regs) {
	.shared .align 16 .b8 tile[512]; .shared .align 16 .b8 back[512];
	.reg .b32 %%r<10>; .reg .b64 %%rd<8>;
	mov.u32 %%r0, %%tid.x; mov.u32 %%r1, tile; mov.u32 %%r2, back;
	ld.param.u64 %%rd0, [in]; ld.param.u64 %%rd1, [out]; ld.param.u64 %%rd2, [regs];
	mul.wide.u32 %%rd3, %%r0, 16; add.u64 %%rd0, %%rd0, %%rd3; add.u64 %%rd1, %%rd1, %%rd3; add.u64 %%rd2, %%rd2, %%rd3;
	mad.lo.u32 %%r1, %%r0, 16, %%r1; mad.lo.u32 %%r2, %%r0, 16, %%r2;
	ld.global.v4.b32 {%%r4, %%r5, %%r6, %%r7}, [%%rd0];
	st.shared.v4.b32 [%%r1], {%%r4, %%r5, %%r6, %%r7};
	bar.warp.sync -1;
	ldmatrix.sync.aligned.m8n8.x4%s.shared.b16 {%%r4, %%r5, %%r6, %%r7}, [%%r1];
	st.global.v4.b32 [%%rd2], {%%r4, %%r5, %%r6, %%r7};
	stmatrix.sync.aligned.m8n8.x4%s.shared.b16 [%%r2], {%%r4, %%r5, %%r6, %%r7};
	bar.warp.sync -1;
	ld.shared.v4.b32 {%%r4, %%r5, %%r6, %%r7}, [%%r2];
	st.global.v4.b32 [%%rd1], {%%r4, %%r5, %%r6, %%r7};
}`, trans, trans))
		h := newHost(t, 0)
		in := make([]uint16, 256)
		for i := range in {
			in[i] = uint16(i)
		}
		pi, po, pr := h.upload(in), h.alloc(512), h.alloc(512)
		h.must(h.launch(m.Kernels[0], Config{Block: [3]int{32}}, pi, po, pr))
		out, regs := make([]uint16, 256), make([]uint16, 256)
		h.download(po, out)
		h.download(pr, regs)
		for i := range in {
			if out[i] != in[i] {
				t.Fatalf("%q: element %d comes back as %d", trans, i, out[i])
			}
		}
		// Register q of lane l holds elements 2l and 2l+1 of matrix q, row-major, or of its transpose.
		for l := range 32 {
			for q := range 4 {
				for e := range 2 {
					at := 2*l + e
					if trans != "" {
						at = at%8*8 + at/8
					}
					if got := regs[(l*4+q)*2+e]; int(got) != q*64+at {
						t.Fatalf("%q: lane %d, register %d, half %d is %d, want %d", trans, l, q, e, got, q*64+at)
					}
				}
			}
		}
	}
}

// TestEncodeTiled: the rules of cuTensorMapEncodeTiled.
func TestEncodeTiled(t *testing.T) {
	d := New(Options{})
	p, err := d.Alloc(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	good := TensorMap{Type: BFloat16, Address: p, Dims: []uint64{64, 64}, Strides: []uint64{128}, Box: []uint32{64, 64}, Swizzle: Swizzle128B}
	if _, err := d.EncodeTiled(good); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(m *TensorMap){
		"address":        func(m *TensorMap) { m.Address += 8 },
		"no memory":      func(m *TensorMap) { m.Address += 1 << 30 },
		"beyond memory":  func(m *TensorMap) { m.Dims = []uint64{64, 4096} },
		"stride":         func(m *TensorMap) { m.Strides = []uint64{130} },
		"strides":        func(m *TensorMap) { m.Strides = nil },
		"box of 0":       func(m *TensorMap) { m.Box = []uint32{0, 64} },
		"box of 257":     func(m *TensorMap) { m.Box = []uint32{64, 257} },
		"inner box":      func(m *TensorMap) { m.Box = []uint32{4, 64} },
		"beyond swizzle": func(m *TensorMap) { m.Swizzle = Swizzle64B },
		"dimension of 0": func(m *TensorMap) { m.Dims = []uint64{64, 0} },
		"data type":      func(m *TensorMap) { m.Type = 77 },
	} {
		m := good
		change(&m)
		if _, err := d.EncodeTiled(m); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestBF16Product is the multiplication of one mma.sync against float64, with every element
// different.
func TestBF16Product(t *testing.T) {
	a, b := make([]float64, 16*16), make([]float64, 8*16)
	for i := range a {
		a[i] = float64(i%13) - 6
	}
	for i := range b {
		b[i] = float64(i%7) - 3
	}
	h := newHost(t, 0)
	pack := func(v []float64) []uint16 {
		out := make([]uint16, len(v))
		for i := range v {
			out[i] = num.BF16(float32(v[i]))
		}
		return out
	}
	m := mustParse(t, header+`
.entry one(.param .u64 a, .param .u64 b, .param .u64 c) {
	.reg .b32 %r<12>; .reg .b64 %rd<8>; .reg .f32 %f<4>;
	mov.u32 %r0, %laneid; shr.u32 %r1, %r0, 2; and.b32 %r2, %r0, 3;
	ld.param.u64 %rd0, [a]; ld.param.u64 %rd1, [b]; ld.param.u64 %rd2, [c];
	mul.lo.u32 %r3, %r1, 32; mad.lo.u32 %r3, %r2, 4, %r3; cvt.u64.u32 %rd3, %r3;
	add.u64 %rd0, %rd0, %rd3; add.u64 %rd1, %rd1, %rd3;
	mad.lo.u32 %r4, %r2, 8, 0; mad.lo.u32 %r4, %r1, 32, %r4; cvt.u64.u32 %rd4, %r4; add.u64 %rd2, %rd2, %rd4;
	ld.global.b32 %r5, [%rd0]; ld.global.b32 %r6, [%rd0+256]; ld.global.b32 %r7, [%rd0+16]; ld.global.b32 %r8, [%rd0+272];
	ld.global.b32 %r9, [%rd1]; ld.global.b32 %r10, [%rd1+16];
	mov.f32 %f0, 0f3F800000; mov.f32 %f1, %f0; mov.f32 %f2, %f0; mov.f32 %f3, %f0;
	mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f0, %f1, %f2, %f3}, {%r5, %r6, %r7, %r8}, {%r9, %r10}, {%f0, %f1, %f2, %f3};
	st.global.v2.f32 [%rd2], {%f0, %f1}; st.global.v2.f32 [%rd2+256], {%f2, %f3};
}`)
	pa, pb, pc := h.upload(pack(a)), h.upload(pack(b)), h.alloc(16*8*4)
	h.must(h.launch(m.Kernels[0], Config{Block: [3]int{32}}, pa, pb, pc))
	c := make([]float32, 16*8)
	h.download(pc, c)
	for i, want := range product(a, b, 16, 8, 16) {
		if float64(c[i]) != want+1 {
			t.Fatalf("C[%d] = %v, want %v", i, c[i], want+1)
		}
	}
}
