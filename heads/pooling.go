package heads

// This file owns embeddings: one vector from the hidden states of a sequence.

import (
	"fmt"
	"math"
)

// Pooling is how the hidden states of the tokens of a sequence, special tokens included, become
// one vector.
type Pooling string

// The poolings, by the names of Sentence Transformers.
const (
	PoolCLS          Pooling = "cls"          // the first token
	PoolMean         Pooling = "mean"         // the mean
	PoolMax          Pooling = "max"          // the maximum, element by element
	PoolLast         Pooling = "lasttoken"    // the last token
	PoolWeightedMean Pooling = "weightedmean" // the mean, weighted by 1, 2, 3 and so on
)

// Check reports a pooling that there is not.
func (p Pooling) Check() error {
	switch p {
	case PoolCLS, PoolMean, PoolMax, PoolLast, PoolWeightedMean:
		return nil
	}
	return fmt.Errorf("pooling %q: not one of cls, mean, max, lasttoken, weightedmean", p)
}

// Pool returns the first dims elements of the pooled hidden states, [tokens × width], normalized
// to length 1 when normalize is set. Sums are float64, in the order of the tokens.
func Pool(hidden []float32, width int, how Pooling, dims int, normalize bool) []float32 {
	tokens := len(hidden) / width
	sum := make([]float64, dims)
	from, to := 0, tokens
	switch how {
	case PoolCLS:
		to = 1
	case PoolLast:
		from = tokens - 1
	case PoolMax:
		for i := range sum {
			sum[i] = math.Inf(-1)
		}
	}
	total := 0.0
	for t := from; t < to; t++ {
		weight := 1.0
		if how == PoolWeightedMean {
			weight = float64(t + 1)
		}
		total += weight
		for i, x := range hidden[t*width:][:dims] {
			if how == PoolMax {
				sum[i] = max(sum[i], float64(x))
			} else {
				sum[i] += weight * float64(x)
			}
		}
	}
	if how == PoolMax {
		total = 1
	}
	length := 0.0
	for i := range sum {
		sum[i] /= total
		length += sum[i] * sum[i]
	}
	// The bound is the one of PyTorch's normalize: a vector of zeros stays one.
	if length = max(math.Sqrt(length), 1e-12); !normalize {
		length = 1
	}
	out := make([]float32, dims)
	for i, x := range sum {
		out[i] = float32(x / length)
	}
	return out
}
