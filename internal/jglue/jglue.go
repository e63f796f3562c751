// Package jglue evaluates models on the tasks of JGLUE, from its own files: what a record is for a
// task, what the right answers are, and the figures of the benchmark.
//
// It imports internal/metrics. Start reading at jglue.go, then score.go.
package jglue

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// Task is a task of the benchmark.
type Task struct {
	Name string // as --task takes it
	// Method is the task of the model, by the names of bertc run.
	Method string
	// MaxLength and Stride are those of JGLUE's own experiments.
	MaxLength, Stride int
	Long              string
	// Columns are the figures, named as in published tables.
	Columns []string
	read    func(*reader) error
	score   func([]Example, []Prediction) ([][]float64, error)
	figures []figure
}

// Example is one record: the input of the method, and what is right.
type Example struct {
	Input json.RawMessage
	Label string   // of a classification
	Value float64  // of a regression, or the index of the right choice
	Right []string // answers
}

// Tasks are the tasks of JGLUE.
var Tasks = []Task{
	{Name: "marc-ja", Method: "classify", MaxLength: 512, Long: "truncate", Columns: []string{"MARC-ja/acc"}, read: readMARC, score: scoreLabels, figures: accuracy},
	{Name: "jsts", Method: "classify", MaxLength: 128, Long: "truncate", Columns: []string{"JSTS/pearson", "JSTS/spearman"}, read: readJSTS, score: scoreValues, figures: correlation},
	{Name: "jnli", Method: "classify", MaxLength: 128, Long: "truncate", Columns: []string{"JNLI/acc"}, read: readJNLI, score: scoreLabels, figures: accuracy},
	{Name: "jsquad", Method: "answer", MaxLength: 384, Stride: 128, Long: "window", Columns: []string{"JSQuAD/EM", "JSQuAD/F1"}, read: readSQuAD, score: scoreAnswers, figures: exactAndF1},
	{Name: "jcommonsenseqa", Method: "choose", MaxLength: 64, Long: "truncate", Columns: []string{"JComQA/acc"}, read: readJCQA, score: scoreChoices, figures: accuracy},
}

// Names lists the tasks.
func Names() string {
	var names []string
	for _, t := range Tasks {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}

// Lookup returns the task of a name.
func Lookup(name string) (Task, error) {
	i := slices.IndexFunc(Tasks, func(t Task) bool { return t.Name == name })
	if i < 0 {
		return Task{}, fmt.Errorf("task %q: unknown (known: %s)", name, Names())
	}
	return Tasks[i], nil
}

// Read reads the examples of a file.
func (t Task) Read(path string) ([]Example, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := &reader{path: path, in: bufio.NewReader(f)}
	if err := t.read(r); err != nil {
		return nil, err
	}
	if len(r.examples) == 0 {
		return nil, fmt.Errorf("%s: no records", path)
	}
	return r.examples, nil
}

type reader struct {
	path     string
	in       *bufio.Reader
	examples []Example
}

// add makes an example of an input.
func (r *reader) add(e Example, input any) error {
	var err error
	e.Input, err = json.Marshal(input)
	r.examples = append(r.examples, e)
	return err
}

// lines decodes every line into a new record and hands it to f.
func lines[T any](r *reader, f func(record T) error) error {
	for number := 1; ; number++ {
		line, err := r.in.ReadBytes('\n')
		if err != nil && err != io.EOF {
			return err
		}
		if len(strings.TrimSpace(string(line))) > 0 {
			var record T
			wrong := json.Unmarshal(line, &record)
			if wrong == nil {
				wrong = f(record)
			}
			if wrong != nil {
				return fmt.Errorf("%s, line %d: %w", r.path, number, wrong)
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// need reports the first field without a value: name, value, name, value.
func need(fields ...string) error {
	for i := 0; i < len(fields); i += 2 {
		if fields[i+1] == "" {
			return fmt.Errorf("field %q is missing or empty", fields[i])
		}
	}
	return nil
}

func readMARC(r *reader) error {
	return lines(r, func(x struct{ Sentence, Label string }) error {
		if err := need("sentence", x.Sentence, "label", x.Label); err != nil {
			return err
		}
		return r.add(Example{Label: x.Label}, map[string]string{"text": x.Sentence})
	})
}

func readJNLI(r *reader) error {
	return lines(r, func(x struct{ Sentence1, Sentence2, Label string }) error {
		if err := need("sentence1", x.Sentence1, "sentence2", x.Sentence2, "label", x.Label); err != nil {
			return err
		}
		return r.add(Example{Label: x.Label}, map[string]string{"text": x.Sentence1, "pair": x.Sentence2})
	})
}

func readJSTS(r *reader) error {
	return lines(r, func(x struct {
		Sentence1, Sentence2 string
		Label                *float64
	}) error {
		if err := need("sentence1", x.Sentence1, "sentence2", x.Sentence2); err != nil {
			return err
		}
		if x.Label == nil {
			return fmt.Errorf("field %q is missing", "label")
		}
		return r.add(Example{Value: *x.Label}, map[string]string{"text": x.Sentence1, "pair": x.Sentence2})
	})
}

func readJCQA(r *reader) error {
	return lines(r, func(x struct {
		Question                                    string
		Choice0, Choice1, Choice2, Choice3, Choice4 string
		Label                                       *int
	}) error {
		choices := []string{x.Choice0, x.Choice1, x.Choice2, x.Choice3, x.Choice4}
		if err := need("question", x.Question); err != nil {
			return err
		}
		for i, c := range choices {
			if err := need(fmt.Sprintf("choice%d", i), c); err != nil {
				return err
			}
		}
		if x.Label == nil || *x.Label < 0 || *x.Label >= len(choices) {
			return fmt.Errorf("field %q is missing or not 0 to %d", "label", len(choices)-1)
		}
		return r.add(Example{Value: float64(*x.Label)}, map[string]any{"prompt": x.Question, "choices": choices})
	})
}

// readSQuAD reads the format of SQuAD, one object for the whole file.
func readSQuAD(r *reader) error {
	var file struct {
		Data []struct {
			Paragraphs []struct {
				Context string
				QAs     []struct {
					ID, Question string
					Answers      []struct{ Text string }
				} `json:"qas"`
			}
		}
	}
	if err := json.NewDecoder(r.in).Decode(&file); err != nil {
		return fmt.Errorf("%s: not in the format of SQuAD: %w", r.path, err)
	}
	for _, d := range file.Data {
		for _, p := range d.Paragraphs {
			for _, q := range p.QAs {
				if err := need("context", p.Context, "question", q.Question); err != nil {
					return fmt.Errorf("%s, question %q: %w", r.path, q.ID, err)
				}
				e := Example{}
				for _, a := range q.Answers {
					e.Right = append(e.Right, a.Text)
				}
				if len(e.Right) == 0 {
					e.Right = []string{""}
				}
				if err := r.add(e, map[string]string{"question": q.Question, "context": p.Context}); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
