package verify

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
)

// This file owns the figures. They are sums over all tokens, so that nothing is kept of a batch.

// measure is the comparison of the rows of one step.
type measure struct {
	rows       int
	dd         float64   // Σ (a−b)²
	aa, bb, ab float64   // Σ a², Σ b², Σ a·b
	sum        []float64 // of the rows of the reference
}

// add takes rows and their reference.
func (m *measure) add(got, want []float32, width int) {
	if m.sum == nil {
		m.sum = make([]float64, width)
	}
	for i, x := range want {
		a, b := float64(got[i]), float64(x)
		m.dd += (a - b) * (a - b)
		m.aa += a * a
		m.bb += b * b
		m.ab += a * b
		m.sum[i%width] += b
	}
	m.rows += len(want) / width
}

func (m *measure) step(name string) Step {
	common := 0.0 // ‖mean‖² of the rows, as often as there are rows
	for _, s := range m.sum {
		common += s * s / float64(m.rows)
	}
	s := Step{Name: name, Error: ratio(m.dd, m.bb), Centred: ratio(m.dd, max(m.bb-common, 0)), Cosine: 1}
	if m.dd != 0 {
		s.Cosine = m.ab / (math.Sqrt(m.aa) * math.Sqrt(m.bb))
	}
	return s
}

// ratio returns √a/√b, 0 when a is.
func ratio(a, b float64) float64 {
	if a == 0 {
		return 0
	}
	return math.Sqrt(a) / math.Sqrt(b)
}

// answers counts how often both sides answer the same.
type answers struct {
	task     bert.Task
	problem  bert.ProblemType
	same, of int
}

// add takes the logits of the rows of a batch.
func (a *answers) add(batch pipeline.Request, got, want []float32, width int) {
	if width == 0 || a.noun() == "" {
		return
	}
	if a.task == bert.QuestionAnswering {
		a.spans(batch, got, want, width)
		return
	}
	for at := 0; at < len(want); at += width {
		a.count(top(got[at:at+width], 1), top(want[at:at+width], 1))
	}
}

// spans compares where the answer begins and ends, the largest logit of each column of a text; every
// token has a row.
func (a *answers) spans(batch pipeline.Request, got, want []float32, width int) {
	for i := range len(batch.Offsets) - 1 {
		lo, hi := int(batch.Offsets[i])*width, int(batch.Offsets[i+1])*width
		for c := range width {
			a.count(top(got[lo+c:hi], width), top(want[lo+c:hi], width))
		}
	}
}

func (a *answers) count(x, y int) {
	a.of++
	if x == y {
		a.same++
	}
}

// top returns the index of the largest of every stride-th element, the first of equal ones.
func top(x []float32, stride int) int {
	best := 0
	for i := 0; i < len(x); i += stride {
		if x[i] > x[best] {
			best = i
		}
	}
	return best
}

// noun is what is counted, "" where logits are no choice.
func (a *answers) noun() string {
	switch a.task {
	case bert.MaskedLM:
		return "masked tokens"
	case bert.TokenClassification:
		return "tokens"
	case bert.QuestionAnswering:
		return "ends of answers"
	case bert.SequenceClassification:
		if a.problem == bert.SingleLabel {
			return "texts"
		}
	}
	return ""
}

func (a *answers) result() *Answers {
	if a.of == 0 {
		return nil
	}
	return &Answers{Same: a.same, Of: a.of, What: a.noun(), Agreement: float64(a.same) / float64(a.of)}
}

// decode reads little-endian elements of type f32 or bf16.
func decode(t ir.DType, data []byte) ([]float32, error) {
	switch t {
	case ir.F32:
		out := make([]float32, len(data)/4)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		return out, nil
	case ir.BF16:
		out := make([]float32, len(data)/2)
		for i := range out {
			out[i] = num.FromBF16(binary.LittleEndian.Uint16(data[2*i:]))
		}
		return out, nil
	}
	return nil, fmt.Errorf("results of type %s cannot be compared", t)
}
