package emu

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/num"
)

// one runs one instruction on the registers a, b and c, and returns d. Registers are named after
// their size: %h 16, %r 32, %d 64 bits, %p predicates; number 0 is a, 1 is b, 2 is c, 3 is d. %p0 is
// a != 0. Where %p3 is the result, d is 1 or 0.
func one(t *testing.T, code string, in ...uint64) uint64 {
	t.Helper()
	for len(in) < 3 {
		in = append(in, 0)
	}
	m := mustParse(t, header+`
.entry one(.param .u64 a, .param .u64 b, .param .u64 c, .param .u64 out) {
	.reg .pred %p<4>;
	.reg .b16 %h<4>;
	.reg .b32 %r<5>;
	.reg .b64 %d<4>, %out;
	ld.param.u64 %d0, [a];
	ld.param.u64 %d1, [b];
	ld.param.u64 %d2, [c];
	ld.param.u64 %out, [out];
	cvt.u32.u64 %r0, %d0;
	cvt.u32.u64 %r1, %d1;
	cvt.u32.u64 %r2, %d2;
	cvt.u16.u64 %h0, %d0;
	cvt.u16.u64 %h1, %d1;
	cvt.u16.u64 %h2, %d2;
	setp.ne.u64 %p0, %d0, 0;
	mov.pred %p3, %p0;
	mov.b16 %h3, 0;
	mov.b32 %r3, 0;
	mov.b64 %d3, 0;
	`+code+`
	st.global.b64 [%out], %d3;
	st.global.b32 [%out+8], %r3;
	st.global.b16 [%out+12], %h3;
	selp.b32 %r4, 1, 0, %p3;
	st.global.b32 [%out+16], %r4;
}`)
	h := newHost(t, 0)
	out := h.alloc(24)
	h.must(h.launch(m.Kernels[0], Config{Block: [3]int{32}}, in[0], in[1], in[2], out))
	var r struct {
		D uint64
		R uint32
		H uint16
		_ uint16
		P uint32
		_ uint32
	}
	h.download(out, &r)
	switch {
	case strings.Contains(code, "%d3"):
		return r.D
	case strings.Contains(code, "%r3"):
		return uint64(r.R)
	case strings.Contains(code, "%h3"):
		return uint64(r.H)
	}
	return uint64(r.P)
}

func b32(f float64) uint64 { return bits32(float32(f)) }

func s32(v int32) uint64 { return uint64(uint32(v)) }

func bf16x2(hi, lo float32) uint64 { return uint64(num.BF16(hi))<<16 | uint64(num.BF16(lo)) }

