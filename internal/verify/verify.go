// Package verify measures how far one execution of a model is from another on a user's own text: two
// generated packages run the same tokens, and the hidden states after every layer and the answers
// are compared. Which steps are wrong, and why, is the business of package diff.
//
// It imports package pipeline and what that stands on. Start reading at Run; texts.go reads the
// text, measure.go has the figures, report.go prints them.
package verify

import (
	"context"
	"fmt"
	"regexp"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/program"
)

// Options says what to compare.
type Options struct {
	Model *pipeline.Model
	// A and B are generated packages of Model; A is the reference.
	A, B     Side
	Texts    []Text
	Progress func(texts int) // may be nil
}

// Side is a generated package: its directory, and what the report calls it.
type Side struct{ Name, Dir string }

// Run runs the texts through both packages.
func Run(ctx context.Context, o Options) (Report, error) {
	r := Report{Texts: len(o.Texts)}
	a, err := start(ctx, o.A.Dir)
	if err != nil {
		return r, err
	}
	defer a.driver.Close()
	b, err := start(ctx, o.B.Dir)
	if err != nil {
		return r, err
	}
	defer b.driver.Close()
	r.A, r.B = o.A.Name+" on "+a.driver.Hello.Kernels, o.B.Name+" on "+b.driver.Hello.Kernels
	for i, name := range a.outputs {
		if i >= len(b.outputs) || b.outputs[i] != name || a.width(name) != b.width(name) {
			return r, fmt.Errorf("%s and %s are not packages of one model: the step that ends a layer is %s of width %d only in the first", o.A.Name, o.B.Name, name, a.width(name))
		}
	}
	measures := make([]measure, len(a.outputs))
	answers := answers{task: o.Model.Task(), problem: o.Model.Config.ProblemType}
	done := 0
	for _, batch := range Batches(o.Texts) {
		want, err := a.run(batch)
		if err != nil {
			return r, err
		}
		got, err := b.run(batch)
		if err != nil {
			return r, err
		}
		for i, name := range a.outputs {
			measures[i].add(got[name], want[name], a.width(name))
		}
		answers.add(batch, got[logits], want[logits], a.width(logits))
		r.Tokens += len(batch.IDs)
		if done += len(batch.Offsets) - 1; o.Progress != nil {
			o.Progress(done)
		}
	}
	for i, name := range a.outputs {
		if measures[i].rows > 0 {
			r.Steps = append(r.Steps, measures[i].step(name))
		}
	}
	r.Answers = answers.result()
	return r, nil
}

// logits is the step of the head's result.
const logits = "logits"

// hidden is the step of the last hidden states.
const hidden = "hidden"

// running is one of the packages.
type running struct {
	driver  *pipeline.Driver
	program *program.Program
	outputs []string // the steps that are compared
}

func start(ctx context.Context, dir string) (*running, error) {
	d, err := pipeline.StartDriver(ctx, dir, pipeline.DriverOptions{MaxTokens: MaxTokens, Observe: true})
	if err != nil {
		return nil, err
	}
	s := &running{driver: d}
	if s.program, err = d.Program(); err != nil {
		d.Close()
		return nil, err
	}
	s.outputs = outputs(s.program)
	return s, nil
}

var layerPrefix = regexp.MustCompile(`^layer\.\d+\.`)

// outputs are the steps that make the embedded tokens, the residual stream after each layer, the
// hidden states and the logits.
func outputs(p *program.Program) []string {
	var names []string
	for i, s := range p.Steps {
		layer := layerPrefix.FindString(s.Name)
		last := layer != "" && (i+1 == len(p.Steps) || layerPrefix.FindString(p.Steps[i+1].Name) != layer)
		if last || s.Name == "embed" || s.Name == hidden || s.Name == logits {
			names = append(names, s.Name)
		}
	}
	return names
}

// width returns the columns of a step's result, 0 when there is no such step.
func (s *running) width(step string) int {
	for _, st := range s.program.Steps {
		if st.Name == step {
			return s.program.Buffer(st.Arg(program.Dst)).Cols()
		}
	}
	return 0
}

// run returns what the compared steps wrote.
func (s *running) run(batch pipeline.Request) (map[string][]float32, error) {
	out := map[string][]float32{}
	for _, name := range s.outputs {
		out[name] = nil
	}
	err := s.driver.Do(batch, func(r pipeline.Response) error {
		for _, step := range r.Steps {
			if have, ok := out[step.Name]; ok {
				data, err := Floats(s.program, step)
				if err != nil {
					return err
				}
				out[step.Name] = append(have, data...)
			}
		}
		return nil
	})
	return out, err
}

// Floats returns the elements of a recorded result of type f32 or bf16.
func Floats(p *program.Program, s pipeline.StepResult) ([]float32, error) {
	dst := p.Buffer(p.Steps[s.Step].Arg(program.Dst))
	if len(s.Data) != s.Rows*dst.RowBytes() {
		return nil, fmt.Errorf("step %s: the package recorded %d bytes for %d rows, expected rows of %s", s.Name, len(s.Data), s.Rows, dst.Type)
	}
	return decode(dst.Type.DType, s.Data)
}
