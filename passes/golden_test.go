package passes_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/bertc/bertc/internal/filetest"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

// TestStages runs testdata/stages: each file is named by a flavour and a math dtype, and holds
// the graph and what each pass makes of it: the lines that it removes (-) and adds (+), or the
// whole text where that is shorter.
func TestStages(t *testing.T) {
	filetest.Run(t, "testdata/stages/*.txt", func(t *testing.T, f *filetest.File) {
		name := strings.TrimSuffix(filepath.Base(f.Path), ".txt")
		flav, math := findFlavour(t, name)
		g := flav.graph(t)
		before := g.String()
		f.Want(t, "in", before)
		o := options(math)
		o.Targets, o.Plans = []string{"generic"}, onePlan
		o.Observe = func(p passes.Pass, s *passes.State, _ time.Duration) {
			f.Want(t, p.Name, changes(before, s.String()))
			before = s.String()
		}
		if _, err := passes.Run(g, o); err != nil {
			t.Fatal(err)
		}
	})
}

// onePlan is the same plan for all, so that the files do not depend on the cost model.
func onePlan(s kernel.Spec, target string) (kernel.Plan, string, bool) {
	p := kernel.Plan{Kind: s.Kind, Target: target, BlockM: 8}
	if s.Kind == kernel.Gemm || s.Kind == kernel.Attention {
		p.Inst, p.MicroM, p.MicroN, p.BlockN = "mul+add", 4, kernel.PanelN, kernel.PanelN
	}
	return p, "", true
}

// changes returns the lines of a longest common subsequence's complement, or after when that is
// shorter.
func changes(before, after string) string {
	a, b := strings.Split(before, "\n"), strings.Split(after, "\n")
	common := make([][]int, len(a)+1) // of the rests
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if common[i][j] = max(common[i+1][j], common[i][j+1]); a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out.WriteString("- " + a[i] + "\n")
			i++
		default:
			out.WriteString("+ " + b[j] + "\n")
			j++
		}
	}
	if out.Len() >= len(after) {
		return after
	}
	return out.String()
}

// findFlavour reads a name such as "encoder_absolute_rms_mqa.bf16".
func findFlavour(t *testing.T, name string) (flavour, ir.DType) {
	name, math, _ := strings.Cut(name, ".")
	d, ok := ir.ParseDType(math)
	for _, f := range flavours {
		if f.name == name && ok {
			return f, d
		}
	}
	t.Fatalf("no flavour and dtype are called %s.%s", name, math)
	return flavour{}, 0
}

// TestStagesParseBack: the text of every state reads back as itself.
func TestStagesParseBack(t *testing.T) {
	for _, f := range flavours {
		for _, math := range []ir.DType{ir.F32, ir.BF16} {
			o := options(math)
			o.Observe = func(p passes.Pass, s *passes.State, _ time.Duration) {
				text, again := s.String(), ""
				if s.Program == nil {
					g, err := ir.Parse(text)
					if err != nil {
						t.Fatalf("%s %s: after %s: %v", f.name, math, p.Name, err)
					}
					again = g.String()
				} else {
					q, err := program.Parse(text)
					if err != nil {
						t.Fatalf("%s %s: after %s: %v", f.name, math, p.Name, err)
					}
					again = q.String()
				}
				if again != text {
					t.Errorf("%s %s: after %s: the text reads back as\n%s\nnot as\n%s", f.name, math, p.Name, again, text)
				}
			}
			if _, err := passes.Run(f.graph(t), o); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestResume: a graph that was written after any pass compiles to the same program.
func TestResume(t *testing.T) {
	for _, f := range flavours {
		want, err := passes.Run(f.graph(t), options(ir.BF16))
		if err != nil {
			t.Fatal(err)
		}
		for _, pass := range graphPasses {
			text := graphAfter(t, f.graph(t), pass, options(ir.BF16)).String()
			got, err := passes.Run(parse(t, text), options(ir.BF16))
			if err != nil {
				t.Fatalf("%s: from %s on: %v", f.name, pass, err)
			}
			if got.String() != want.String() {
				t.Errorf("%s: from %s on, the program is\n%s\nnot\n%s", f.name, pass, got, want)
			}
		}
	}
}
