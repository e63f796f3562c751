package heads

// This file owns embeddings: one vector from the hidden states of a sequence.

import (
	"encoding/binary"
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

// Pool returns the pooled hidden states, [tokens × width]. Sums are float64, in the order of the
// tokens.
func Pool(hidden []float32, width int, how Pooling) []float64 {
	tokens := len(hidden) / width
	sum := make([]float64, width)
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
		for i, x := range hidden[t*width:][:width] {
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
	for i := range sum {
		sum[i] /= total
	}
	return sum
}

// Dense is a layer after pooling: a linear map, perhaps with a tanh.
type Dense struct {
	Weights []float32 // [outputs × inputs]
	Bias    []float32
	Tanh    bool
}

// NewDense reads a layer from its image: the weights and the bias, as f32.
func NewDense(image []byte, outputs int, tanh bool) Dense {
	values := make([]float32, len(image)/4)
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(image[4*i:]))
	}
	n := len(values) - outputs
	return Dense{values[:n], values[n:], tanh}
}

// Apply returns the outputs of the layer.
func (d Dense) Apply(v []float64) []float64 {
	out := make([]float64, len(d.Bias))
	for n := range out {
		sum := 0.0
		for i, w := range d.Weights[n*len(v):][:len(v)] {
			sum += float64(w) * v[i]
		}
		if out[n] = sum + float64(d.Bias[n]); d.Tanh {
			out[n] = math.Tanh(out[n])
		}
	}
	return out
}

// Vector returns the first dims elements of an embedding, normalized to length 1 when normalize is
// set.
func Vector(v []float64, dims int, normalize bool) []float32 {
	length := 1.0
	if normalize {
		sum := 0.0
		for _, x := range v[:dims] {
			sum += x * x
		}
		// The bound is the one of PyTorch's normalize: a vector of zeros stays one.
		length = max(math.Sqrt(sum), 1e-12)
	}
	out := make([]float32, dims)
	for i, x := range v[:dims] {
		out[i] = float32(x / length)
	}
	return out
}
