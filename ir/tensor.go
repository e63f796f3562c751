package ir

import (
	"fmt"
	"math"

	"github.com/bertc/bertc/internal/num"
)

// This file owns the tensors of the evaluator.

// Tensor is a value during evaluation, in row-major order. Whatever DType
// says, Data is float64: for f32 it is not rounded, because the evaluator is
// the reference; for all other types each element is exact in that type.
type Tensor struct {
	DType DType
	Shape []int
	Data  []float64
}

// NewTensor returns a zero tensor.
func NewTensor(d DType, shape ...int) *Tensor {
	return &Tensor{DType: d, Shape: shape, Data: make([]float64, count(shape))}
}

// rounders bring an element to a type; f32 stays as it is.
var rounders = [...]func(float64) float64{
	BF16: num.RoundBF16,
	F16:  num.RoundF16,
	I8:   func(x float64) float64 { return roundInt(x, math.MinInt8, math.MaxInt8) },
	I32:  func(x float64) float64 { return roundInt(x, math.MinInt32, math.MaxInt32) },
	Bool: func(x float64) float64 { return truth(x != 0) },
}

func roundInt(x, lo, hi float64) float64 {
	if x != x {
		return 0
	}
	return min(max(math.RoundToEven(x), lo), hi)
}

// round brings every element to t's element type.
func (t *Tensor) round() {
	if f := rounders[t.DType]; f != nil {
		for i, x := range t.Data {
			t.Data[i] = f(x)
		}
	}
}

// as returns t with element type d; the data is copied when it must change.
func (t *Tensor) as(d DType) *Tensor {
	if t.DType == d {
		return t
	}
	c := &Tensor{DType: d, Shape: t.Shape, Data: append([]float64(nil), t.Data...)}
	c.round()
	return c
}

// check reports a tensor whose parts disagree.
func (t *Tensor) check() error {
	n := 1
	for _, d := range t.Shape {
		if d < 0 {
			return fmt.Errorf("shape %v has a negative dim", t.Shape)
		}
		if n > maxElems/max(d, 1) {
			return fmt.Errorf("shape %v has too many elements", t.Shape)
		}
		n *= max(d, 1)
	}
	if n := count(t.Shape); n != len(t.Data) {
		return fmt.Errorf("shape %v has %d elements, data has %d", t.Shape, n, len(t.Data))
	}
	if !t.DType.Valid() {
		return fmt.Errorf("element type is not set")
	}
	return nil
}
