package bert_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/ir"
)

// configs are models that differ in every choice that decides about tensors.
func configs() map[string]bert.Config {
	base := bert.Config{
		VocabSize: 48, EmbeddingRows: 50, HiddenSize: 24, NumHiddenLayers: 2,
		NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 8,
		IntermediateSize: 40, MaxPositionEmbeddings: 30, HiddenAct: "silu",
		NormType: bert.RMSNorm, NormEps: 1e-5, Positions: bert.Rotary, RopeTheta: 10000,
		TieWordEmbeddings: true, HasMLMHead: true, HeadNormType: bert.LayerNorm, Task: bert.MaskedLM,
	}
	with := func(set func(c *bert.Config)) bert.Config { c := base; set(&c); return c }
	return map[string]bert.Config{
		"base":     base,
		"untied":   with(func(c *bert.Config) { c.TieWordEmbeddings = false }),
		"headless": with(func(c *bert.Config) { c.HasMLMHead, c.Task = false, bert.Encoder }),
		"absolute": with(func(c *bert.Config) { c.Positions, c.RopeTheta = bert.Absolute, 0 }),
		"mqa":      with(func(c *bert.Config) { c.NumKeyValueHeads = 1 }),
		"one head size": with(func(c *bert.Config) {
			c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim = 3, 3, 16 // heads · size is not hidden_size
		}),
		"biases": with(func(c *bert.Config) {
			c.NormType, c.NormBias, c.HeadNormBias = bert.LayerNorm, true, true
			c.QueryBias, c.KeyBias, c.ValueBias, c.OutputBias = true, true, true, true
			c.GateBias, c.UpBias, c.DownBias, c.HeadDenseBias, c.DecoderBias = true, true, true, true, true
		}),
		"sequence classification": with(func(c *bert.Config) {
			c.HasMLMHead, c.Task, c.Labels, c.HasPooler = false, bert.SequenceClassification, []string{"a", "b", "c"}, true
			c.PoolerBias, c.ClassifierBias = true, true
		}),
		"token classification": with(func(c *bert.Config) {
			c.HasMLMHead, c.Task, c.Labels = false, bert.TokenClassification, []string{"a", "b", "c"}
		}),
		"question answering": with(func(c *bert.Config) { c.HasMLMHead, c.Task, c.ClassifierBias = false, bert.QuestionAnswering, true }),
		"multiple choice":    with(func(c *bert.Config) { c.HasMLMHead, c.Task = false, bert.MultipleChoice }),
		"some biases":        with(func(c *bert.Config) { c.QueryBias, c.ValueBias, c.DownBias, c.DecoderBias = true, true, true, true }),
	}
}

// TestBuildUsesTensors: the graph reads exactly the tensors that the configuration lists, with
// their shapes; a tied decoder, which may be missing, it does not read.
func TestBuildUsesTensors(t *testing.T) {
	for name, c := range configs() {
		g, err := bert.Build(c, c.Task)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := ir.Verify(g); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		listed := map[string]string{}
		for _, s := range c.Tensors() {
			if !s.Optional {
				listed[s.Name] = fmt.Sprint(s.Shape)
			}
		}
		users := g.Users()
		for _, w := range g.Weights() {
			tensor := w.Attrs.(*ir.SourceAttrs).Name
			var shape []int
			for _, d := range w.Type.Dims {
				n, _ := d.IsConst()
				shape = append(shape, n)
			}
			want, ok := listed[tensor]
			switch {
			case !ok:
				t.Errorf("%s: the graph reads %s, which is not listed", name, tensor)
			case want != fmt.Sprint(shape) || w.Type.DType != ir.F32:
				t.Errorf("%s: the graph reads %s as %s, listed with shape %s", name, tensor, w.Type, want)
			case len(users[w]) == 0:
				t.Errorf("%s: nothing in the graph reads %s", name, tensor)
			}
			delete(listed, tensor)
		}
		for tensor := range listed {
			t.Errorf("%s: the graph does not read %s", name, tensor)
		}
	}
}

// TestBuildSignature: inputs and outputs by task.
func TestBuildSignature(t *testing.T) {
	encoder := []string{`ids i32[T]`, `positions i32[T]`, `offsets i32[B+1]`}
	head := append(slices.Clip(encoder), `rows i32[M]`)
	for _, tt := range []struct {
		config  string
		task    bert.Task
		inputs  []string
		outputs []string
	}{
		{"base", bert.Encoder, encoder, []string{"hidden f32[T,24]"}},
		{"base", bert.MaskedLM, head, []string{"hidden f32[T,24]", "logits f32[M,50]"}},
		{"sequence classification", bert.SequenceClassification, head, []string{"hidden f32[T,24]", "logits f32[M,3]"}},
		{"token classification", bert.TokenClassification, head, []string{"hidden f32[T,24]", "logits f32[M,3]"}},
		{"question answering", bert.QuestionAnswering, head, []string{"hidden f32[T,24]", "logits f32[M,2]"}},
		{"multiple choice", bert.MultipleChoice, head, []string{"hidden f32[T,24]", "logits f32[M,1]"}},
	} {
		g, err := bert.Build(configs()[tt.config], tt.task)
		if err != nil {
			t.Fatal(err)
		}
		if got := signature(g.Inputs()); !slices.Equal(got, tt.inputs) {
			t.Errorf("%s: inputs are %q, want %q", tt.task, got, tt.inputs)
		}
		if got := signature(g.Outputs); !slices.Equal(got, tt.outputs) {
			t.Errorf("%s: outputs are %q, want %q", tt.task, got, tt.outputs)
		}
		if g.Name != string(tt.task) {
			t.Errorf("%s: the graph is called %s", tt.task, g.Name)
		}
	}
}

func signature(vs []*ir.Value) []string {
	var out []string
	for _, v := range vs {
		out = append(out, v.Name+" "+v.Type.String())
	}
	return out
}

// TestBuildOps: which operations a choice stands for, and how often in two layers.
func TestBuildOps(t *testing.T) {
	for _, tt := range []struct {
		config string
		want   map[string]int
	}{
		{"base", map[string]int{"rope": 4, "rmsnorm": 5, "layernorm": 1, "attention": 2, "glu": 2, "linear": 16, "gather": 2, "silu": 1}},
		{"headless", map[string]int{"rope": 4, "rmsnorm": 5, "layernorm": 0, "linear": 14, "gather": 1, "silu": 0}},
		{"absolute", map[string]int{"rope": 0, "gather": 3, "add": 5}},
		{"biases", map[string]int{"rmsnorm": 0, "layernorm": 6}},
	} {
		c := configs()[tt.config]
		g, err := bert.Build(c, c.Task)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]int{}
		for _, v := range g.Values {
			got[v.Op.Name]++
		}
		for op, n := range tt.want {
			if got[op] != n {
				t.Errorf("%s: %d times %s, want %d", tt.config, got[op], op, n)
			}
		}
	}
}

func TestBuildErrors(t *testing.T) {
	for _, tt := range []struct {
		config string
		task   bert.Task
		want   string
	}{
		{"headless", bert.MaskedLM, "graph: task masked_lm: the checkpoint has no masked-language head"},
		{"base", bert.QuestionAnswering, "graph: task question_answering: the configuration is for task masked_lm"},
	} {
		if _, err := bert.Build(configs()[tt.config], tt.task); err == nil || err.Error() != tt.want {
			t.Errorf("%s, %s: the error is %v, want %s", tt.config, tt.task, err, tt.want)
		}
	}
}
