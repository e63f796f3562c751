package jglue

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Files in JGLUE's formats, made up here, with results of a model and the figures that follow.
var files = []struct {
	task, data string
	inputs     []string
	results    []string // ! is an error
	want       []float64
	failed     int
}{
	{
		"marc-ja", `{"review_id":"1","sentence":"良い。","label":"positive"}
{"review_id":"2","sentence":"悪い。","label":"negative"}
{"review_id":"3","sentence":"普通。","label":"negative"}
`,
		[]string{`{"text":"良い。"}`, `{"text":"悪い。"}`, `{"text":"普通。"}`},
		[]string{`{"labels":[{"label":"positive","score":0.9},{"label":"negative","score":0.1}]}`, `{"labels":[{"label":"positive","score":0.9},{"label":"negative","score":0.1}]}`, "!"},
		[]float64{1.0 / 3}, 1,
	},
	{ // labels without names are in alphabetical order
		"jnli", `{"sentence_pair_id":"0","yjcaptions_id":"a","sentence1":"犬がいる。","sentence2":"動物がいる。","label":"entailment"}
{"sentence_pair_id":"1","yjcaptions_id":"b","sentence1":"犬","sentence2":"猫","label":"contradiction"}
{"sentence_pair_id":"2","yjcaptions_id":"c","sentence1":"犬","sentence2":"白い犬","label":"neutral"}`,
		[]string{`{"pair":"動物がいる。","text":"犬がいる。"}`, `{"pair":"猫","text":"犬"}`, `{"pair":"白い犬","text":"犬"}`},
		[]string{`{"labels":[{"label":"LABEL_1"},{"label":"LABEL_0"},{"label":"LABEL_2"}]}`, `{"labels":[{"label":"LABEL_0"},{"label":"LABEL_1"},{"label":"LABEL_2"}]}`, `{"labels":[{"label":"LABEL_0"},{"label":"LABEL_1"},{"label":"LABEL_2"}]}`},
		[]float64{2.0 / 3}, 0,
	},
	{ // the pairs (1, 2), (2, 1), (4, 3): the second record has no value
		"jsts", `{"sentence_pair_id":"0","sentence1":"a","sentence2":"b","label":2.0}
{"sentence_pair_id":"1","sentence1":"a","sentence2":"c","label":5}
{"sentence_pair_id":"2","sentence1":"a","sentence2":"d","label":1}
{"sentence_pair_id":"3","sentence1":"a","sentence2":"e","label":3}`,
		[]string{`{"pair":"b","text":"a"}`, `{"pair":"c","text":"a"}`, `{"pair":"d","text":"a"}`, `{"pair":"e","text":"a"}`},
		[]string{`{"labels":[{"label":"LABEL_0","score":1}]}`, "!", `{"labels":[{"label":"LABEL_0","score":2}]}`, `{"labels":[{"label":"LABEL_0","score":4}]}`},
		[]float64{2 / math.Sqrt(2*14.0/3), 0.5}, 1,
	},
	{
		"jsquad", `{"version":"1.1","data":[{"title":"t","paragraphs":[{"context":"東京は首都。","qas":[
{"id":"1","question":"首都は？","answers":[{"text":"東京","answer_start":0},{"text":"東京都","answer_start":0}],"is_impossible":false},
{"id":"2","question":"国は？","answers":[],"is_impossible":true},{"id":"3","question":"何？","answers":[{"text":"首都。","answer_start":3}]}]}]}]}`,
		[]string{`{"context":"東京は首都。","question":"首都は？"}`, `{"context":"東京は首都。","question":"国は？"}`, `{"context":"東京は首都。","question":"何？"}`},
		[]string{`{"answers":[{"text":"東京は"}]}`, `{"answers":[{"text":""}]}`, `{"answers":[{"text":"首都"}]}`},
		[]float64{2.0 / 3, (0.8 + 1 + 1) / 3}, 0,
	},
	{
		"jcommonsenseqa", `{"q_id":0,"question":"乗る？","choice0":"駅","choice1":"海","choice2":"山","choice3":"川","choice4":"空","label":0}
{"q_id":1,"question":"泳ぐ？","choice0":"駅","choice1":"海","choice2":"山","choice3":"川","choice4":"空","label":1}`,
		[]string{`{"choices":["駅","海","山","川","空"],"prompt":"乗る？"}`, `{"choices":["駅","海","山","川","空"],"prompt":"泳ぐ？"}`},
		[]string{`{"choices":[{"index":0},{"index":1}]}`, `{"choices":[{"index":3},{"index":1}]}`},
		[]float64{0.5}, 0,
	},
}

