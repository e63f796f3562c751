package kernel

import (
	"fmt"
	"math"
)

// This file owns the interpretation of attention.

// EvalAttention interprets attention of one sequence: qkv is [T][QKVCols], q | k | v with the
// heads of each side by side; the result is [T][Heads·HeadDim]. Elements that are not whole rows are an error.
func EvalAttention(k Kernel, qkv []float32) ([]float32, error) {
	if err := checkKind(k, Attention); err != nil {
		return nil, err
	}
	s, p := k.Spec, k.Plan
	cols, d, g := s.QKVCols(), s.HeadDim, s.Heads/s.KVHeads
	if len(qkv)%cols != 0 {
		return nil, fmt.Errorf("eval attention: %d elements are not rows of %d", len(qkv), cols)
	}
	t, _ := LookupTarget(p.Target)
	inst, _ := t.Inst(p.Inst)
	tokens := len(qkv) / cols
	out := make([]float32, tokens*s.Heads*d)
	for kv := range s.KVHeads {
		keys := func(n int) []float32 { return qkv[n*cols+(s.Heads+kv)*d:][:d] }
		values := func(n int) []float32 { return qkv[n*cols+(s.Heads+s.KVHeads+kv)*d:][:d] }
		for query := range tokens {
			for head := kv * g; head < (kv+1)*g; head++ {
				q := qkv[query*cols+head*d:][:d]
				o := attendRow(s, inst, p.BlockN, q, tokens, keys, values)
				copy(out[(query*s.Heads+head)*d:], o)
			}
		}
	}
	return out, nil
}

// attendRow is one query of one head: a row, which no other row has a part in. The keys come in
// blocks from the start of the sequence.
func attendRow(s Spec, inst Inst, blockN int, q []float32, tokens int, key, value func(int) []float32) []float32 {
	o := make([]float32, s.HeadDim)
	scaled := make([]float32, len(q))
	for i, v := range q {
		scaled[i] = round(s.Math, v*float32(s.Scale))
	}
	largest, sum := float32(math.Inf(-1)), float32(0)
	for start := 0; start < tokens; start += blockN {
		end := min(start+blockN, tokens)
		scores := make([]float32, end-start)
		next := largest
		for n := range scores {
			k := key(start + n)
			scores[n] = inst.sum(0, scaled, func(i int) float32 { return round(s.Math, k[i]) })
			next = max(next, scores[n])
		}
		if start > 0 {
			scale := exp(largest - next)
			sum *= scale
			for i := range o {
				o[i] *= scale
			}
		}
		largest = next
		// Sums of probabilities have no order that a plan prescribes.
		total := 0.0
		for n, x := range scores {
			p := exp(x - largest)
			total += float64(p)
			scores[n] = round(s.Math, p)
		}
		for i := range o {
			o[i] = inst.sum(o[i], scores, func(n int) float32 { return round(s.Math, value(start + n)[i]) })
		}
		sum += float32(total)
	}
	for i := range o {
		o[i] = round(s.Out, o[i]/sum)
	}
	return o
}

func exp(x float32) float32 { return float32(math.Exp(float64(x))) }
