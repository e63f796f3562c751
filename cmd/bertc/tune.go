package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/autotune"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/hw"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

func tuneCommand() *cobra.Command {
	o := autotune.Options{Math: ir.BF16}
	var config, model, dtype, out, tier string
	c := &cobra.Command{
		Use:   "tune --model DIR|--config FILE --out RECORDS",
		Short: "Measure kernel plans on this machine",
		Long: `Time the most promising plans of every kernel, for the dimensions of a model: a
random checkpoint with as many layers as do not fit a cache is compiled with all
candidates as kernel sets of one package; each is checked to give the same bits,
and they are timed alternating, inside whole calls.

Every candidate appends a line of JSON to RECORDS at each length as soon as it is
measured; an interrupt keeps what is done. compile --tuning RECORDS uses them.`,
		Example: `  bertc tune --model ./retrieva-bert --out records.jsonl
  bertc compile --model ./retrieva-bert --out ./retrieva --tuning records.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if (model == "") == (config == "") {
				return fmt.Errorf("name either --model (a model directory) or --config (a config.json)")
			}
			if out == "" {
				return fmt.Errorf("--out is missing: name the file that records are appended to")
			}
			if model != "" {
				config = filepath.Join(model, "config.json")
			}
			data, err := os.ReadFile(config)
			if err != nil {
				return err
			}
			cfg, err := bert.ParseConfig(config, data, nil)
			if err != nil {
				return err
			}
			math, err := (&modelOptions{dtype: dtype}).math()
			if err != nil {
				return err
			}
			if math != 0 {
				o.Math = math
			}
			if o.Target, err = tuneTarget(tier); err != nil {
				return err
			}
			f, err := os.OpenFile(out, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			defer f.Close()
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
	c.Flags().StringVar(&model, "model", "", "model directory (its config.json is read)")
	c.Flags().StringVar(&config, "config", "", "a config.json")
	c.Flags().StringVar(&dtype, "dtype", "bf16", "numerics: bf16 or f32")
	c.Flags().StringVar(&out, "out", "", "file that records are appended to")
	c.Flags().StringVar(&tier, "kernels", "", "kernel set to tune (default: the best of this machine)")
	c.Flags().StringVar(&o.Spec, "spec", "", "only kernels whose name or Spec matches this pattern (path.Match)")
	c.Flags().IntVar(&o.Candidates, "candidates", 8, "plans of each kernel, the cheapest by the cost model")
	c.Flags().IntSliceVar(&o.Tokens, "tokens", []int{1, 16, 128, 512}, "sequence lengths to measure at")
	c.Flags().IntVar(&o.Rounds, "rounds", 9, "samples of each candidate at each length")
	c.Flags().IntVar(&o.Threads, "threads", 0, "goroutines that compute (default: GOMAXPROCS)")
	return c
}

// tuneTarget returns the kernel target of a tier of this architecture; the best that is supported
// for "".
func tuneTarget(tier string) (string, error) {
	var names []string
	for _, name := range pipeline.Targets() {
		t, _ := kernel.LookupTarget(name)
		if t.GOARCH != runtime.GOARCH {
			continue
		}
		_, n, _ := strings.Cut(name, "/")
		names = append(names, n)
		if tier == n || tier == "" && pipeline.Supported(t) {
			return name, nil
		}
	}
	return "", fmt.Errorf("--kernels %q: this machine has no such kernel set to tune (known: %s)", tier, strings.Join(names, ", "))
}

// bestPlans prints the best plan of every Spec in a records file.
func bestPlans(w io.Writer, file, target string) error {
	r := &autotune.Records{}
	if err := r.AddFile(file); err != nil {
		return err
	}
	for _, spec := range r.Specs(target) {
		plan, _, ok := r.Lookup(spec, target, hw.Fingerprint())
		if !ok {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s\n  %s\n", spec, plan); err != nil {
			return err
		}
	}
	return nil
}