func read(t *testing.T, task, data string) ([]Example, error) {
	path := filepath.Join(t.TempDir(), "data.json")
	if err := os.WriteFile(path, []byte(data), 0o666); err != nil {
		t.Fatal(err)
	}
	it, err := Lookup(task)
	if err != nil {
		t.Fatal(err)
	}
	return it.Read(path)
}

func predictions(results []string) []Prediction {
	var out []Prediction
	for _, r := range results {
		if r == "!" {
			out = append(out, Prediction{Err: errors.New("failed")})
			continue
		}
		out = append(out, Prediction{JSON: json.RawMessage(r)})
	}
	return out
}

func TestFiles(t *testing.T) {
	for _, f := range files {
		t.Run(f.task, func(t *testing.T) {
			examples, err := read(t, f.task, f.data)
			if err != nil || len(examples) != len(f.inputs) {
				t.Fatalf("%d examples, %v", len(examples), err)
			}
			for i, want := range f.inputs {
				if string(examples[i].Input) != want {
					t.Errorf("input %d: %s, want %s", i, examples[i].Input, want)
				}
			}
			task, _ := Lookup(f.task)
			figures, err := task.Score(examples, predictions(f.results))
			if err != nil || len(figures) != len(f.want) || len(figures) != len(task.Columns) {
				t.Fatalf("%+v, %v", figures, err)
			}
			for i, want := range f.want {
				if x := figures[i]; !(math.Abs(x.Value-want) < 1e-12) || x.Failed != f.failed || x.Low > x.Value || x.High < x.Value {
					t.Errorf("%+v, want %v with %d failed", x, want, f.failed)
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ task, data, want string }{
		{"marc-ja", "{\"sentence\":\"a\"}\n", `line 1: field "label"`},
		{"marc-ja", "{\"sentence\":\"a\",\"label\":\"x\"}\n{", "line 2:"},
		{"marc-ja", "", "no records"},
		{"jsts", `{"sentence1":"a","sentence2":"b"}`, `field "label" is missing`},
		{"jnli", `{"sentence1":"a","label":"neutral"}`, `"sentence2"`},
		{"jsquad", `[1]`, "format of SQuAD"},
		{"jcommonsenseqa", `{"question":"a","choice0":"a","choice1":"b","choice2":"c","choice3":"d","label":0}`, `"choice4"`},
		{"jcommonsenseqa", `{"question":"a","choice0":"a","choice1":"b","choice2":"c","choice3":"d","choice4":"e","label":5}`, `"label"`},
	} {
		if _, err := read(t, c.task, c.data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.task, c.data, err, c.want)
		}
	}
	if _, err := Lookup("jcola"); err == nil || !strings.Contains(err.Error(), "marc-ja, jsts") {
		t.Errorf("unknown task: %v", err)
	}
	for _, c := range []struct{ task, result, want string }{
		{"jsts", `{"labels":[{"label":"a"},{"label":"b"}]}`, "2 labels"},
		{"marc-ja", `{"labels":[{"label":"a"}]}`, "one label"},
		{"marc-ja", `{"labels":[{"label":"good"},{"label":"bad"}]}`, `label "positive" of the file`},
		{"marc-ja", "!", "no record has a result"},
	} {
		if c.result == "!" {
			c.task = "jsts"
		}
		task, _ := Lookup(c.task)
		_, err := task.Score([]Example{{Label: "positive", Value: 1}}, predictions([]string{c.result}))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.task, c.result, err, c.want)
		}
	}
}
