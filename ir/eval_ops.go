package ir

import (
	"fmt"
	"math"
)

// This file owns the evaluation of sources, shape ops and primitives other
// than dot.

// Call is one evaluation of an op. Out has the result's element type, shape
// and zeroed data; the op fills the data and the evaluator rounds it.
type Call struct {
	Args  []*Tensor
	Out   *Tensor
	Attrs any
	Env   map[string]int // values of the symbols
}

var unaryFuncs = map[string]func(x float64) float64{
	"neg":     func(x float64) float64 { return -x },
	"exp":     math.Exp,
	"log":     math.Log,
	"sin":     math.Sin,
	"cos":     math.Cos,
	"tanh":    math.Tanh,
	"erf":     math.Erf,
	"sigmoid": func(x float64) float64 { return 1 / (1 + math.Exp(-x)) },
	"rsqrt":   func(x float64) float64 { return 1 / math.Sqrt(x) },
}

var binaryFuncs = map[string]func(a, b float64) float64{
	"add": func(a, b float64) float64 { return a + b },
	"sub": func(a, b float64) float64 { return a - b },
	"mul": func(a, b float64) float64 { return a * b },
	"div": func(a, b float64) float64 { return a / b },
	"max": func(a, b float64) float64 { return max(a, b) },
}

var cmpFuncs = map[string]func(a, b float64) float64{
	"eq": func(a, b float64) float64 { return truth(a == b) },
	"lt": func(a, b float64) float64 { return truth(a < b) },
	"le": func(a, b float64) float64 { return truth(a <= b) },
}

