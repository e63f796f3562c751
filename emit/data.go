package emit

import (
	"cmp"
	"strings"

	"github.com/bertc/bertc/heads"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/program"
)

// data is what the templates read.
type data struct {
	Options
	Header                string
	HasHead               bool
	Hidden, Vocab, Logits int
	MaxTokens             int
	// Tolerance is how far kernel sets may be apart, relative: sums in other orders, which where
	// factors are rounded to bf16 can change the rounding, a step of 2^-8, and where they are codes
	// of 8 bits, one of 1/127 of a row's largest.
	Tolerance string
}

func newData(p *program.Program, o Options) data {
	d := data{
		Options: o, Header: header(o),
		HasHead: p.Buffer("logits") != nil,
		Hidden:  p.Buffer("hidden").Cols(), Vocab: o.VocabSize, Logits: logitsSize(p),
		MaxTokens: p.Symbols[0].Max, Tolerance: "1e-5",
	}
	for _, k := range p.Kernels {
		switch {
		case k.Spec.Math == ir.I8:
			d.Tolerance = "0.1"
		case k.Spec.Math == ir.BF16 && d.Tolerance == "1e-5":
			d.Tolerance = "0.03"
		}
	}
	return d
}

// tasks are the templates of the methods on text that a task has, how the documentation calls
// its head, and an example of a call.
var tasks = map[string]struct{ template, head, call string }{
	"encoder":                 {},
	"masked_lm":               {"fill_mask.go.tmpl", "the masked-language head", "masks, err := m.FillMask(ctx, text, 5) // the candidates of every mask token"},
	"sequence_classification": {"classify.go.tmpl", "the classifier of the first token of a sequence", "c, err := m.Classify(ctx, text, {{}}.ClassifyOptions{}) // the labels of the text, best first"},
	"token_classification":    {"tag.go.tmpl", "the classifier of tokens", "t, err := m.Tag(ctx, text, {{}}.TagOptions{}) // the entities in the text"},
	"question_answering":      {"answer.go.tmpl", "the logits of the first and the last token of the answer", "a, err := m.Answer(ctx, question, passage, {{}}.AnswerOptions{}) // parts of the passage"},
	"multiple_choice":         {"choose.go.tmpl", "the logit of a prompt with its choice, for the first token", "c, err := m.Choose(ctx, prompt, choices, {{}}.ChooseOptions{}) // the choices, best first"},
}

// templates lists the templates that this model needs.
func (d data) templates() []string {
	ts := []string{"doc.go.tmpl", "model.go.tmpl", "session.go.tmpl", "model_test.go.tmpl"}
	if d.GPU != nil {
		ts = append(ts, "cuda.go.tmpl", "cuda_off.go.tmpl")
	}
	if d.HasTokenizer {
		ts = append(ts, "text.go.tmpl", "batch.go.tmpl", "embed.go.tmpl")
		if t := tasks[d.Task].template; t != "" {
			ts = append(ts, t)
		}
	}
	return ts
}

// GPUTag is the build constraint of the files for a GPU.
func (d data) GPUTag() string { return gpuTag }

// TaskDoc is what the head is.
func (d data) TaskDoc() string { return tasks[d.Task].head }

// Calls are examples of the methods on text.
func (d data) Calls() []string {
	var calls []string
	if !d.HasTokenizer {
		return nil
	}
	for _, call := range []string{tasks[d.Task].call, "e, err := m.Embed(ctx, text, {{}}.EmbedOptions{}) // one vector"} {
		if call != "" {
			calls = append(calls, strings.ReplaceAll(call, "{{}}", d.Package))
		}
	}
	return calls
}

// ProblemDoc is what the scores of a classification are.
func (d data) ProblemDoc() string {
	return map[heads.Problem]string{
		heads.SingleLabel: "the softmax over the labels",
		heads.MultiLabel:  "the probability of each label by itself",
		heads.Regression:  "the values that the model was trained to give, not probabilities",
	}[heads.Problem(d.Problem)]
}

// PoolingName is the identifier of the default pooling.
func (d data) PoolingName() string {
	return map[heads.Pooling]string{
		heads.PoolCLS: "CLS", heads.PoolMean: "Mean", heads.PoolMax: "Max", heads.PoolLast: "Last", heads.PoolWeightedMean: "WeightedMean",
	}[heads.Pooling(d.Pooling)]
}

// EmbeddingSize is the elements of an embedding.
func (d data) EmbeddingSize() int { return cmp.Or(d.DenseOutputs, d.Hidden) }
