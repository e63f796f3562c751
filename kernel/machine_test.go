package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// TestMachines: every name of a target's list is in the table, with a source.
func TestMachines(t *testing.T) {
	for _, name := range []string{"arm64/bf16", "arm64/dotprod", "arm64/neon"} {
		target, _ := LookupTarget(name)
		if len(target.Machines) != 3 {
			t.Errorf("%s has %d machines, want 3", name, len(target.Machines))
		}
		for _, m := range target.Machines {
			if m.Source == "" || m.Vector*m.Loads*m.Issue*m.Chain*m.Line*m.SetBytes*m.Ways == 0 {
				t.Errorf("%s: incomplete: %+v", name, m)
			}
			if target.Insts[0].Rows > 1 && m.MatrixChain == 0 {
				t.Errorf("%s: %s has no latency of BFMMLA", name, m.Name)
			}
		}
	}
}

// TestAddToOdd compares with exact sums.
func TestAddToOdd(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200000 {
		x := float32(math.Ldexp(r.Float64()-0.5, r.IntN(60)-30))
		y := float32(math.Ldexp(r.Float64()-0.5, r.IntN(60)-30))
		if r.IntN(4) == 0 {
			y = -math.Float32frombits(math.Float32bits(x) + uint32(r.IntN(5)) - 2)
		}
		sum := new(big.Float).SetPrec(300).Add(big.NewFloat(float64(x)), big.NewFloat(float64(y)))
		want, accuracy := new(big.Float).SetPrec(24).SetMode(big.ToZero).Set(sum).Float32()
		if cut := new(big.Float).SetPrec(300).SetFloat64(float64(want)); cut.Cmp(sum) != 0 {
			want = math.Float32frombits(math.Float32bits(want) | 1)
		}
		if got := addToOdd(x, y); got != want {
			t.Fatalf("%v + %v = %v, want %v (%v)", x, y, got, want, accuracy)
		}
	}
	for _, tt := range []struct{ x, y, want float32 }{
		{0x1p-126, -0x1p-149, 0},
		{float32(math.Inf(1)), 1, float32(math.Inf(1))},
		{0, 0, 0},
		{1, -1, 0},
	} {
		if got := addToOdd(tt.x, tt.y); got != tt.want {
			t.Errorf("%v + %v = %v, want %v", tt.x, tt.y, got, tt.want)
		}
	}
}
