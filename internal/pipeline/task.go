package pipeline

// This file owns calls of a generated package's methods on text.

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bertc/bertc/tokenizer"
)

// textMethods are the methods on text by task, and the file of a generated package that has them.
var textMethods = []struct{ task, file, method string }{
	{"fill-mask", "fill_mask.go", "FillMaskBatch"},
	{"classify", "classify.go", "ClassifyBatch"},
	{"tag", "tag.go", "TagBatch"},
	{"answer", "answer.go", "AnswerBatch"},
	{"choose", "choose.go", "ChooseBatch"},
	{"embed", "embed.go", "EmbedBatch"},
}

// TextTasks are the tasks that Driver.Call knows.
func TextTasks() []string {
	var names []string
	for _, m := range textMethods {
		names = append(names, m.task)
	}
	return names
}

// methods returns the methods of a package by task.
func methods(pkg generated) map[string]string {
	found := map[string]string{}
	for _, m := range textMethods {
		if pkg.has(m.file) {
			found[m.task] = m.method
		}
	}
	return found
}

// Check reports a task that the package does not have.
func (d *Driver) Check(task string) error {
	if slices.Contains(d.Hello.Tasks, task) {
		return nil
	}
	if len(d.Hello.Tasks) == 0 {
		return errors.New("the package takes no text: it was compiled without a tokenizer")
	}
	return fmt.Errorf("the package has no task %s, it has %s", task, strings.Join(d.Hello.Tasks, ", "))
}

// ItemResult is what a method on text makes of one input: JSON, or an error.
type ItemResult struct {
	JSON json.RawMessage
	Err  error
}

// Call calls the method of a task with a batch of inputs. Inputs and options are the package's
// own types, as JSON. It returns a result for each input, and the time inside the package.
func (d *Driver) Call(task string, inputs []json.RawMessage, options any) ([]ItemResult, time.Duration, error) {
	if err := d.Check(task); err != nil {
		return nil, 0, err
	}
	req := Request{Task: task}
	var err error
	if req.Inputs, err = json.Marshal(inputs); err != nil {
		return nil, 0, err
	}
	if req.Options, err = json.Marshal(options); err != nil {
		return nil, 0, err
	}
	var results []ItemResult
	var took time.Duration
	err = d.Do(req, func(r Response) error {
		took = r.Took
		for i, data := range r.Results {
			if r.Failed[i] != "" {
				results = append(results, ItemResult{Err: errors.New(r.Failed[i])})
				continue
			}
			results = append(results, ItemResult{JSON: data})
		}
		return nil
	})
	if err == nil && len(results) != len(inputs) {
		err = fmt.Errorf("the generated package gave %d results for %d inputs", len(results), len(inputs))
	}
	return results, took, err
}

// checkUTF8 is for text before it becomes JSON, which would replace what is not valid.
func checkUTF8(text string) error {
	for at := 0; at < len(text); {
		r, n := utf8.DecodeRuneInString(text[at:])
		if r == utf8.RuneError && n == 1 {
			return &tokenizer.InvalidUTF8Error{Offset: at}
		}
		at += n
	}
	return nil
}

// Candidate is a proposal for one mask, with the JSON names of Hugging Face's pipeline.
type Candidate struct {
	Score    float64 `json:"score"`
	Token    int32   `json:"token"`
	TokenStr string  `json:"token_str"`
	Sequence string  `json:"sequence"`
}

// FillMask calls the package's FillMask.
func (d *Driver) FillMask(text string, topK int) (masks [][]Candidate, took time.Duration, err error) {
	if err := checkUTF8(text); err != nil {
		return nil, 0, err
	}
	input, err := json.Marshal(text)
	if err != nil {
		return nil, 0, err
	}
	results, took, err := d.Call("fill-mask", []json.RawMessage{input}, map[string]int{"top_k": topK})
	if err == nil {
		err = results[0].Err
	}
	if err != nil {
		return nil, 0, err
	}
	var filled struct{ Masks [][]Candidate }
	err = json.Unmarshal(results[0].JSON, &filled)
	return filled.Masks, took, err
}
