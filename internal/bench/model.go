package bench

// This file owns the measuring of whole calls: what a call does, how long it takes, and how both
// are written.

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"github.com/bertc/bertc/internal/hw"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// Options say how long to measure.
type Options struct {
	Threads int
	Rounds  int           // of all shapes, one after another
	Budget  time.Duration // for each shape, after which its rounds end early
	// Progress is called before each round.
	Progress func(round, rounds int)
}

// Check names the flag of a choice that nothing can be measured with.
func (o Options) Check() error {
	switch {
	case o.Threads < 0:
		return fmt.Errorf("--threads %d: must be 0 or more", o.Threads)
	case o.Rounds < 1:
		return fmt.Errorf("--rounds %d: must be 1 or more", o.Rounds)
	case o.Budget <= 0:
		return fmt.Errorf("--budget %s: must be above 0", o.Budget)
	}
	return nil
}

// Result is one shape.
type Result struct {
	Shape    string  `json:"shape"`
	Tokens   int     `json:"tokens"`
	MedianMS float64 `json:"median_ms"`
	MinMS    float64 `json:"min_ms"`
	Runs     int     `json:"runs"`
	GFLOP    float64 `json:"gflop"`
	GFLOPS   float64 `json:"gflops"`
	// ShareOfCeiling is the time that the machine's ceilings allow for the work (Machine.Floor) over
	// the median; 0 when they were not measured.
	ShareOfCeiling float64 `json:"share_of_ceiling"`
	Allocs         float64 `json:"allocs"`

	samples []time.Duration
	bytes   float64
}

// Work is what a program does for a batch: operations, and bytes of weights that must be read.
type Work struct{ Flops, WeightBytes float64 }

// Of adds up the steps of a kernel name ("" for all) that make the hidden states.
func Of(p *program.Program, name string, lengths []int) Work {
	var w Work
	tokens := 0
	for _, l := range lengths {
		tokens += l
	}
	for _, s := range p.Steps[:p.HeadStart()] {
		k := p.Kernel(s.Kernel)
		if name != "" && k.Name != name {
			continue
		}
		if k.Spec.Kind == kernel.Attention {
			for _, l := range lengths {
				w.Flops += float64(k.Spec.Flops(l))
			}
			continue
		}
		w.Flops += float64(k.Spec.Flops(tokens))
		if k.Spec.Kind == kernel.Gemm {
			w.WeightBytes += float64(k.Spec.Panels() * k.Spec.PanelBytes())
		}
	}
	return w
}

// Floor returns the time that the machine needs at least for the steps of a kernel name ("" for all)
// that make the hidden states: the larger of the arithmetic, each kernel at the rate of its
// instruction (that of the program's matmuls where its plan has none), and the weights at the rate of
// the memory. It is 0 where a rate was not measured.
func (m Machine) Floor(p *program.Program, target, name string, lengths []int, threads int) time.Duration {
	t, ok := kernel.LookupTarget(target)
	if !ok {
		return 0
	}
	var arithmetic, memory float64 // seconds
	for _, k := range p.Kernels {
		if name != "" && k.Name != name {
			continue
		}
		plan, _ := k.Plan(target)
		inst, ok := t.Inst(plan.Inst)
		if !ok {
			inst = Inst(p, target)
		}
		rate, stream := m.Limits(inst, threads)
		if rate == 0 || stream == 0 {
			return 0
		}
		w := Of(p, k.Name, lengths)
		arithmetic += w.Flops / (1e9 * rate)
		memory += w.WeightBytes / (1e9 * stream)
	}
	return time.Duration(1e9 * max(arithmetic, memory))
}

// Limits returns what bounds a matmul: the rate of a plan's instruction in GFLOP/s, and the
// bandwidth of the memory in GB/s; 0 where it was not measured.
func (m Machine) Limits(inst kernel.Inst, threads int) (rate, bandwidth float64) {
	return m.Best(ceilingOf(inst), threads), m.Best("stream", threads)
}

// ceilings names the ceiling of an instruction. The rate of a multiply-add depends on the width of
// its registers too.
var ceilings = map[string]string{"vfmadd231ps": "fma", "vdpbf16ps": "dpbf16", "vpdpbusd": "dpint8", "vpmaddwd": "maddint16", "tdpbf16ps": "tdpbf16", "tdpbssd": "tdpint8"}

func ceilingOf(i kernel.Inst) string {
	name := ceilings[i.Name]
	if name != "" && i.Lanes == 8 {
		name += "256"
	}
	return name
}

