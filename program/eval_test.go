package program_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// The tests of passes hold Eval against the evaluator of graphs, for every architecture; here are
// its parts, by hand, and its errors.

// counting returns tensors whose elements are 1, 2, 3 … times ten to the number in their name.
func counting(shapes map[string][]int) program.Source {
	return func(name string) ([]float32, []int, error) {
		shape, ok := shapes[name]
		if !ok {
			return nil, nil, fmt.Errorf("no tensor is called %s", name)
		}
		n := 1
		for _, d := range shape {
			n *= d
		}
		data := make([]float32, n)
		for i := range data {
			data[i] = float32(i+1) * float32(math.Pow10(int(name[len(name)-1]-'0')))
		}
		return data, shape, nil
	}
}

func TestWeightValues(t *testing.T) {
	src := counting(map[string][]int{"a0": {3}, "b2": {3}, "m0": {2, 2}, "n2": {1, 2}})
	part := func(name string, shape ...int) program.Part { return program.Part{Tensor: name, Shape: shape} }
	for _, c := range []struct {
		name string
		w    program.Weight
		want []float32
	}{
		{"joined", program.Weight{Parts: []program.Part{part("a0", 3), part("", 2), part("b2", 3)}, Shape: []int{8}, Layout: kernel.Vector},
			[]float32{1, 2, 3, 0, 0, 100, 200, 300}},
		{"in turn, two rows of each, the last filled up", program.Weight{Parts: []program.Part{part("a0", 3), part("b2", 3)}, Interleave: 2, Shape: []int{8}, Layout: kernel.Vector},
			[]float32{1, 2, 100, 200, 3, 0, 300, 0}},
		{"rows", program.Weight{Parts: []program.Part{part("m0", 2, 2), part("n2", 1, 2)}, Shape: []int{3, 2}, Layout: kernel.RowMajor},
			[]float32{1, 2, 3, 4, 100, 200}},
		{"packed", program.Weight{Parts: []program.Part{part("m0", 2, 2), part("n2", 1, 2)}, Shape: []int{3, 2}, Layout: "[n/2][k][n2]"},
			[]float32{1, 3, 2, 4, 100, 0, 200, 0}},
		{"sines", program.Weight{Rope: &program.Rope{Theta: 100, HeadDim: 4, Positions: 2, Sin: true}, Shape: []int{2, 2}, Layout: kernel.RowMajor},
			[]float32{0, 0, float32(math.Sin(1)), float32(math.Sin(0.1))}},
		{"cosines", program.Weight{Rope: &program.Rope{Theta: 100, HeadDim: 4, Positions: 2}, Shape: []int{2, 2}, Layout: kernel.RowMajor},
			[]float32{1, 1, float32(math.Cos(1)), float32(math.Cos(0.1))}},
	} {
		c.w.DType = ir.F32
		if got, err := c.w.Values(src); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v (%v), want %v", c.name, got, err, c.want)
		}
	}
	w := program.Weight{DType: ir.BF16, Parts: []program.Part{part("c9", 1)}, Shape: []int{1}, Layout: kernel.Vector}
	got, err := w.Values(func(string) ([]float32, []int, error) { return []float32{1 + 0x1p-8}, []int{1}, nil })
	if err != nil || got[0] != 1 {
		t.Errorf("1+2⁻⁸ in bf16 is %v (%v), want 1: ties go to even", got, err)
	}
}

// norms is a program of two norms in a row, on two buffers.
const norms = `program @g(T: 1..8, M: 1..8) {
  kernel n = rowwise in=f32 out=f32 k=2 prologue=rmsnorm eps=1e-05
    plan rowwise generic block=4x0
  weight w = f32[2] [n]
    part w0 [2]
  buffer in = input f32[T,2] @0
  buffer a = temp f32[T,2] @8
  buffer out = output f32[T,2] @0
  step s0 = n src=in dst=a gamma=w
  step s1 = n src=a dst=out gamma=w
}
`

func rows(data ...float64) *ir.Tensor {
	return &ir.Tensor{DType: ir.F32, Shape: []int{len(data) / 2, 2}, Data: data}
}

func TestEvalNorms(t *testing.T) {
	out, err := program.Eval(parse(t, norms), "generic", map[string]*ir.Tensor{"in": rows(3, 4, 0, 2)}, counting(map[string][]int{"w0": {2}}))
	if err != nil {
		t.Fatal(err)
	}
	// (3, 4)/√12.5·(1, 2), once more divided by its root mean square and times (1, 2); eps is 1e-5.
	want := []float64{3 / math.Sqrt(36.5), 16 / math.Sqrt(36.5), 0, 2 * math.Sqrt2}
	got := out["out"]
	if !slices.Equal(got.Shape, []int{2, 2}) || got.DType != ir.F32 || len(out) != 1 {
		t.Fatalf("the outputs are %v", out)
	}
	for i, w := range want {
		if math.Abs(got.Data[i]-w) > 2e-5 {
			t.Errorf("element %d is %v, want %v", i, got.Data[i], w)
		}
	}
}

