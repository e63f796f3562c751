package passes_test

import (
	"fmt"
	"math"
	"testing"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

// This file owns the test of the whole way: a graph is compiled, and the program, interpreted on
// planned memory and packed weights, computes what the graph does.

// batches are sequences of tokens by their lengths, and the number of rows that the head gets.
var batches = []struct {
	lengths []int
	picked  int
}{
	{[]int{1}, 1},
	{[]int{2, 3}, 5},
	{[]int{20, 1, 12}, 2},
}

func TestProgramComputesGraph(t *testing.T) {
	for _, f := range flavours {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			c := f.config()
			c.NumHiddenLayers = 2 // so that layers share memory
			g := build(t, c, f.task)
			for _, math := range []ir.DType{ir.F32, ir.BF16, ir.I8} {
				for name, p := range programs(t, g, math) {
					for _, b := range batches {
						compare(t, fmt.Sprintf("%s, %s, sequences of %v", math, name, b.lengths), g, p, math, batch(g, b.lengths, b.picked))
					}
				}
			}
		})
	}
}

// programs compiles g with the plans that are chosen, by target, and with those of onePlan.
func programs(t *testing.T, g *ir.Graph, math ir.DType) map[string]compiled {
	t.Helper()
	out := map[string]compiled{}
	p, err := passes.Run(g, options(math))
	if err != nil {
		t.Fatal(err)
	}
	for _, target := range targets {
		out[target] = compiled{p, target}
	}
	o := options(math)
	o.Targets, o.Plans = []string{"generic"}, onePlan
	if p, err = passes.Run(g, o); err != nil {
		t.Fatal(err)
	}
	out["small blocks"] = compiled{p, "generic"}
	return out
}

type compiled struct {
	*program.Program
	target string
}

// batch returns inputs of g for sequences of these lengths.
func batch(g *ir.Graph, lengths []int, picked int) map[string]*ir.Tensor {
	tokens := 0
	for _, n := range lengths {
		tokens += n
	}
	in := inputs(g, uint64(tokens), map[string]int{"T": tokens, "B": len(lengths), "M": picked})
	at := 0
	for i, n := range lengths {
		in["offsets"].Data[i] = float64(at)
		for j := range n {
			in["positions"].Data[at+j] = float64(j)
		}
		at += n
	}
	in["offsets"].Data[len(lengths)] = float64(at)
	return in
}

// compare holds the outputs of p against those of g. In f32 a sum of k products is off by k·2⁻²⁴
// of its terms at most; the layers of these models have 5 sums one after another, of up to 40
// terms, and the head 2 more. In bf16 see TestPrecisionOfModel; attention, besides, rounds scaled
// queries and probabilities. A row of 8 bits is off by 1/127/√12 of its largest element, which is
// less than 3 times the others: by less than 2·unit of its norm.
func compare(t *testing.T, what string, g *ir.Graph, p compiled, policy ir.DType, in map[string]*ir.Tensor) {
	t.Helper()
	want, err := ir.Eval(g, in)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	got, err := program.Eval(p.Program, p.target, in, source(in))
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	bound := 12 * 40 * 0x1p-24
	if policy != ir.F32 {
		rounded := 0
		for _, v := range graphAfter(t, g, "assign-precision", options(policy)).Values {
			if v.Type.DType == ir.BF16 && v.Op.Name != "slice" {
				rounded++
			}
			if v.Op.Name == "attention" {
				rounded += 2
			}
			if v.Op.Name == "quantize" {
				rounded += 4
			}
		}
		bound = unit * math.Sqrt(float64(rounded))
	}
	for i, o := range g.Outputs {
		x := got[o.Name]
		if x == nil || len(x.Data) != len(want[i].Data) {
			t.Fatalf("%s: output %s is missing or has another size", what, o.Name)
		}
		e := num.RelL2(x.Data, want[i].Data)
		t.Logf("%s: %s: relative error %.2g, bound %.2g", what, o.Name, e, bound)
		if !(e <= bound) {
			t.Errorf("%s: %s: relative error %.2g is above %.2g", what, o.Name, e, bound)
		}
	}
}

// source returns the weights among in.
func source(in map[string]*ir.Tensor) program.Source {
	return func(name string) ([]float32, []int, error) {
		t := in[name]
		if t == nil {
			return nil, nil, fmt.Errorf("no tensor is called %s", name)
		}
		data := make([]float32, len(t.Data))
		for i, x := range t.Data {
			data[i] = float32(x)
		}
		return data, t.Shape, nil
	}
}

// TestWrongWeightsShow: the comparison above can fail.
func TestWrongWeightsShow(t *testing.T) {
	g := flavours[0].graph(t)
	p, err := passes.Run(g, options(ir.F32))
	if err != nil {
		t.Fatal(err)
	}
	in := batch(g, []int{3, 2}, 2)
	want, err := program.Eval(p, "generic", in, source(in))
	if err != nil {
		t.Fatal(err)
	}
	w := p.Weight("layer.0.gate_up.weight")
	w.Parts[0], w.Parts[1] = w.Parts[1], w.Parts[0]
	got, err := program.Eval(p, "generic", in, source(in))
	if err != nil {
		t.Fatal(err)
	}
	if e := num.RelL2(got["hidden"].Data, want["hidden"].Data); !(e > 0.01) {
		t.Errorf("gate and up exchanged: relative error %.2g", e)
	}
}