func TestInstructions(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, c := range []struct {
		code string
		in   []uint64
		want uint64
	}{
		{"add.u32 %r3, %r0, %r1;", []uint64{0xffffffff, 2}, 1},
		{"add.s64 %d3, %d0, %d1;", []uint64{1 << 40, 5}, 1<<40 + 5},
		{"add.u16 %h3, %h0, %h1;", []uint64{0xffff, 2}, 1},
		{"sub.s32 %r3, %r0, 7;", []uint64{3}, s32(-4)},
		{"mul.lo.s32 %r3, %r0, %r1;", []uint64{s32(-3), 5}, s32(-15)},
		{"mul.hi.u32 %r3, %r0, %r1;", []uint64{0x80000000, 6}, 3},
		{"mul.hi.s32 %r3, %r0, %r1;", []uint64{s32(-2), 1}, s32(-1)},
		{"mul.hi.u64 %d3, %d0, %d1;", []uint64{1 << 63, 6}, 3},
		{"mul.hi.s64 %d3, %d0, %d1;", []uint64{^uint64(1), 3}, ^uint64(0)},
		{"mul.wide.s32 %d3, %r0, %r1;", []uint64{s32(-2), 3}, ^uint64(5)},
		{"mul.wide.u32 %d3, %r0, %r1;", []uint64{0xfffffffe, 3}, 0x2fffffffa},
		{"mul.wide.u16 %r3, %h0, %h1;", []uint64{0xffff, 0xffff}, 0xfffe0001},
		{"mad.lo.u32 %r3, %r0, %r1, %r2;", []uint64{7, 6, 5}, 47},
		{"mad.wide.u32 %d3, %r0, %r1, %d2;", []uint64{1 << 31, 4, 5}, 1<<33 + 5},
		{"div.u32 %r3, %r0, %r1;", []uint64{17, 5}, 3},
		{"div.s32 %r3, %r0, %r1;", []uint64{s32(-17), 5}, s32(-3)},
		{"rem.s32 %r3, %r0, %r1;", []uint64{s32(-17), 5}, s32(-2)},
		{"min.s32 %r3, %r0, %r1;", []uint64{s32(-1), 1}, s32(-1)},
		{"min.u32 %r3, %r0, %r1;", []uint64{s32(-1), 1}, 1},
		{"max.s64 %d3, %d0, %d1;", []uint64{^uint64(0), 1}, 1},
		{"neg.s32 %r3, %r0;", []uint64{5}, s32(-5)},
		{"abs.s32 %r3, %r0;", []uint64{s32(-5)}, 5},
		{"not.b32 %r3, %r0;", []uint64{5}, 0xfffffffa},
		{"and.b32 %r3, %r0, 0xf0;", []uint64{0x1ff}, 0xf0},
		{"or.b64 %d3, %d0, 0x4000004000010000;", []uint64{0x1234}, 0x4000004000011234},
		{"xor.b32 %r3, %r0, %r1;", []uint64{6, 3}, 5},
		{"shl.b32 %r3, %r0, %r1;", []uint64{3, 4}, 48},
		{"shl.b32 %r3, %r0, 32;", []uint64{3}, 0},
		{"shr.u32 %r3, %r0, 4;", []uint64{0xf0000000}, 0x0f000000},
		{"shr.s32 %r3, %r0, 4;", []uint64{0xf0000000}, 0xff000000},
		{"shr.s32 %r3, %r0, 40;", []uint64{0xf0000000}, 0xffffffff},
		{"shf.l.wrap.b32 %r3, %r0, %r1, 8;", []uint64{0x11223344, 0xaabbccdd}, 0xbbccdd11},
		{"shf.r.wrap.b32 %r3, %r0, %r1, 8;", []uint64{0x11223344, 0xaabbccdd}, 0xdd112233},
		{"shf.r.clamp.b32 %r3, %r0, %r1, 40;", []uint64{0x11223344, 0xaabbccdd}, 0xaabbccdd},
		{"popc.b32 %r3, %r0;", []uint64{0xf0f}, 8},
		{"clz.b32 %r3, %r0;", []uint64{1}, 31},
		{"clz.b64 %r3, %d0;", []uint64{1}, 63},
		{"brev.b32 %r3, %r0;", []uint64{1}, 0x80000000},
		{"bfind.u32 %r3, %r0;", []uint64{0x100}, 8},
		{"bfind.u32 %r3, %r0;", []uint64{0}, 0xffffffff},
		{"bfe.u32 %r3, %r0, 4, 14;", []uint64{0xfff23456}, 0x2345},
		{"bfe.s32 %r3, %r0, 4, 4;", []uint64{0xf0}, 0xffffffff},
		{"bfe.u64 %d3, %d0, 60, 8;", []uint64{0xa << 60}, 0xa},
		{"bfe.u32 %r3, %r0, 4, 0;", []uint64{0xff}, 0},
		{"bfi.b32 %r3, %r0, %r1, 8, 4;", []uint64{0xab, 0xffffffff}, 0xfffffbff},
		{"prmt.b32 %r3, %r0, %r1, 0x5410;", []uint64{0x33221100, 0x77665544}, 0x55441100},
		{"prmt.b32 %r3, %r0, %r1, 0x7632;", []uint64{0x33221100, 0x77665544}, 0x77663322},
		{"prmt.b32 %r3, %r0, %r1, 0x000b;", []uint64{0x80000012, 0}, 0x121212ff},
		{"lop3.b32 %r3, %r0, %r1, %r2, 0x96;", []uint64{6, 3, 8}, 6 ^ 3 ^ 8},
		{"lop3.b32 %r3, %r0, %r1, %r2, 0xe8;", []uint64{6, 3, 8}, 2},
		{"mov.b64 %d3, {%r0, %r1};", []uint64{1, 2}, 2<<32 | 1},
		{"mov.b64 {%r4, %r3}, %d0;", []uint64{5<<32 | 4}, 5},
		{"mov.b32 %r3, {%h0, %h1};", []uint64{1, 2}, 2<<16 | 1},
		{"mov.b32 {%h3, %h2}, %r0;", []uint64{0x50004}, 4},
		{"setp.lt.s32 %p3, %r0, %r1;", []uint64{s32(-1), 1}, 1},
		{"setp.lt.u32 %p3, %r0, %r1;", []uint64{s32(-1), 1}, 0},
		{"setp.ge.and.u32 %p3, %r0, %r1, %p0;", []uint64{3, 3}, 1},
		{"setp.eq.or.u32 %p3|%p1, %r0, %r1, !%p0;", []uint64{0, 3}, 1},
		{"setp.eq.u32 %p1|%p3, %r0, %r1;", []uint64{3, 3}, 0},
		{"setp.gt.f32 %p3, %r0, %r1;", []uint64{b32(nan), 0}, 0},
		{"setp.gtu.f32 %p3, %r0, %r1;", []uint64{b32(nan), 0}, 1},
		{"setp.nan.f32 %p3, %r0, %r1;", []uint64{b32(nan), 0}, 1},
		{"setp.ne.f32 %p3, %r0, %r1;", []uint64{b32(1), b32(2)}, 1},
		{"and.pred %p3, %p0, !%p0;", []uint64{1}, 0},
		{"not.pred %p3, %p0;", []uint64{1}, 0},
		{"selp.b32 %r3, %r0, %r1, %p0;", []uint64{1, 2}, 1},
		{"selp.b32 %r3, 5, 6, !%p0;", []uint64{1}, 6},
		{"@!%p0 mov.u32 %r3, 9;", []uint64{1}, 0},
		{"add.f32 %r3, %r0, %r1;", []uint64{b32(1.5), b32(2)}, b32(3.5)},
		{"add.sat.f32 %r3, %r0, %r1;", []uint64{b32(1.5), b32(2)}, b32(1)},
		{"add.ftz.f32 %r3, %r0, %r1;", []uint64{1, b32(2)}, b32(2)},
		{"sub.f32 %r3, %r0, 0f3F800000;", []uint64{b32(3)}, b32(2)},
		{"mul.f32 %r3, %r0, 0.5;", []uint64{b32(3)}, b32(1.5)},
		// (1+2^-23)² = 1+2^-22+2^-46: halfway of nothing; minus 1+2^-22 leaves the last bit of the product.
		{"fma.rn.f32 %r3, %r0, %r0, %r1;", []uint64{b32(1 + 0x1p-23), b32(-1 - 0x1p-22)}, b32(0x1p-46)},
		// A tie of the float64 sum that the rest breaks: 1 + 2^-24 + 2^-80 rounds up.
		{"fma.rn.f32 %r3, %r0, %r1, %r2;", []uint64{b32(0x1p-24 + 0x1p-47), b32(1), b32(1)}, b32(1 + 0x1p-23)},
		{"min.f32 %r3, %r0, %r1;", []uint64{b32(nan), b32(2)}, b32(2)},
		{"max.NaN.f32 %r3, %r0, %r1;", []uint64{b32(1), b32(2)}, b32(2)},
		{"neg.f32 %r3, %r0;", []uint64{b32(1)}, b32(-1)},
		{"abs.f32 %r3, %r0;", []uint64{b32(-1)}, b32(1)},
		{"div.rn.f32 %r3, %r0, %r1;", []uint64{b32(1), b32(3)}, bits32(float32(1) / 3)},
		{"fma.rn.f64 %d3, %d0, %d1, %d2;", []uint64{bits64(2), bits64(3), bits64(4)}, bits64(10)},
		{"add.rn.bf16x2 %r3, %r0, %r1;", []uint64{bf16x2(1, 2), bf16x2(3, 4)}, bf16x2(4, 6)},
		{"fma.rn.bf16x2 %r3, %r0, %r1, %r2;", []uint64{bf16x2(1, 2), bf16x2(3, 4), bf16x2(-1, 1)}, bf16x2(2, 9)},
		{"max.bf16x2 %r3, %r0, %r1;", []uint64{bf16x2(1, 5), bf16x2(3, 4)}, bf16x2(3, 5)},
		{"cvt.rn.bf16x2.f32 %r3, %r0, %r1;", []uint64{b32(1), b32(2)}, bf16x2(1, 2)},
		{"cvt.rn.bf16x2.f32 %r3, %r0, %r1;", []uint64{b32(1 + 0x1p-8), b32(1 + 3*0x1p-8)}, bf16x2(1, 1+0x1p-6)},
		{"cvt.rz.bf16x2.f32 %r3, %r0, %r1;", []uint64{b32(1 + 0x1p-8 + 0x1p-9), b32(2)}, bf16x2(1, 2)},
		{"cvt.rn.relu.bf16x2.f32 %r3, %r0, %r1;", []uint64{b32(-1), b32(2)}, bf16x2(0, 2)},
		{"cvt.rn.f16x2.f32 %r3, %r0, %r1;", []uint64{b32(1), b32(2)}, 0x3c004000},
		{"cvt.rn.bf16.f32 %h3, %r0;", []uint64{b32(1.5)}, uint64(num.BF16(1.5))},
		{"cvt.f32.bf16 %r3, %h0;", []uint64{uint64(num.BF16(1.5))}, b32(1.5)},
		{"cvt.f32.f16 %r3, %h0;", []uint64{0x3e00}, b32(1.5)},
		{"cvt.rn.f32.s32 %r3, %r0;", []uint64{s32(-3)}, b32(-3)},
		{"cvt.rn.f32.u32 %r3, %r0;", []uint64{0xffffffff}, b32(0x1p32)},
		{"cvt.rzi.s32.f32 %r3, %r0;", []uint64{b32(-2.7)}, s32(-2)},
		{"cvt.rni.s32.f32 %r3, %r0;", []uint64{b32(2.5)}, 2},
		{"cvt.rmi.s32.f32 %r3, %r0;", []uint64{b32(-2.5)}, s32(-3)},
		{"cvt.rzi.s32.f32 %r3, %r0;", []uint64{b32(1e20)}, 0x7fffffff},
		{"cvt.rzi.s32.f32 %r3, %r0;", []uint64{b32(-1e20)}, 0x80000000},
		{"cvt.rzi.u32.f32 %r3, %r0;", []uint64{b32(-1)}, 0},
		{"cvt.rzi.u32.f32 %r3, %r0;", []uint64{b32(3e9)}, 3000000000},
		{"cvt.rzi.u32.f32 %r3, %r0;", []uint64{b32(nan)}, 0},
		{"cvt.rmi.f32.f32 %r3, %r0;", []uint64{b32(2.7)}, b32(2)},
		{"cvt.sat.f32.f32 %r3, %r0;", []uint64{b32(2.7)}, b32(1)},
		{"cvt.f64.f32 %d3, %r0;", []uint64{b32(2.5)}, bits64(2.5)},
		{"cvt.rn.f32.f64 %r3, %d0;", []uint64{bits64(0.1)}, b32(0.1)},
		{"cvt.s64.s32 %d3, %r0;", []uint64{s32(-2)}, ^uint64(1)},
		{"cvt.u64.u32 %d3, %r0;", []uint64{s32(-2)}, 0xfffffffe},
		{"cvt.u32.u64 %r3, %d0;", []uint64{1<<32 | 7}, 7},
		{"cvt.s32.s8 %r3, %r0;", []uint64{0x80}, s32(-128)},
		{"cvt.sat.u8.s32 %r3, %r0;", []uint64{s32(-5)}, 0},
		{"cvt.sat.u8.s32 %r3, %r0;", []uint64{300}, 255},
		{"ex2.approx.ftz.f32 %r3, %r0;", []uint64{b32(-3)}, b32(0.125)},
		{"ex2.approx.f32 %r3, %r0;", []uint64{b32(-inf)}, 0},
		{"lg2.approx.f32 %r3, %r0;", []uint64{b32(8)}, b32(3)},
		{"rcp.approx.ftz.f32 %r3, %r0;", []uint64{b32(4)}, b32(0.25)},
		{"rsqrt.approx.f32 %r3, %r0;", []uint64{b32(4)}, b32(0.5)},
		{"sqrt.rn.f32 %r3, %r0;", []uint64{b32(9)}, b32(3)},
		{"tanh.approx.f32 %r3, %r0;", []uint64{b32(inf)}, b32(1)},
		{"mov.u32 %r3, %ntid.x;", nil, 32},
		{"mov.u32 %r3, %nctaid.y;", nil, 1},
		{"{ .reg .b32 %r0; mov.u32 %r0, 5; mov.u32 %r3, %r0; }", []uint64{1}, 5},
		{"mov.u32 %r3, 1; bra L; mov.u32 %r3, 2; L: add.u32 %r3, %r3, 4;", nil, 5},
		{"shfl.sync.idx.b32 %r3, %r0, 3, 31, -1;", []uint64{9}, 9},
		{"vote.sync.ballot.b32 %r3, %p0, 0xffffffff;", []uint64{9}, 0xffffffff},
		{"vote.sync.all.pred %p3, !%p0, 0xffffffff;", []uint64{9}, 0},
		{"redux.sync.add.s32 %r3, %r0, 0xffffffff;", []uint64{3}, 96},
		{"redux.sync.max.u32 %r3, %r0, 0xffffffff;", []uint64{3}, 3},
		{"activemask.b32 %r3;", nil, 0xffffffff},
	} {
		t.Run(c.code, func(t *testing.T) {
			if got := one(t, c.code, c.in...); got != c.want {
				t.Errorf("got %#x, want %#x", got, c.want)
			}
		})
	}
}

