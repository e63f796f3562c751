package main

import (
	"bufio"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/internal/html"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/internal/staging"
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

// checkOut reports before the work why the file that a flag names cannot be written; "" is no file. in is
// what is read.
func checkOut(flag, path, in string) error {
	if path == "" {
		return nil
	}
	if err := checkOther(flag, path, in); err != nil {
		return err
	}
	if err := staging.CheckFile(path); err != nil {
		return fmt.Errorf("%s %w", flag, err)
	}
	return nil
}

// checkOther reports that the file to be written is the one that is read.
func checkOther(flag, path, in string) error {
	to, err := os.Stat(path)
	if err != nil {
		return nil
	}
	if from, err := os.Stat(in); err == nil && os.SameFile(to, from) {
		return fmt.Errorf("%s %s: is the file that is read", flag, path)
	}
	return nil
}

// writeFile writes a file through a buffer, completely or not at all.
func writeFile(path string, write func(*bufio.Writer) error) error {
	return staging.File(path, func(f *os.File) error {
		w := bufio.NewWriter(f)
		if err := write(w); err != nil {
			return err
		}
		return w.Flush()
	})
}
