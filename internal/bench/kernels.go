package bench

import (
	"fmt"
	"path"
	"runtime"
	"slices"
	"time"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/program"
)

// Kernels measures the kernels of a package where they are used: inside whole calls, between the
// other steps and with the weights of all layers, so that they come from memory as they do in
// use. The time of a step includes its share of the barriers. A driver that was started with
// Times is needed. Kernels whose name or Spec does not match glob are left out.
//
// A sample of a result is one call: the sum over the steps of the kernel.
func Kernels(d *pipeline.Driver, p *program.Program, m Machine, glob string, shapes []Shape, o Options) ([]Result, error) {
	if _, err := path.Match(glob, ""); err != nil {
		return nil, fmt.Errorf("--spec %q: %w", glob, err)
	}
	var results []Result
	for i, s := range shapes {
		if o.Progress != nil {
			o.Progress(i, len(shapes))
		}
		samples := map[string][]time.Duration{}
		if _, err := call(d, s); err != nil {
			return nil, fmt.Errorf("shape %s: %w", s.Text, err)
		}
		for spent := time.Duration(0); len(samples[p.Steps[0].Kernel]) < o.Rounds && spent < o.Budget; {
			r, err := call(d, s)
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
		results = append(results, kernelResults(d, p, m, glob, s, samples, o)...)
	}
	return results, nil
}

func kernelResults(d *pipeline.Driver, p *program.Program, m Machine, glob string, s Shape, samples map[string][]time.Duration, o Options) []Result {
	threads := o.Threads
	if threads == 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	inst := Inst(p, TargetOf(d.Hello.Kernels))
	var results []Result
	for _, k := range p.Kernels {
		byName, _ := path.Match(glob, k.Name)
		bySpec, _ := path.Match(glob, k.Spec.String())
		if len(samples[k.Name]) == 0 || glob != "" && !byName && !bySpec {
			continue
		}
		w := Of(p, k.Name, s.Lengths)
		median := medianOf(samples[k.Name])
		results = append(results, Result{
			Shape: k.Name + "/" + s.Text, Tokens: s.Tokens(), MedianMS: ms(median), MinMS: ms(slices.Min(samples[k.Name])),
			Runs: len(samples[k.Name]), GFLOP: w.Flops / 1e9, GFLOPS: w.Flops / 1e9 / median.Seconds(),
			ShareOfCeiling: float64(w.Floor(m, inst, threads)) / float64(median),
			samples:        samples[k.Name], bytes: w.WeightBytes,
		})
	}
	return results
}
