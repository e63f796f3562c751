package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/internal/calibrate"
	"github.com/bertc/bertc/internal/job"
	"github.com/bertc/bertc/internal/verify"
	"github.com/bertc/bertc/ir"
)

func calibrateCommand() *cobra.Command {
	var mo modelOptions
	var text, out string
	var most float64
	c := &cobra.Command{
		Use:   "calibrate --model DIR --text FILE",
		Short: "Choose how the matmuls of a model are quantised",
		Long: `Run the lines of a text file, as the model will be given them, through the model in
f32, and measure what 8 bits do to each matmul. Activations of a channel that is far
larger than others are smoothed where that helps, and the matmuls whose error is
worth most for their bytes stay bf16, until the error of the last hidden states,
‖a−b‖/‖b‖ against f32, is at most --error. The choice is compiled and run to see.
Statistics are made of every other line, and errors measured on those between.

The result is a text with a line for each matmul, to read and to change, for
bertc compile --dtype int8 --calibration FILE. A hundred lines are enough; lines are
cut at 512 tokens, and masked as by bertc verify. An f32 package is made in the
temporary directory, 4 bytes a parameter. The exit status is 2 when no choice has so
small an error; then nothing is written.`,
		Example: `  bertc calibrate --model ./retrieva-bert --text lines.txt --out calibration.txt
  bertc compile --model ./retrieva-bert --dtype int8 --calibration calibration.txt --out ./retrieva`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if text == "" {
				return fmt.Errorf("--text is missing: name a file with a text on each line")
			}
			if !(most > 0) || math.IsInf(most, 1) {
				return fmt.Errorf("--error %g: must be a finite number above 0", most)
			}
			if err := checkOut("--out", out, text); err != nil {
				return err
			}
			m, _, err := mo.open(c)
			if err != nil {
				return err
			}
			defer m.Close()
			texts, err := verify.ReadTexts(m, text, maskEvery)
			if err != nil {
				return err
			}
			bars := &stages{w: c.ErrOrStderr()}
			defer bars.done()
			config, r, err := calibrate.Run(c.Context(), calibrate.Options{
				Model: m, Texts: texts, MaxError: most, Progress: bars.set,
				Compile: func(ctx context.Context, dtype ir.DType, dir string) error {
					bars.done()
					return compileInto(ctx, m, dtype, dir, c.ErrOrStderr())
				},
			})
			bars.done()
			if err != nil {
				return err
			}
			if out == "" {
				_, err = io.WriteString(c.OutOrStdout(), config.String())
				return err
			}
			err = writeFile(out, func(w *bufio.Writer) error {
				_, err := w.WriteString(config.String())
				return err
			})
			if err != nil {
				return err
			}
			if err := r.WriteText(c.OutOrStdout()); err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "\n")
			for _, n := range config.Notes {
				fmt.Fprintf(c.OutOrStdout(), "%s\n", n)
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s\n", out)
			return err
		},
	}
	f := c.Flags()
	f.StringVar(&mo.model, "model", "", "model directory: config.json, *.safetensors, tokenizer.json")
	f.StringVar(&mo.task, "task", "", "head (default: what config.json names)")
	f.StringVar(&text, "text", "", "file with a text on each line")
	f.StringVar(&out, "out", "", "file to write (default: print it)")
	f.Float64Var(&most, "error", 0.03, "largest error of the last hidden states")
	return c
}

// stages is a bar for each stage of work on texts.
type stages struct {
	w    io.Writer
	name string
	bar  *jobBar
}

func (s *stages) set(name string, done, of int) {
	if s.bar == nil || s.name != name {
		s.done()
		s.name, s.bar = name, newJobBar(s.w, name, int64(of))
	}
	s.bar.job(job.Summary{Records: done, Bytes: int64(done)})
}

func (s *stages) done() {
	if s.bar != nil {
		s.bar.done()
		s.bar = nil
	}
}
