// Package calibrate decides how the matmuls of a model are quantised: it runs a user's text
// through the model in f32, measures what 8 bits do to each matmul, and gives those bf16 whose
// error is worth their bytes, until the last hidden states are as close as asked for.
//
// It imports package pipeline and what that stands on. Start reading at Run; record.go is what is
// seen of the activations, measure.go the error of a matmul, choose.go the choice. The formulas
// are in docs/numerics.md.
package calibrate

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/internal/verify"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/quant"
)

// Options says what to calibrate.
type Options struct {
	Model *pipeline.Model
	Texts []verify.Text
	// MaxError is the largest error of the last hidden states against f32 on the texts.
	MaxError float64
	// Compile writes the package of Model, with its Quant, into a directory.
	Compile func(ctx context.Context, math ir.DType, dir string) error
	// Progress is called with what is done, and with how many of the texts that is for.
	Progress func(what string, done, of int)
}

// Run returns the Config, which it leaves in o.Model, and what verify says of it.
func Run(ctx context.Context, o Options) (*quant.Config, verify.Report, error) {
	var report verify.Report
	tmp, err := os.MkdirTemp("", "bertc-calibrate-*")
	if err != nil {
		return nil, report, err
	}
	defer os.RemoveAll(tmp)
	made, held, err := split(o.Texts)
	if err != nil {
		return nil, report, err
	}
	o.Model.Quant = nil
	base := filepath.Join(tmp, "f32")
	if err := o.Compile(ctx, ir.F32, base); err != nil {
		return nil, report, err
	}
	rec, err := record(ctx, base, o, made, held)
	if err != nil {
		return nil, report, err
	}
	items, err := measure(ctx, rec, o.Model.Checkpoint)
	if err != nil {
		return nil, report, err
	}
	// What is predicted leaves out how errors grow on their way (docs/numerics.md): what is
	// measured corrects it.
	var best *quant.Config
	bound, within, beyond := o.MaxError, 0.0, 0.0 // predictions whose measured error is that of a bound
	for round := range rounds {
		c, share := choose(items, bound, o.MaxError)
		if err := rec.shift(ctx, c, o.Model.Checkpoint); err != nil {
			return nil, report, err
		}
		r, err := try(ctx, o, c, filepath.Join(tmp, fmt.Sprint("int8-", round)), fmt.Sprintf("int8, choice %d", round+1), base, held)
		if err != nil {
			return nil, report, err
		}
		e := r.Error()
		if e <= o.MaxError {
			best, report, within = c, r, bound
			if e >= near*o.MaxError || share == 0 {
				break
			}
		} else if beyond = bound; share == 1 || !(e > 0) {
			return nil, r, fmt.Errorf("the error of the last hidden states is %.3g with every matmul in bf16, more than %g", e, o.MaxError)
		} else if round == rounds-1 && best == nil {
			return nil, r, fmt.Errorf("after %d choices the error of the last hidden states is %.3g, more than %g", rounds, e, o.MaxError)
		}
		if bound *= slack * o.MaxError / e; within > 0 && beyond > 0 {
			bound = math.Sqrt(within * beyond)
		}
	}
	o.Model.Quant = best
	best.Notes = notes(best, report, o.MaxError)
	return best, report, nil
}

// split divides the texts into those that statistics are made of, and those that errors are
// measured on: what a statistic gains on its own texts it may not gain on others.
func split(texts []verify.Text) (made, held []verify.Text, err error) {
	if len(texts) < 2 {
		return nil, nil, fmt.Errorf("one text is not enough: statistics are made of one half of the texts, and errors measured on the other")
	}
	for i, t := range texts {
		if i%2 == 0 {
			made = append(made, t)
		} else {
			held = append(held, t)
		}
	}
	return made, held, nil
}

const (
	// rounds bounds how often a choice is made and measured.
	rounds = 4
	// slack is how far below the bound the next choice aims: of what is measured, bf16 has a part
	// that no choice changes.
	slack = 0.93
	// near is the share of the bound from which on a choice is not worth improving.
	near = 0.85
)

// try compiles a choice into dir for the time that it takes to measure it.
func try(ctx context.Context, o Options, c *quant.Config, dir, name, base string, held []verify.Text) (verify.Report, error) {
	c.Model, o.Model.Quant = o.Model.Size(), c
	if err := o.Compile(ctx, ir.I8, dir); err != nil {
		return verify.Report{}, err
	}
	defer os.RemoveAll(dir)
	return verify.Run(ctx, verify.Options{
		Model: o.Model, A: verify.Side{Name: "f32", Dir: base}, B: verify.Side{Name: "int8", Dir: dir},
		Texts: held, Progress: func(n int) { o.Progress(name, n, len(held)) },
	})
}

// notes are what a reader of the file wants to know first.
func notes(c *quant.Config, r verify.Report, most float64) []string {
	n := map[quant.Precision]int{}
	smooth, shift := 0, 0
	for _, l := range c.Linears {
		n[l.Precision]++
		if l.Shift != nil {
			shift++
		}
		if l.Smooth != nil {
			smooth++
		}
	}
	lines := []string{
		fmt.Sprintf("%d matmuls in int8, %d of them smoothed and %d shifted; %d in bf16", n[quant.Int8], smooth, shift, n[quant.BF16]),
		fmt.Sprintf("error of the last hidden states against f32: %.3g (asked for: at most %g), on %d texts of %d tokens that no statistic is made of", r.Error(), most, r.Texts, r.Tokens),
	}
	if a := r.Answers; a != nil {
		lines = append(lines, fmt.Sprintf("the same answer for %d of %d %s", a.Same, a.Of, a.What))
	}
	return lines
}
