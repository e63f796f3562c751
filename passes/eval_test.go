package passes_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/ir/irtest"
	"github.com/bertc/bertc/passes"
)

// graphPasses are the passes from graph to graph, in order.
var graphPasses = []string{"canonicalize", "merge-siblings", "smooth-activations", "assign-precision", "form-groups"}

// inputs returns random inputs of g whose matrices are scaled so that activations stay near one
// and scores of attention below one: no operation then makes a relative error much larger.
func inputs(g *ir.Graph, seed uint64, env map[string]int) map[string]*ir.Tensor {
	in := irtest.Inputs(g, seed, env)
	for _, w := range g.Weights() {
		if x := in[w.Attrs.(*ir.SourceAttrs).Name]; len(x.Shape) == 2 {
			for i := range x.Data {
				x.Data[i] = num.RoundF32(x.Data[i] / math.Sqrt(float64(x.Shape[1])))
			}
		}
	}
	return in
}

// TestPassesPreserveValues: in f32 no pass changes a result by more than the rounding of float64,
// whose unit is 1e-16, over some ten operations.
func TestPassesPreserveValues(t *testing.T) {
	for _, f := range flavours {
		t.Run(f.name, func(t *testing.T) {
			before := f.graph(t)
			for _, pass := range graphPasses {
				after := graphAfter(t, f.graph(t), pass, options(ir.F32))
				for seed := range uint64(3) {
					irtest.CheckSame(t, before, after, inputs(before, seed, nil), 1e-14)
				}
				if t.Failed() {
					t.Fatalf("after %s", pass)
				}
			}
		})
	}
}

// TestGroupsPreserveBF16: forming groups moves no rounding.
func TestGroupsPreserveBF16(t *testing.T) {
	for _, f := range flavours {
		before := graphAfter(t, f.graph(t), "assign-precision", options(ir.BF16))
		after := graphAfter(t, f.graph(t), "form-groups", options(ir.BF16))
		irtest.CheckSame(t, before, after, inputs(before, 1, nil), 0)
	}
}

// TestCanonicalizeRandom: joining equal values, dropping and reordering change no bit.
func TestCanonicalizeRandom(t *testing.T) {
	smaller := 0
	for seed := range uint64(300) {
		g := irtest.Random(seed)
		after := graphAfter(t, g, "canonicalize", options(ir.F32))
		irtest.CheckSame(t, g, after, irtest.Inputs(g, seed, nil), 0)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		if len(after.Values) < len(g.Values) {
			smaller++
		}
	}
	if smaller < 10 {
		t.Errorf("only %d of 300 graphs had equal values", smaller)
	}
}

// TestOrderDoesNotMatter: the order in which a graph was made has no part in the program.
func TestOrderDoesNotMatter(t *testing.T) {
	for _, f := range flavours {
		g := f.graph(t)
		want, err := passes.Run(g, options(ir.BF16))
		if err != nil {
			t.Fatal(err)
		}
		for seed := range uint64(20) {
			got, err := passes.Run(irtest.Shuffle(g, seed), options(ir.BF16))
			if err != nil {
				t.Fatalf("%s, seed %d: %v", f.name, seed, err)
			}
			if got.String() != want.String() {
				t.Fatalf("%s, seed %d: the program is\n%s\nnot\n%s", f.name, seed, got, want)
			}
		}
	}
}

// unit is the largest relative change of a number that is rounded to bf16.
const unit = 0x1p-8

// TestPrecisionOfLinear: both factors are rounded, sums are exact, so that an element changes by
// ((1+unit)²−1)·Σ|x||w| at most.
func TestPrecisionOfLinear(t *testing.T) {
	before := parse(t, `graph @g(T: 1..8192) {
		%x = input "x" : f32[T,24]
		%w = weight "w" : f32[16,24]
		%b = weight "b" : f32[16]
		%y = linear %x, %w, %b : f32[T,16]
		return %y
	}`)
	in := irtest.Inputs(before, 1, map[string]int{"T": 9})
	old, new := results(t, before, in)
	x, w := in["x"].Data, in["w"].Data
	for i := range old {
		size := 0.0
		for k := range 24 {
			size += math.Abs(x[i/16*24+k] * w[i%16*24+k])
		}
		if d := math.Abs(new[i] - old[i]); d == 0 || d > ((1+unit)*(1+unit)-1)*size {
			t.Errorf("element %d changes by %.3g, terms add up to %.3g", i, d, size)
		}
	}
}

