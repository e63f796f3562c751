package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/bench"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

func explainCommand() *cobra.Command {
	var o packageOptions
	bo := bench.Options{Rounds: 5, Budget: 20 * time.Second}
	var tokens int
	var kernels, svg string
	var steps, noCeiling bool
	c := &cobra.Command{
		Use:   "explain --model DIR|--package DIR",
		Short: "Show what each kernel does, how, why, and how near the machine's limit",
		Long: `Print for every kernel of a package: what it computes, the plan and where the plan
is from, the operations and weight bytes of a step, and what one call of a sequence
of --tokens tokens takes in it, against the time that this machine's measured
ceilings allow. --svg draws the kernels on a roofline.`,
		Example: `  bertc explain --package ./retrieva --tokens 128 --svg roofline.svg`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if tokens < 1 || tokens > bert.MaxTokens {
				return fmt.Errorf("--tokens %d: must be in 1..%d", tokens, bert.MaxTokens)
			}
			if err := bo.Check(); err != nil {
				return err
			}
			if svg != "" && noCeiling {
				return fmt.Errorf("--svg %q: the plot needs the ceilings, which --no-ceiling leaves out", svg)
			}
			if err := checkOut("--svg", svg, ""); err != nil {
				return err
			}
			threads := bench.Threads(bo.Threads)
			var m bench.Machine
			var err error
			if !noCeiling {
				if m, err = bench.MeasureMachine(c.Context(), threads); err != nil {
					return err
				}
			}
			d, clean, err := o.start(c.Context(), c, pipeline.DriverOptions{Kernels: kernels, Threads: bo.Threads, MaxTokens: tokens, Times: true})
			if err != nil {
				return err
			}
			defer clean()
			defer d.Close()
			p, err := d.Program()
			if err != nil {
				return err
			}
			target := bench.TargetOf(d.Hello.Kernels)
			rate, bandwidth := m.Limits(bench.Inst(p, target), threads)
			if svg != "" && (rate == 0 || bandwidth == 0) {
				return fmt.Errorf("--svg %q: the plot needs the ceilings, and none is measured for the %s kernels", svg, d.Hello.Kernels)
			}
			shape := bench.Shape{Text: fmt.Sprintf("1x%d", tokens), Lengths: []int{tokens}}
			results, err := bench.Kernels(c.Context(), d, p, m, "", []bench.Shape{shape}, bo)
			if err != nil {
				return err
			}
			noteShares(c.ErrOrStderr(), results)
			e := explanation{p, target, tokens, results}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			e.kernels(w)
			if steps {
				e.steps(w)
			}
			if err := w.Flush(); err != nil || svg == "" {
				return err
			}
			return writeFile(svg, func(w *bufio.Writer) error {
				return bench.WriteRoofline(w, fmt.Sprintf("%s, %d tokens, %s", d.Hello.Kernels, tokens, m.CPU), bandwidth, rate, bench.Points(results))
			})
		},
	}
	o.flags(c)
	c.Flags().IntVar(&tokens, "tokens", 128, "length of the sequence that is measured")
	c.Flags().StringVar(&kernels, "kernels", "", "force a kernel set, for example portable")
	c.Flags().IntVar(&bo.Threads, "threads", 0, "goroutines that compute (default: GOMAXPROCS)")
	c.Flags().StringVar(&svg, "svg", "", "write a roofline plot to this file")
	c.Flags().BoolVar(&noCeiling, "no-ceiling", false, "do not measure the machine: leave out the shares of the ceiling")
	c.Flags().BoolVar(&steps, "steps", false, "list every step")
	return c
}

type explanation struct {
	p       *program.Program
	target  string
	tokens  int
	results []bench.Result
}

// measured returns the result of a kernel, or nil.
func (e explanation) measured(name string) *bench.Result {
	for i := range e.results {
		if k, _, _ := strings.Cut(e.results[i].Shape, "/"); k == name {
			return &e.results[i]
		}
	}
	return nil
}

func (e explanation) kernels(w io.Writer) {
	fmt.Fprintf(w, "kernel\tsteps\tMFLOP a step\tweight KiB a step\tms a call\tGFLOP/s\tof the ceiling\n")
	for _, k := range e.p.Kernels {
		n := 0
		for _, s := range e.p.Steps {
			if s.Kernel == k.Name {
				n++
			}
		}
		bytes := 0
		if k.Spec.Kind == kernel.Gemm {
			bytes = k.Spec.Panels() * k.Spec.PanelBytes()
		}
		fmt.Fprintf(w, "%s\t%d\t%.2f\t%d\t", k.Name, n, float64(k.Spec.Flops(e.tokens))/1e6, bytes/1024)
		if r := e.measured(k.Name); r != nil {
			share := "–"
			if r.ShareOfCeiling > 0 {
				share = fmt.Sprintf("%.0f %%", 100*r.ShareOfCeiling)
			}
			fmt.Fprintf(w, "%.3f\t%.1f\t%s\n", r.MedianMS, r.GFLOPS, share)
		} else {
			fmt.Fprintf(w, "–\t–\tnot part of the encoder\n")
		}
	}
	fmt.Fprintln(w)
	for _, k := range e.p.Kernels {
		fmt.Fprintf(w, "%s: %s\n", k.Name, k.Spec)
		for i, plan := range k.Plans {
			if plan.Target != e.target {
				continue
			}
			from := k.PlanFrom(i)
			if from == "" {
				from = fmt.Sprintf("the cheapest of %d legal plans by the cost model, cost %.3f", count(k.Spec, plan.Target), kernel.Cost(k.Spec, plan))
			}
			fmt.Fprintf(w, "  %s\n  %s\n", plan, from)
		}
	}
}

// count returns the number of legal plans.
func count(s kernel.Spec, target string) int {
	n := 0
	for range kernel.Space(s, target) {
		n++
	}
	return n
}

func (e explanation) steps(w io.Writer) {
	fmt.Fprintf(w, "\nstep\tkernel\toperands\n")
	for _, s := range e.p.Steps {
		var args []string
		for _, a := range s.Args {
			args = append(args, fmt.Sprintf("%s=%s", a.Operand, a.Name))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\n", s.Name, s.Kernel, strings.Join(args, " "))
	}
}