// TestFMA compares fma32 with the float64 fused operation, which is exact enough wherever the sum of
// the exponents leaves no tie: 53 bits hold the product and most of the sum.
func TestFMA(t *testing.T) {
	r := rng(1)
	for range 100000 {
		a, b, c := float32(r.next()>>40)/(1<<23)-1, float32(r.next()>>40)/(1<<23)-1, float32(r.next()>>40)/(1<<23)-1
		want := float32(math.FMA(float64(a), float64(b), float64(c)))
		if got := fma32(a, b, c); got != want && math.Abs(float64(got)-float64(want)) > math.Abs(float64(want))*0x1p-23 {
			t.Fatalf("fma(%v, %v, %v) = %v, want %v", a, b, c, got, want)
		}
	}
}

// TestPerturb: the error is within its bound, uses it, and is the same for the same operand.
func TestPerturb(t *testing.T) {
	for name, a := range approximate {
		var worst float64
		for i := range 4096 {
			x := float32(i+1) / 4096
			y := a.f(float64(x))
			got := perturb(name, x, y)
			if got != perturb(name, x, y) {
				t.Fatalf("%s(%v) is not a function", name, x)
			}
			e := math.Abs(got - y)
			if !a.absolute && y != 0 {
				e /= math.Abs(y)
			}
			worst = max(worst, e)
		}
		if worst > a.err || worst < 0.9*a.err {
			t.Errorf("%s errs by up to %g, want up to %g", name, worst, a.err)
		}
	}
	if got := perturb("ex2", float32(math.Inf(1)), math.Inf(1)); !math.IsInf(got, 1) {
		t.Errorf("ex2(inf) = %v", got)
	}
}

