package amd64

import (
	"math"
	"testing"
)

// TestExp2Coarse: the polynomial, with coefficients as they are in memory, is as near to 2ᶠ as is said of it, and
// goes on without a step where f goes from 1 to 0.
func TestExp2Coarse(t *testing.T) {
	const points = 1 << 16
	at := func(f float64) (p float64) {
		for k := len(exp2Coarse) - 1; k >= 0; k-- {
			p = p*f + float64(float32(exp2Coarse[k]))
		}
		return p
	}
	for i := range points + 1 {
		f := float64(i) / points
		if e := math.Abs(at(f)/math.Exp2(f) - 1); e > 1.04e-4 {
			t.Fatalf("at %v: relative error %v", f, e)
		}
	}
	// Three coefficients are rounded to f32, by 2⁻²⁵ of their largest at most.
	if at(0) != 1 || math.Abs(at(1)-2) > 3*0x1p-25 {
		t.Errorf("%v at 0 and %v at 1", at(0), at(1))
	}
}
