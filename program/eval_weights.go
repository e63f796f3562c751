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
// rounded to its dtype; codes are integers. Vectors of factors are asked for as tensors are. w must be legal and no blob.
func (w Weight) Values(src Source) ([]float32, error) {
	if w.DType != ir.F32 && w.DType != ir.BF16 && w.DType != ir.I8 {
		return nil, fmt.Errorf("it has no numbers of type f32, bf16 or i8, but %s", w.DType)
	}
	cols := 1
	if len(w.Shape) == 2 {
		cols = w.Shape[1]
	} else if w.Scales {
		cols = w.Parts[0].Shape[1]
	}
	rows := make([]float32, w.Shape[0]*cols)
	if w.Rope != nil {
		w.Rope.fill(rows)
	} else if err := w.join(rows, cols, src); err != nil {
		return nil, err
	}
	if w.Scales || w.DType == ir.I8 {
		var scales []float32
		for n := range w.Shape[0] {
			row := rows[n*cols : (n+1)*cols]
			scales = append(scales, kernel.QuantizeWeights(row, row))
		}
		if w.Scales {
			rows = scales
		}
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
func (w Weight) join(rows []float32, cols int, src Source) error {
	first := 0
	for i, part := range w.Parts {
		data := make([]float32, part.Shape[0]*cols)
		if part.Tensor != "" {
			var shape []int
			var err error
			if data, shape, err = src(part.Tensor); err != nil {
				return err
			}
			if !slices.Equal(shape, part.Shape) || len(data) != part.Shape[0]*cols {
				return fmt.Errorf("tensor %s has shape %v and %d elements, want %s", part.Tensor, shape, len(data), shapeText(part.Shape))
			}
		}
		for r := range part.Shape[0] {
			at := first + r
			if g := w.Interleave; g > 0 {
				at = (r/g*len(w.Parts)+i)*g + r%g
			}
			copy(rows[at*cols:(at+1)*cols], data[r*cols:])
			if err := part.change(rows[at*cols:(at+1)*cols], r, src); err != nil {
				return err
			}
		}
		first += part.Shape[0]
	}
	return nil
}

// change applies the factors of a part to its row r.
func (p Part) change(row []float32, r int, src Source) error {
	for _, f := range p.Factors {
		v, _, err := src(f.Vector)
		if err != nil {
			return err
		}
		want := f.First + p.Shape[0]
		if f.Columns {
			want = len(row)
		}
		if len(v) < want {
			return fmt.Errorf("vector %s has %d elements, %s needs %d", f.Vector, len(v), p.Tensor, want)
		}
		for k := range row {
			at := f.First + r
			if f.Columns {
				at = k
			}
			row[k] = f.Apply(row[k], v[at])
		}
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
