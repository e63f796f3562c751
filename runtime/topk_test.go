package rt

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
)

// wide is a model with several blocks of columns, the last one cut.
func wide() *testModel {
	shape := shapes["f32/rmsnorm"]
	shape.vocab = 3*streamPanels*panelN + 37
	return newTestModel(shape, 31)
}

// TestTopK holds the fused decoder against the softmax of whole logits, in float64.
func TestTopK(t *testing.T) {
	m := wide()
	model := m.open(t, Options{Kernels: PortableTier})
	s := newSession(t, model, SessionOptions{MaxPicked: 3})
	ids, offsets := join(m.sequences(31, 9, 4))
	rows := []int32{12, 0, 5, 5, 3}
	const k = 7
	if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
		t.Fatal(err)
	}
	got, probabilities, err := s.TopK(context.Background(), rows, k)
	if err != nil || len(got) != k*len(rows) || len(probabilities) != len(got) {
		t.Fatalf("%d ids, %d probabilities, %v", len(got), len(probabilities), err)
	}
	for i, row := range rows {
		logits, err := s.Logits(context.Background(), []int32{row})
		if err != nil {
			t.Fatal(err)
		}
		order := make([]int, len(logits))
		sum := 0.0
		for c, x := range logits {
			order[c] = c
			sum += math.Exp(float64(x))
		}
		slices.SortStableFunc(order, func(a, b int) int {
			if logits[a] > logits[b] {
				return -1
			}
			return 1
		})
		for n, c := range order[:k] {
			// 1e-8: the exponential's error, in the numerator and over the sum
			want := math.Exp(float64(logits[c])) / sum
			if p := probabilities[i*k+n]; got[i*k+n] != int32(c) || !(math.Abs(p-want) <= 1e-8*want) {
				t.Errorf("row %d, candidate %d: id %d with %v, want %d with %v", row, n, got[i*k+n], p, c, want)
			}
		}
	}
	all, sums, err := s.TopK(context.Background(), rows[:1], 1<<20)
	if err != nil || len(all) != m.vocab {
		t.Fatalf("%d of %d columns, %v", len(all), m.vocab, err)
	}
	total := 0.0
	for _, p := range sums {
		total += p
	}
	if math.Abs(total-1) > 1e-8 {
		t.Errorf("probabilities sum to %v", total)
	}
}

// TestTopKBits: the same bits alone and in a batch, with any number of threads, and in a session
// without room for logits.
func TestTopKBits(t *testing.T) {
	m := wide()
	seqs := m.sequences(32, 3, 60, 17)
	run := func(threads int, noLogits bool, ids, offsets, rows []int32) ([]int32, []float64) {
		s := newSession(t, m.open(t, Options{Kernels: PortableTier, Threads: threads}), SessionOptions{NoLogits: noLogits})
		if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
			t.Fatal(err)
		}
		top, p, err := s.TopK(context.Background(), rows, 5)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Logits(context.Background(), rows); noLogits != errors.Is(err, ErrNoHead) {
			t.Errorf("Logits: %v", err)
		}
		return top, p
	}
	ids, offsets := join(seqs)
	rows := []int32{0, 40, 79}
	for i, seq := range seqs {
		want, wantP := run(1, false, seq, []int32{0, int32(len(seq))}, []int32{rows[i] - offsets[i]})
		for _, threads := range []int{1, 2, 5} {
			got, gotP := run(threads, true, ids, offsets, rows)
			if !slices.Equal(got[5*i:5*i+5], want) || !slices.Equal(gotP[5*i:5*i+5], wantP) {
				t.Errorf("sequence %d, %d threads: other bits", i, threads)
			}
		}
	}
}

// TestTopKTies: among equal logits the lower column comes first.
func TestTopKTies(t *testing.T) {
	b := &bestOf{}
	for _, id := range []int32{9, 2, 7, 4, 1, 8} {
		b.add(3, id, float32(id/8)) // 9 and 8 are 1, the others 0
	}
	if !slices.Equal(b.ids, []int32{8, 9, 1}) {
		t.Errorf("got %v", b.ids)
	}
}

func TestExpNegative(t *testing.T) {
	for x := 0.0; x > -705; x -= 0.00731 {
		got, want := expNegative(x), math.Exp(x)
		if x < -700 {
			want = 0
		}
		if !(math.Abs(got-want) <= 1e-10*want) {
			t.Fatalf("exp(%v) is %v, want %v", x, got, want)
		}
	}
	if expNegative(0) != 1 || expNegative(math.Inf(-1)) != 0 || !math.IsNaN(expNegative(math.NaN())) {
		t.Error("0, −∞ or NaN")
	}
}
