package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/internal/pipeline"
)

// maxLine bounds a line of standard input.
const maxLine = 16 << 20

func fillMaskCommand() *cobra.Command {
	var o packageOptions
	var topK int
	var asJSON bool
	var kernels string
	c := &cobra.Command{
		Use:   "fill-mask --model DIR|--package DIR [TEXT ...]",
		Short: "Fill the masks of texts",
		Long: `Print the most probable tokens for every mask of the texts. Without TEXT the
texts are read from standard input, one a line.

With --json, one line a text: a list for every mask with score, token, token_str
and sequence, as Hugging Face's fill-mask pipeline gives them.`,
		Example: `  bertc fill-mask --package ./retrieva '日本の首都は<MASK|LLM-jp>です。'
  bertc fill-mask --model ./retrieva-bert --top-k 3 --json < texts.txt`,
		RunE: func(c *cobra.Command, texts []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if topK < 1 {
				return fmt.Errorf("--top-k %d: must be 1 or more", topK)
			}
			d, clean, err := o.start(c.Context(), c, pipeline.DriverOptions{Kernels: kernels})
			if err != nil {
				return err
			}
			defer clean()
			defer d.Close()
			show := showMasks
			if asJSON {
				show = showJSON
			}
			n := 0
			fill := func(text string) error {
				n++
				masks, _, err := d.FillMask(text, topK)
				if err != nil {
					return fmt.Errorf("text %d: %w", n, err)
				}
				return show(c.OutOrStdout(), text, masks)
			}
			if len(texts) == 0 {
				return eachLine(c.Context(), c.InOrStdin(), fill)
			}
			for _, t := range texts {
				if err := fill(t); err != nil {
					return err
				}
			}
			return nil
		},
	}
	o.flags(c)
	o.deviceFlag(c)
	c.Flags().IntVar(&topK, "top-k", 5, "candidates for each mask")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON, one line a text")
	c.Flags().StringVar(&kernels, "kernels", "", "force a kernel set, for example portable")
	return c
}

// eachLine calls f with every line of r. It ends when ctx does, also while it waits for a line.
func eachLine(ctx context.Context, r io.Reader, f func(string) error) error {
	lines, failed := make(chan string), make(chan error, 1)
	go func() { // stays in a read that nothing ends; the process is about to exit then
		failed <- scanLines(r, func(line string) error {
			select {
			case lines <- line:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		close(lines)
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case line, more := <-lines:
			if !more {
				return <-failed
			}
			if err := f(line); err != nil {
				return err
			}
		}
	}
}

func scanLines(r io.Reader, f func(string) error) error {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	n := 0
	for ; s.Scan(); n++ {
		if err := f(s.Text()); err != nil {
			return err
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("standard input, line %d: longer than %d bytes", n+1, maxLine)
	} else if err != nil {
		return fmt.Errorf("standard input, line %d: %w", n+1, err)
	}
	return nil
}

func showJSON(w io.Writer, _ string, masks [][]pipeline.Candidate) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(masks)
}

func showMasks(w io.Writer, text string, masks [][]pipeline.Candidate) error {
	fmt.Fprintln(w, text)
	for i, mask := range masks {
		if len(masks) > 1 {
			fmt.Fprintf(w, "  mask %d\n", i+1)
		}
		for _, c := range mask {
			if _, err := fmt.Fprintf(w, "  %6.2f %%  %s\t%s\n", 100*c.Score, c.TokenStr, c.Sequence); err != nil {
				return err
			}
		}
	}
	return nil
}
