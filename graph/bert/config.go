package bert

// This file owns Config, the description of one model, and its making from config.json and the
// tensors of the checkpoint.

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// NormType is the kind of normalization.
type NormType string

// The kinds of normalization.
const (
	RMSNorm   NormType = "rmsnorm"
	LayerNorm NormType = "layernorm"
)

// Positions is how a model knows the position of a token.
type Positions string

// The kinds of positions.
const (
	Rotary   Positions = "rotary"
	Absolute Positions = "absolute"
)

// Config describes one model completely: nothing about its architecture is left to a default
// of the code that builds it.
type Config struct {
	ModelType     string
	Architectures []string

	VocabSize, HiddenSize, NumHiddenLayers          int
	NumAttentionHeads, NumKeyValueHeads, HeadDim    int
	IntermediateSize, MaxPositionEmbeddings         int
	HiddenAct                                       string // always "silu"
	NormType                                        NormType
	NormBias                                        bool
	NormEps                                         float64
	Positions                                       Positions
	RopeTheta                                       float64
	QueryBias, KeyBias, ValueBias, OutputBias       bool
	GateBias, UpBias, DownBias                      bool
	TieWordEmbeddings                               bool
	EmbeddingRows                                   int // rows of the word embeddings, VocabSize or more
	MaskTokenID, PadTokenID, CLSTokenID, SEPTokenID *int
	InitializerRange                                float64

	// HasMLMHead says that the model has the masked-language head; the fields that follow are
	// about it.
	HasMLMHead                               bool
	HeadNormType                             NormType
	HeadNormBias, HeadDenseBias, DecoderBias bool

	// Task is the head that the model is used with. The fields that follow are about heads with
	// labels: the names of the labels in the order of the logits, what the scores mean, and
	// whether the first token goes through a pooler (dense, tanh) before the classifier.
	Task                       Task
	Labels                     []string
	ProblemType                ProblemType
	HasPooler                  bool
	PoolerBias, ClassifierBias bool

	// Decisions says for every field where its value comes from, in the order of deciding.
	Decisions []Decision
}

// Decision is one field of a Config with the reason for its value: "config.json", a tensor, or
// a default.
type Decision struct {
	Field, Value, Why string
}

// TensorView is what a Config may ask of a checkpoint. Names are canonical (package checkpoint).
type TensorView interface {
	// Shape returns the shape of a tensor, false where the checkpoint has none of that name.
	Shape(name string) ([]int, bool)
	// Same reports whether two tensors have the same element type, shape and data.
	Same(a, b string) (bool, error)
	// Where names a tensor for messages.
	Where(name string) string
}

// modelTypes are the values of model_type that ParseConfig accepts.
var modelTypes = []string{"retrieva-bert"}

// architecture is a class that a config.json may name, and the task that it is for.
type architecture struct {
	name string
	task Task
}

var architectures = []architecture{
	{"RetrievaBertModel", Encoder},
	{"RetrievaBertForMaskedLM", MaskedLM},
	{"RetrievaBertForPreTraining", MaskedLM},
	{"RetrievaBertForSequenceClassification", SequenceClassification},
	{"RetrievaBertForTokenClassification", TokenClassification},
	{"RetrievaBertForQuestionAnswering", QuestionAnswering},
	{"RetrievaBertForMultipleChoice", MultipleChoice},
}

// ParseConfig reads a config.json. Where it is silent the tensors decide; where there are no
// tensors either (tensors is nil), the documented defaults, which are those of Megatron-BERT.
// Where config and tensors contradict each other, it is an error. file is for messages.
func ParseConfig(file string, data []byte, tensors TensorView) (Config, error) {
	return ParseConfigFor("", file, data, tensors)
}

// ParseConfigFor is ParseConfig for a task, whatever config.json calls the architecture; "" is
// the task that config.json names.
func ParseConfigFor(task Task, file string, data []byte, tensors TensorView) (Config, error) {
	if task != "" && !slices.Contains(Tasks, task) {
		return Config{}, fmt.Errorf("task %q is not supported (supported: %s)", task, TaskNames())
	}
	r := &reader{file: file, tensors: tensors, c: Config{Task: task}}
	if err := json.Unmarshal(data, &r.fields); err != nil {
		return Config{}, fmt.Errorf("%s: not a JSON object: %v", file, err)
	}
	if r.fields == nil {
		return Config{}, fmt.Errorf("%s: not a JSON object: null", file)
	}
	for _, step := range []func(*reader){
		(*reader).family, (*reader).sizes, (*reader).unsupported, (*reader).embeddings,
		(*reader).attention, (*reader).positions, (*reader).norms, (*reader).mlp, (*reader).head,
		(*reader).task, (*reader).tokens,
	} {
		if step(r); r.err != nil {
			return Config{}, r.err
		}
	}
	return r.c, nil
}

