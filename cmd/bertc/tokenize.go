package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/tokenizer"
	"github.com/bertc/bertc/tokenizer/hf"
)

// tokenized is one line of output.
type tokenized struct {
	IDs     []int32    `json:"ids"`
	Tokens  []string   `json:"tokens"`
	Offsets [][2]int32 `json:"offsets"`
}

func tokenizeCommand() *cobra.Command {
	var file, model string
	var noSpecial bool
	c := &cobra.Command{
		Use:   "tokenize --tokenizer FILE|--model DIR",
		Short: "Tokenize texts as Hugging Face's tokenizers do",
		Long: `Read JSON strings from standard input, one a line, and print for each a line of
JSON: ids, tokens, and offsets [start, end) in code points of the text.`,
		Example: `  echo '"私は学校<MASK|LLM-jp>行きます。"' | bertc tokenize --model ./retrieva-bert`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if (file == "") == (model == "") {
				return fmt.Errorf("name either --tokenizer (a tokenizer.json) or --model (a directory that has one)")
			}
			if file == "" {
				file = filepath.Join(model, "tokenizer.json")
			}
			image, err := hf.Load(file)
			if err != nil {
				return err
			}
			t, err := tokenizer.Open(image)
			if err != nil {
				return err
			}
			out := json.NewEncoder(c.OutOrStdout())
			out.SetEscapeHTML(false)
			n := 0
			return eachLine(c.Context(), c.InOrStdin(), func(line string) error {
				n++
				var text string
				if err := json.Unmarshal([]byte(line), &text); err != nil {
					return fmt.Errorf("standard input, line %d: not a JSON string: %w", n, err)
				}
				enc, err := t.Encode(text, tokenizer.Options{AddSpecial: !noSpecial})
				if err != nil {
					return fmt.Errorf("standard input, line %d: %w", n, err)
				}
				r := tokenized{IDs: append([]int32{}, enc.IDs...), Tokens: []string{}, Offsets: [][2]int32{}}
				for i, id := range enc.IDs {
					r.Tokens = append(r.Tokens, t.Token(id))
					r.Offsets = append(r.Offsets, [2]int32{enc.Offsets[i].Start, enc.Offsets[i].End})
				}
				return out.Encode(r)
			})
		},
	}
	c.Flags().StringVar(&file, "tokenizer", "", "a tokenizer.json")
	c.Flags().StringVar(&model, "model", "", "model directory")
	c.Flags().BoolVar(&noSpecial, "no-special", false, "leave out the special tokens around the text")
	return c
}
