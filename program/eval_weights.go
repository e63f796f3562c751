package program

import (
	"fmt"
	"math"
	"slices"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns the making of weights for the interpreter: what a recipe says, done the plain
// way, as a check on the packer of package checkpoint, which knows none of this code.

// weight returns the elements of a packed weight, padding included, and keeps them.
func (e *evaluator) weight(name string) ([]float32, error) {
	if have := e.packed[name]; have != nil {
		return have, nil
	}
	data, err := e.p.Weight(name).Values(e.source)
	if err != nil {
		return nil, fmt.Errorf("weight %s: %w", name, err)
	}
	e.packed[name] = data
	return data, nil
}

// Values makes the weight from tensors of src: its elements in the order of the weight file,
// rounded to its dtype. w must be legal and no blob.
func (w Weight) Values(src Source) ([]float32, error) {
	if w.DType != ir.F32 && w.DType != ir.BF16 {
		return nil, fmt.Errorf("it has no numbers of type f32 or bf16, but %s", w.DType)
	}
	n := 1
	for _, d := range w.Shape {
		n *= d
	}
	rows := make([]float32, n)
	if w.Rope != nil {
		w.Rope.fill(rows)
	} else if err := w.join(rows, src); err != nil {
		return nil, err
	}
	packed := kernel.Pack(w.Layout, rows, w.Shape...)
	if w.DType == ir.BF16 {
		for i, x := range packed {
			packed[i] = num.FromBF16(num.BF16(x))
		}
	}
	return packed, nil
}

// join writes the rows of the parts, one after another or in turn, in row-major order.
func (w Weight) join(rows []float32, src Source) error {
	cols := 1
	if len(w.Shape) == 2 {
		cols = w.Shape[1]
	}
	first := 0
	for i, part := range w.Parts {
		if part.Tensor != "" {
			data, shape, err := src(part.Tensor)
			if err != nil {
				return err
			}
			if !slices.Equal(shape, part.Shape) || len(data) != part.Shape[0]*cols {
				return fmt.Errorf("tensor %s has shape %v and %d elements, want %s", part.Tensor, shape, len(data), shapeText(part.Shape))
			}
			for r := range part.Shape[0] {
				at := first + r
				if g := w.Interleave; g > 0 {
					at = (r/g*len(w.Parts)+i)*g + r%g
				}
				copy(rows[at*cols:(at+1)*cols], data[r*cols:])
			}
		}
		first += part.Shape[0]
	}
	return nil
}

func (r *Rope) fill(rows []float32) {
	half := r.HeadDim / 2
	f := math.Cos
	if r.Sin {
		f = math.Sin
	}
	for p := range r.Positions {
		for j := range half {
			rows[p*half+j] = float32(f(float64(p) * math.Pow(r.Theta, -2*float64(j)/float64(r.HeadDim))))
		}
	}
}
