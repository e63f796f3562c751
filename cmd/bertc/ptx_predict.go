package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/codegen/ptx"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/bench"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

func ptxPredictCommand() *cobra.Command {
	var config, shapes string
	c := &cobra.Command{
		Use:   "predict --config FILE [--shapes LIST]",
		Short: "Predict what an H100 takes for a model, by the cost model that chooses its tiles",
		Long: `Print for every shape the time of the hidden states on one H100 as the cost model
predicts it, what the roofline allows (989 TFLOP/s of bf16, 3.35 TB/s), and what each
kernel has in it. Of the roofline a step of few tokens can have more than 100 %: its
weights come while the step before runs. Nothing is run and nothing is measured.`,
		Example: `  bertc ptx predict --config ./retrieva-bert/config.json --shapes 1x32,32x512`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if config == "" {
				return fmt.Errorf("--config is needed: a config.json")
			}
			list, err := bench.ParseShapes(shapes)
			if err != nil {
				return fmt.Errorf("--shapes: %w", err)
			}
			_, cfg, err := readConfig(config)
			if err != nil {
				return err
			}
			for _, s := range list {
				if n := slices.Max(s.Lengths); n > cfg.MaxPositionEmbeddings {
					return fmt.Errorf("--shapes: shape %s has a sequence of %d tokens, %s has max_position_embeddings %d", s.Text, n, config, cfg.MaxPositionEmbeddings)
				}
			}
			g, err := bert.Build(cfg, cfg.Task)
			if err != nil {
				return err
			}
			p, err := passes.Run(g, passes.Options{Math: ir.BF16, Targets: []string{ptx.TargetName}, MaxPositions: cfg.MaxPositionEmbeddings})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', tabwriter.AlignRight)
			for i, s := range list {
				if i > 0 {
					fmt.Fprintln(w)
				}
				predict(w, p, s)
			}
			return w.Flush()
		},
	}
	c.Flags().StringVar(&config, "config", "", "a config.json")
	c.Flags().StringVar(&shapes, "shapes", "1x32,1x512,8x128,32x512", "batches: BATCHxLENGTH or LENGTH+LENGTH+…, separated by commas")
	return c
}

// predict writes the table of one shape: a line for each kernel of the encoder, then the sum.
func predict(w io.Writer, p *program.Program, s bench.Shape) {
	fmt.Fprintf(w, "%s\tsteps\ttile\tµs a step\tms\tTFLOP/s\tof the roofline\t\n", s.Text)
	byKernel := map[string][]kernel.DeviceStep{}
	var step kernel.DeviceStep
	for _, at := range p.Steps[:p.HeadStart()] {
		k := p.Kernel(at.Kernel)
		if plan, ok := k.Plan(ptx.TargetName); ok {
			step = kernel.PredictDevice(k.Spec, plan, s.Lengths, step)
			byKernel[k.Name] = append(byKernel[k.Name], step)
		}
	}
	var flops, seconds, floor float64
	for _, k := range p.Kernels {
		steps := byKernel[k.Name]
		if len(steps) == 0 {
			continue
		}
		own, least := 0.0, 0.0
		for _, d := range steps {
			own, least = own+d.Seconds, least+d.Floor
		}
		d := steps[0]
		tile := fmt.Sprint(d.Plan.BlockM)
		switch k.Spec.Kind {
		case kernel.Gemm:
			tile = fmt.Sprintf("%dx%d", d.Plan.MicroM, d.Plan.MicroN)
		case kernel.Attention:
			tile = fmt.Sprintf("%dx%d", d.Plan.BlockM, d.Plan.BlockN)
		}
		bound := "products"
		if d.Memory {
			bound = "memory"
		}
		work := bench.Of(p, k.Name, s.Lengths).Flops
		fmt.Fprintf(w, "%s\t%d\t%s\t%.1f\t%.3f\t%.0f\t%.0f %% of %s\t\n", k.Name, len(steps), tile, own/float64(len(steps))*1e6, own*1e3,
			work/own/1e12, 100*least/own, bound)
		flops, seconds, floor = flops+work, seconds+own, floor+least
	}
	fmt.Fprintf(w, "all\t\t\t\t%.3f\t%.0f\t%.0f %%\t\n", seconds*1e3, flops/seconds/1e12, 100*floor/seconds)
}
