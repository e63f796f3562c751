package passes_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/filetest"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/quant"
)

// TestErrors runs testdata/errors: each section is a graph that cannot be compiled, named by the
// math dtype and what is wrong with it, with the error in a comment at the offending line.
func TestErrors(t *testing.T) {
	filetest.Run(t, "testdata/errors/*.txt", func(t *testing.T, f *filetest.File) {
		for _, s := range f.Sections {
			text := filetest.Unmark(s.Text)
			word, _, _ := strings.Cut(s.Name, " ")
			math, ok := ir.ParseDType(word)
			if !ok {
				t.Fatalf("section %q does not begin with a dtype", s.Name)
			}
			_, err := passes.Run(parse(t, text), options(math))
			if err == nil {
				t.Errorf("section %q compiles", s.Name)
			}
			f.WantError(t, s.Name, lineOf(text, err), err)
		}
	})
}

var nameInError = regexp.MustCompile(`[%@]([\w.]+)|step ([\w.]+)`)

// lineOf returns the line of the value that an error names last and that the text defines.
func lineOf(text string, err error) int {
	line := 1
	if err == nil {
		return line
	}
	for _, m := range nameInError.FindAllStringSubmatch(err.Error(), -1) {
		if before, _, ok := strings.Cut(text, "%"+m[1]+m[2]+" = "); ok {
			line = strings.Count(before, "\n") + 1
		}
	}
	return line
}

// linear says something of one matmul.
func linear(name string, l quant.Linear) *quant.Config {
	return &quant.Config{Linears: map[string]quant.Linear{name: l}}
}

func TestOptionErrors(t *testing.T) {
	g := flavours[0].graph(t)
	good := options(ir.F32)
	for _, c := range []struct {
		set  func(*passes.Options)
		want string
	}{
		{func(o *passes.Options) { o.Math = ir.F16 }, "passes: math dtype f16 is not f32, bf16 or i8"},
		{func(o *passes.Options) { o.Quant = &quant.Config{} }, "passes: how matmuls are quantised is for i8, the math dtype is f32"},
		{func(o *passes.Options) { o.Math, o.Quant = ir.I8, linear("x", quant.Linear{Precision: "fp4"}) }, `passes: matmul x: precision "fp4" is neither int8 nor bf16`},
		{func(o *passes.Options) { o.Math, o.Quant = ir.I8, linear("x", quant.Linear{}) }, "smooth-activations: no matmul is called x"},
		{func(o *passes.Options) {
			o.Math, o.Quant = ir.I8, linear("layer.0.qkv", quant.Linear{Smooth: []float32{1}})
		},
			"smooth-activations: matmul layer.0.qkv: 1 smoothing factors for 24 columns"},
		{func(o *passes.Options) {
			o.Math, o.Quant = ir.I8, linear("layer.0.down", quant.Linear{Shift: []float32{1}})
		},
			"smooth-activations: matmul layer.0.down: a shift of 1 elements for 24 rows of the weight"},
		{func(o *passes.Options) {
			o.Math, o.Quant = ir.I8, linear("layer.0.attention_output", quant.Linear{Smooth: slices.Repeat([]float32{1}, 32)})
		}, "smooth-activations: matmul layer.0.attention_output: its left factor cannot be smoothed: attention does not make it from weights of its own"},
		{func(o *passes.Options) {
			o.Math, o.Quant = ir.I8, linear("logits", quant.Linear{Smooth: slices.Repeat([]float32{1}, 24)})
		},
			"smooth-activations: matmul logits: its weight cannot be smoothed: %embeddings.word_embeddings.weight has other readers"},
		{func(o *passes.Options) { o.Targets = []string{"z80"} }, `passes: unknown target "z80" (known: ` + strings.Join(kernel.Targets(), ", ") + ")"},
		{func(o *passes.Options) { o.After = "fold" }, `passes: no pass is called "fold" (passes: ` + strings.Join(passes.Names(), ", ") + ")"},
		{func(o *passes.Options) { o.MaxPositions = 0 }, "assign-layouts: step layer.0.qkv: rotary tables need the number of positions"},
		{func(o *passes.Options) {
			o.Plans = func(s kernel.Spec, target string) (kernel.Plan, string, bool) {
				p, ok := kernel.Choose(s, target)
				p.BlockM = 0
				return p, "", ok
			}
		}, "choose-plans: plan gather amd64/avx512f: block of 0 rows is not in 1..4096"},
	} {
		o := good
		c.set(&o)
		if _, err := passes.Run(g, o); err == nil || err.Error() != c.want {
			t.Errorf("the error is\n%v\nnot\n%s", err, c.want)
		}
	}
	bad := g.Clone()
	bad.Outputs = nil
	if _, err := passes.Run(bad, good); err == nil || err.Error() != "graph @masked_lm: nothing is returned" {
		t.Errorf("a graph without outputs: %v", err)
	}
}
