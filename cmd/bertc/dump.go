package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/html"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

func dumpCommand() *cobra.Command {
	var o modelOptions
	var after string
	c := &cobra.Command{
		Use:   "dump --model DIR [--after PASS]",
		Short: "Print a stage of the compiler as text",
		Long: `Print the model as it is after a pass, in a text form that parses back: a graph
until form-groups, a program from choose-plans on. Passes, in order:

` + passList(),
		Example: `  bertc dump --model ./retrieva-bert --after form-groups`,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			m, stages, _, err := o.stages(c)
			if err != nil {
				return err
			}
			defer m.Close()
			for _, s := range stages {
				if s.Name == after {
					_, err := fmt.Fprint(c.OutOrStdout(), s.Text)
					return err
				}
			}
			return fmt.Errorf("--after %q: no pass is called that (passes: %s)", after, strings.Join(append([]string{buildStage}, passes.Names()...), ", "))
		},
	}
	o.flags(c)
	names := passes.Names()
	c.Flags().StringVar(&after, "after", names[len(names)-1], "the pass")
	return c
}

func passList() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  %-18s %s\n", buildStage, buildDoc)
	for _, p := range passes.Passes() {
		fmt.Fprintf(&b, "  %-18s %s\n", p.Name, p.Doc)
	}
	return b.String()
}

// buildStage is the graph before the first pass.
const (
	buildStage = "build"
	buildDoc   = "The graph as it is built from the configuration."
)

// stages opens the model and returns the text of every stage, and the program.
func (o *modelOptions) stages(c *cobra.Command) (*pipeline.Model, []html.Stage, *program.Program, error) {
	m, math, err := o.open(c)
	if err != nil {
		return nil, nil, nil, err
	}
	start := time.Now()
	g, err := bert.Build(m.Config, m.Task())
	if err != nil {
		m.Close()
		return nil, nil, nil, err
	}
	stages := []html.Stage{{Name: buildStage, Doc: buildDoc, Text: g.String(), Took: time.Since(start)}}
	p, err := m.Program(passes.Options{Math: math, Targets: pipeline.Targets(math), Observe: func(p passes.Pass, s *passes.State, took time.Duration) {
		stages = append(stages, html.Stage{Name: p.Name, Doc: p.Doc, Text: s.String(), Took: took})
	}})
	if err != nil {
		m.Close()
		return nil, nil, nil, err
	}
	return m, stages, p, nil
}
