package bench

// This file owns the measuring of kernels inside whole calls.

import (
	"context"
	"fmt"
	"path"
	"slices"
	"time"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/program"
)

// Kernels measures the kernels of a package where they are used: inside whole calls, between the
// other steps and with the weights of all layers, so that they come from memory as they do in
// use. The time of a step includes its share of the barriers. A driver that was started with
// Times is needed. Kernels that glob does not select (Select) are left out.
//
// A sample of a result is one call: the sum over the steps of the kernel.
func Kernels(ctx context.Context, d *pipeline.Driver, p *program.Program, m Machine, glob string, shapes []Shape, o Options) ([]Result, error) {
	selected, err := Select(p, glob)
	if err != nil {
		return nil, err
	}
	var results []Result
	for i, s := range shapes {
		if o.Progress != nil {
			o.Progress(i, len(shapes))
		}
		samples := map[string][]time.Duration{}
		if _, err := call(ctx, d, s); err != nil {
			return nil, fmt.Errorf("shape %s: %w", s.Text, err)
		}
		for spent := time.Duration(0); len(samples[p.Steps[0].Kernel]) < o.Rounds && spent < o.Budget; {
			r, err := call(ctx, d, s)
			if err != nil {
				return nil, fmt.Errorf("shape %s: %w", s.Text, err)
			}
			sums := map[string]time.Duration{}
			for _, step := range r.Steps {
				sums[p.Steps[step.Step].Kernel] += step.Took
			}
			for k, t := range sums {
				samples[k] = append(samples[k], t)
			}
			spent += r.Took
		}
		results = append(results, kernelResults(d, p, m, selected, s, samples, o)...)
	}
	return results, nil
}

// Select returns the names of the kernels whose name or Spec matches a pattern (path.Match), of all
// kernels for "". That none matches is an error.
func Select(p *program.Program, glob string) (map[string]bool, error) {
	names := map[string]bool{}
	for _, k := range p.Kernels {
		byName, err := path.Match(glob, k.Name)
		bySpec, _ := path.Match(glob, k.Spec.String())
		if err != nil {
			return nil, fmt.Errorf("--spec %q: %w", glob, err)
		}
		if glob == "" || byName || bySpec {
			names[k.Name] = true
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("--spec %q: no kernel has such a name or Spec", glob)
	}
	return names, nil
}

func kernelResults(d *pipeline.Driver, p *program.Program, m Machine, selected map[string]bool, s Shape, samples map[string][]time.Duration, o Options) []Result {
	target := TargetOf(d.Hello.Kernels)
	var results []Result
	for _, k := range p.Kernels {
		if len(samples[k.Name]) == 0 || !selected[k.Name] {
			continue
		}
		w := Of(p, k.Name, s.Lengths)
		median := medianOf(samples[k.Name])
		results = append(results, Result{
			Shape: k.Name + "/" + s.Text, Tokens: s.Tokens(), MedianMS: ms(median), MinMS: ms(slices.Min(samples[k.Name])),
			Runs: len(samples[k.Name]), GFLOP: w.Flops / 1e9, GFLOPS: w.Flops / 1e9 / median.Seconds(),
			ShareOfCeiling: float64(m.Floor(p, target, k.Name, s.Lengths, Threads(o.Threads))) / float64(median),
			samples:        samples[k.Name], bytes: w.WeightBytes,
		})
	}
	return results
}
