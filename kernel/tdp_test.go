package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestAddNormal compares with exact sums: of f32, and of an f32 and the product of two bf16, whose
// sum no float64 holds where they are far apart.
func TestAddNormal(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 3))
	random := func() float64 { return float64(float32(math.Ldexp(r.Float64()-0.5, r.IntN(60)-30))) }
	for range 200000 {
		x, y := random(), random()
		switch r.IntN(4) {
		case 0: // a tie between two f32, or almost
			y = math.Ldexp(math.Copysign(1, y), math.Ilogb(x)-24)
		case 1:
			y = math.Ldexp(1+0x1p-7*float64(r.IntN(128)), math.Ilogb(x)-24-r.IntN(40))
			x += math.Ldexp(float64(r.IntN(3)-1), math.Ilogb(x)-24)
		case 2: // about the smallest normal number
			x, y = math.Ldexp(x, -126-math.Ilogb(x)), math.Ldexp(y, -126-math.Ilogb(y)-r.IntN(30))
		}
		sum := new(big.Float).SetPrec(400).Add(big.NewFloat(x), big.NewFloat(y))
		rounded := new(big.Float).SetPrec(24).Set(sum) // to nearest, any exponent
		want, _ := rounded.Float64()
		if math.Abs(want) < 0x1p-126 {
			want = math.Copysign(0, want)
		}
		if got := addNormal(x, y); got != float32(want) {
			t.Fatalf("%x + %x = %x, want %x", x, y, got, want)
		}
	}
	inf := math.Inf(1)
	for _, tt := range []struct{ x, y, want float64 }{{inf, 1, inf}, {-inf, 1, -inf}, {0, 0, 0}, {1, -1, 0}, {math.MaxFloat32, math.MaxFloat32, inf}} {
		if got := addNormal(tt.x, tt.y); float64(got) != tt.want {
			t.Errorf("%v + %v = %v, want %v", tt.x, tt.y, got, tt.want)
		}
	}
	if got := addNormal(inf, -inf); got == got {
		t.Errorf("∞ − ∞ = %v", got)
	}
}

// TestTileSum: the order of the sums, and subnormal numbers.
func TestTileSum(t *testing.T) {
	row := func(values ...float32) []float32 { return append(values, make([]float32, 32-len(values))...) }
	ones := make([]float32, 32)
	for i := range ones {
		ones[i] = 1
	}
	for name, tt := range map[string]struct {
		acc  float32
		a, b []float32
		want float32
	}{
		// In one sum 2²⁴ + 1 + … would lose each 1; the odd steps have a sum of their own.
		"two sums":            {0, row(1<<24, 1, 0, 1, 0, 1, 0, 1), ones, 1<<24 + 4},
		"from zero":           {1 << 24, row(1, 0, 1), ones, 1<<24 + 2},
		"in order":            {0, row(1<<24, 0, 1, 0, -(1 << 24)), ones, 0},
		"subnormal factor":    {0, row(0x1p-130), row(0x1p20), 0},
		"subnormal product":   {1, row(0x1p-70, 0, 1), row(0x1p-70, 0, 1), 2},
		"subnormal old value": {0x1p-130, row(), ones, 0},
	} {
		if got := tileSum(tt.acc, tt.a, tt.b); got != tt.want {
			t.Errorf("%s: %v, want %v", name, got, tt.want)
		}
	}
}
