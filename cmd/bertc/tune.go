package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/autotune"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

func tuneCommand() *cobra.Command {
	var o autotune.Options
	var mo modelOptions
	var config, out, tier string
	c := &cobra.Command{
		Use:   "tune --model DIR|--config FILE --out RECORDS",
		Short: "Measure kernel plans on this machine",
		Long: `Time the most promising plans of every kernel, for the dimensions of a model: a
random checkpoint with as many layers as do not fit a cache is compiled with all
candidates as kernel sets of one package; each is checked to give the same bits,
and they are timed alternating, inside whole calls.

--kernels sm90a is the GPU. There a candidate is right when a sequence is within
the budget of bf16 of the CPU and has the same bits in every place of a batch,
and a kernel is timed by itself. The program must be built for it: make h100.

Every candidate appends a line of JSON to RECORDS at each length as soon as it is
measured; an interrupt keeps what is done. compile --tuning RECORDS uses them.`,
		Example: `  bertc tune --model ./retrieva-bert --out records.jsonl
  bertc compile --model ./retrieva-bert --out ./retrieva --tuning records.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if (mo.model == "") == (config == "") {
				return fmt.Errorf("name either --model (a model directory) or --config (a config.json)")
			}
			if out == "" {
				return fmt.Errorf("--out is missing: name the file that records are appended to")
			}
			if err := checkOther("--out", out, config); err != nil {
				return err
			}
			data, cfg, math, err := tuneConfig(c, mo, config)
			if err != nil {
				return err
			}
			o.Math, o.Open = math, pipeline.OpenGPU
			if o.Target, err = tuneTarget(tier, math); err != nil {
				return err
			}
			if o.Target == pipeline.GPUTarget && !c.Flags().Changed("tokens") {
				o.Tokens = autotune.DeviceTokens
			}
			if err := o.Check(cfg); err != nil {
				return err
			}
			err = new(autotune.Records).AddFile(out) // what is there must be records, or it would be spoilt
			isNew := errors.Is(err, fs.ErrNotExist)
			if err != nil && !isNew {
				return err
			}
			f, err := os.OpenFile(out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			defer func() {
				info, err := f.Stat()
				f.Close()
				if err == nil && info.Size() == 0 && isNew {
					os.Remove(out)
				}
			}()
			bar := newBar(c.ErrOrStderr(), "rounds")
			o.Progress = func(done, total int) { bar.set(int64(done), int64(total)) }
			err = autotune.Tune(c.Context(), data, cfg, o, f)
			bar.done()
			if err != nil {
				return err
			}
			return bestPlans(c.OutOrStdout(), out, o.Target)
		},
	}
	c.Flags().StringVar(&mo.model, "model", "", "model directory")
	c.Flags().StringVar(&config, "config", "", "a config.json")
	c.Flags().StringVar(&mo.dtype, "dtype", "", "numerics: int8, bf16 or f32 (default: bf16; f32 for the --model of an f32 checkpoint)")
	c.Flags().StringVar(&out, "out", "", "file that records are appended to")
	c.Flags().StringVar(&tier, "kernels", "", "kernel set to tune; sm90a is the GPU (default: the one that packages choose)")
	c.Flags().StringVar(&o.Spec, "spec", "", "only kernels whose name or Spec matches this pattern (path.Match)")
	c.Flags().IntVar(&o.Candidates, "candidates", 8, "plans of each kernel, the cheapest by the cost model")
	c.Flags().IntSliceVar(&o.Tokens, "tokens", []int{1, 16, 128, 512}, "sequence lengths to measure at; for the GPU batches, which are of sequences of 512 (default there: 8192,16384)")
	c.Flags().IntVar(&o.Rounds, "rounds", 9, "samples of each candidate at each length")
	c.Flags().IntVar(&o.Threads, "threads", 0, "goroutines that compute (default: GOMAXPROCS)")
	return c
}

// tuneConfig returns the config.json of the model, or the file config, with the configuration that
// it describes and the numerics to tune for.
func tuneConfig(c *cobra.Command, mo modelOptions, config string) (data []byte, cfg bert.Config, math ir.DType, err error) {
	if config == "" {
		m, math, err := mo.open(c)
		if err != nil {
			return nil, cfg, 0, err
		}
		defer m.Close()
		_, data, err := m.Checkpoint.Config()
		return data, m.Config, math, err
	}
	if math, err = mo.math(); err != nil {
		return nil, cfg, 0, err
	}
	if math == 0 {
		math = ir.BF16
	}
	data, cfg, err = readConfig(config)
	return data, cfg, math, err
}

// tuneTarget returns the kernel target of a tier of this architecture or of the GPU; for "" that which
// packages choose on the processor.
func tuneTarget(tier string, math ir.DType) (string, error) {
	var names []string
	for _, name := range pipeline.Targets(math) {
		t, _ := kernel.LookupTarget(name)
		if t.GOARCH != runtime.GOARCH {
			continue
		}
		_, n, _ := strings.Cut(name, "/")
		names = append(names, n)
		if lacks := rt.Missing(t.Features...); tier == n && len(lacks) > 0 {
			return "", fmt.Errorf("--kernels %q: the CPU or the operating system lacks %s", tier, strings.Join(lacks, ", "))
		}
		if tier == n || tier == "" && pipeline.Supported(t) && !pipeline.Avoided(t) {
			return name, nil
		}
	}
	_, gpu, _ := strings.Cut(pipeline.GPUTarget, "/")
	if tier != gpu {
		return "", fmt.Errorf("--kernels %q: this machine has no such kernel set to tune (known: %s)", tier, strings.Join(append(names, gpu), ", "))
	}
	if err := pipeline.CheckGPU(math); err != nil {
		return "", fmt.Errorf("--kernels %q: %w", tier, err)
	}
	d, err := pipeline.OpenGPU()
	if err != nil {
		return "", fmt.Errorf("--kernels %q: %w", tier, err)
	}
	return pipeline.GPUTarget, d.Close()
}

// bestPlans prints the best plan of every Spec in a records file.
func bestPlans(w io.Writer, file, target string) error {
	r := &autotune.Records{}
	if err := r.AddFile(file); err != nil {
		return err
	}
	for _, spec := range r.Specs(target) {
		plan, _, ok := r.Lookup(spec, target, fingerprint(target))
		if !ok {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s\n  %s\n", spec, plan); err != nil {
			return err
		}
	}
	return nil
}
