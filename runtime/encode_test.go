package rt

import (
	"context"
	"math"
	"testing"
)

// tolerances are bounds of the error relative to the largest value of a row. f32: sums of some
// hundred products of rounding error 2⁻²⁴ each, over two layers. bf16: factors and stored
// activations are rounded to 2⁻⁹, some ten times one after another, and errors of that size
// average out only in part.
var tolerances = map[DType]float64{F32: 2e-6, BF16: 1.5e-2}

func compare(t *testing.T, what string, got []float32, want [][]float64, tolerance float64) {
	t.Helper()
	worst := 0.0
	for i, row := range want {
		top := 0.0
		for _, v := range row {
			top = max(top, math.Abs(v))
		}
		for j, v := range row {
			e := math.Abs(float64(got[i*len(row)+j])-v) / top
			if !(e <= tolerance) {
				t.Fatalf("%s row %d column %d: got %v, want %v", what, i, j, got[i*len(row)+j], v)
			}
			worst = max(worst, e)
		}
	}
	t.Logf("%s: largest error %.2g", what, worst)
}

func TestEncodeMatchesReference(t *testing.T) {
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			m := newTestModel(shape, 1)
			s := newSession(t, m.open(t, Options{Kernels: PortableTier}), SessionOptions{})
			seqs := m.sequences(1, 1, 33, 150, 2)
			ids, offsets := join(seqs)
			if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
				t.Fatal(err)
			}
			hidden := s.Hidden()
			for i, seq := range seqs {
				wantHidden, wantLogits := m.reference(seq)
				start := int(offsets[i])
				compare(t, "hidden", hidden[start*m.hidden:], wantHidden, tolerances[shape.dtype])
				last := int32(len(seq) - 1)
				logits, err := s.Logits(context.Background(), []int32{offsets[i] + last, offsets[i]})
				if err != nil {
					t.Fatal(err)
				}
				compare(t, "logits", logits, [][]float64{wantLogits[last], wantLogits[0]}, tolerances[shape.dtype])
			}
		})
	}
}
