package bert_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/graph/bert"
)

// head adds the tensors of a head to a bare encoder.
func head(t *testing.T, shapes map[string][]int) view {
	v := viewOf(t, map[string]any{"architectures": []string{"RetrievaBertModel"}})
	for name, shape := range shapes {
		v.shapes[name] = shape
	}
	return v
}

func TestTasks(t *testing.T) {
	type m = map[string]any
	classifier := map[string][]int{"classifier.weight": {3, 64}, "classifier.bias": {3}}
	pooled := map[string][]int{"classifier.weight": {1, 64}, "pooler.dense.weight": {64, 64}, "pooler.dense.bias": {64}}
	names := m{"0": "a", "1": "b", "2": "c"}
	arch := func(s string) []string { return []string{"RetrievaBertFor" + s} }
	for _, c := range []struct {
		name    string
		task    bert.Task // asked for
		change  m
		tensors map[string][]int
		want    bert.Task
		labels  []string
		problem bert.ProblemType
		pooler  bool
		outputs int
	}{
		{"labels by name", "", m{"architectures": arch("SequenceClassification"), "id2label": names}, classifier, bert.SequenceClassification, []string{"a", "b", "c"}, bert.SingleLabel, false, 3},
		{"labels by number", "", m{"architectures": arch("TokenClassification")}, classifier, bert.TokenClassification, []string{"LABEL_0", "LABEL_1", "LABEL_2"}, "", false, 3},
		{"regression", "", m{"architectures": arch("SequenceClassification"), "problem_type": "regression"}, pooled, bert.SequenceClassification, []string{"LABEL_0"}, bert.Regression, true, 1},
		{"one label", "", m{"architectures": arch("SequenceClassification")}, pooled, bert.SequenceClassification, []string{"LABEL_0"}, bert.MultiLabel, true, 1},
		{"choice", "", m{"architectures": arch("MultipleChoice")}, pooled, bert.MultipleChoice, nil, "", true, 1},
		{"answer", "", m{"architectures": arch("QuestionAnswering")}, map[string][]int{"qa_outputs.weight": {2, 64}}, bert.QuestionAnswering, nil, "", false, 2},
		{"a pooler of token classification is not used", "", m{"architectures": arch("TokenClassification")}, map[string][]int{"classifier.weight": {2, 64}, "pooler.dense.weight": {64, 64}}, bert.TokenClassification, []string{"LABEL_0", "LABEL_1"}, "", false, 2},
		{"asked for", bert.Encoder, m{"architectures": arch("SequenceClassification")}, classifier, bert.Encoder, nil, "", false, 0},
		{"asked for another head", bert.TokenClassification, m{"architectures": arch("SequenceClassification")}, classifier, bert.TokenClassification, []string{"LABEL_0", "LABEL_1", "LABEL_2"}, "", false, 3},
		{"num_labels of a model without labels", "", m{"num_labels": 7}, nil, bert.Encoder, nil, "", false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := head(t, c.tensors)
			got, err := bert.ParseConfigFor(c.task, "config.json", edited(t, c.change), v)
			if err != nil {
				t.Fatal(err)
			}
			if got.Task != c.want || !slices.Equal(got.Labels, c.labels) || got.ProblemType != c.problem || got.HasPooler != c.pooler || got.Outputs() != c.outputs {
				t.Errorf("task %s, labels %v, problem %s, pooler %t, %d outputs", got.Task, got.Labels, got.ProblemType, got.HasPooler, got.Outputs())
			}
			for name := range c.tensors {
				listed := slices.ContainsFunc(got.Tensors(), func(s bert.TensorSpec) bool { return s.Name == name })
				if listed == got.Unused(name) {
					t.Errorf("%s: listed %t, unused %t", name, listed, got.Unused(name))
				}
			}
			if got.Unused("embeddings.word_embeddings.weight") {
				t.Error("the embeddings are unused")
			}
			g, err := bert.Build(got, got.Task)
			if err != nil {
				t.Fatal(err)
			}
			if outputs := len(g.Outputs); outputs != 1 && c.outputs == 0 || outputs != 2 && c.outputs > 0 {
				t.Errorf("the graph has %d outputs", outputs)
			}
		})
	}
}

func TestTaskErrors(t *testing.T) {
	type m = map[string]any
	classifier := map[string][]int{"classifier.weight": {3, 64}}
	arch := []string{"RetrievaBertForSequenceClassification"}
	for _, c := range []struct {
		task    bert.Task
		change  m
		tensors map[string][]int
		want    string
	}{
		{"", m{"architectures": arch}, nil, `task sequence_classification: DIR/model.safetensors: tensor "classifier.weight" is missing`},
		{"", m{"architectures": arch, "num_labels": 4}, classifier, `config.json has 4 labels, but DIR/model.safetensors: tensor "classifier.weight" has 3 rows`},
		{"", m{"architectures": arch, "id2label": m{"0": "a", "1": "b"}}, classifier, "has 2 labels"},
		{"", m{"architectures": arch, "num_labels": 3, "id2label": m{"0": "a", "1": "b"}}, classifier, "num_labels is 3, but id2label has 2 labels"},
		{"", m{"architectures": arch, "id2label": m{"0": "a", "1": "b", "3": "c"}}, classifier, "id2label has no label 2"},
		{"", m{"architectures": arch, "id2label": m{"0": "a", "1": "b", "2": "a"}}, classifier, `the label "a" twice`},
		{"", m{"architectures": arch, "id2label": m{}}, classifier, "id2label is empty"},
		{"", m{"architectures": arch, "id2label": []string{"a"}}, classifier, "id2label"},
		{"", m{"architectures": arch, "problem_type": "ranking"}, classifier, `problem_type "ranking" is not supported`},
		{bert.MaskedLM, m{"architectures": arch}, classifier, "no masked-language head"},
		{bert.QuestionAnswering, m{"architectures": arch}, classifier, `"qa_outputs.weight" is missing`},
		{"summarization", m{}, nil, `task "summarization" is not supported (supported: encoder, masked_lm,`},
	} {
		_, err := bert.ParseConfigFor(c.task, "config.json", edited(t, c.change), head(t, c.tensors))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want %q", c.change, err, c.want)
		}
	}
	cfg, err := bert.ParseConfig("config.json", edited(t, m{"architectures": arch}), head(t, classifier))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bert.Build(cfg, bert.QuestionAnswering); err == nil || !strings.Contains(err.Error(), "the configuration is for task sequence_classification") {
		t.Errorf("another task: %v", err)
	}
}
