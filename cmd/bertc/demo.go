package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/models"
)

// demoTexts are sentences that a model of this size knows something about.
var demoTexts = []string{
	"私は学校<MASK|LLM-jp>行きます。",
	"昨日は<MASK|LLM-jp>が降りました。",
	"図書館で本を<MASK|LLM-jp>だ。",
	"私は<MASK|LLM-jp>が好きで、彼は<MASK|LLM-jp>が好きです。",
	"彼女は歌<MASK|LLM-jp>上手だ。",
}

func demoCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Compile the model inside the binary and fill masks with it",
		Long: `Compile the test-size RetrievaBERT that ships inside this binary (4 layers, trained
on simple Japanese sentences), build the generated package, fill a few masks, and
say how long each stage took and where the package lies.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) (err error) {
			w := c.OutOrStdout()
			stage := func(name string, start time.Time) {
				fmt.Fprintf(w, "%-34s %8s\n", name, time.Since(start).Round(time.Millisecond))
			}
			start := time.Now()
			m, err := pipeline.OpenFS(models.Tiny, "tiny")
			if err != nil {
				return err
			}
			defer m.Close()
			stage("open the checkpoint", start)
			if out == "" {
				var tmp string
				if tmp, err = os.MkdirTemp("", "bertc-demo-*"); err != nil {
					return err
				}
				defer func() {
					if err != nil {
						os.RemoveAll(tmp)
					}
				}()
				out = filepath.Join(tmp, "tinybert")
			}
			start = time.Now()
			plans, err := tuned("")
			if err != nil {
				return err
			}
			r, err := pipeline.Compile(c.Context(), m, pipeline.Options{Out: out, Plans: plans})
			if err != nil {
				return err
			}
			stage("compile it into a Go package", start)
			d, err := pipeline.StartDriver(c.Context(), r.Dir, pipeline.DriverOptions{})
			if err != nil {
				return err
			}
			defer d.Close()
			fmt.Fprintf(w, "%-34s %8s\n", "go build", d.BuildTime.Round(time.Millisecond))
			fmt.Fprintf(w, "%-34s %8s\n\n", "open the weight file", d.Hello.OpenTime.Round(time.Microsecond))
			for _, text := range demoTexts {
				masks, took, err := d.FillMask(text, 4)
				if err != nil {
					return err
				}
				if err := showMasks(w, text, masks); err != nil {
					return err
				}
				fmt.Fprintf(w, "  in %s\n", took.Round(time.Microsecond))
			}
			fmt.Fprintf(w, "\nThe package (%d kernels, %s kernel set) lies in\n  %s\nStart reading at program.go; use it as doc.go shows.\n",
				len(r.Program.Kernels), d.Hello.Kernels, r.Dir)
			return nil
		},
	}
	c.Flags().StringVar(&out, "out", "", "directory of the package (default: a temporary one, which is kept)")
	return c
}
