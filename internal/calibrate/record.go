package calibrate

import (
	"context"
	"fmt"
	"math"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/internal/verify"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// This file owns what is seen of the activations: the program runs step by step, and of the left
// factor of each matmul the largest magnitude and the mean of each channel are kept, and of other
// texts a few rows. A result is forgotten when its buffer is written again.

// sampleRows is how many rows are kept of each matmul. The error of a matmul is a root mean square
// over rows and outputs: of 48 rows and 192 outputs it is known to a few percent.
const sampleRows = 48

// recording is what was seen.
type recording struct {
	program *program.Program
	matmuls []*matmul
	embed   []float32 // rows of the embedded tokens
}

// matmul is one step.
type matmul struct {
	step program.Step
	spec kernel.Spec
	// most has the largest magnitude of each of the K channels of the left factor, after the norm
	// if there is one, and sum the sum of each over count tokens.
	most  []float32
	sum   []float64
	count int
	// rows are left factors [·][K] of the texts that errors are measured on.
	rows []float32
	// change and result are Σ² of what a matmul with a residual adds to the residual stream, and
	// of the stream after it, over the sampled rows.
	change, result float64
	gamma, beta    []float32
	shifted        bool // by the mean: see shift.go
}

// record runs the texts through the f32 package in dir: statistics are made of the first, rows
// sampled of the others.
func record(ctx context.Context, dir string, o Options, made, held []verify.Text) (*recording, error) {
	d, err := pipeline.StartDriver(ctx, dir, pipeline.DriverOptions{MaxTokens: verify.MaxTokens, Observe: true})
	if err != nil {
		return nil, err
	}
	defer d.Close()
	p, err := d.Program()
	if err != nil {
		return nil, err
	}
	r := &recorder{recording: recording{program: p}, at: map[int]*matmul{}, buffers: map[string][]float32{}}
	for i, s := range p.Steps {
		spec := p.Kernel(s.Kernel).Spec
		if spec.Kind != kernel.Gemm {
			continue
		}
		m := &matmul{step: s, spec: spec, most: make([]float32, spec.K), sum: make([]float64, spec.K)}
		if m.gamma, err = vector(p, s.Arg(program.Gamma), o.Model.Checkpoint); err != nil {
			return nil, err
		}
		if m.beta, err = vector(p, s.Arg(program.Beta), o.Model.Checkpoint); err != nil {
			return nil, err
		}
		r.matmuls, r.at[i] = append(r.matmuls, m), m
	}
	texts := 0
	run := func(batches []pipeline.Request) error {
		for _, b := range batches {
			err := d.Do(b, func(resp pipeline.Response) error {
				for _, s := range resp.Steps {
					if err := r.see(s); err != nil {
						return err
					}
				}
				return nil
			})
			if err != nil {
				return err
			}
			texts += len(b.Offsets) - 1
			o.Progress("f32", texts, len(o.Texts))
			r.tokens.first += len(b.IDs)
		}
		return nil
	}
	if err := run(verify.Batches(made)); err != nil {
		return nil, err
	}
	r.tokens, r.picked = counter{}, counter{}
	batches := verify.Batches(held)
	for _, b := range batches {
		r.tokens.total += len(b.IDs)
		r.picked.total += len(b.Rows)
	}
	return &r.recording, run(batches)
}

// mean returns the mean left factor.
func (m *matmul) mean() []float32 {
	out := make([]float32, len(m.sum))
	for k, x := range m.sum {
		out[k] = float32(x / float64(max(1, m.count)))
	}
	return out
}

type recorder struct {
	recording
	at             map[int]*matmul      // by step
	buffers        map[string][]float32 // what is in them
	tokens, picked counter
}

// counter chooses rows, evenly over all of them; none while statistics are made, when total is 0.
type counter struct{ total, first int }

// sampled reports whether row i of what comes now is kept: the first of total/sampleRows.
func (c *counter) sampled(i int) bool {
	if c.total == 0 {
		return false
	}
	at := c.first + i
	return at*sampleRows/c.total != (at-1)*sampleRows/c.total || at == 0
}

// see takes the result of a step.
func (r *recorder) see(s pipeline.StepResult) error {
	data, err := verify.Floats(r.program, s)
	if err != nil {
		return err
	}
	if s.Step >= len(r.program.Steps) || r.program.Steps[s.Step].Name != s.Name {
		return fmt.Errorf("the package made step %q as number %d, which is not its program", s.Name, s.Step)
	}
	step := r.program.Steps[s.Step]
	dst := r.program.Buffer(step.Arg(program.Dst))
	rows := &r.tokens
	if dst.Symbol() != program.Tokens {
		rows = &r.picked
	}
	if m := r.at[s.Step]; m != nil {
		if err := r.matmul(m, rows, data); err != nil {
			return fmt.Errorf("step %s: %w", s.Name, err)
		}
	}
	if s.Step == 0 {
		for i := range s.Rows {
			if rows.sampled(i) {
				r.embed = append(r.embed, data[i*dst.Cols():(i+1)*dst.Cols()]...)
			}
		}
	}
	r.buffers[dst.Name] = data
	if s.Step == len(r.program.Steps)-1 {
		r.picked.first += s.Rows
	}
	return nil
}

// matmul keeps what is needed of the left factor and of the residual.
func (r *recorder) matmul(m *matmul, rows *counter, result []float32) error {
	k, n := m.spec.K, m.spec.N
	x, before := r.buffers[m.step.Arg(program.Src)], r.buffers[m.step.Arg(program.Res)]
	if m.spec.Prologue != kernel.NoPrologue {
		norm := kernel.Kernel{Spec: kernel.Spec{Kind: kernel.Rowwise, In: m.spec.In, Out: m.spec.In, K: k, Prologue: m.spec.Prologue, Eps: m.spec.Eps, Beta: m.spec.Beta}}
		norm.Plan, _ = kernel.Choose(norm.Spec, "generic") // the interpreter wants one, and does the same by each
		var err error
		if x, err = kernel.EvalRowwise(norm, x, m.gamma, m.beta); err != nil {
			return err
		}
	}
	if rows.total == 0 {
		for i, v := range x {
			m.most[i%k] = max(m.most[i%k], float32(math.Abs(float64(v))))
			m.sum[i%k] += float64(v)
		}
		m.count += len(x) / k
		return nil
	}
	for i := range len(x) / k {
		if !rows.sampled(i) {
			continue
		}
		m.rows = append(m.rows, x[i*k:(i+1)*k]...)
		if before == nil {
			continue
		}
		for c := i * n; c < (i+1)*n; c++ {
			y, d := float64(result[c]), float64(result[c]-before[c])
			m.change += d * d
			m.result += y * y
		}
	}
	return nil
}
