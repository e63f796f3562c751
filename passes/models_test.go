package passes_test

import (
	"testing"
	"time"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/passes"
)

// This file owns the small models that the tests of this package compile: together they have
// every choice that a configuration of the family can make.

// flavour is one architecture: its name and how it differs from base.
type flavour struct {
	name string
	task bert.Task
	set  func(c *bert.Config)
}

// base is rotary, RMS, grouped queries, no biases, a tied decoder. Its sizes are the smallest
// that differ from one another and are not multiples of a weight panel, except the head size.
func base() bert.Config {
	return bert.Config{
		VocabSize: 50, EmbeddingRows: 50, HiddenSize: 24, NumHiddenLayers: 1,
		NumAttentionHeads: 4, NumKeyValueHeads: 2, HeadDim: 8,
		IntermediateSize: 40, MaxPositionEmbeddings: 40, HiddenAct: "silu",
		NormType: bert.RMSNorm, NormEps: 1e-5, Positions: bert.Rotary, RopeTheta: 10000,
		TieWordEmbeddings: true, HasMLMHead: true, HeadNormType: bert.RMSNorm,
	}
}

var flavours = []flavour{
	{"rope_rms_gqa_nobias", bert.MaskedLM, func(*bert.Config) {}},
	{"absolute_layernorm_mha_bias", bert.MaskedLM, func(c *bert.Config) {
		c.Positions, c.RopeTheta, c.NumKeyValueHeads = bert.Absolute, 0, c.NumAttentionHeads
		c.NormType, c.NormBias, c.HeadNormType, c.HeadNormBias = bert.LayerNorm, true, bert.LayerNorm, true
		c.QueryBias, c.KeyBias, c.ValueBias, c.OutputBias = true, true, true, true
		c.GateBias, c.UpBias, c.DownBias = true, true, true
		c.HeadDenseBias, c.DecoderBias = true, true
	}},
	{"rope_layernorm_mqa_partial_bias_untied", bert.MaskedLM, func(c *bert.Config) {
		c.NumKeyValueHeads, c.NormType, c.TieWordEmbeddings = 1, bert.LayerNorm, false
		c.QueryBias, c.ValueBias, c.UpBias, c.DecoderBias = true, true, true, true
	}},
	{"encoder_absolute_rms_mqa", bert.Encoder, func(c *bert.Config) {
		c.Positions, c.RopeTheta, c.NumKeyValueHeads = bert.Absolute, 0, 1
		c.HasMLMHead, c.OutputBias, c.DownBias = false, true, true
	}},
	{"pooler_classifier", bert.SequenceClassification, func(c *bert.Config) {
		c.HasMLMHead, c.Task, c.Labels, c.HasPooler = false, bert.SequenceClassification, []string{"a", "b", "c"}, true
		c.PoolerBias, c.ClassifierBias = true, true
	}},
}

func (f flavour) config() bert.Config {
	c := base()
	f.set(&c)
	return c
}

func (f flavour) graph(t testing.TB) *ir.Graph {
	return build(t, f.config(), f.task)
}

func build(t testing.TB, c bert.Config, task bert.Task) *ir.Graph {
	t.Helper()
	g, err := bert.Build(c, task)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func parse(t testing.TB, text string) *ir.Graph {
	t.Helper()
	g, err := ir.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

var targets = []string{"amd64/avx512f", "generic"}

func options(math ir.DType) passes.Options {
	return passes.Options{Math: math, Targets: targets, MaxPositions: 40}
}

// graphAfter returns the graph after the pass of that name.
func graphAfter(t testing.TB, g *ir.Graph, pass string, o passes.Options) *ir.Graph {
	t.Helper()
	var after *ir.Graph
	o.After = pass
	o.Observe = func(_ passes.Pass, s *passes.State, _ time.Duration) { after = s.Graph }
	if _, err := passes.Run(g, o); err != nil {
		t.Fatal(err)
	}
	return after
}

// big is the size of the published model: 48 layers.
func big() bert.Config {
	c := base()
	c.VocabSize, c.EmbeddingRows, c.HiddenSize, c.NumHiddenLayers = 99574, 99584, 1536, 48
	c.NumAttentionHeads, c.NumKeyValueHeads, c.HeadDim = 24, 1, 64
	c.IntermediateSize, c.MaxPositionEmbeddings = 4096, 2048
	return c
}

func BenchmarkRun48Layers(b *testing.B) {
	g := build(b, big(), bert.MaskedLM)
	o := options(ir.BF16)
	for b.Loop() {
		if _, err := passes.Run(g, o); err != nil {
			b.Fatal(err)
		}
	}
}
