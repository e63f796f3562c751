package passes_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/ir/irtest"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
	"github.com/bertc/bertc/quant"
)

// TestGroupsPreserveI8: forming groups moves no rounding.
func TestGroupsPreserveI8(t *testing.T) {
	for _, f := range flavours {
		before := graphAfter(t, f.graph(t), "assign-precision", options(ir.I8))
		after := graphAfter(t, f.graph(t), "form-groups", options(ir.I8))
		irtest.CheckSame(t, before, after, inputs(before, 1, nil), 0)
	}
}

// mathOf returns math and weight dtype of the kernel of each step that is a matmul or reads a table.
func mathOf(t *testing.T, f flavour, q *quant.Config) map[string]string {
	t.Helper()
	o := options(ir.I8)
	o.Quant = q
	p, err := passes.Run(f.graph(t), o)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for _, s := range p.Steps {
		if k := p.Kernel(s.Kernel).Spec; s.Arg(program.W) != "" {
			m[s.Name] = fmt.Sprint(k.Math, " ", k.Weight)
		}
	}
	return m
}

// TestFirstLayers: one layer of 16 stays in bf16, and one of 4 at least.
func TestFirstLayers(t *testing.T) {
	for layers, first := range map[int]int{1: 0, 3: 0, 4: 1, 19: 1, 20: 2, 48: 3} {
		c := base()
		c.NumHiddenLayers = layers
		p, err := passes.Run(build(t, c, bert.MaskedLM), options(ir.I8))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, s := range p.Steps {
			if strings.HasSuffix(s.Name, ".down") && p.Kernel(s.Kernel).Spec.Math == ir.BF16 {
				n++
			}
		}
		if n != first {
			t.Errorf("%d of %d layers are in bf16, want %d", n, layers, first)
		}
	}
}

// TestWhatIsQuantised: the layers, the decoder and the table; a matmul of a head is not; and what
// the options say goes before.
func TestWhatIsQuantised(t *testing.T) {
	for name, c := range map[string]struct {
		flavour int
		quant   *quant.Config
		want    map[string]string
	}{
		"masked_lm": {0, nil, map[string]string{"embed": "notype i8", "layer.0.qkv": "i8 i8", "layer.0.attention_output": "i8 i8",
			"layer.0.gate_up": "i8 i8", "layer.0.down": "i8 i8", "head.dense": "bf16 bf16", "logits": "i8 i8"}},
		"classifier": {4, nil, map[string]string{"embed": "notype i8", "layer.0.down": "i8 i8", "head.pooler": "bf16 bf16", "logits": "bf16 bf16"}},
		"a layer in bf16, a head in int8": {0, &quant.Config{Linears: map[string]quant.Linear{
			"layer.0.qkv": {Precision: quant.BF16}, "head.dense": {Precision: quant.Int8},
		}}, map[string]string{"layer.0.qkv": "bf16 bf16", "layer.0.down": "i8 i8", "head.dense": "i8 i8"}},
		"the tied decoder in bf16 takes the table along": {0, linear("logits", quant.Linear{Precision: quant.BF16}),
			map[string]string{"embed": "notype bf16", "logits": "bf16 bf16", "layer.0.down": "i8 i8"}},
		"a table in bf16 leaves the decoder": {0, linear("embed", quant.Linear{Precision: quant.BF16}),
			map[string]string{"embed": "notype bf16", "logits": "i8 i8"}},
		"a decoder of its own does not": {2, linear("logits", quant.Linear{Precision: quant.BF16}),
			map[string]string{"embed": "notype i8", "logits": "bf16 bf16"}},
	} {
		got := mathOf(t, flavours[c.flavour], c.quant)
		for step, want := range c.want {
			if got[step] != want {
				t.Errorf("%s: step %s has math and weights %q, want %q", name, step, got[step], want)
			}
		}
	}
}

// smoothing are factors for the matmuls of the layer that can have them.
func smoothing(f flavour) *quant.Config {
	c, q := f.config(), &quant.Config{Linears: map[string]quant.Linear{}}
	for name, k := range map[string]int{"layer.0.qkv": c.HiddenSize, "layer.0.gate_up": c.HiddenSize, "layer.0.down": c.IntermediateSize} {
		s := make([]float32, k)
		for i := range s {
			s[i] = float32(math.Exp2(float64(i%7-3) / 2))
		}
		q.Linears[name] = quant.Linear{Smooth: s}
	}
	return q
}

