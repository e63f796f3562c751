// Package quant says how the matmuls of a model are quantised to 8 bits: a Config is what
// `bertc calibrate` writes as text and `bertc compile --dtype int8` reads.
//
// It imports nothing of this module: passes put a Config into the graph, checkpoint packs by it.
package quant

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// Precision is the dtype of the factors of a matmul.
type Precision string

const (
	Int8 Precision = "int8"
	BF16 Precision = "bf16"
)

// Linear is how one matmul is done.
type Linear struct {
	// Precision "" is the default of the policy.
	Precision Precision
	// Smooth, when not nil, has a positive factor for each of the K columns of the weight:
	// column k of the weight is multiplied by Smooth[k] when it is packed, and what makes the
	// left factor divides by it (SmoothQuant, arXiv 2211.10438): the weight and bias of the norm
	// before, or the up rows of a gated unit. Other matmuls have no factors.
	Smooth []float32
	// Shift, when not nil, has a number for each row of the weight, as joined for the step, that is
	// added to the bias: what rounding the weight takes from the result of the mean left factor,
	// Σ_k (w[n,k] − ŵ[n,k])·mean[k], of weight and left factor after all smoothing.
	Shift []float32
	// Error is ‖a−b‖/‖b‖ of the result with both factors of 8 bits, 0 where nobody measured it;
	// Reason is why Precision is what it is. Both are for readers of the text.
	Error  float64
	Reason string
}

// Config is how the matmuls of a model are done. The nil Config is the default for all.
type Config struct {
	// Linears are those that are not as the default is, by the name of the step that plan.txt
	// shows, for example "layer.0.qkv", "layer.0.attention_output", "layer.0.gate_up",
	// "layer.0.down", "head.dense" and "logits". The embedding table is "embed": in int8 by
	// default, unless a decoder in bf16 shares it.
	Linears map[string]Linear
	// Model says which models the Config is for, "" any: it equals what package pipeline says of
	// their sizes. Notes are for readers of the text.
	Model string
	Notes []string
}

// Linear returns what c says of a matmul.
func (c *Config) Linear(name string) Linear {
	if c == nil {
		return Linear{}
	}
	return c.Linears[name]
}

// Names returns the names of the matmuls that c says something of, sorted.
func (c *Config) Names() []string {
	if c == nil {
		return nil
	}
	var names []string
	for n := range c.Linears {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

// Vector returns the vector that VectorName or ShiftName calls so, nil where there is none.
func (c *Config) Vector(name string) []float32 {
	if linear, ok := strings.CutPrefix(name, vectorPrefix); ok {
		return c.Linear(linear).Smooth
	}
	if linear, ok := strings.CutPrefix(name, shiftPrefix); ok {
		return c.Linear(linear).Shift
	}
	return nil
}

const (
	vectorPrefix = "smooth:"
	shiftPrefix  = "shift:"
)

// VectorName is what graphs and recipes call the smoothing vector of a matmul, and ShiftName the
// vector that is added to its bias. No checkpoint tensor has such a name.
func VectorName(linear string) string { return vectorPrefix + linear }
func ShiftName(linear string) string  { return shiftPrefix + linear }

// Check reports a precision that does not exist and a factor that is not positive and finite.
func (c *Config) Check() error {
	for _, n := range c.Names() {
		l := c.Linears[n]
		switch l.Precision {
		case "", Int8, BF16:
		default:
			return fmt.Errorf("matmul %s: precision %q is neither %s nor %s", n, l.Precision, Int8, BF16)
		}
		for k, s := range l.Smooth {
			if !positive(s) {
				return fmt.Errorf("matmul %s: smoothing factor %d is %v, not a positive number", n, k, s)
			}
		}
		for k, x := range l.Shift {
			if !finite(x) {
				return fmt.Errorf("matmul %s: shift %d is %v, not a number", n, k, x)
			}
		}
	}
	return nil
}

// positive reports whether a factor is positive and finite.
func positive(s float32) bool { return s > 0 && !math.IsInf(float64(s), 1) }

func finite(x float32) bool { return x-x == 0 }