// Inst returns the instruction of the program's matmuls on a target, the one with the most work.
func Inst(p *program.Program, target string) kernel.Inst {
	t, ok := kernel.LookupTarget(target)
	if !ok {
		return kernel.Inst{}
	}
	var inst kernel.Inst
	work := map[string]int64{}
	for _, s := range p.Steps {
		k := p.Kernel(s.Kernel)
		plan, ok := k.Plan(target)
		if !ok || k.Spec.Kind != kernel.Gemm {
			continue
		}
		work[plan.Inst] += k.Spec.Flops(1)
		if work[plan.Inst] > work[inst.Name] || inst.Name == "" {
			inst, _ = t.Inst(plan.Inst)
		}
	}
	return inst
}

// Model measures a package at shapes: the rounds go over all shapes, so that a slow minute of the
// machine falls on all of them. The first call of each shape is not counted, and on a device that is
// not the CPU neither is the second, which makes the graph of the shape.
func Model(ctx context.Context, d *pipeline.Driver, p *program.Program, m Machine, shapes []Shape, o Options) ([]Result, error) {
	results := make([]Result, len(shapes))
	spent := make([]time.Duration, len(shapes))
	first := 1
	if d.Hello.Device != pipeline.DeviceCPU {
		first = 2
	}
	for i, s := range shapes {
		w := Of(p, "", s.Lengths)
		results[i] = Result{Shape: s.Text, Tokens: s.Tokens(), GFLOP: w.Flops / 1e9, bytes: w.WeightBytes}
		for range first {
			if _, err := call(ctx, d, s); err != nil {
				return nil, fmt.Errorf("shape %s: %w", s.Text, err)
			}
		}
	}
	for round := range o.Rounds {
		if o.Progress != nil {
			o.Progress(round, o.Rounds)
		}
		for i, s := range shapes {
			if spent[i] > o.Budget {
				continue
			}
			r, err := call(ctx, d, s)
			if err != nil {
				return nil, fmt.Errorf("shape %s: %w", s.Text, err)
			}
			results[i].samples = append(results[i].samples, r.Took)
			results[i].Allocs += float64(r.Allocs)
			spent[i] += r.Took
		}
	}
	target := TargetOf(d.Hello.Kernels)
	for i := range results {
		r := &results[i]
		median := medianOf(r.samples)
		r.Runs = len(r.samples)
		r.MedianMS, r.MinMS = ms(median), ms(slices.Min(r.samples))
		r.GFLOPS = r.GFLOP / median.Seconds()
		r.Allocs /= float64(r.Runs)
		r.ShareOfCeiling = float64(m.Floor(p, target, "", shapes[i].Lengths, Threads(o.Threads))) / float64(median)
	}
	return results, nil
}

// TargetOf returns the kernel target of a tier's name.
func TargetOf(tier string) string {
	for _, t := range kernel.Targets() {
		if t == runtime.GOARCH+"/"+tier {
			return t
		}
	}
	return "generic"
}

func call(ctx context.Context, d *pipeline.Driver, s Shape) (resp pipeline.Response, err error) {
	if err := ctx.Err(); err != nil {
		return resp, err
	}
	err = d.Do(s.Request(d.Hello.VocabSize), func(r pipeline.Response) error {
		resp = r
		return nil
	})
	return resp, err
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// medianOf returns the median, of an even number the lower of the two in the middle.
func medianOf(samples []time.Duration) time.Duration {
	s := slices.Sorted(slices.Values(samples))
	return s[(len(s)-1)/2]
}

// WriteJSON writes the list of results.
func WriteJSON(w io.Writer, results []Result) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(results)
}

// WriteBench writes every sample as a line of the Go benchmark format, for benchstat.
func WriteBench(w io.Writer, name, tier string, results []Result) error {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\ncpu: %s\nkernels: %s\n", runtime.GOOS, runtime.GOARCH, hw.CPU(), tier)
	for _, r := range results {
		for _, s := range r.samples {
			fmt.Fprintf(w, "Benchmark%s/%s\t1\t%d ns/op\t%.1f GFLOP/s\t%.2f GB/s", name, r.Shape, s, r.GFLOP/s.Seconds(), r.bytes/1e9/s.Seconds())
			if r.ShareOfCeiling > 0 {
				fmt.Fprintf(w, "\t%.1f %%ceiling", 100*r.ShareOfCeiling*r.MedianMS/ms(s))
			}
			if _, err := fmt.Fprintf(w, "\t%.0f allocs/op\n", r.Allocs); err != nil {
				return err
			}
		}
	}
	return nil
}