// TestShuffle compares the source lanes with what the modes say in words, for whole warps and for
// segments of 8 lanes.
func TestShuffle(t *testing.T) {
	for _, width := range []int{32, 8} {
		c := (32-width)<<8 | 31
		for lane := range 32 {
			first := lane / width * width
			for b := range 32 {
				for mode, want := range map[string]int{"down": lane + b, "bfly": lane ^ b, "idx": first + b%width} {
					inside := want >= first && want < first+width
					if mode == "bfly" && want < first {
						inside = true // below the segment is in range: only the upper limit is checked
					}
					if !inside {
						want = lane
					}
					if got, ok := shflSource(mode, lane, b, c); got != want || ok != inside {
						t.Fatalf("%s of lane %d by %d, width %d: lane %d (%v), want %d (%v)", mode, lane, b, width, got, ok, want, inside)
					}
				}
				want, inside := lane-b, lane-b >= first
				if !inside {
					want = lane
				}
				if got, ok := shflSource("up", lane, b, (32-width)<<8); got != want || ok != inside {
					t.Fatalf("up of lane %d by %d, width %d: lane %d (%v), want %d (%v)", lane, b, width, got, ok, want, inside)
				}
			}
		}
	}
}

func ExampleParse() {
	_, err := Parse(header + ".entry k() {\n\t.reg .b32 %r;\n\tadd.u32 %r, %r, %s;\n}\n")
	fmt.Println(err)
	// Output: line 6: %s is not declared: add.u32 %r, %r, %s;
}
