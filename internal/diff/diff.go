// Package diff finds the first step of a compiled model that is wrong. It runs a generated
// package, records what every step writes, and compares each result with the float64 interpreter
// on the same inputs, or with the recording of another kernel set.
//
// It imports package pipeline and what that stands on. Start reading at diff.go; record.go makes
// a recording, local.go is the reference of one step, measure.go and budget.go decide whether it
// is close enough, case.go and replay.go write a step out as a test case and run it again.
package diff

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
)

// This file owns the comparison from end to end.

// Eval is the name of the interpreter where kernels could be named.
const Eval = "eval"

// Options says what to compare.
type Options struct {
	Model *pipeline.Model
	// Package is the directory of a generated package of Model; "" compiles one for the time of
	// the comparison.
	Package string
	In      pipeline.Batch
	// A is the reference: Eval, or the name of a kernel set. B is a kernel set; "" is the best
	// that the machine runs. A kernel set may be a device of package pipeline.
	A, B string
	// Math is the numerics policy to compile with; 0 is that of the package, or else Model's.
	Math ir.DType
	// Extract is a file to write the first step that fails to, or the worst when none does; ""
	// writes none.
	Extract string
}

// Run compares two executions of a model. That a step is off is no error: see Report.
func Run(ctx context.Context, o Options) (Report, error) {
	if o.B == Eval {
		return Report{}, fmt.Errorf("--b %s: the interpreter is the reference, only --a takes it", Eval)
	}
	if o.A != Eval && o.Extract != "" {
		return Report{}, fmt.Errorf("--extract needs --a %s: two kernel sets have no inputs of a step in common", Eval)
	}
	if err := o.In.Check(o.Model.Config.EmbeddingRows, o.Model.Config.MaxPositionEmbeddings); err != nil {
		return Report{}, err
	}
	dir := o.Package
	if dir == "" {
		tmp, err := os.MkdirTemp("", "bertc-diff-*")
		if err != nil {
			return Report{}, err
		}
		defer os.RemoveAll(tmp)
		dir = filepath.Join(tmp, "model")
	}
	u, err := open(ctx, o, dir)
	if err != nil {
		return Report{}, err
	}
	b, err := u.record(ctx, dir, o.B, o.In)
	if err != nil {
		return Report{}, err
	}
	if o.A == Eval {
		return u.againstEval(ctx, o, b)
	}
	a, err := u.record(ctx, dir, o.A, o.In)
	if err != nil {
		return Report{}, err
	}
	return u.againstKernels(a, b)
}

// againstEval evaluates every step on what b recorded as its inputs, so that the error of a step
// is its own. A result is forgotten after its last reader.
func (u *unit) againstEval(ctx context.Context, o Options, b recording) (Report, error) {
	r := Report{A: Eval, B: b.tier, Math: u.math, Tokens: len(o.In.IDs), HeadRows: len(b.rows)}
	known, uses := u.inputs(o.In, b.rows), u.uses()
	var pick *testCase // of the first step that fails, or of the worst so far
	for i, step := range u.program.Steps {
		if err := ctx.Err(); err != nil {
			return r, err
		}
		l, err := u.local(step.Name)
		if err != nil {
			return r, err
		}
		got, err := u.tensor(i, b.steps[i])
		if err != nil {
			return r, err
		}
		b.steps[i].Data = nil
		want, err := l.eval(known, o.Model.Weight)
		if err != nil {
			return r, fmt.Errorf("step %s: %w", step.Name, err)
		}
		spec := u.program.Kernel(step.Kernel).Spec
		budget := localBudget(spec, b.longest)
		if b.gpu {
			budget += foldedBudget(spec)
		}
		s := measure(got, want, budget)
		s.Index, s.Name, s.Kernel = i, step.Name, step.Kernel
		r.Steps = append(r.Steps, s)
		if o.Extract != "" && (pick == nil || pick.result.OK && s.load() > pick.result.load()) {
			pick = &testCase{local: l, result: s, tier: b.tier, spec: spec, args: u.args[step.Name], inputs: l.read(known), got: got, want: want}
			pick.plan, _ = u.plan(step.Kernel, b.tier)
		}
		known[step.Name] = got
		for _, name := range l.inputs {
			if uses[name]--; uses[name] == 0 {
				delete(known, name)
			}
		}
	}
	if pick == nil {
		return r, nil
	}
	r.Extracted, r.File = pick.result.Name, o.Extract
	return r, pick.write(o.Extract, o.Model)
}

// againstKernels compares two recordings. Errors of a step include those of all steps before it.
func (u *unit) againstKernels(a, b recording) (Report, error) {
	r := Report{A: a.tier, B: b.tier, Math: u.math, Tokens: b.tokens, HeadRows: len(b.rows), Propagated: true}
	sum := 0.0
	for i, step := range u.program.Steps {
		want, err := u.tensor(i, a.steps[i])
		if err != nil {
			return r, err
		}
		got, err := u.tensor(i, b.steps[i])
		if err != nil {
			return r, err
		}
		a.steps[i].Data, b.steps[i].Data = nil, nil
		spec := u.program.Kernel(step.Kernel).Spec
		sum += variance(spec, b.longest)
		if a.gpu != b.gpu {
			sum += foldedBudget(spec) * foldedBudget(spec)
		}
		s := measure(got, want, propagatedBudget(sum))
		s.Index, s.Name, s.Kernel = i, step.Name, step.Kernel
		r.Steps = append(r.Steps, s)
	}
	return r, nil
}

// longest returns the tokens of the longest sequence.
func longest(b pipeline.Batch) int {
	n := 0
	for i := 1; i < len(b.Offsets); i++ {
		n = max(n, int(b.Offsets[i]-b.Offsets[i-1]))
	}
	return n
}
