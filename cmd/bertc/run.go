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
	var o packageOptions
	var in, out, kernels string
	var outputs []string
	var threads int
	c := &cobra.Command{
		Use:   "run --model DIR|--package DIR --in X.safetensors --out Y.safetensors",
		Short: "Run token ids from a file through a model",
		Long: `Read input_ids [B, S] (i32 or i64) and, when it is there, attention_mask [B, S]
from a safetensors file, and write last_hidden_state [B, S, hidden_size] and, when
asked for, logits [B, S, vocabulary] as f32. Positions are indexes in the row, as in
Hugging Face models, also after masked-out tokens; rows of those are zero.`,
		Example: `  bertc run --package ./retrieva --in ids.safetensors --out hidden.safetensors
  bertc run --model ./retrieva-bert --dtype f32 --kernels portable --outputs last_hidden_state,logits --in x.safetensors --out y.safetensors`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if in == "" || out == "" {
				return fmt.Errorf("--in and --out are needed: two safetensors files")
			}
			b, err := pipeline.ReadBatch(in)
			if err != nil {
				return err
			}
			if kernels == evalKernels {
				return o.eval(c, b, outputs, out)
			}
			d, clean, err := o.start(c.Context(), c, pipeline.DriverOptions{Kernels: kernels, Threads: threads, MaxTokens: bert.MaxTokens})
			if err != nil {
				return err
			}
			defer clean()
			defer d.Close()
			if err := b.Check(d.Hello.VocabSize, d.Hello.MaxPositions); err != nil {
				return err
			}
			return pipeline.Run(d.Encoder(bert.MaxTokens), b, outputs, out)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&in, "in", "", "safetensors file with input_ids and perhaps attention_mask")
	c.Flags().StringVar(&out, "out", "", "safetensors file to write")
	c.Flags().StringSliceVar(&outputs, "outputs", []string{pipeline.OutHidden}, "tensors to write: last_hidden_state, logits")
	c.Flags().StringVar(&kernels, "kernels", "", "force a kernel set: avx512f, portable; eval is the float64 interpreter (with --model)")
	c.Flags().IntVar(&threads, "threads", 0, "goroutines that compute (default: GOMAXPROCS)")
	return c
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
