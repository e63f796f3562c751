package kernel

import (
	"math"
	"slices"
	"testing"
)

func TestQuantize(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		row, codes []float32
		scale      float32
	}{
		{[]float32{127, -127, 63.4, 62.6}, []float32{127, -127, 63, 63}, 1},
		{[]float32{-254, 1, 3, 200}, []float32{-127, 0, 2, 100}, 2},
		{[]float32{0, 0}, []float32{0, 0}, 0x1p-100 / 127},
		{[]float32{0x1p-149, -0x1p-149}, []float32{0, 0}, 0x1p-100 / 127},
		{[]float32{math.MaxFloat32, -math.MaxFloat32 / 127}, []float32{127, -1}, math.MaxFloat32 / 127},
		{[]float32{1, inf, -5}, []float32{0, 0, 0}, inf},
		{[]float32{1, nan, inf}, []float32{0, 0, 0}, nan},
	} {
		codes := make([]float32, len(c.row))
		scale := Quantize(codes, c.row)
		if scale != c.scale && (scale == scale || c.scale == c.scale) {
			t.Errorf("%v: scale %v, want %v", c.row, scale, c.scale)
		}
		for i := range codes {
			codes[i] += 0 // −0 is 0
		}
		if !slices.Equal(codes, c.codes) {
			t.Errorf("%v: codes %v, want %v", c.row, codes, c.codes)
		}
	}
}

// TestMaxCodes: the largest sum of products of codes is an i32.
func TestMaxCodes(t *testing.T) {
	if Code*Code*maxCodes > math.MaxInt32 {
		t.Errorf("%d products of %d·%d do not fit", maxCodes, Code, Code)
	}
}
