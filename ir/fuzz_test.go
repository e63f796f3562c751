package ir_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/bertc/bertc/internal/filetest"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/ir/irtest"
)

// FuzzParse checks that no text makes Parse, Verify or Eval panic or use much
// memory, and that what parses is printed in a form that reads back the same.
func FuzzParse(f *testing.F) {
	for _, dir := range []string{"ops", "errors"} {
		paths, err := filepath.Glob("testdata/" + dir + "/*.txt")
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			for _, s := range filetest.Parse(path, string(text)).Sections {
				if s.Name != "in" && s.Name != "out" {
					f.Add(filetest.Unmark(s.Text))
				}
			}
		}
	}
	for seed := range uint64(20) {
		f.Add(irtest.Random(seed).String())
	}
	f.Fuzz(func(t *testing.T, text string) {
		g, err := ir.Parse(text)
		if err != nil {
			return
		}
		printed := g.String()
		again, err := ir.Parse(printed)
		if err != nil {
			t.Fatalf("printed form does not parse: %v\n%s", err, printed)
		}
		if s := again.String(); s != printed {
			t.Fatalf("printed again:\n%s\nwant:\n%s", s, printed)
		}
		if ir.Verify(g) != nil {
			return
		}
		in, ok := smallInputs(g)
		if !ok {
			return
		}
		// Errors are fine; a graph may ask for too much or slice out of range.
		ir.Eval(g, in, ir.WithMaxElems(maxFuzzElems))
	})
}

const maxFuzzElems = 1 << 10

// smallInputs returns zero inputs and weights at the least values of the
// symbols, if they are small.
func smallInputs(g *ir.Graph) (map[string]*ir.Tensor, bool) {
	env := map[string]int{}
	for _, s := range g.Symbols {
		env[s.Name] = s.Min
	}
	in := map[string]*ir.Tensor{}
	for _, v := range g.Values {
		a, ok := v.Attrs.(*ir.SourceAttrs)
		if !ok {
			continue
		}
		n, err := v.Type.Elems().Eval(env)
		if err != nil || n > maxFuzzElems {
			return nil, false
		}
		var shape []int
		for _, d := range v.Type.Dims {
			n, err := d.Eval(env)
			if err != nil {
				return nil, false
			}
			shape = append(shape, n)
		}
		in[a.Name] = ir.NewTensor(v.Type.DType, shape...)
	}
	return in, true
}
