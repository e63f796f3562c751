package main

import (
	"bufio"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/internal/html"
	"github.com/bertc/bertc/internal/pipeline"
)

func htmlCommand() *cobra.Command {
	var o modelOptions
	var out string
	c := &cobra.Command{
		Use:   "html --model DIR -o FILE",
		Short: "Write one page that shows the whole compile",
		Long: `Write a self-contained HTML page: a column for each stage of the compiler, a value
highlighted through all of them, the lifetimes of the buffers, and the time of
each pass.`,
		Example: `  bertc html --model ./retrieva-bert -o compile.html`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if out == "" {
				return fmt.Errorf("-o is missing: name the file to write")
			}
			if err := checkOut("-o", out, ""); err != nil {
				return err
			}
			m, stages, p, err := o.stages(c)
			if err != nil {
				return err
			}
			defer m.Close()
			return writeFile(out, func(w *bufio.Writer) error {
				return html.Write(w, html.Page{Title: m.Name, Version: pipeline.Version(), Stages: stages, Program: p})
			})
		},
	}
	o.flags(c)
	c.Flags().StringVarP(&out, "out", "o", "", "file to write")
	return c
}
