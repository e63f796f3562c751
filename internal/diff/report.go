package diff

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/bertc/bertc/ir"
)

// This file owns the report and its text.

// Report is the result of a comparison, steps in the order of the program.
type Report struct {
	A, B     string
	Math     ir.DType
	Tokens   int
	HeadRows int // tokens that the head was applied to; 0 without a head
	// Propagated: the steps were not given equal inputs, errors include those of all steps before.
	Propagated bool
	Steps      []Step
	// File is the test case that was written and Extracted the step in it.
	File, Extracted string
}

// OK reports whether all steps are within their budgets.
func (r Report) OK() bool { return r.First() == nil }

// First returns the first step that exceeds its budget, or nil.
func (r Report) First() *Step {
	for i := range r.Steps {
		if !r.Steps[i].OK {
			return &r.Steps[i]
		}
	}
	return nil
}

// Worst returns the step that uses the largest share of its budget without exceeding it, or nil.
func (r Report) Worst() *Step {
	var worst *Step
	for i := range r.Steps {
		if s := &r.Steps[i]; s.OK && (worst == nil || s.load() > worst.load()) {
			worst = s
		}
	}
	return worst
}

// WriteText writes the report: all steps when verbose, otherwise the first that fails and the
// worst that does not.
func (r Report) WriteText(w io.Writer, verbose bool) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s against %s, products in %s, %d tokens", r.B, r.A, r.Math, r.Tokens)
	if r.HeadRows > 0 {
		fmt.Fprintf(&b, ", head on %d of them", r.HeadRows)
	}
	if r.Propagated {
		b.WriteString("\nEach side computes on its own results: the error of a step includes those of all steps before it.\n\n")
	} else {
		b.WriteString("\nEvery step is evaluated in float64 on the inputs that it had: the error of a step is its own.\n\n")
	}
	steps := r.Steps
	if !verbose {
		steps = nil
		for _, s := range []*Step{r.First(), r.Worst()} {
			if s != nil {
				steps = append(steps, *s)
			}
		}
	}
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "step\tname\tkernel\tresult\t"+figureNames)
	for _, s := range steps {
		fmt.Fprintf(t, "%d\t%s\t%s\t%s%s\t%s\n", s.Index, s.Name, s.Kernel, s.DType, shape(s.Shape), s.figures())
	}
	t.Flush()
	b.WriteString("\n" + r.verdict(verbose) + "\n")
	if r.File != "" {
		fmt.Fprintf(&b, "Step %s is written to %s.\n", r.Extracted, r.File)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// figureNames are the heads of the columns of figures.
const figureNames = "max abs\trel L2\tcentred\tworst row\tpeak\tbudget\tused\t"

// figures are the columns of a table that say how far a result is off, and the verdict.
func (s Step) figures() string {
	verdict := "ok"
	if !s.OK {
		verdict = "FAIL"
	}
	return fmt.Sprintf("%.2g\t%.2g\t%.2g\t%.2g\t%.2g\t%.2g\t%.0f%%\t%s",
		s.MaxAbs, s.RelL2, s.RelL2Centred, s.RowError, s.PeakError, s.Budget, 100*s.load(), verdict)
}

// verdict is the last sentence of the text.
func (r Report) verdict(verbose bool) string {
	first := r.First()
	if first == nil && verbose {
		return fmt.Sprintf("All %d steps are within their budgets.", len(r.Steps))
	} else if first == nil {
		return fmt.Sprintf("All %d steps are within their budgets; the one shown uses most of its own.", len(r.Steps))
	}
	failed := 0
	for _, s := range r.Steps {
		if !s.OK {
			failed++
		}
	}
	return fmt.Sprintf("Step %d, %s, is the first of %d that exceed their budgets: row %d is off by %.2g of its norm, the largest error is %.2g at row %d, column %d.",
		first.Index, first.Name, failed, first.Row, first.RowError, first.MaxAbs, first.Diff.Index/first.cols(), first.Diff.Index%first.cols())
}

func (s Step) cols() int { return s.Shape[len(s.Shape)-1] }

func shape(dims []int) string { return strings.ReplaceAll(fmt.Sprint(dims), " ", ",") }
