// Package codegentest is the conformance suite that every backend passes. Run emits kernels for
// one table of Specs (specs.go) and sampled plans, builds them into one program (module.go),
// runs it and compares with the interpreter of package kernel. gemm.go, attention.go and rows.go
// have the checks of each kind.
//
// What is checked of each kernel: results against kernel.Eval within a stated tolerance; that a
// row alone gives the same bits as the row among others; that nothing outside the results is
// written, and nothing behind any buffer read; that emitting twice gives the same text, within
// the features of the target; and that go vet accepts the assembly.
package codegentest

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os/exec"
	"runtime"
	"slices"
	"testing"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// long adds plans and row counts.
var long = flag.Bool("long", false, "check more plans and row counts of each kernel")

// Long reports whether -long is set.
func Long() bool { return *long }

// Exec returns the command that runs the program at path, natively or under an emulator.
type Exec func(path string) *exec.Cmd

// Native runs the program on this machine. It skips the test where that is not possible.
func Native(t *testing.T, target *kernel.Target) Exec {
	t.Helper()
	if runtime.GOOS != "linux" || runtime.GOARCH != target.GOARCH {
		t.Skipf("SKIP: %s needs linux/%s, this is %s/%s", target.Name, target.GOARCH, runtime.GOOS, runtime.GOARCH)
	}
	if lacks := rt.Missing(target.Features...); len(lacks) > 0 {
		t.Skipf("SKIP: %s needs CPU features that are missing: %v", target.Name, lacks)
	}
	return func(path string) *exec.Cmd { return exec.Command(path) }
}

// unitUnderTest is one kernel and the numbers of its functions in the program.
type unitUnderTest struct {
	kernel.Kernel
	funcs map[string]int
}

// Run checks a backend. run must be able to execute the target's features. more are checks of the
// linked program, whose functions kN… are the kernels.
func Run(t *testing.T, b codegen.Backend, run Exec, more ...func(t *testing.T, path string)) {
	m := newModule(b.Target())
	var units []unitUnderTest
	first := map[kernel.Spec]int{}
	twice := map[kernel.Kind]bool{}
	for _, s := range specsFor(b.Target()) {
		first[s] = len(units)
		for _, p := range samplePlans(s, b.Target().Name) {
			k, symbol := kernel.Kernel{Spec: s, Plan: p}, fmt.Sprintf("k%d", len(units))
			u, err := b.Emit(symbol, k)
			if err != nil {
				t.Fatal(err)
			}
			if !twice[s.Kind] {
				twice[s.Kind] = true
				if again, err := b.Emit(symbol, k); err != nil || again.Asm != u.Asm {
					t.Errorf("spec %s\nplan %s: emitted twice, the text differs (%v)", s, p, err)
				}
			}
			for _, f := range u.Features {
				if !slices.Contains(b.Target().Features, f) {
					t.Errorf("spec %s\nplan %s: needs the feature %s, which the target lacks", s, p, f)
				}
			}
			units = append(units, unitUnderTest{k, m.add(u)})
		}
	}
	path, err := m.build(t.TempDir(), vetProgram, buildProgram)
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range more {
		check(t, path)
	}
	p := start(t, run(path))
	checks := map[kernel.Kind]func(*testing.T, *program, unitUnderTest){
		kernel.Gemm: checkGemm, kernel.Attention: checkAttention, kernel.Rowwise: checkRowwise, kernel.Gather: checkGather,
	}
	for i, u := range units {
		t.Run(fmt.Sprintf("k%d", i), func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("spec %s\nplan %s", u.Spec, u.Plan)
				}
			}()
			checks[u.Spec.Kind](t, p, u)
			if other := units[first[u.Spec]]; u.Spec.Kind == kernel.Gemm && other.Plan != u.Plan {
				samePlans(t, p, p, other, u)
			}
		})
	}
	t.Run("silu", func(t *testing.T) {
		for _, u := range units {
			if u.Spec == siluSpec {
				checkSiLU(t, p, u)
			}
		}
	})
}

// samplePlans returns the chosen plan of s and a few others, the same in every run.
func samplePlans(s kernel.Spec, target string) []kernel.Plan {
	var all, plans []kernel.Plan
	for p := range kernel.Space(s, target) {
		// Blocks larger than these only take longer to check.
		if p.BlockM <= 64 && (s.Kind != kernel.Attention || p.BlockN <= 64) {
			all = append(all, p)
		}
	}
	more := 1
	if *long {
		more = 6
	}
	if p, ok := kernel.Choose(s, target); ok {
		plans = append(plans, p)
	}
	r := rand.New(rand.NewPCG(uint64(len(s.String())), uint64(s.K)))
	for range min(more, len(all)) {
		plans = append(plans, all[r.IntN(len(all))])
	}
	return plans
}

// rowCounts are the numbers of rows that a kernel is run with.
func rowCounts(p kernel.Plan) []int {
	counts := []int{1, p.BlockM + 1}
	if p.MicroM > 0 {
		counts = append(counts, p.MicroM-1, p.MicroM+1)
	}
	if *long {
		counts = append(counts, 2, p.BlockM-1, p.BlockM, 2*p.BlockM+p.MicroM+1)
	}
	var out []int
	for _, c := range counts {
		if c > 0 {
			out = append(out, c)
		}
	}
	return out
}

// compare reports elements of got that differ from want by more than tol times the largest of
// their row, plus one step of the output type. tol covers what kernel.Eval does not prescribe:
// one ulp of an exponential, a square root, a division, or of the order of a sum. Where want is NaN, got must be.
func compare(t testing.TB, what string, d ir.DType, got, want []float32, cols int, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	step := 0.0
	if d == ir.BF16 {
		step = 0x1p-7
	}
	for r := 0; r < len(got); r += cols {
		largest := 0.0
		for _, w := range want[r : r+cols] {
			largest = max(largest, math.Abs(float64(w)))
		}
		for c := range cols {
			g, w := float64(got[r+c]), float64(want[r+c])
			if !(math.Abs(g-w) <= tol*largest+step*math.Abs(w)) && (g == g || w == w) {
				t.Errorf("%s: row %d column %d: %v, want %v (row maximum %v)", what, r/cols, c, g, w, largest)
				return
			}
		}
	}
}

// same reports elements that differ in any bit.
func same(t testing.TB, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Errorf("%s: element %d is %v, want the same bits as %v", what, i, got[i], want[i])
			return
		}
	}
}
