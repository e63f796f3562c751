package jglue

// This file owns the scores: what a result of the model says about a record, and the figures.

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/bertc/bertc/internal/metrics"
)

// Prediction is the result of the model for one record, as JSON; Err where it has none.
type Prediction struct {
	JSON json.RawMessage
	Err  error
}

// Figure is one figure with its 95 % confidence interval.
type Figure struct {
	Name   string  `json:"name"`
	Value  float64 `json:"value"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Failed int     `json:"failed,omitempty"`
}

// figure makes a figure of columns of values, one value a record.
type figure func(columns [][]float64, sample []int) float64

var (
	accuracy    = []figure{meanOf(0)}
	exactAndF1  = []figure{meanOf(0), meanOf(1)}
	correlation = []figure{pairs(metrics.Pearson), pairs(metrics.Spearman)}
)

func pick(column []float64, sample []int) []float64 {
	out := make([]float64, len(sample))
	for i, s := range sample {
		out[i] = column[s]
	}
	return out
}

func meanOf(column int) figure {
	return func(columns [][]float64, sample []int) float64 { return metrics.Mean(pick(columns[column], sample)) }
}

func pairs(f func(xs, ys []float64) float64) figure {
	return func(columns [][]float64, sample []int) float64 {
		return f(pick(columns[0], sample), pick(columns[1], sample))
	}
}

// Score returns the figures of predictions, one for each example in order. A record that failed is
// wrong; for correlations, which have no wrong, it is left out.
func (t Task) Score(examples []Example, predictions []Prediction) ([]Figure, error) {
	columns, err := t.score(examples, predictions)
	if err != nil {
		return nil, err
	}
	failed := 0
	for _, p := range predictions {
		if p.Err != nil {
			failed++
		}
	}
	n := len(columns[0])
	if n == 0 {
		return nil, fmt.Errorf("no record has a result, the first error: %w", predictions[0].Err)
	}
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	var out []Figure
	for i, name := range t.Columns {
		f := t.figures[i]
		x := Figure{Name: name, Value: f(columns, all), Failed: failed}
		x.Low, x.High = metrics.Interval(n, func(sample []int) float64 { return f(columns, sample) })
		out = append(out, x)
	}
	return out, nil
}

type classification struct{ Labels []label }

type label struct {
	Label string
	Score float64
}

// numbered are labels that nobody has named.
var numbered = regexp.MustCompile(`^LABEL_(\d+)$`)

// scoreLabels compares the best label. A model whose labels have no names has those of the file, in
// alphabetical order: that is how Hugging Face's run_glue numbers them.
func scoreLabels(examples []Example, predictions []Prediction) ([][]float64, error) {
	var names []string
	for _, e := range examples {
		names = append(names, e.Label)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	hits := make([]float64, len(examples))
	for i, p := range predictions {
		if p.Err != nil {
			continue
		}
		var c classification
		if err := json.Unmarshal(p.JSON, &c); err != nil {
			return nil, err
		}
		if len(c.Labels) < 2 {
			return nil, errors.New("the model has one label, the task has several")
		}
		best, right := c.Labels[0].Label, examples[i].Label
		if m := numbered.FindStringSubmatch(best); m != nil && len(names) == len(c.Labels) {
			if n, err := strconv.Atoi(m[1]); err == nil && n < len(names) {
				best = names[n]
			}
		} else if !slices.ContainsFunc(c.Labels, func(l label) bool { return l.Label == right }) {
			return nil, fmt.Errorf("label %q of the file is not one of the model's labels; the file has %s", right, strings.Join(names, ", "))
		}
		if best == right {
			hits[i] = 1
		}
	}
	return [][]float64{hits}, nil
}

// scoreValues pairs the values of a regression with the right ones.
func scoreValues(examples []Example, predictions []Prediction) ([][]float64, error) {
	columns := make([][]float64, 2)
	for i, p := range predictions {
		if p.Err != nil {
			continue
		}
		var c classification
		if err := json.Unmarshal(p.JSON, &c); err != nil {
			return nil, err
		}
		if len(c.Labels) != 1 {
			return nil, fmt.Errorf("the model has %d labels, the task is a regression and needs one", len(c.Labels))
		}
		columns[0] = append(columns[0], c.Labels[0].Score)
		columns[1] = append(columns[1], examples[i].Value)
	}
	return columns, nil
}

// scoreAnswers gives exact match and F1.
func scoreAnswers(examples []Example, predictions []Prediction) ([][]float64, error) {
	columns := [][]float64{make([]float64, len(examples)), make([]float64, len(examples))}
	for i, p := range predictions {
		if p.Err != nil {
			continue
		}
		var a struct{ Answers []struct{ Text string } }
		if err := json.Unmarshal(p.JSON, &a); err != nil {
			return nil, err
		}
		text := ""
		if len(a.Answers) > 0 {
			text = a.Answers[0].Text
		}
		columns[0][i] = metrics.ExactMatch(text, examples[i].Right)
		columns[1][i] = metrics.CharF1(text, examples[i].Right)
	}
	return columns, nil
}

// scoreChoices compares the best choice.
func scoreChoices(examples []Example, predictions []Prediction) ([][]float64, error) {
	hits := make([]float64, len(examples))
	for i, p := range predictions {
		if p.Err != nil {
			continue
		}
		var c struct{ Choices []struct{ Index int } }
		if err := json.Unmarshal(p.JSON, &c); err != nil {
			return nil, err
		}
		if len(c.Choices) > 0 && c.Choices[0].Index == int(examples[i].Value) {
			hits[i] = 1
		}
	}
	return [][]float64{hits}, nil
}
