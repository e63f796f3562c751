package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/passes"
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
			m, stages, err := o.stages(c)
			if err != nil {
				return err
			}
			defer m.Close()
			for _, s := range stages {
				if s.pass.Name == after {
					_, err := fmt.Fprint(c.OutOrStdout(), s.text)
					return err
				}
			}
			return fmt.Errorf("--after %q: no pass is called that (passes: %s)", after, strings.Join(passes.Names(), ", "))
		},
	}
	o.flags(c)
	names := passes.Names()
	c.Flags().StringVar(&after, "after", names[len(names)-1], "the pass")
	return c
}

func passList() string {
	var b strings.Builder
	for _, p := range passes.Passes() {
		fmt.Fprintf(&b, "  %-18s %s\n", p.Name, p.Doc)
	}
	return b.String()
}

// stage is the text after one pass.
type stage struct {
	pass passes.Pass
	text string
	took time.Duration
}

// stages opens the model and runs all passes.
func (o *modelOptions) stages(c *cobra.Command) (*pipeline.Model, []stage, error) {
	math, err := o.math()
	if err != nil {
		return nil, nil, err
	}
	m, err := o.open(c)
	if err != nil {
		return nil, nil, err
	}
	if math == 0 {
		math = m.DType()
	}
	var stages []stage
	_, err = m.Program(passes.Options{Math: math, Targets: kernel.Targets(), Observe: func(p passes.Pass, s *passes.State, took time.Duration) {
		stages = append(stages, stage{p, s.String(), took})
	}})
	if err != nil {
		m.Close()
		return nil, nil, err
	}
	return m, stages, nil
}
