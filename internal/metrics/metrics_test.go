package metrics

import (
	"encoding/json"
	"math"
	"os"
	"testing"
)

// TestReference holds every figure against scipy, scikit-learn and, for answers, an independent
// implementation of JGLUE's rules (testdata/make_reference.py).
func TestReference(t *testing.T) {
	data, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var want struct {
		Correlations []struct {
			X, Y              []float64
			Pearson, Spearman float64
		}
		Accuracy struct {
			X, Y     []int
			Accuracy float64
		}
		Answers []struct {
			Answer    string
			Right     []string
			Exact, F1 float64
		}
		Interval struct {
			X      []float64
			Lo, Hi float64
		}
	}
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	near := func(what string, got, want, tolerance float64) {
		t.Helper()
		if !(math.Abs(got-want) <= tolerance) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	for _, c := range want.Correlations {
		// Sums of up to 300 products in another order.
		near("pearson", Pearson(c.X, c.Y), c.Pearson, 1e-13)
		near("spearman", Spearman(c.X, c.Y), c.Spearman, 1e-13)
	}
	var hits []float64
	for i, x := range want.Accuracy.X {
		hits = append(hits, map[bool]float64{true: 1}[x == want.Accuracy.Y[i]])
	}
	near("accuracy", Mean(hits), want.Accuracy.Accuracy, 1e-15)
	for _, a := range want.Answers {
		near("exact match of "+a.Answer, ExactMatch(a.Answer, a.Right), a.Exact, 0)
		near("F1 of "+a.Answer, CharF1(a.Answer, a.Right), a.F1, 1e-15)
	}
	lo, hi := Interval(len(want.Interval.X), func(sample []int) float64 {
		sum := 0.0
		for _, i := range sample {
			sum += want.Interval.X[i]
		}
		return sum / float64(len(sample))
	})
	// The ends of an interval of 1,000 samples are themselves random, by about 0.003 here.
	near("lower end", lo, want.Interval.Lo, 0.011)
	near("upper end", hi, want.Interval.Hi, 0.011)
}

func TestUndefined(t *testing.T) {
	if x := Pearson([]float64{1, 1}, []float64{1, 2}); !math.IsNaN(x) {
		t.Errorf("a constant side: %v", x)
	}
	if lo, hi := Interval(2, func([]int) float64 { return math.NaN() }); !math.IsNaN(lo) || !math.IsNaN(hi) {
		t.Errorf("an undefined figure: %v %v", lo, hi)
	}
}
