package bert

import (
	"fmt"
	"math"

	"github.com/bertc/bertc/ir"
)

// MaxTokens is the largest batch, in tokens, that a graph is built for, and MaxSequences the
// largest number of sequences in it.
const (
	MaxTokens    = 16384
	MaxSequences = 16384
)

// Build returns the graph of cfg for task: names and shapes only, no data.
//
// A batch is packed: the tokens of all sequences one after another, no padding. Inputs:
//
//	ids       i32[T]    token ids
//	positions i32[T]    index of each token in its row (absolute table or rotary angle)
//	offsets   i32[B+1]  where each sequence begins; offsets[B] = T
//	rows      i32[M]    which tokens the head is applied to (all tasks but Encoder)
//
// Outputs: hidden f32[T,hidden_size] after the final norm, and logits f32[M,cfg.Outputs()].
// A task other than cfg.Task must be one whose head cfg describes.
func Build(cfg Config, task Task) (*ir.Graph, error) {
	if task == MaskedLM && !cfg.HasMLMHead {
		return nil, fmt.Errorf("graph: task %s: the checkpoint has no masked-language head", task)
	}
	if _, ok := classifiers[task]; ok && task != cfg.Task {
		return nil, fmt.Errorf("graph: task %s: the configuration is for task %s", task, cfg.Task)
	}
	b := ir.NewBuilder(string(task))
	g := builder{Builder: b, cfg: cfg, weights: map[string]*ir.Value{}}
	g.tokens = b.Symbol("T", 1, MaxTokens)
	seqs := b.Symbol("B", 1, MaxSequences)
	ids := b.Input("ids", i32(g.tokens))
	g.positions = b.Input("positions", i32(g.tokens))
	g.offsets = b.Input("offsets", i32(seqs.Add(ir.Const(1))))

	x := g.embed(ids)
	for n := range cfg.NumHiddenLayers {
		x = g.layer(n, x)
	}
	hidden := b.Named(g.norm(cfg.NormType, "encoder.ln", x, cfg.NormBias), "hidden")
	if task == Encoder {
		b.Output(hidden)
		return b.Graph()
	}
	rows := b.Input("rows", i32(b.Symbol("M", 1, MaxTokens)))
	head := g.classifier
	if task == MaskedLM {
		head = g.maskedLM
	}
	b.Output(hidden, b.Named(head(g.Named(g.Op("gather", nil, hidden, rows), "head.rows")), "logits"))
	return b.Graph()
}

type builder struct {
	*ir.Builder
	cfg                Config
	tokens             ir.Dim
	positions, offsets *ir.Value
	weights            map[string]*ir.Value
}

// weight returns the weight of that name, the same value each time: the decoder is tied to the
// embedding table.
func (g builder) weight(name string, dims ...int) *ir.Value {
	if g.weights[name] == nil {
		g.weights[name] = g.Weight(name, f32(dims...))
	}
	return g.weights[name]
}

func i32(d ir.Dim) ir.Type { return ir.Type{DType: ir.I32, Dims: []ir.Dim{d}} }

func f32(dims ...int) ir.Type {
	t := ir.Type{DType: ir.F32}
	for _, d := range dims {
		t.Dims = append(t.Dims, ir.Const(d))
	}
	return t
}

func (g builder) embed(ids *ir.Value) *ir.Value {
	c := g.cfg
	x := g.Op("gather", nil, g.weight("embeddings.word_embeddings.weight", c.EmbeddingRows, c.HiddenSize), ids)
	if c.Positions == Absolute {
		table := g.weight("embeddings.position_embeddings.weight", c.MaxPositionEmbeddings, c.HiddenSize)
		x = g.Op("add", nil, x, g.Op("gather", nil, table, g.positions))
	}
	return g.Named(x, "embed")
}

func (g builder) norm(kind NormType, name string, x *ir.Value, bias bool) *ir.Value {
	args := []*ir.Value{x, g.weight(name+".weight", g.cfg.HiddenSize)}
	op := "rmsnorm"
	if kind == LayerNorm {
		op = "layernorm"
		if bias {
			args = append(args, g.weight(name+".bias", g.cfg.HiddenSize))
		}
	}
	return g.Op(op, &ir.NormAttrs{Eps: g.cfg.NormEps}, args...)
}

