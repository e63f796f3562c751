package main

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/internal/jglue"
	"github.com/bertc/bertc/internal/job"
	"github.com/bertc/bertc/internal/pipeline"
)

// evalChunk is how many records are handed to the package at a time.
const evalChunk = 256

func evalCommand() *cobra.Command {
	var task, dir, data, kernels string
	var threads, maxLength int
	var asJSON bool
	c := &cobra.Command{
		Use:   "eval --task TASK --package DIR --data FILE",
		Short: "Measure a fine-tuned model on a task of JGLUE",
		Long: `Run the records of one of JGLUE's own files through a generated package and print
the figures of the benchmark, with 95 % confidence intervals (percentile bootstrap,
1,000 samples): accuracy for marc-ja, jnli and jcommonsenseqa, Pearson and Spearman
for jsts, exact match and character-level F1 with JGLUE's normalization for jsquad.

Input is cut, or for jsquad read in windows, at the lengths of JGLUE's experiments:
512, 128, 128, 384 and 64 tokens for marc-ja, jsts, jnli, jsquad, jcommonsenseqa.
A record that fails counts as wrong (for jsts it is left out); the exit status is
then 3.`,
		Example: `  bertc eval --task jnli --package ./jnli --data JGLUE/datasets/jnli-v1.3/valid-v1.3.json
  bertc eval --task marc-ja --package ./sentiment --data models/sentiment/dev.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, f := range [][2]string{{"task", task}, {"package", dir}, {"data", data}} {
				if f[1] == "" {
					return fmt.Errorf("--%s is missing", f[0])
				}
			}
			t, err := jglue.Lookup(task)
			if err != nil {
				return err
			}
			examples, err := t.Read(data)
			if err != nil {
				return err
			}
			d, err := pipeline.StartDriver(c.Context(), dir, pipeline.DriverOptions{Kernels: kernels, Threads: threads, MaxTokens: 1})
			if err != nil {
				return err
			}
			defer d.Close()
			if err := d.Check(t.Method); err != nil {
				return err
			}
			if maxLength == 0 {
				maxLength = min(t.MaxLength, d.Hello.MaxPositions)
			}
			options := map[string]any{"long": t.Long, "max_length": maxLength}
			if t.Stride > 0 && t.Stride < maxLength/2 {
				options["stride"] = t.Stride
			}
			bar := newJobBar(c.ErrOrStderr(), task, int64(len(examples)))
			defer bar.done()
			var predictions []jglue.Prediction
			failed := 0
			for at := 0; at < len(examples); at += evalChunk {
				var inputs []json.RawMessage
				for _, e := range examples[at:min(at+evalChunk, len(examples))] {
					inputs = append(inputs, e.Input)
				}
				results, _, err := d.Call(t.Method, inputs, options)
				if err != nil {
					return err
				}
				for _, r := range results {
					if r.Err != nil {
						failed++
					}
					predictions = append(predictions, jglue.Prediction(r))
				}
				bar.job(job.Summary{Records: len(predictions), Failed: failed, Bytes: int64(len(predictions))})
			}
			bar.done()
			figures, err := t.Score(examples, predictions)
			if err != nil {
				return err
			}
			show := showFigures
			if asJSON {
				show = showFiguresJSON
			}
			if err := show(c.OutOrStdout(), filepath.Base(dir), len(examples), figures); err != nil {
				return err
			}
			if failed > 0 {
				first := slices.IndexFunc(predictions, func(p jglue.Prediction) bool { return p.Err != nil })
				return failedRecords{failed, len(examples), fmt.Sprintf("the first is record %d: %s", first+1, predictions[first].Err)}
			}
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&task, "task", "", "one of "+jglue.Names())
	f.StringVar(&dir, "package", "", "directory of a generated package")
	f.StringVar(&data, "data", "", "a file of JGLUE")
	f.StringVar(&kernels, "kernels", "", "force a kernel set, for example portable")
	f.IntVar(&threads, "threads", 0, "goroutines that compute (default: GOMAXPROCS)")
	f.IntVar(&maxLength, "max-length", 0, "tokens of the longest input (default: JGLUE's)")
	f.BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// showFigures prints a row of the table in which models are compared, then the intervals.
func showFigures(w io.Writer, model string, records int, figures []jglue.Figure) error {
	names, values := []string{"Model"}, []string{model}
	line := []string{":---"}
	for _, f := range figures {
		names, values, line = append(names, f.Name), append(values, fmt.Sprintf("%.3f", f.Value)), append(line, "---:")
	}
	for _, row := range [][]string{names, line, values} {
		if _, err := fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | ")); err != nil {
			return err
		}
	}
	for _, f := range figures {
		if _, err := fmt.Fprintf(w, "\n%s: %.4f, 95 %% interval %.4f to %.4f, %d records", f.Name, f.Value, f.Low, f.High, records); err != nil {
			return err
		}
		if f.Failed > 0 {
			fmt.Fprintf(w, ", %d failed", f.Failed)
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

func showFiguresJSON(w io.Writer, model string, records int, figures []jglue.Figure) error {
	return json.NewEncoder(w).Encode(map[string]any{"model": model, "records": records, "figures": figures})
}
