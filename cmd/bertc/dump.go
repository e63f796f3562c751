package main

import (
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/codegen/ptx"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/html"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

func dumpCommand() *cobra.Command {
	var o modelOptions
	var after, asm, kernelName string
	c := &cobra.Command{
		Use:   "dump --model DIR [--after PASS | --asm ptx [--kernel NAME]]",
		Short: "Print a stage of the compiler as text",
		Long: `Print the model as it is after a pass, in a text form that parses back: a graph
until form-groups, a program from choose-plans on; or with --asm ptx the code of its
kernels for the GPU, and where ptxas and nvdisasm are installed the machine code (SASS)
behind it. Passes, in order:

` + passList(),
		Example: `  bertc dump --model ./retrieva-bert --after form-groups
  bertc dump --model ./retrieva-bert --asm ptx --kernel qkv`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			switch {
			case asm != "" && asm != "ptx":
				return fmt.Errorf("--asm %q: only ptx can be printed", asm)
			case asm != "" && c.Flags().Changed("after"):
				return fmt.Errorf("--asm %s: the code is made after all passes, leave out --after", asm)
			case asm != "":
				return o.dumpPTX(c, kernelName)
			case kernelName != "":
				return fmt.Errorf("--kernel %q: needs --asm", kernelName)
			}
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
	c.Flags().StringVar(&asm, "asm", "", "print the code of the kernels: ptx")
	c.Flags().StringVar(&kernelName, "kernel", "", "of --asm, the only kernel to print")
	return c
}

// dumpPTX prints a kernel, or all, as PTX and as SASS.
func (o *modelOptions) dumpPTX(c *cobra.Command, name string) error {
	m, math, err := o.open(c)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := pipeline.CheckGPU(math); err != nil {
		return fmt.Errorf("--asm ptx: %w", err)
	}
	p, err := m.Program(passes.Options{Math: math, Targets: []string{ptx.TargetName}})
	if err != nil {
		return err
	}
	text, err := pipeline.PTX(p, name)
	if err != nil {
		return err
	}
	fmt.Fprint(c.OutOrStdout(), text)
	for _, tool := range []string{"ptxas", "nvdisasm"} {
		if _, err := exec.LookPath(tool); err != nil {
			fmt.Fprintf(c.ErrOrStderr(), "no machine code: %s is not on the path\n", tool)
			return nil
		}
	}
	sass, err := pipeline.SASS(c.Context(), text)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.OutOrStdout(), "\n// SASS, as ptxas and nvdisasm have it:\n%s", sass)
	return nil
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