func (g builder) linear(name string, x *ir.Value, n, k int, bias bool) *ir.Value {
	args := []*ir.Value{x, g.weight(name+".weight", n, k)}
	if bias {
		args = append(args, g.weight(name+".bias", n))
	}
	return g.Op("linear", &ir.LinearAttrs{}, args...)
}

func (g builder) layer(n int, x *ir.Value) *ir.Value {
	c := g.cfg
	at := fmt.Sprintf("encoder.layer.%d.", n)
	name := func(v *ir.Value, s string) *ir.Value { return g.Named(v, fmt.Sprintf("layer.%d.%s", n, s)) }
	qd, kvd := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim

	h := name(g.norm(c.NormType, at+"attention.ln", x, c.NormBias), "attention_norm")
	q := name(g.linear(at+"attention.self.query", h, qd, c.HiddenSize, c.QueryBias), "query")
	k := name(g.linear(at+"attention.self.key", h, kvd, c.HiddenSize, c.KeyBias), "key")
	v := name(g.linear(at+"attention.self.value", h, kvd, c.HiddenSize, c.ValueBias), "value")
	if c.Positions == Rotary {
		q = name(g.Op("rope", &ir.RopeAttrs{Heads: c.NumAttentionHeads, Theta: c.RopeTheta}, q, g.positions), "query_rope")
		k = name(g.Op("rope", &ir.RopeAttrs{Heads: c.NumKeyValueHeads, Theta: c.RopeTheta}, k, g.positions), "key_rope")
	}
	a := name(g.Op("attention", &ir.AttentionAttrs{
		Heads: c.NumAttentionHeads, KVHeads: c.NumKeyValueHeads, Scale: 1 / math.Sqrt(float64(c.HeadDim)),
	}, q, k, v, g.offsets), "attention")
	o := name(g.linear(at+"attention.output.dense", a, c.HiddenSize, qd, c.OutputBias), "attention_output")
	x = name(g.Op("add", nil, x, o), "attention_residual")

	h = name(g.norm(c.NormType, at+"ln", x, c.NormBias), "mlp_norm")
	gate := name(g.linear(at+"mlp.gate_proj", h, c.IntermediateSize, c.HiddenSize, c.GateBias), "gate")
	up := name(g.linear(at+"mlp.up_proj", h, c.IntermediateSize, c.HiddenSize, c.UpBias), "up")
	m := name(g.Op("glu", &ir.GluAttrs{}, gate, up), "swiglu")
	d := name(g.linear(at+"mlp.down_proj", m, c.HiddenSize, c.IntermediateSize, c.DownBias), "down")
	return name(g.Op("add", nil, x, d), "mlp_residual")
}

// classifier is the head of all tasks but MaskedLM.
func (g builder) classifier(x *ir.Value) *ir.Value {
	c := g.cfg
	if c.HasPooler {
		x = g.Named(g.linear(poolerDense, x, c.HiddenSize, c.HiddenSize, c.PoolerBias), "head.pooler")
		x = g.Named(g.Op("tanh", nil, x), "head.pooled")
	}
	return g.linear(classifiers[c.Task].tensor, x, c.Outputs(), c.HiddenSize, c.ClassifierBias)
}

func (g builder) maskedLM(x *ir.Value) *ir.Value {
	c := g.cfg
	x = g.Named(g.linear("cls.predictions.transform.dense", x, c.HiddenSize, c.HiddenSize, c.HeadDenseBias), "head.dense")
	x = g.Named(g.Op("silu", &ir.OutAttrs{}, x), "head.activation")
	x = g.Named(g.norm(c.HeadNormType, "cls.predictions.transform.LayerNorm", x, c.HeadNormBias), "head.norm")
	table := "embeddings.word_embeddings.weight"
	if !c.TieWordEmbeddings {
		table = "cls.predictions.decoder.weight"
	}
	args := []*ir.Value{x, g.weight(table, c.EmbeddingRows, c.HiddenSize)}
	if c.DecoderBias {
		args = append(args, g.weight("cls.predictions.bias", c.EmbeddingRows))
	}
	return g.Op("linear", &ir.LinearAttrs{}, args...)
}
