package ir_test

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/filetest"
	"github.com/bertc/bertc/ir"
)

// TestOps runs testdata/ops: each file holds a graph, its inputs by outside
// name, and its outputs, which are worked out by hand for primitives.
func TestOps(t *testing.T) {
	filetest.Run(t, "testdata/ops/*.txt", func(t *testing.T, f *filetest.File) {
		g, err := ir.Parse(f.Get(t, "graph"))
		if err != nil {
			t.Fatal(err)
		}
		op := strings.TrimSuffix(filepath.Base(f.Path), ".txt")
		if !strings.Contains(f.Get(t, "graph"), "= "+op) {
			t.Errorf("%s does not test %s", f.Path, op)
		}
		f.Want(t, "graph", g.String())
		out, err := ir.Eval(g, parseTensors(t, g, f.Get(t, "in")))
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for i, o := range out {
			fmt.Fprintf(&b, "%s: %s%s\n", g.Outputs[i].Name, formatShape(o.Shape), formatData(o.Data))
		}
		f.Want(t, "out", b.String())
	})
}

// parseTensors reads lines such as "x: 2,3: 1 2 3 4 5 6". The element type
// comes from the graph.
func parseTensors(t *testing.T, g *ir.Graph, text string) map[string]*ir.Tensor {
	t.Helper()
	dtypes := map[string]ir.DType{}
	for _, v := range g.Values {
		if a, ok := v.Attrs.(*ir.SourceAttrs); ok {
			dtypes[a.Name] = v.Type.DType
		}
	}
	in := map[string]*ir.Tensor{}
	for line := range strings.Lines(text) {
		parts := strings.Split(strings.TrimSpace(line), ":")
		if len(parts) != 3 {
			t.Fatalf("line %q is not name: shape: data", line)
		}
		x := &ir.Tensor{DType: dtypes[parts[0]]}
		for s := range strings.FieldsFuncSeq(parts[1], func(r rune) bool { return r == ',' || r == ' ' }) {
			n, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			x.Shape = append(x.Shape, n)
		}
		for s := range strings.FieldsSeq(parts[2]) {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil {
				t.Fatal(err)
			}
			x.Data = append(x.Data, v)
		}
		in[parts[0]] = x
	}
	return in
}

func formatShape(shape []int) string {
	s := make([]string, len(shape))
	for i, n := range shape {
		s[i] = strconv.Itoa(n)
	}
	return strings.Join(s, ",") + ":"
}

func formatData(data []float64) string {
	var b strings.Builder
	for _, x := range data {
		if math.Abs(x) < 1e-12 {
			x = 0
		}
		b.WriteString(" " + strconv.FormatFloat(x, 'g', 7, 64))
	}
	return b.String()
}

// TestErrors runs testdata/errors: each section is a graph that Parse or
// Verify rejects, with the error in a comment at the offending line.
func TestErrors(t *testing.T) {
	filetest.Run(t, "testdata/errors/*.txt", func(t *testing.T, f *filetest.File) {
		for _, s := range f.Sections {
			line, err := check(filetest.Unmark(s.Text))
			if err == nil {
				t.Errorf("section %s has no error", s.Name)
			}
			f.WantError(t, s.Name, line, err)
		}
	})
}

// check returns the first error of a graph and its line.
func check(text string) (int, error) {
	g, err := ir.Parse(text)
	var syntax *ir.SyntaxError
	if errors.As(err, &syntax) {
		// The line is where the mark stands; the message keeps the column.
		return syntax.Line, fmt.Errorf("column %d: %s", syntax.Col, syntax.Msg)
	}
	if err := ir.Verify(g); err != nil {
		return lineOf(text, err), err
	}
	return 0, nil
}

var namesInError = regexp.MustCompile(`%([\w.]+): `)

// lineOf returns the line that defines the innermost value an error names.
func lineOf(text string, err error) int {
	names := namesInError.FindAllStringSubmatch(err.Error(), -1)
	if names == nil {
		return 1
	}
	before, _, _ := strings.Cut(text, "%"+names[len(names)-1][1]+" = ")
	return strings.Count(before, "\n") + 1
}