// reduceFuncs gives each reduction its start value and step.
var reduceFuncs = map[string]struct {
	start float64
	step  func(acc, x float64) float64
}{
	"sum": {0, binaryFuncs["add"]},
	"max": {math.Inf(-1), binaryFuncs["max"]},
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func evalConst(c *Call) error {
	c.Out.Data[0] = c.Attrs.(*ConstAttrs).Value
	return nil
}

func evalIota(c *Call) error {
	axis := c.Attrs.(*IotaAttrs).Axis
	n, inner := c.Out.Shape[axis], count(c.Out.Shape[axis+1:])
	for i := range c.Out.Data {
		c.Out.Data[i] = float64(i / inner % n)
	}
	return nil
}

func evalCopy(c *Call) error {
	copy(c.Out.Data, c.Args[0].Data)
	return nil
}

// strides returns the row-major strides of shape.
func strides(shape []int) []int {
	s := make([]int, len(shape))
	n := 1
	for i := len(shape) - 1; i >= 0; i-- {
		s[i] = n
		n *= shape[i]
	}
	return s
}

// broadcastStrides returns the strides that read a tensor of shape from as if
// it had shape to.
func broadcastStrides(from, to []int) []int {
	s := make([]int, len(to))
	skip := len(to) - len(from)
	for i, n := range strides(from) {
		if from[i] != 1 {
			s[skip+i] = n
		}
	}
	return s
}

// walk calls f for each row (last axis) of shape, in order, with the row's
// offset in each operand; steps are the operands' strides. A scalar is one
// row of one element.
func walk(shape []int, steps [][]int, f func(row int, at []int)) {
	outer := shape
	if len(shape) > 0 {
		outer = shape[:len(shape)-1]
	}
	index, at := make([]int, len(outer)), make([]int, len(steps))
	for row := range count(outer) {
		f(row, at)
		for axis := len(outer) - 1; axis >= 0; axis-- {
			index[axis]++
			for i, s := range steps {
				at[i] += s[axis]
			}
			if index[axis] < outer[axis] {
				break
			}
			for i, s := range steps {
				at[i] -= s[axis] * outer[axis]
			}
			index[axis] = 0
		}
	}
}

// rowOf returns the length of a row of shape.
func rowOf(shape []int) int {
	if len(shape) == 0 {
		return 1
	}
	return shape[len(shape)-1]
}

func lastStep(s []int) int {
	if len(s) == 0 {
		return 0
	}
	return s[len(s)-1]
}

func evalStrided(c *Call, steps []int) error {
	n, step, src := rowOf(c.Out.Shape), lastStep(steps), c.Args[0].Data
	walk(c.Out.Shape, [][]int{steps}, func(row int, at []int) {
		out, from := c.Out.Data[row*n:(row+1)*n], at[0]
		for i := range out {
			out[i] = src[from+i*step]
		}
	})
	return nil
}

func evalBroadcast(c *Call) error {
	return evalStrided(c, broadcastStrides(c.Args[0].Shape, c.Out.Shape))
}

func evalTranspose(c *Call) error {
	from := strides(c.Args[0].Shape)
	steps := make([]int, len(from))
	for i, p := range c.Attrs.(*TransposeAttrs).Perm {
		steps[i] = from[p]
	}
	return evalStrided(c, steps)
}

func evalSlice(c *Call) error {
	a, x := c.Attrs.(*SliceAttrs), c.Args[0]
	start, err := a.Start.Eval(c.Env)
	if err != nil {
		return err
	}
	stop, err := a.Stop.Eval(c.Env)
	if err != nil {
		return err
	}
	n := x.Shape[a.Axis]
	if start < 0 || stop < start || stop > n {
		return fmt.Errorf("range %d..%d is outside of axis %d with dim %d", start, stop, a.Axis, n)
	}
	inner := count(x.Shape[a.Axis+1:])
	for i := range count(x.Shape[:a.Axis]) {
		copy(c.Out.Data[i*(stop-start)*inner:(i+1)*(stop-start)*inner], x.Data[(i*n+start)*inner:])
	}
	return nil
}

func evalConcat(c *Call) error {
	axis := c.Attrs.(*AxisAttrs).Axis
	outer, at := count(c.Out.Shape[:axis]), 0
	total := count(c.Out.Shape[axis:])
	for _, x := range c.Args {
		n := count(x.Shape[axis:])
		for i := range outer {
			copy(c.Out.Data[i*total+at:], x.Data[i*n:(i+1)*n])
		}
		at += n
	}
	return nil
}

func evalUnary(f func(float64) float64) func(*Call) error {
	return func(c *Call) error {
		out := c.Out.Data
		for i, x := range c.Args[0].Data {
			out[i] = f(x)
		}
		return nil
	}
}

func evalBinary(f func(a, b float64) float64) func(*Call) error {
	return func(c *Call) error {
		x, y, n := c.Args[0], c.Args[1], rowOf(c.Out.Shape)
		steps := [][]int{broadcastStrides(x.Shape, c.Out.Shape), broadcastStrides(y.Shape, c.Out.Shape)}
		sx, sy := lastStep(steps[0]), lastStep(steps[1])
		walk(c.Out.Shape, steps, func(row int, at []int) {
			out, ix, iy := c.Out.Data[row*n:(row+1)*n], at[0], at[1]
			for i := range out {
				out[i] = f(x.Data[ix], y.Data[iy])
				ix += sx
				iy += sy
			}
		})
		return nil
	}
}

func evalCmp(c *Call) error { return evalBinary(cmpFuncs[c.Attrs.(*CmpAttrs).Op])(c) }

func evalSelect(c *Call) error {
	n := rowOf(c.Out.Shape)
	var steps [][]int
	for _, x := range c.Args {
		steps = append(steps, broadcastStrides(x.Shape, c.Out.Shape))
	}
	cond, a, b := c.Args[0].Data, c.Args[1].Data, c.Args[2].Data
	sc, sa, sb := lastStep(steps[0]), lastStep(steps[1]), lastStep(steps[2])
	walk(c.Out.Shape, steps, func(row int, at []int) {
		out := c.Out.Data[row*n : (row+1)*n]
		for i := range out {
			if cond[at[0]+i*sc] != 0 {
				out[i] = a[at[1]+i*sa]
			} else {
				out[i] = b[at[2]+i*sb]
			}
		}
	})
	return nil
}

func evalReduce(c *Call) error {
	a, x := c.Attrs.(*ReduceAttrs), c.Args[0]
	r := reduceFuncs[a.Op]
	n, inner := x.Shape[a.Axis], count(x.Shape[a.Axis+1:])
	for i := range c.Out.Data {
		c.Out.Data[i] = r.start
	}
	for i := range count(x.Shape[:a.Axis]) {
		out := c.Out.Data[i*inner : (i+1)*inner]
		for j := range n {
			row := x.Data[(i*n+j)*inner : (i*n+j+1)*inner]
			for k, v := range row {
				out[k] = r.step(out[k], v)
			}
		}
	}
	return nil
}

func evalGather(c *Call) error {
	table, ids := c.Args[0], c.Args[1]
	rows, n := table.Shape[0], table.Shape[1]
	for t, id := range ids.Data {
		if id < 0 || int(id) >= rows {
			return fmt.Errorf("id %v at index %d is outside of a table of %d rows", id, t, rows)
		}
		copy(c.Out.Data[t*n:(t+1)*n], table.Data[int(id)*n:])
	}
	return nil
}

// count returns the number of elements of shape.
func count(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