// TestPrecisionOfAttention: a score changes by d = ((1+unit)²−1)·scale·Σ|q||k| at most and a
// weight by the factor e^±2d; values and result are rounded once each.
func TestPrecisionOfAttention(t *testing.T) {
	before := parse(t, `graph @g(T: 1..8192, B: 1..8192) {
		%x = input "x" : f32[T,24]
		%offsets = input "offsets" : i32[B+1]
		%q = slice %x {axis=1, stop=8} : f32[T,8]
		%k = slice %x {axis=1, start=8, stop=16} : f32[T,8]
		%v = slice %x {axis=1, start=16, stop=24} : f32[T,8]
		%y = attention %q, %k, %v, %offsets {heads=2, scale=0.5} : f32[T,8]
		return %y
	}`)
	in := irtest.Inputs(before, 1, map[string]int{"T": 9, "B": 1})
	old, new := results(t, before, in)
	at := func(t, part, c int) float64 { return in["x"].Data[t*24+part*8+c] }
	for i := range old {
		row, c := i/8, i%8
		scores, d, sum := make([]float64, 9), 0.0, 0.0
		for n := range scores {
			size := 0.0
			for j := c / 4 * 4; j < c/4*4+4; j++ {
				scores[n] += 0.5 * at(row, 0, j) * at(n, 1, j)
				size += 0.5 * math.Abs(at(row, 0, j)*at(n, 1, j))
			}
			d = max(d, ((1+unit)*(1+unit)-1)*size)
			sum += math.Exp(scores[n])
		}
		bound := 0.0
		for n, s := range scores {
			bound += math.Exp(s) / sum * math.Abs(at(n, 2, c)) * (math.Exp(2*d)*(1+unit)*(1+unit) - 1)
		}
		if diff := math.Abs(new[i] - old[i]); diff == 0 || diff > bound {
			t.Errorf("element %d changes by %.3g, the bound is %.3g", i, diff, bound)
		}
	}
}

// results evaluates g and what assign-precision makes of it in bf16.
func results(t *testing.T, g *ir.Graph, in map[string]*ir.Tensor) (old, new []float64) {
	t.Helper()
	after := graphAfter(t, g, "assign-precision", options(ir.BF16))
	for _, e := range []struct {
		g   *ir.Graph
		out *[]float64
	}{{g, &old}, {after, &new}} {
		out, err := ir.Eval(e.g, in)
		if err != nil {
			t.Fatal(err)
		}
		*e.out = out[0].Data
	}
	return old, new
}

// TestPrecisionOfModel: each rounding to bf16 changes a result by unit of itself at most, and on
// these inputs (see inputs) later operations do not make such a change larger. Roundings are
// independent of each other, so that the squares of their errors add up: the relative error is at
// most unit times the root of the number of values that are rounded.
func TestPrecisionOfModel(t *testing.T) {
	for _, f := range flavours {
		before := f.graph(t)
		after := graphAfter(t, before, "assign-precision", options(ir.BF16))
		rounded := 0
		for _, v := range after.Values {
			if v.Type.DType == ir.BF16 && v.Op.Name != "slice" {
				rounded++
			}
		}
		in := inputs(before, 7, map[string]int{"T": 12, "B": 2, "M": 3})
		old, err := ir.Eval(before, in)
		if err != nil {
			t.Fatal(err)
		}
		new, err := ir.Eval(after, in)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range old {
			e := num.RelL2(new[i].Data, o.Data)
			t.Logf("%s: output %d: %d values are rounded, relative error %.2g", f.name, i, rounded, e)
			if e == 0 || e > unit*math.Sqrt(float64(rounded)) {
				t.Errorf("%s: output %d: %d values are rounded, relative error %.2g", f.name, i, rounded, e)
			}
		}
	}
}

// TestPolicyLeavesF32: with f32 the pass does nothing.
func TestPolicyLeavesF32(t *testing.T) {
	g := flavours[0].graph(t)
	before := graphAfter(t, g, "merge-siblings", options(ir.F32)).String()
	if after := graphAfter(t, g, "assign-precision", options(ir.F32)).String(); after != before {
		t.Errorf("assign-precision with f32 makes\n%s\nof\n%s", after, before)
	}
}

// TestInputIsNotChanged: Run works on a copy.
func TestInputIsNotChanged(t *testing.T) {
	g := flavours[1].graph(t)
	before := g.String()
	if _, err := passes.Run(g, options(ir.BF16)); err != nil {
		t.Fatal(err)
	}
	if g.String() != before {
		t.Error("Run changed the graph that it was given")
	}
}

// TestRandomGraphsAreRefused: whatever the graph is, the answer is a program or an error that
// names the pass, not a panic.
func TestRandomGraphsAreRefused(t *testing.T) {
	for seed := range uint64(500) {
		for _, math := range []ir.DType{ir.F32, ir.BF16} {
			_, err := passes.Run(irtest.Random(seed), options(math))
			if err == nil {
				continue
			}
			if msg := err.Error(); !startsWithPass(msg) || strings.Contains(msg, "panic") {
				t.Errorf("seed %d, %s: %v", seed, math, err)
			}
		}
	}
}

func startsWithPass(msg string) bool {
	name, _, ok := strings.Cut(msg, ":")
	return ok && slices.Contains(passes.Names(), name)
}
