package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/autotune"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/hw"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/passes"
)

// modelOptions are the flags of every command that compiles.
type modelOptions struct {
	model, dtype, task, calibration string
	targets                         []string
}

func (o *modelOptions) flags(c *cobra.Command) {
	c.Flags().StringVar(&o.model, "model", "", "model directory: config.json, *.safetensors, tokenizer.json")
	c.Flags().StringVar(&o.dtype, "dtype", "", "numerics: int8, bf16 or f32 (default: bf16 for 16-bit checkpoints, f32 for f32)")
	c.Flags().StringVar(&o.task, "task", "", "head to compile: "+bert.TaskNames()+" (default: what config.json names)")
	c.Flags().StringVar(&o.calibration, "calibration", "", "file of bertc calibrate, with --dtype int8: which matmuls stay bf16, and smoothing")
}

// math returns the dtype that the flag names, 0 for the default.
func (o *modelOptions) math() (ir.DType, error) {
	switch o.dtype {
	case "":
		return 0, nil
	case "bf16":
		return ir.BF16, nil
	case "f32":
		return ir.F32, nil
	case "int8":
		return ir.I8, nil
	}
	return 0, fmt.Errorf("--dtype %q: not supported (supported: int8, bf16, f32)", o.dtype)
}

// open opens the model and returns the numerics policy: what --dtype says, or the model's default.
func (o *modelOptions) open(c *cobra.Command) (*pipeline.Model, ir.DType, error) {
	if o.model == "" {
		return nil, 0, fmt.Errorf("--model is missing: name the directory of a checkpoint")
	}
	math, err := o.math()
	if err != nil {
		return nil, 0, err
	}
	m, err := pipeline.OpenTask(o.model, bert.Task(o.task))
	if err != nil {
		return nil, 0, err
	}
	for _, w := range m.Checkpoint.Warnings() {
		fmt.Fprintf(c.ErrOrStderr(), "bertc: warning: %s\n", w)
	}
	if math == 0 {
		math = m.DType()
	}
	if o.calibration != "" {
		if math != ir.I8 {
			m.Close()
			return nil, 0, fmt.Errorf("--calibration %s: it is for --dtype int8, the model is compiled with %s", o.calibration, math)
		}
		if err := m.ReadCalibration(o.calibration); err != nil {
			m.Close()
			return nil, 0, err
		}
	}
	return m, math, nil
}

func compileCommand() *cobra.Command {
	var o modelOptions
	var out, name, tuning string
	var verbose bool
	c := &cobra.Command{
		Use:   "compile --model DIR --out DIR",
		Short: "Write the Go package of a checkpoint",
		Long: `Compile a checkpoint into a Go package and its weight file, model.weights.

The package is written beside --out and renamed when it is complete: a failed or
interrupted compile leaves nothing, and an older package stays until then. Its
import path follows from the go.mod around --out; without one, the package gets
a go.mod of its own.`,
		Example: `  bertc compile --model ./retrieva-bert --out ./retrieva
  //go:generate bertc compile --model ./retrieva-bert --out ./retrieva`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return fmt.Errorf("--out is missing: name the directory of the package")
			}
			m, math, err := o.open(c)
			if err != nil {
				return err
			}
			defer m.Close()
			po := pipeline.Options{Out: out, Package: name, Architectures: o.targets, Math: math}
			if po.Plans, err = tuned(tuning); err != nil {
				return err
			}
			if verbose {
				po.Observe = func(p passes.Pass, _ *passes.State, took time.Duration) {
					fmt.Fprintf(c.OutOrStdout(), "%-18s %s\n", p.Name, took.Round(time.Microsecond))
				}
			}
			bar := newBar(c.ErrOrStderr(), "weights")
			po.Progress = bar.set
			start := time.Now()
			r, err := pipeline.Compile(c.Context(), m, po)
			bar.done()
			if err != nil {
				return err
			}
			if verbose {
				for _, k := range r.Program.Kernels {
					fmt.Fprintf(c.OutOrStdout(), "%s: %s\n", k.Name, k.Spec)
					for i, p := range k.Plans {
						from := k.PlanFrom(i)
						if from == "" {
							from = "by the cost model"
						}
						fmt.Fprintf(c.OutOrStdout(), "  %s (%s)\n", p, from)
					}
				}
			}
			if err := report(c, r, time.Since(start)); err != nil || tuning == "" {
				return err
			}
			return reportTuning(c, tuning, r)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&out, "out", "", "directory of the package")
	c.Flags().StringVar(&name, "package", "", "package name (default: made from --out)")
	c.Flags().StringSliceVar(&o.targets, "targets", nil, "what to emit kernels for: "+strings.Join(pipeline.Architectures(), ", ")+" (default: all but ptx, the GPU; the portable kernels are always there)")
	c.Flags().StringVar(&tuning, "tuning", "", "records of bertc tune to look plans up in, before those that ship with bertc")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "print passes, kernels and plans")
	return c
}

// tuned returns a look-up of plans in the records of a file and in those that ship with bertc, for
// the machine that compiles.
func tuned(file string) (func(kernel.Spec, string) (kernel.Plan, string, bool), error) {
	r, err := autotune.Builtin()
	if err != nil {
		return nil, err
	}
	if file != "" {
		if err := r.AddFile(file); err != nil {
			return nil, err
		}
	}
	return func(s kernel.Spec, target string) (kernel.Plan, string, bool) {
		return r.Lookup(s, target, fingerprint(target))
	}, nil
}

// fingerprint is what records of a target are looked up by on this machine.
func fingerprint(target string) string {
	if target == pipeline.GPUTarget {
		return gpuFingerprint()
	}
	return hw.Fingerprint()
}

// gpuFingerprint is that of the GPU, which takes a driver a while to open.
var gpuFingerprint = sync.OnceValue(func() string { return autotune.Fingerprint(pipeline.OpenGPU) })

// reportTuning says how many kernels a records file had plans for: none is a sign that it is of
// another model or machine.
func reportTuning(c *cobra.Command, file string, r pipeline.Result) error {
	records := &autotune.Records{}
	if err := records.AddFile(file); err != nil {
		return err
	}
	found, all := records.Found(r.Program, fingerprint)
	_, err := fmt.Fprintf(c.OutOrStdout(), "  %s has plans for %d of %d kernels on this machine\n", file, found, all)
	return err
}

func report(c *cobra.Command, r pipeline.Result, took time.Duration) error {
	_, err := fmt.Fprintf(c.OutOrStdout(), "package %s: %s\n  import %q\n  %d steps, %d kernels, weights %s, written in %s\n",
		r.Package, r.Dir, r.ImportPath, len(r.Program.Steps), len(r.Program.Kernels),
		bytesText(r.Manifest.FileBytes), took.Round(time.Millisecond))
	if err == nil && r.OwnModule {
		_, err = fmt.Fprintf(c.OutOrStdout(), "  no go.mod encloses it: wrote %s\n", filepath.Base(r.Module))
	}
	return err
}

// bytesText writes a size in binary units.
func bytesText(n int64) string {
	const units = "KMGT"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	x, i := float64(n)/1024, 0
	for x >= 1024 && i < len(units)-1 {
		x /= 1024
		i++
	}
	return fmt.Sprintf("%.1f %ciB", x, units[i])
}