// family checks that the file describes a model of the family at all.
func (r *reader) family() {
	c := &r.c
	modelType, ok := r.text("model_type")
	if ok {
		if !slices.Contains(modelTypes, modelType) {
			r.fail("model_type %q is not supported (supported: %s)", modelType, strings.Join(modelTypes, ", "))
			return
		}
	}
	names := r.texts("architectures")
	var supported []string
	for _, a := range architectures {
		supported = append(supported, a.name)
	}
	for _, name := range names {
		if !slices.Contains(supported, name) {
			r.fail("architecture %q is not supported (supported: %s)", name, strings.Join(supported, ", "))
			return
		}
	}
	if !ok && len(names) == 0 {
		r.fail("field \"model_type\" is missing (supported: %s)", strings.Join(modelTypes, ", "))
		return
	}
	c.Architectures = names
	if c.ModelType = modelType; !ok {
		c.ModelType = modelTypes[0]
		r.decide("model_type", c.ModelType, "architectures")
	}
}

func (r *reader) sizes() {
	c := &r.c
	for _, f := range []struct {
		field string
		to    *int
		max   int
	}{
		{"vocab_size", &c.VocabSize, 1 << 24},
		{"hidden_size", &c.HiddenSize, 1 << 16},
		{"num_hidden_layers", &c.NumHiddenLayers, 1000},
		{"num_attention_heads", &c.NumAttentionHeads, 1 << 10},
		{"intermediate_size", &c.IntermediateSize, 1 << 20},
		{"max_position_embeddings", &c.MaxPositionEmbeddings, 1 << 20},
	} {
		n, ok := r.integer(f.field, 1, f.max)
		if !ok {
			r.fail("field %q is missing", f.field)
		}
		*f.to = n
	}
	act, ok := r.text("hidden_act")
	if !ok {
		act = "silu"
		r.decide("hidden_act", act, "default")
	}
	if !slices.Contains([]string{"silu", "swish", "swiglu"}, act) {
		r.fail("hidden_act %q is not supported (supported: silu, swish, swiglu)", act)
	}
	c.HiddenAct = "silu"
	if c.InitializerRange, ok = r.number("initializer_range", 0, 1); !ok {
		c.InitializerRange = 0.02
		r.decide("initializer_range", "0.02", "default")
	}
}

// unsupported refuses what would change the results and is not implemented.
func (r *reader) unsupported() {
	for _, f := range []struct{ field, value string }{
		{"is_decoder", "false"},
		{"is_encoder_decoder", "false"},
		{"add_cross_attention", "false"},
		{"partial_rotary_factor", "1"},
		{"rotary_percent", "1"},
		{"quantization_config", "null"},
	} {
		raw, ok := r.fields[f.field]
		if !ok || string(raw) == "null" || string(raw) == f.value || f.value == "1" && string(raw) == "1.0" {
			continue
		}
		r.fail("%s is %s, only %s is supported", f.field, shorten(raw), f.value)
	}
	for _, field := range []string{"rope_scaling", "rope_parameters"} {
		scaling := r.object(field)
		for _, key := range []string{"rope_type", "type"} {
			if raw, ok := scaling[key]; ok && string(raw) != `"default"` {
				r.fail("%s: %s is %s, only \"default\" is supported", field, key, shorten(raw))
			}
		}
	}
}

func (r *reader) tokens() {
	c := &r.c
	for _, f := range []struct {
		field string
		to    **int
	}{
		{"mask_token_id", &c.MaskTokenID}, {"pad_token_id", &c.PadTokenID},
		{"cls_token_id", &c.CLSTokenID}, {"sep_token_id", &c.SEPTokenID},
	} {
		if n, ok := r.integer(f.field, 0, c.VocabSize-1); ok {
			*f.to = &n
		}
	}
}
