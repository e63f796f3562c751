package calibrate

import (
	"context"
	"fmt"
	"strings"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
	"github.com/bertc/bertc/quant"
)

// This file owns what rounding a weight to 8 bits takes from the result of the mean left factor,
// Σ_k (w[n,k] − ŵ[n,k])·mean[k], and its bias gets back. What is left of the error differs from
// token to token. It gains where the mean is large against what tokens have of their own, and is
// that of other texts too, which measure.go sees on texts that the mean is not made of.

// shiftable reports whether a matmul gets a shift: those of layers, whose errors go on.
func (m *matmul) shiftable() bool { return strings.HasPrefix(m.step.Name, "layer.") }

// shift sets the shifts of the matmuls of c that are in int8.
func (r *recording) shift(ctx context.Context, c *quant.Config, src checkpoint.Source) error {
	for _, m := range r.matmuls {
		l := c.Linears[m.step.Name]
		if !m.shifted || l.Precision != quant.Int8 {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		var divide []float32 // the up rows of a gated unit
		if layer, ok := strings.CutSuffix(m.step.Name, ".gate_up"); ok {
			divide = c.Linears[layer+".down"].Smooth
		}
		var err error
		if l.Shift, err = shiftOf(r.program.Weight(m.step.Arg(program.W)), m.mean(), l.Smooth, divide, src); err != nil {
			return fmt.Errorf("step %s: %w", m.step.Name, err)
		}
		c.Linears[m.step.Name] = l
	}
	return nil
}

// shiftOf returns the shift of a weight whose columns are multiplied by smooth and the rows of whose
// last part are divided by divide, where they are not nil; rounded to what the text form shows.
func shiftOf(w *program.Weight, mean, smooth, divide []float32, src checkpoint.Source) ([]float32, error) {
	codes, x := make([]float32, len(mean)), append([]float32(nil), mean...)
	for c, f := range smooth {
		x[c] /= f
	}
	var out []float32
	for i, part := range w.Parts {
		t, err := src.Tensor(part.Tensor)
		if err != nil {
			return nil, err
		}
		size := len(t.Data) / part.Shape[0]
		for n := range part.Shape[0] {
			row := t
			row.Data = t.Data[n*size : (n+1)*size]
			values := row.Float32s()
			for c := range values {
				if divide != nil && i == len(w.Parts)-1 {
					values[c] /= divide[n]
				}
				if smooth != nil {
					values[c] *= smooth[c]
				}
			}
			scale, lost := kernel.QuantizeWeights(codes, values), 0.0
			for c, v := range values {
				lost += (float64(v) - float64(codes[c]*scale)) * float64(x[c])
			}
			out = append(out, float32(threeDigits(lost)))
		}
		src.Release(part.Tensor)
	}
	return out, nil
}