// TestShift: what is added to the biases of matmuls, with bias and without, smoothed or not, is in the
// graph and in the recipes.
func TestShift(t *testing.T) {
	for _, f := range flavours {
		c, o := f.config(), options(ir.I8)
		o.Quant = smoothing(f)
		qkv := (c.NumAttentionHeads + 2*c.NumKeyValueHeads) * c.HeadDim
		for name, n := range map[string]int{"layer.0.qkv": qkv, "layer.0.attention_output": c.HiddenSize, "layer.0.gate_up": 2 * c.IntermediateSize, "layer.0.down": c.HiddenSize} {
			l := o.Quant.Linears[name]
			for i := range n {
				l.Shift = append(l.Shift, float32(i%11-5)/4)
			}
			o.Quant.Linears[name] = l
		}
		g := f.graph(t)
		in := batch(g, []int{3, 5}, 2)
		for name, l := range o.Quant.Linears {
			in[quant.ShiftName(name)] = &ir.Tensor{DType: ir.F32, Shape: []int{len(l.Shift)}, Data: num.Float64s(l.Shift)}
			in[quant.VectorName(name)] = &ir.Tensor{DType: ir.F32, Shape: []int{len(l.Smooth)}, Data: num.Float64s(l.Smooth)}
		}
		policy := graphAfter(t, g, "assign-precision", o)
		p, err := passes.Run(g, o)
		if err != nil {
			t.Fatal(err)
		}
		if text := p.String(); !strings.Contains(text, " rows+shift:layer.0.gate_up@40") {
			t.Errorf("%s: no recipe adds the second half of a shift:\n%s", f.name, text)
		}
		got, err := program.Eval(p, "generic", in, source(in))
		if err != nil {
			t.Fatal(err)
		}
		want, err := ir.Eval(policy, in)
		if err != nil {
			t.Fatal(err)
		}
		for i, o := range g.Outputs {
			if e := num.RelL2(got[o.Name].Data, want[i].Data); !(e < 8*unit) {
				t.Errorf("%s: %s: relative error %.2g", f.name, o.Name, e)
			}
		}
		if old, err := ir.Eval(g, in); err != nil || num.RelL2(old[0].Data, want[0].Data) < 0.1 {
			t.Errorf("%s: the shift changes nothing (%v)", f.name, err)
		}
	}
}

// TestSmoothing: a graph whose activations are smoothed computes the same before they are rounded,
// and its program, whose recipes have the factors, what it computes.
func TestSmoothing(t *testing.T) {
	for _, f := range flavours {
		o := options(ir.I8)
		o.Quant = smoothing(f)
		before, after := f.graph(t), graphAfter(t, f.graph(t), "smooth-activations", o)
		in := batch(before, []int{3, 5}, 2)
		for name, l := range o.Quant.Linears {
			in[quant.VectorName(name)] = &ir.Tensor{DType: ir.F32, Shape: []int{len(l.Smooth)}, Data: num.Float64s(l.Smooth)}
		}
		if n := strings.Count(after.String(), quant.VectorName("")); n != 3 {
			t.Errorf("%s: %d vectors in the graph, want 3", f.name, n)
		}
		// factors are f32: ten roundings of 2⁻²⁴ one after another
		irtest.CheckSame(t, before, after, in, 1e-5)
		p, err := passes.Run(f.graph(t), o)
		if err != nil {
			t.Fatal(err)
		}
		if text := p.String(); !strings.Contains(text, "columns*smooth:layer.0.qkv") || !strings.Contains(text, "rows/smooth:layer.0.down") {
			t.Errorf("%s: recipes lack factors:\n%s", f.name, text)
		}
		got, err := program.Eval(p, "generic", in, source(in))
		if err != nil {
			t.Fatal(err)
		}
		want, err := ir.Eval(graphAfter(t, f.graph(t), "assign-precision", o), in)
		if err != nil {
			t.Fatal(err)
		}
		// Attention rounds scaled queries and probabilities besides, and a code next to a tie then
		// becomes the neighbour: in a few steps up to 8 units. A factor that is missing in a recipe,
		// or there twice, makes errors of the size of the results.
		for i, o := range before.Outputs {
			if e := num.RelL2(got[o.Name].Data, want[i].Data); !(e < 8*unit) {
				t.Errorf("%s: %s: relative error %.2g", f.name, o.Name, e)
			}
		}
	}
}
