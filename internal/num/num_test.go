package num

import (
	"math"
	"math/rand/v2"
	"testing"
)

var inf, nan = math.Inf(1), math.NaN()

func same(a, b float64) bool {
	return math.Float64bits(a) == math.Float64bits(b) || a != a && b != b
}

func TestRoundings(t *testing.T) {
	for _, c := range []struct {
		name  string
		round func(float64) float64
		x, y  float64
	}{
		{"bf16", RoundBF16, 1, 1},
		{"bf16", RoundBF16, 1 + 1.0/256, 1}, // tie to even
		{"bf16", RoundBF16, 1 + 3.0/256, 1 + 4.0/256},
		{"bf16", RoundBF16, 1 + 1.0/256 + 0x1p-50, 1 + 1.0/128}, // above the tie, below f32 resolution
		{"bf16", RoundBF16, math.Copysign(0, -1), math.Copysign(0, -1)},
		{"bf16", RoundBF16, 0x1.fep127, 0x1.fep127},
		{"bf16", RoundBF16, 0x1.ffp127, inf},
		{"bf16", RoundBF16, -0x1.ffp127, -inf},
		{"bf16", RoundBF16, 0x1.fefp127, 0x1.fep127},
		{"bf16", RoundBF16, 0x1p-133, 0x1p-133},
		{"bf16", RoundBF16, 0x1p-134, 0},
		{"bf16", RoundBF16, -0x1.8p-134, -0x1p-133},
		{"bf16", RoundBF16, inf, inf},
		{"bf16", RoundBF16, nan, nan},
		{"f16", RoundF16, 65504, 65504},
		{"f16", RoundF16, 65519.99, 65504},
		{"f16", RoundF16, 65520, inf},
		{"f16", RoundF16, 0x1p-24, 0x1p-24},
		{"f16", RoundF16, 0x1p-25, 0},
		{"f16", RoundF16, -0x1.1p-25, -0x1p-24},
		{"f16", RoundF16, 0x1.ffcp-15 + 0x1p-26, 0x1p-14}, // the largest subnormal rounds into the normals
		{"f32", RoundF32, 1 + 0x1p-24, 1},
		{"f32", RoundF32, 0x1p128, inf},
	} {
		if y := c.round(c.x); !same(y, c.y) {
			t.Errorf("%s of %x is %x, want %x", c.name, c.x, y, c.y)
		}
	}
}

// TestBitsExhaustive converts every 16-bit pattern to f32 and back.
func TestBitsExhaustive(t *testing.T) {
	for _, f := range []struct {
		name  string
		to    func(float32) uint16
		from  func(uint16) float32
		round func(float64) float64
		quiet uint16
	}{{"bf16", BF16, FromBF16, RoundBF16, 0x40}, {"f16", F16, FromF16, RoundF16, 0x200}} {
		for u := range 1 << 16 {
			b := uint16(u)
			x := f.from(b)
			want := b
			if x != x {
				want |= f.quiet
			}
			if got := f.to(x); got != want {
				t.Fatalf("%s %#04x → %v → %#04x", f.name, b, x, got)
			}
			if y := f.round(float64(x)); !same(y, float64(x)) {
				t.Fatalf("%s %#04x: %v rounds to %v", f.name, b, x, y)
			}
		}
	}
}

// TestBitsAgree checks the bit conversions against the float64 roundings.
func TestBitsAgree(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 1_000_000 {
		x := math.Float32frombits(r.Uint32())
		if a, b := float64(FromBF16(BF16(x))), RoundBF16(float64(x)); !same(a, b) {
			t.Fatalf("bf16 of %x: %x by bits, %x by value", x, a, b)
		}
		if a, b := float64(FromF16(F16(x))), RoundF16(float64(x)); !same(a, b) {
			t.Fatalf("f16 of %x: %x by bits, %x by value", x, a, b)
		}
	}
}

// TestRoundIsNearest checks roundings against the two neighbouring patterns.
func TestRoundIsNearest(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200_000 {
		b := uint16(r.IntN(0x7c00 - 1))
		lo, hi := float64(FromF16(b)), float64(FromF16(b+1))
		if b+1 == 0x7c00 {
			continue
		}
		x := lo + (hi-lo)*r.Float64()
		want := lo
		if x-lo > hi-x || x-lo == hi-x && b&1 == 1 {
			want = hi
		}
		if got := RoundF16(x); got != want {
			t.Fatalf("f16 of %x is %x, want %x", x, got, want)
		}
	}
}

func TestMeasures(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b []float64
		want Diff
	}{
		{"equal", []float64{1, 2, 3, 4}, []float64{1, 2, 3, 4}, Diff{0, -1, 0, 0, 1}},
		{"zero", []float64{0, 0}, []float64{0, 0}, Diff{0, -1, 0, 0, 1}},
		{"one", []float64{3, 4, 3, 6}, []float64{3, 4, 3, 4}, Diff{2, 3, 2 / math.Sqrt(50), inf, 58 / math.Sqrt(70*50)}},
		{"centred", []float64{3, 4, 5, 7}, []float64{3, 4, 5, 6}, Diff{1, 3, 1 / math.Sqrt(86), 0.5, 92 / math.Sqrt(99*86)}},
		{"against zero", []float64{1, 0}, []float64{0, 0}, Diff{1, 0, inf, inf, 0}},
		{"both NaN and infinite", []float64{nan, inf, 1, 1}, []float64{nan, inf, 1, 1}, Diff{0, -1, 0, 0, 1}},
		{"NaN", []float64{1, nan}, []float64{1, 1}, Diff{inf, 1, inf, inf, nan}},
		{"infinite", []float64{inf, 1}, []float64{-inf, 1}, Diff{inf, 0, inf, inf, nan}},
	} {
		got := Compare(c.a, c.b, 2)
		close := func(x, y float64) bool { return same(x, y) || math.Abs(x-y) < 1e-15 }
		w := c.want
		if !close(got.MaxAbs, w.MaxAbs) || got.Index != w.Index || !close(got.RelL2, w.RelL2) || !close(got.RelL2Centred, w.RelL2Centred) || !close(got.Cosine, w.Cosine) {
			t.Errorf("%s: got %+v, want %+v", c.name, got, w)
		}
	}
}

func TestULP32(t *testing.T) {
	tiny := math.Float32frombits(1)
	for _, c := range []struct {
		x, y float32
		want uint32
	}{
		{1, 1, 0},
		{1, math.Nextafter32(1, 2), 1},
		{0, float32(math.Copysign(0, -1)), 0},
		{-tiny, tiny, 2},
		{float32(nan), float32(nan), 0},
		{float32(nan), 1, math.MaxUint32},
		{math.MaxFloat32, float32(inf), 1},
		{float32(-inf), float32(inf), 2 * 0x7f800000},
	} {
		if got := ULP32(c.x, c.y); got != c.want {
			t.Errorf("ULP32(%v, %v) is %d, want %d", c.x, c.y, got, c.want)
		}
	}
}

func TestFloat64s(t *testing.T) {
	if got := Float64s([]float32{1, 0.1}); got[0] != 1 || got[1] != float64(float32(0.1)) {
		t.Errorf("got %v", got)
	}
}
