package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/bench"
	"github.com/bertc/bertc/internal/pipeline"
)

func benchCommand() *cobra.Command {
	return group(&cobra.Command{
		Use:   "bench machine|model|kernels",
		Short: "Measure the machine, a package, or its kernels",
		Long: `Measure the ceilings of the machine, a generated package at batch shapes, or its
kernels inside such calls. Output is in the Go benchmark format, one line a
sample, which benchstat reads; --json gives medians. Shares of the ceiling refer
to ceilings measured in the same run, just before; a GPU has none. bertc ptx check
times the kernels of a GPU.`,
	}, benchMachineCommand(), benchModelCommand("model"), benchModelCommand("kernels"))
}

func benchMachineCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "machine",
		Short: "Measure the ceilings: multiply-accumulate rates and read bandwidths",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, err := bench.MeasureMachine(c.Context(), bench.Threads(0))
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(c.OutOrStdout())
				e.SetIndent("", "  ")
				return e.Encode(m)
			}
			fmt.Fprintf(c.OutOrStdout(), "goos: %s\ngoarch: %s\ncpu: %s\n", runtime.GOOS, runtime.GOARCH, m.CPU)
			for _, x := range m.Ceilings {
				fmt.Fprintf(c.OutOrStdout(), "BenchmarkCeiling/%s-%d\t%d\t%.1f %s\n", x.Name, x.Threads, x.Runs, x.Value, x.Unit)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// benchModelCommand is "bench model" or "bench kernels".
func benchModelCommand(what string) *cobra.Command {
	var o packageOptions
	var bo bench.Options
	var shapes, kernels, spec string
	var asJSON, noCeiling bool
	c := &cobra.Command{
		Use:     what + " --model DIR|--package DIR",
		Short:   map[string]string{"model": "Measure whole calls", "kernels": "Measure the kernels inside whole calls"}[what],
		Example: "  bertc bench " + what + " --package ./retrieva --shapes 1x8,8x128,16+32+48+64",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if err := bo.Check(); err != nil {
				return err
			}
			if shapes == "-" {
				return o.answerShapes(c, kernels, bo.Threads)
			}
			list, err := bench.ParseShapes(shapes)
			if err != nil {
				return fmt.Errorf("--shapes: %w", err)
			}
			most := 0
			for _, s := range list {
				most = max(most, s.Tokens())
			}
			if most > bert.MaxTokens {
				return fmt.Errorf("--shapes: a shape has %d tokens, a batch has at most %d", most, bert.MaxTokens)
			}
			d, clean, err := o.start(c.Context(), c, pipeline.DriverOptions{Kernels: kernels, Threads: bo.Threads, MaxTokens: most, Times: what == "kernels"})
			if err != nil {
				return err
			}
			defer clean()
			defer d.Close()
			p, err := d.Program()
			if err != nil {
				return err
			}
			var m bench.Machine
			if !noCeiling && d.Hello.Device == pipeline.DeviceCPU {
				if m, err = bench.MeasureMachine(c.Context(), bench.Threads(bo.Threads)); err != nil {
					return err
				}
			}
			bar := newBar(c.ErrOrStderr(), what)
			bo.Progress = func(done, total int) { bar.set(int64(done), int64(total)) }
			var results []bench.Result
			name := "Model"
			if what == "kernels" {
				name = "Kernel"
				results, err = bench.Kernels(c.Context(), d, p, m, spec, list, bo)
			} else {
				results, err = bench.Model(c.Context(), d, p, m, list, bo)
			}
			bar.done()
			if err != nil {
				return err
			}
			noteShares(c.ErrOrStderr(), results)
			if err := noteHugePages(c.ErrOrStderr(), d); err != nil {
				return err
			}
			if asJSON {
				return bench.WriteJSON(c.OutOrStdout(), results)
			}
			return bench.WriteBench(c.OutOrStdout(), name, d.Hello.Kernels, results)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&shapes, "shapes", "1x8,1x32,1x128,1x512,8x128", "batches: BATCHxLENGTH, or LENGTH+LENGTH+… for one ragged batch; separated by commas. - reads shapes from standard input, one a line, and answers each with the milliseconds of one call")
	c.Flags().StringVar(&kernels, "kernels", "", "force a kernel set")
	c.Flags().IntVar(&bo.Threads, "threads", 0, "goroutines that compute (default: GOMAXPROCS)")
	c.Flags().IntVar(&bo.Rounds, "rounds", 7, "samples of each shape")
	c.Flags().DurationVar(&bo.Budget, "budget", 30*time.Second, "time for each shape, after which its sampling ends early")
	c.Flags().BoolVar(&asJSON, "json", false, "print medians as JSON")
	c.Flags().BoolVar(&noCeiling, "no-ceiling", false, "do not measure the machine: leave out the shares of the ceiling")
	switch what {
	case "model":
		o.deviceFlag(c)
	case "kernels":
		c.Flags().StringVar(&spec, "spec", "", "only kernels whose name or Spec matches this pattern (path.Match)")
	}
	return c
}

// noteShares says what shares above 100 % mean.
func noteShares(w io.Writer, results []bench.Result) {
	if slices.ContainsFunc(results, func(r bench.Result) bool { return r.ShareOfCeiling > 1 }) {
		fmt.Fprintln(w, "bertc: note: a share above 100 % means that the machine was busy while its ceilings were measured, or that the weights came from a cache, not from memory")
	}
}

// noteHugePages says how much of the weight file is mapped by huge pages, where the system tells.
func noteHugePages(w io.Writer, d *pipeline.Driver) error {
	return d.Do(pipeline.Request{Info: true}, func(r pipeline.Response) error {
		if r.HugeKnown {
			fmt.Fprintf(w, "bertc: note: huge pages map %s of the weight file of %s\n", bytesText(int64(r.HugeBytes)), bytesText(int64(r.WeightBytes)))
		}
		return nil
	})
}

// answerShapes measures one call for every line of standard input, so that another program can
// take turns with it: the line is a shape, the answer the milliseconds of one call.
func (o *packageOptions) answerShapes(c *cobra.Command, kernels string, threads int) error {
	d, clean, err := o.start(c.Context(), c, pipeline.DriverOptions{Kernels: kernels, Threads: threads, MaxTokens: bert.MaxTokens})
	if err != nil {
		return err
	}
	defer clean()
	defer d.Close()
	return eachLine(c.Context(), c.InOrStdin(), func(line string) error {
		list, err := bench.ParseShapes(line)
		if err != nil {
			return err
		}
		if len(list) > 1 {
			return fmt.Errorf("standard input: %q has %d shapes, want one a line", line, len(list))
		}
		return d.Do(list[0].Request(d.Hello.VocabSize), func(r pipeline.Response) error {
			_, err := fmt.Fprintf(c.OutOrStdout(), "%.4f\n", float64(r.Took)/1e6)
			return err
		})
	})
}
