package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/pipeline"
)

// evalKernels is the name of the interpreter where kernels are named.
const evalKernels = "eval"

func runCommand() *cobra.Command {
	var r taskRun
	var outputs []string
	c := &cobra.Command{
		Use:   "run [TASK] --model DIR|--package DIR [--in FILE] [--out FILE]",
		Short: "Run a task, or token ids, from a file through a model",
		Long: `With TASK (fill-mask, classify, tag, answer, choose, embed): read records and write
one line of JSON for each, in order: {"record":1,"id":…,"result":{…}}, or
{"record":1,"id":…,"error":"…"}. Records are JSON lines, CSV with a header, or
lines of text:

  fill-mask, tag, embed   text, or {"text":…}
  classify                text, or {"text":…}, or {"text":…,"pair":…}
  answer                  {"question":…,"context":…}
  choose                  {"prompt":…,"choices":[…]}

A job with --in and --out that was interrupted goes on where it stopped, by the
same command: nothing is lost or computed twice. --out FILE.npy and
FILE.safetensors take embeddings as a matrix, a record that failed as NaN. The
exit status is 0 when every record has a result, 3 when some failed, 2 for any
other error. See docs/tasks.md.

Without TASK: read input_ids [B, S] (i32 or i64) and, when it is there,
attention_mask [B, S] from a safetensors file, and write last_hidden_state
[B, S, hidden_size] and, when asked for, logits [B, S, logits of the head] as f32.
Positions are indexes in the row, as in Hugging Face models, also after masked-out
tokens; rows of those are zero.`,
		Example: `  bertc run classify --package ./sentiment --in reviews.csv --field text=review --out labels.jsonl
  bertc run embed --package ./retrieva --in texts.txt --out vectors.npy --normalize
  bertc run --package ./retrieva --in ids.safetensors --out hidden.safetensors
  bertc run embed --package ./retrieva --in texts.txt --out vectors.npy --device cuda
  bertc run --model ./retrieva-bert --dtype f32 --kernels portable --outputs last_hidden_state,logits --in x.safetensors --out y.safetensors`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := r.check(); err != nil {
				return err
			}
			if err := checkOut("--out", r.out, r.in); err != nil {
				return err
			}
			if len(args) == 1 {
				if c.Flags().Changed("outputs") {
					return fmt.Errorf("--outputs is for token ids: run it without a task")
				}
				return r.run(c, args[0])
			}
			if _, err := taskOptions(c.Flags(), ""); err != nil {
				return err
			}
			return r.ids(c, outputs)
		},
	}
	r.flags(c)
	r.deviceFlag(c)
	f := c.Flags()
	f.StringVar(&r.in, "in", "", "file to read: records (default: standard input), or safetensors with input_ids and perhaps attention_mask")
	f.StringVar(&r.out, "out", "", "file to write (with a task, the default is standard output)")
	f.StringSliceVar(&outputs, "outputs", []string{pipeline.OutHidden}, "without a task, tensors to write: last_hidden_state, logits")
	f.StringVar(&r.format, "format", "", "format of the records: jsonl, csv, txt (default: by the name of the file)")
	f.StringToStringVar(&r.columns, "field", nil, "FIELD=NAME: the name that a field has in the records")
	f.StringVar(&r.kernels, "kernels", "", "force a kernel set, for example portable; without a task, eval is the float64 interpreter (with --model)")
	f.IntVar(&r.threads, "threads", 0, "goroutines that compute (default: GOMAXPROCS)")
	addTaskFlags(f)
	return c
}

// ids runs token ids.
func (r *taskRun) ids(c *cobra.Command, outputs []string) error {
	if r.in == "" || r.out == "" {
		return fmt.Errorf("--in and --out are needed without a task: two safetensors files")
	}
	b, err := pipeline.ReadBatch(r.in)
	if err != nil {
		return err
	}
	if r.kernels == evalKernels {
		return r.eval(c, b, outputs, r.out)
	}
	d, clean, err := r.start(c.Context(), c, pipeline.DriverOptions{Kernels: r.kernels, Threads: r.threads, MaxTokens: bert.MaxTokens})
	if err != nil {
		return err
	}
	defer clean()
	defer d.Close()
	if err := b.Check(d.Hello.VocabSize, d.Hello.MaxPositions); err != nil {
		return err
	}
	return pipeline.Run(d.Encoder(bert.MaxTokens), b, outputs, r.out)
}

// eval runs the interpreter.
func (o *packageOptions) eval(c *cobra.Command, b pipeline.Batch, outputs []string, out string) error {
	if o.model == "" {
		return fmt.Errorf("--kernels eval needs --model: the interpreter reads the checkpoint")
	}
	m, math, err := o.open(c)
	if err != nil {
		return err
	}
	defer m.Close()
	var logits []float32
	return pipeline.Run(pipeline.Encoder{
		HiddenSize: m.Config.HiddenSize, VocabSize: m.Config.EmbeddingRows, LogitsSize: m.Config.Outputs(), MaxTokens: bert.MaxTokens,
		Encode: func(b pipeline.Batch) (hidden []float32, err error) {
			hidden, logits, err = m.Eval(b, math, len(outputs) > 1 || outputs[0] == pipeline.OutLogits)
			return hidden, err
		},
		Logits: func(_ pipeline.Batch, f func([]float32) error) error { return f(logits) },
	}, b, outputs, out)
}
