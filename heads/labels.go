package heads

// This file owns the scores of labels.

import (
	"math"
	"slices"
)

// Label is a label with its score.
type Label struct {
	Label string
	Score float64
}

// Problem is what the scores of a classification are, by the names of Hugging Face's problem_type.
type Problem string

// The problems.
const (
	SingleLabel Problem = "single_label_classification" // softmax over the labels
	MultiLabel  Problem = "multi_label_classification"  // a sigmoid for each label
	Regression  Problem = "regression"                  // the logits themselves
)

// Scores turns the logits of one row into scores.
func Scores(p Problem, logits []float32) []float64 {
	if p == SingleLabel {
		return Softmax(logits)
	}
	out := make([]float64, len(logits))
	for i, x := range logits {
		if out[i] = float64(x); p == MultiLabel {
			out[i] = 1 / (1 + math.Exp(-float64(x)))
		}
	}
	return out
}

// Softmax returns the softmax of logits.
func Softmax(logits []float32) []float64 {
	out := make([]float64, len(logits))
	if len(logits) == 0 {
		return out
	}
	top, sum := float64(slices.Max(logits)), 0.0
	for i, x := range logits {
		out[i] = math.Exp(float64(x) - top)
		sum += out[i]
	}
	for i := range out {
		out[i] /= sum
	}
	return out
}

// Rank returns the names with their scores, best first, the earlier name first among equals; at
// most k of them when k is not 0.
func Rank(names []string, scores []float64, k int) []Label {
	out := make([]Label, len(names))
	for i, name := range names {
		out[i] = Label{name, scores[i]}
	}
	slices.SortStableFunc(out, func(a, b Label) int {
		switch {
		case a.Score > b.Score:
			return -1
		case a.Score < b.Score:
			return 1
		}
		return 0
	})
	if k > 0 && k < len(out) {
		out = out[:k]
	}
	return out
}

// best returns the index of the largest score, the first among equals.
func best(scores []float64) int {
	at := 0
	for i, x := range scores {
		if x > scores[at] {
			at = i
		}
	}
	return at
}
