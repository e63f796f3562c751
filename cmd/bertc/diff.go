package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/internal/diff"
	"github.com/bertc/bertc/internal/pipeline"
)

func diffCommand() *cobra.Command {
	var o modelOptions
	var do diff.Options
	var in string
	var verbose bool
	c := &cobra.Command{
		Use:   "diff --model DIR --in X.safetensors --a eval --b KERNELS",
		Short: "Find the first step where two executions part",
		Long: `Run the same tokens twice and compare every step. With --a eval each step of B is
computed again in float64 from what B gave it, so that an error is found where it
arises; with a kernel set for A the two runs are compared as they are. Each step
has a budget that follows from its dtype and its sums.

The exit status is 2 when a step exceeds its budget. --extract writes that step,
or the worst one, as a test case: inputs, weights, plan and expected result, for
bertc diff replay.`,
		Example: `  bertc diff --model ./retrieva-bert --in ids.safetensors --a eval --b avx512f
  bertc diff --model ./retrieva-bert --in ids.safetensors --a portable --b avx512f -v
  bertc diff --model ./retrieva-bert --in ids.safetensors --dtype bf16 --b emulator`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if in == "" {
				return fmt.Errorf("--in is missing: name a safetensors file with input_ids")
			}
			if err := checkOut("--extract", do.Extract, in); err != nil {
				return err
			}
			m, math, err := o.open(c)
			if err != nil {
				return err
			}
			defer m.Close()
			if do.In, err = pipeline.ReadBatch(in); err != nil {
				return err
			}
			if do.Package == "" || o.dtype != "" { // else the package's own
				do.Math = math
			}
			do.Model = m
			report, err := diff.Run(c.Context(), do)
			if err != nil {
				return err
			}
			if err := report.WriteText(c.OutOrStdout(), verbose); err != nil {
				return err
			}
			if !report.OK() {
				return errors.New("step " + report.First().Name + " exceeds its budget")
			}
			return nil
		},
	}
	o.flags(c)
	c.Flags().StringVar(&in, "in", "", "safetensors file with input_ids and perhaps attention_mask")
	c.Flags().StringVar(&do.A, "a", diff.Eval, "reference: eval, or a kernel set")
	c.Flags().StringVar(&do.B, "b", "", "kernel set to check, or a device: cuda, emulator (default: the best kernel set of this machine)")
	c.Flags().StringVar(&do.Package, "package", "", "run this generated package instead of compiling the model")
	c.Flags().StringVar(&do.Extract, "extract", "", "write the first failing or else the worst step to this safetensors file")
	c.Flags().BoolVarP(&verbose, "verbose", "v", false, "print every step")
	c.AddCommand(diffReplayCommand())
	return c
}

func diffReplayCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "replay FILE",
		Short: "Evaluate a step that --extract wrote, without its model",
		Long: `Evaluate a step that bertc diff --extract wrote: in float64 and by the interpreter of
kernels, which does the roundings of the plan. Say how far from float64 these and the
recorded result of the kernel are. The exit status is 2 when one exceeds its budget.`,
		Example: `  bertc diff replay step.safetensors`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			r, err := diff.Replay(args[0])
			if err != nil {
				return err
			}
			if err := r.WriteText(c.OutOrStdout()); err != nil {
				return err
			}
			if !r.Expected.OK || !r.Recorded.OK || !r.Interpreted.OK {
				return fmt.Errorf("%s: step %s exceeds its budget", args[0], r.Name)
			}
			return nil
		},
	}
}
