package bert

// This file owns the tasks: their names, their tensors beyond the encoder, and how a checkpoint's
// task and labels are decided.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Task is what a model computes beyond the hidden states, and so which methods its package has.
type Task string

// The tasks, named as Hugging Face names the heads.
const (
	// Encoder: hidden states only.
	Encoder Task = "encoder"
	// MaskedLM: logits over the vocabulary.
	MaskedLM Task = "masked_lm"
	// SequenceClassification: logits over labels, of the first token of a sequence.
	SequenceClassification Task = "sequence_classification"
	// TokenClassification: logits over labels, of every token.
	TokenClassification Task = "token_classification"
	// QuestionAnswering: logits of being the first and the last token of the answer.
	QuestionAnswering Task = "question_answering"
	// MultipleChoice: one logit of a sequence of prompt and choice.
	MultipleChoice Task = "multiple_choice"
)

// Tasks are all tasks.
var Tasks = []Task{Encoder, MaskedLM, SequenceClassification, TokenClassification, QuestionAnswering, MultipleChoice}

// TaskNames lists the tasks for messages.
func TaskNames() string {
	var names []string
	for _, t := range Tasks {
		names = append(names, string(t))
	}
	return strings.Join(names, ", ")
}

// classifiers are the heads that are one linear map: the tensors' name, the number of outputs (0:
// one a label), and whether the head is for a whole sequence, whose first token a pooler reads.
var classifiers = map[Task]struct {
	tensor   string
	outputs  int
	labelled bool
	sequence bool
}{
	SequenceClassification: {"classifier", 0, true, true},
	TokenClassification:    {"classifier", 0, true, false},
	QuestionAnswering:      {"qa_outputs", 2, false, false},
	MultipleChoice:         {"classifier", 1, false, true},
}

// ProblemType is what the scores of a sequence classification are.
type ProblemType string

// The problem types, by their names in config.json.
const (
	SingleLabel ProblemType = "single_label_classification" // softmax over the labels
	MultiLabel  ProblemType = "multi_label_classification"  // a sigmoid for each label
	Regression  ProblemType = "regression"                  // the logits themselves
)

const (
	poolerDense = "pooler.dense"
	maxLabels   = 1 << 16
)

// Outputs returns the number of logits of one row of the head; 0 for the encoder.
func (c Config) Outputs() int {
	head, ok := classifiers[c.Task]
	switch {
	case c.Task == MaskedLM:
		return c.EmbeddingRows
	case !ok:
		return 0
	case head.labelled:
		return len(c.Labels)
	}
	return head.outputs
}

// task decides the task, and what its head needs to know. Without a name in config.json it is the
// masked-language model where that head is there.
func (r *reader) task() {
	c := &r.c
	switch {
	case c.Task != "":
		r.decide("task", c.Task, "asked for")
	case len(c.Architectures) > 0:
		for _, a := range architectures {
			if a.name == c.Architectures[0] {
				c.Task = a.task
			}
		}
		if c.Task == MaskedLM && !c.HasMLMHead {
			c.Task = Encoder // the tensors of a bare encoder, saved under the name of the whole
		}
		r.decide("task", c.Task, "architectures")
	default:
		if c.Task = Encoder; c.HasMLMHead {
			c.Task = MaskedLM
		}
		r.decide("task", c.Task, "masked-language head")
	}
	if c.Task == MaskedLM && !c.HasMLMHead {
		r.fail("task %s: the checkpoint has no masked-language head", c.Task)
	}
	head, ok := classifiers[c.Task]
	if !ok {
		return
	}
	if r.tensors != nil && !r.has(head.tensor+".weight") {
		r.fail("task %s: %s is missing", c.Task, r.tensors.Where(head.tensor+".weight"))
		return
	}
	r.bias(&c.ClassifierBias, "classifier bias", "", nil, head.tensor+".bias")
	if head.sequence {
		c.HasPooler = r.tensors == nil || r.has(poolerDense+".weight")
		r.decide("pooler", c.HasPooler, "default")
		if r.tensors != nil {
			c.Decisions[len(c.Decisions)-1].Why = tensorIs(poolerDense+".weight", c.HasPooler)
		}
	}
	if c.HasPooler {
		r.bias(&c.PoolerBias, "pooler bias", "", nil, poolerDense+".bias")
	}
	if head.labelled {
		r.labels(head.tensor + ".weight")
	}
	if c.Task == SequenceClassification {
		r.problemType()
	}
}

// labels reads id2label; without it labels are called LABEL_0 and so on, as in Hugging Face's
// models, and num_labels or the classifier says how many there are.
func (r *reader) labels(weight string) {
	c := &r.c
	rows := 0
	if r.tensors != nil {
		if shape, _ := r.tensors.Shape(weight); len(shape) == 2 {
			rows = shape[0]
		}
	}
	n, saidN := r.integer("num_labels", 1, maxLabels)
	byID, _, saidLabels := decode[map[string]string](r, "id2label", "an object of strings")
	switch {
	case saidLabels && len(byID) == 0:
		r.fail("id2label is empty")
		return
	case saidLabels && saidN && n != len(byID):
		r.fail("num_labels is %d, but id2label has %d labels", n, len(byID))
		return
	case saidLabels:
		n = len(byID)
	case !saidN && rows > 0:
		n = rows
		r.decide("labels", n, fmt.Sprintf("rows of tensor %q", weight))
	case !saidN:
		n = 2
		r.decide("labels", n, "default")
	}
	if rows > 0 && n != rows {
		r.fail("config.json has %d labels, but %s has %d rows", n, r.tensors.Where(weight), rows)
		return
	}
	for i := range n {
		label, ok := byID[strconv.Itoa(i)]
		if saidLabels && !ok {
			r.fail("id2label has no label %d, it has %d labels", i, n)
			return
		}
		if !saidLabels {
			label = fmt.Sprintf("LABEL_%d", i)
		}
		if slices.Contains(c.Labels, label) {
			r.fail("id2label has the label %q twice", label)
			return
		}
		c.Labels = append(c.Labels, label)
	}
}

// problemType follows Hugging Face's text-classification pipeline: a single logit without a
// problem_type is one label that is on or off.
func (r *reader) problemType() {
	c := &r.c
	t, ok := word(r, "problem_type", "single_label_classification, multi_label_classification, regression", map[string]ProblemType{
		string(SingleLabel): SingleLabel, string(MultiLabel): MultiLabel, string(Regression): Regression,
	})
	if c.ProblemType = t; ok {
		return
	}
	if c.ProblemType = SingleLabel; len(c.Labels) == 1 {
		c.ProblemType = MultiLabel
	}
	r.decide("problem_type", c.ProblemType, fmt.Sprintf("%d labels", len(c.Labels)))
}

// headTensors lists the tensors of a head that is one linear map.
func (c Config) headTensors(linear func(name string, bias bool, out, in int)) {
	if c.HasPooler {
		linear(poolerDense, c.PoolerBias, c.HiddenSize, c.HiddenSize)
	}
	if head, ok := classifiers[c.Task]; ok {
		linear(head.tensor, c.ClassifierBias, c.Outputs(), c.HiddenSize)
	}
}

// heads are the first components of the names of tensors that belong to a head.
var heads = []string{"cls", "pooler", "classifier", "qa_outputs"}

// Unused reports whether a tensor belongs to a head that the model is not used with.
func (c Config) Unused(name string) bool {
	first, _, _ := strings.Cut(name, ".")
	return slices.Contains(heads, first) && !slices.ContainsFunc(c.Tensors(), func(t TensorSpec) bool { return t.Name == name })
}
