package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

func inspectCommand() *cobra.Command {
	var o modelOptions
	c := &cobra.Command{
		Use:   "inspect DIR",
		Short: "Show what a model directory holds and what becomes of it",
		Long: `Print the configuration and how it was decided where config.json left it open,
the parameter count, every tensor with dtype, shape and the packed weight it goes
into, and the memory that the buffers of a session take. The scratch of a goroutine
depends on the kernels that a machine runs: MemoryPlan of the package has it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.model = args[0]
			m, math, err := o.open(c)
			if err != nil {
				return err
			}
			defer m.Close()
			p, err := m.Program(passes.Options{Math: math, Targets: pipeline.Targets(math)})
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(c.OutOrStdout(), 0, 8, 2, ' ', 0)
			inspectConfig(w, m)
			inspectTensors(w, m, p)
			inspectMemory(w, p)
			return w.Flush()
		},
	}
	c.Flags().StringVar(&o.task, "task", "", "head to look at: "+bert.TaskNames()+" (default: what config.json names)")
	c.Flags().StringVar(&o.dtype, "dtype", "", "numerics: int8, bf16 or f32 (default: as compile)")
	return c
}

func inspectConfig(w io.Writer, m *pipeline.Model) {
	fmt.Fprintf(w, "model\t%s\nparameters\t%d\ntokenizer\t%s\n\nconfiguration\tvalue\tdecided by\n", m.Name, m.Parameters(), tokenizerText(m))
	for _, d := range m.Config.Decisions {
		fmt.Fprintf(w, "  %s\t%s\t%s\n", d.Field, d.Value, d.Why)
	}
}

func tokenizerText(m *pipeline.Model) string {
	if m.Tokenizer == nil {
		return "none (no tokenizer.json: the package takes ids, no text)"
	}
	return "tokenizer.json, packed in " + bytesText(int64(len(m.Tokenizer)))
}

func inspectTensors(w io.Writer, m *pipeline.Model, p *program.Program) {
	became := map[string][]string{}
	for _, weight := range p.Weights {
		for _, part := range weight.Parts {
			text := fmt.Sprintf("%s: %s %s", weight.Name, weight.DType, weight.Layout)
			if !slices.Contains(became[part.Tensor], text) {
				became[part.Tensor] = append(became[part.Tensor], text)
			}
		}
	}
	fmt.Fprintf(w, "\ntensor\tdtype\tshape\tbecame\n")
	for _, name := range m.Checkpoint.Names() {
		info, _ := m.Checkpoint.Info(name)
		to := "not used"
		if b := became[name]; b != nil {
			to = strings.Join(b, "; ")
		}
		fmt.Fprintf(w, "  %s\t%s\t%v\t%s\n", info.Name, info.DType, info.Shape, to)
	}
	for _, i := range m.Checkpoint.Ignored() {
		fmt.Fprintf(w, "  %s\t\t\tignored: %s\n", i.Name, i.Because)
	}
}

// inspectTokens are the batch sizes of the memory plan, inspectRows the rows of the head that a session
// takes at a time unless its options say otherwise.
var inspectTokens = []int{1, 512, bert.MaxTokens}

const inspectRows = 64

func inspectMemory(w io.Writer, p *program.Program) {
	fmt.Fprintf(w, "\nmemory of the buffers\tbytes\n")
	for _, t := range inspectTokens {
		fmt.Fprintf(w, "  %s = %d tokens\t%d\n", program.Tokens, t, p.AreaBytes(program.Tokens, t))
	}
	if symbol := p.HeadSymbol(); symbol != "" {
		fmt.Fprintf(w, "  %s = %d rows of the head\t%d\n", symbol, inspectRows, p.AreaBytes(symbol, inspectRows))
	}
	fmt.Fprintf(w, "\nbuffer\ttype\tbytes per row\toffset per row\n")
	for _, b := range p.Buffers {
		fmt.Fprintf(w, "  %s\t%s\t%d\t%d\n", b.Name, b.Type, b.RowBytes(), b.Offset)
	}
}