func TestEvalErrors(t *testing.T) {
	weights := counting(map[string][]int{"w0": {2}})
	good := map[string]*ir.Tensor{"in": rows(3, 4)}
	for _, c := range []struct {
		name, text, target string
		in                 map[string]*ir.Tensor
		weights            program.Source
		want               string
	}{
		{"illegal", strings.Replace(norms, "dst=a", "dst=b", 1), "generic", good, weights, `program @g: step s0: unknown buffer "b"`},
		{"no target", norms, "amd64/avx512f", good, weights, "program @g: step s0: kernel n has no plan for amd64/avx512f"},
		{"not planned", strings.Replace(norms, " @8", "", 1), "generic", good, weights, "program @g: buffer a has no offset: memory is not planned"},
		{"no input", norms, "generic", nil, weights, `program @g: no tensor is given for input "in"`},
		{"wrong columns", norms, "generic", map[string]*ir.Tensor{"in": {Shape: []int{1, 3}, Data: make([]float64, 3)}}, weights, `program @g: input "in" has shape [1 3] and 3 elements, want f32[T,2]`},
		{"too many rows", norms, "generic", map[string]*ir.Tensor{"in": rows(make([]float64, 18)...)}, weights, "program @g: T is 9, outside of 1..8"},
		{"two lengths", strings.Replace(norms, "  buffer a", "  buffer in2 = input i32[T] @16\n  buffer a", 1), "generic",
			map[string]*ir.Tensor{"in": rows(3, 4), "in2": {Shape: []int{2}, Data: []float64{1, 2}}}, weights, `program @g: input "in2" makes T 2, another makes it 1`},
		{"no rows", strings.Replace(norms, "  buffer a", "  buffer m = temp i32[M] @0\n  buffer a", 1), "generic", good, weights, "program @g: no input gives symbol M a value"},
		{"no tensor", norms, "generic", good, counting(nil), "program @g: step s0: weight w: no tensor is called w0"},
		{"wrong tensor", norms, "generic", good, counting(map[string][]int{"w0": {3}}), "program @g: step s0: weight w: tensor w0 has shape [3] and 3 elements, want [2]"},
	} {
		_, err := program.Eval(parse(t, c.text), c.target, c.in, c.weights)
		if err == nil || err.Error() != c.want {
			t.Errorf("%s: the error is %v, want %s", c.name, err, c.want)
		}
	}
}

// attention is a program of one attention with one head of two elements.
const attention = `program @g(T: 1..8, M: 1..8) {
  kernel a = attention in=f32 out=f32 math=f32 heads=1 kvheads=1 headdim=2 scale=1
    plan attention generic inst=mul+add micro=1x32 block=1x32
  buffer in = input f32[T,6] @0
  buffer out = output f32[T,2] @24
  step s = a src=in dst=out
}
`

// TestEvalSequences: tokens attend within their sequence; alone, a token sees its own value.
func TestEvalSequences(t *testing.T) {
	in := &ir.Tensor{Shape: []int{3, 6}, Data: []float64{0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 5, 6}}
	for _, c := range []struct {
		offsets []float64
		want    any
	}{
		{[]float64{0, 1, 2, 3}, []float64{1, 2, 3, 4, 5, 6}},
		{[]float64{0, 2, 2, 3}, []float64{2, 3, 2, 3, 5, 6}}, // the second sequence is empty
		{[]float64{0, 3}, []float64{3, 4, 3, 4, 3, 4}},
		{nil, "program @g: no offsets of sequences are given"},
		{[]float64{0, 2}, "program @g: offsets [0 2] do not run from 0 to 3"},
		{[]float64{0, 2, 1, 3}, "program @g: offsets [0 2 1 3] do not run from 0 to 3"},
	} {
		inputs := map[string]*ir.Tensor{"in": in}
		if c.offsets != nil {
			inputs["offsets"] = &ir.Tensor{Shape: []int{len(c.offsets)}, Data: c.offsets}
		}
		out, err := program.Eval(parse(t, attention), "generic", inputs, nil)
		switch want := c.want.(type) {
		case string:
			if err == nil || err.Error() != want {
				t.Errorf("offsets %v: the error is %v, want %s", c.offsets, err, want)
			}
		case []float64:
			if err != nil {
				t.Errorf("offsets %v: %v", c.offsets, err)
				continue
			}
			for i, w := range want {
				if math.Abs(out["out"].Data[i]-w) > 1e-6 { // f32 of numbers up to 6
					t.Errorf("offsets %v: %v, want %v", c.offsets, out["out"].Data, want)
					break
				}
			}
		}
	}
}
