package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/tokenizer"
	"github.com/bertc/bertc/tokenizer/hf"
)

func initCommand() *cobra.Command {
	var config, out, dtype, tok string
	var seed uint64
	var outliers int
	c := &cobra.Command{
		Use:   "init --config FILE --out DIR",
		Short: "Write a random checkpoint of any size",
		Long: `Write a checkpoint with random weights for a config.json, shard by shard, so that
anyone can measure at full size without the real weights. The same seed gives
the same numbers. With a tokenizer the checkpoint takes text, whatever it answers.`,
		Example: `  bertc init --config config.json --out ./random --dtype bf16`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if config == "" || out == "" {
				return fmt.Errorf("--config and --out are needed: a config.json, and the directory to write")
			}
			data, cfg, err := readConfig(config)
			if err != nil {
				return err
			}
			if dtype != "bf16" && dtype != "f32" {
				return fmt.Errorf("--dtype %q: not supported (supported: bf16, f32)", dtype)
			}
			if outliers < 0 || outliers > cfg.HiddenSize {
				return fmt.Errorf("--outliers %d: must be 0..%d, the channels of the hidden states", outliers, cfg.HiddenSize)
			}
			tokens, err := readTokenizer(tok, cfg.VocabSize)
			if err != nil {
				return err
			}
			bar := newBar(c.ErrOrStderr(), "weights")
			start := time.Now()
			err = checkpoint.Init(c.Context(), out, data, pipeline.Wants(cfg), checkpoint.InitOptions{
				Tokenizer: tokens, Seed: seed, DType: checkpoint.DType(strings.ToUpper(dtype)), Std: cfg.InitializerRange, Outliers: outliers, Progress: bar.set,
			})
			bar.done()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "wrote %s in %s\n", filepath.Clean(out), time.Since(start).Round(time.Millisecond))
			return err
		},
	}
	c.Flags().StringVar(&config, "config", "", "a config.json")
	c.Flags().StringVar(&out, "out", "", "directory to write")
	c.Flags().StringVar(&tok, "tokenizer", "", "a tokenizer.json to copy")
	c.Flags().Uint64Var(&seed, "seed", 0, "seed of the random numbers")
	c.Flags().IntVar(&outliers, "outliers", 0, "channels that every norm makes 8 times as large, as trained models have a few")
	c.Flags().StringVar(&dtype, "dtype", "bf16", "element type of the tensors: bf16 or f32")
	return c
}

// readTokenizer reads a tokenizer.json that fits a vocabulary; path "" is none.
func readTokenizer(path string, vocabulary int) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	image, err := hf.Load(path)
	if err != nil {
		return nil, err
	}
	t, err := tokenizer.Open(image)
	if err != nil {
		return nil, err
	}
	if n := t.VocabSize(); n > vocabulary {
		return nil, fmt.Errorf("%s: has %d tokens, vocab_size is %d", path, n, vocabulary)
	}
	return os.ReadFile(path)
}

// readConfig returns the text of a config.json and the configuration that it describes.
func readConfig(file string) (data []byte, cfg bert.Config, err error) {
	if data, err = os.ReadFile(file); err != nil {
		return nil, cfg, err
	}
	cfg, err = bert.ParseConfig(file, data, nil)
	return data, cfg, err
}
