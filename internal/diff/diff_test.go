package diff

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/models"
)

func openTiny(t *testing.T) *pipeline.Model {
	t.Helper()
	m, err := pipeline.OpenFS(models.Tiny, "tiny")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// batch is 19 tokens in three sequences, one of a single token.
func batch() pipeline.Batch {
	b := pipeline.Batch{Rows: 3, Cols: 11, Offsets: []int32{0}}
	for row, n := range []int{11, 1, 7} {
		for i := range n {
			b.IDs = append(b.IDs, int32((977*len(b.IDs)+31*row+5)%4608))
			b.Positions = append(b.Positions, int32(i))
			b.Cell = append(b.Cell, row*b.Cols+i)
		}
		b.Offsets = append(b.Offsets, int32(len(b.IDs)))
	}
	return b
}

func text(t *testing.T, r Report, verbose bool) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteText(&b, verbose); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestRun runs the whole comparison: in f32 on a package compiled for it, in bf16 on one that is
// there.
func TestRun(t *testing.T) {
	m := openTiny(t)
	_, dir, _ := recorded(t, m)
	for _, o := range []Options{{Math: ir.F32}, {Package: dir}} {
		o.Model, o.In, o.A, o.B = m, batch(), Eval, "portable"
		r, err := Run(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		if (r.Math == ir.F32) != (o.Package == "") || !r.OK() || r.B != "portable" || r.Tokens != 19 || r.HeadRows != 16 || len(r.Steps) != 25 {
			t.Errorf("the report is not as expected:\n%s", text(t, r, true))
		}
		for _, s := range r.Steps {
			exact := s.Kernel == "embed" || s.Kernel == "head.rows"
			if exact && s.MaxAbs != 0 || !exact && s.DType == ir.F32 && s.MaxAbs == 0 {
				t.Errorf("step %s has max abs error %g", s.Name, s.MaxAbs)
			}
			// A budget that nothing comes near would find nothing.
			if s.load() > 0.5 {
				t.Errorf("step %s uses %.0f%% of its budget", s.Name, 100*s.load())
			}
		}
		if got := text(t, r, false); !strings.Contains(got, "All 25 steps are within their budgets") || strings.Count(got, " ok\n") != 1 {
			t.Errorf("the short report is:\n%s", got)
		}
	}
}

// recorded compiles the tiny model for the portable kernels and records the batch, once.
func recorded(t *testing.T, m *pipeline.Model) (*unit, string, recording) {
	t.Helper()
	once.Do(func() {
		dir := filepath.Join(tmp, "model")
		u, err := open(context.Background(), Options{Model: m, A: Eval, B: "portable"}, dir)
		if err != nil {
			t.Fatal(err)
		}
		if shared.rec, err = u.record(context.Background(), dir, "portable", batch()); err != nil {
			t.Fatal(err)
		}
		shared.unit, shared.dir = u, dir
	})
	if shared.unit == nil {
		t.Fatal("the recording failed")
	}
	return shared.unit, shared.dir, shared.rec
}

var (
	once   sync.Once
	tmp    string
	shared struct {
		unit *unit
		dir  string
		rec  recording
	}
)

// TestGPU compares the kernels of the GPU, on the emulator, step by step.
func TestGPU(t *testing.T) {
	r, err := Run(context.Background(), Options{Model: openTiny(t), Math: ir.BF16, In: batch(), A: Eval, B: pipeline.DeviceEmulator})
	if err != nil {
		t.Fatal(err)
	}
	if !r.OK() || !strings.HasPrefix(r.B, "emulated GPU") || len(r.Steps) != 25 {
		t.Errorf("the report is not as expected:\n%s", text(t, r, true))
	}
}

func TestMain(m *testing.M) {
	var err error
	if tmp, err = os.MkdirTemp("", "bertc-diff-test-*"); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(tmp)
	os.Exit(code)
}

// clone copies a recording, which a comparison uses up.
func clone(r recording) recording {
	r.steps = slices.Clone(r.steps)
	for i := range r.steps {
		r.steps[i].Data = bytes.Clone(r.steps[i].Data)
	}
	return r
}

// corrupt makes the largest element of a row of a step's result larger by a quarter, as if the
// kernel had written it so. Steps that read it have not, and may be blamed too.
func corrupt(t *testing.T, u *unit, r recording, step string, row int) (recording, int) {
	t.Helper()
	r = clone(r)
	for i, s := range r.steps {
		if s.Name != step {
			continue
		}
		x, err := u.tensor(i, s)
		if err != nil {
			t.Fatal(err)
		}
		width := x.Shape[1]
		element := row * width
		for j := range width {
			if math.Abs(x.Data[row*width+j]) > math.Abs(x.Data[element]) {
				element = row*width + j
			}
		}
		x.Data[element] *= 1.25
		r.steps[i].Data = encode(x.DType, x.Data)
		return r, element
	}
	t.Fatalf("no step is called %s", step)
	return r, 0
}

// TestCorrupted corrupts one element of one step of each kind: the step is found, and the test case
// that is written shows the same.
func TestCorrupted(t *testing.T) {
	m := openTiny(t)
	u, _, rec := recorded(t, m)
	o := Options{Model: m, In: batch(), A: Eval, B: "portable"}
	for _, step := range []string{
		"embed", "layer.0.qkv", "layer.1.attention", "layer.1.attention_output", "layer.2.gate_up", "layer.3.down", "hidden", "head.rows", "head.dense", "logits",
	} {
		t.Run(step, func(t *testing.T) {
			o := o
			o.Extract = filepath.Join(t.TempDir(), "case.safetensors")
			broken, element := corrupt(t, u, rec, step, 2)
			r, err := u.againstEval(context.Background(), o, broken)
			if err != nil {
				t.Fatal(err)
			}
			first := r.First()
			if first == nil || first.Name != step || first.Diff.Index != element {
				t.Fatalf("the report does not name %s:\n%s", step, text(t, r, true))
			}
			got := text(t, r, false)
			for _, want := range []string{
				fmt.Sprintf("Step %d, %s, is the first of ", first.Index, step), "row 2 is off by", "FAIL", "Step " + step + " is written to " + o.Extract,
			} {
				if !strings.Contains(got, want) {
					t.Errorf("the report lacks %q:\n%s", want, got)
				}
			}
			replayed(t, o.Extract, *first)
		})
	}

	// Without a step that fails, the worst is written.
	o.Extract = filepath.Join(t.TempDir(), "worst.safetensors")
	r, err := u.againstEval(context.Background(), o, clone(rec))
	if err != nil {
		t.Fatal(err)
	}
	if r.Extracted != r.Worst().Name {
		t.Errorf("%s was written, the worst is %s", r.Extracted, r.Worst().Name)
	}
	replayed(t, o.Extract, *r.Worst())
}

// TestReplayCodes replays steps whose weights are codes of 8 bits.
func TestReplayCodes(t *testing.T) {
	o := Options{Model: openTiny(t), Math: ir.I8, In: batch(), A: Eval, B: "portable"}
	dir := filepath.Join(t.TempDir(), "model")
	u, err := open(context.Background(), o, dir)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := u.record(context.Background(), dir, "portable", batch())
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []string{"embed", "layer.1.qkv", "layer.1.gate_up", "layer.3.down", "logits"} {
		o.Extract = filepath.Join(t.TempDir(), "case.safetensors")
		broken, _ := corrupt(t, u, rec, step, 2)
		r, err := u.againstEval(context.Background(), o, broken)
		if err != nil {
			t.Fatal(err)
		}
		first := r.First()
		if first == nil || first.Name != step {
			t.Fatalf("the report does not name %s:\n%s", step, text(t, r, true))
		}
		replayed(t, o.Extract, *first)
	}
}

// replayed replays a case and compares with what the report says of the step.
func replayed(t *testing.T, path string, s Step) {
	t.Helper()
	r, err := Replay(path)
	if err != nil {
		t.Fatal(err)
	}
	if r.Name != s.Name || r.Kernels != "portable" || !r.Expected.OK || !r.Interpreted.OK {
		t.Errorf("replay of %s: %+v", s.Name, r)
	}
	if d := r.Recorded; d.OK != s.OK || d.Diff != s.Diff || d.RowError != s.RowError || d.PeakError != s.PeakError || d.Budget != s.Budget {
		t.Errorf("replay of %s finds %+v, the comparison found %+v", s.Name, d, s)
	}
}

// TestKernelSets compares two recordings.
func TestKernelSets(t *testing.T) {
	m := openTiny(t)
	u, _, rec := recorded(t, m)
	r, err := u.againstKernels(clone(rec), clone(rec))
	if err != nil || !r.OK() || !r.Propagated || r.Worst().MaxAbs != 0 {
		t.Errorf("equal recordings differ: %v\n%s", err, text(t, r, true))
	}
	broken, _ := corrupt(t, u, rec, "layer.2.down", 7)
	r, err = u.againstKernels(clone(rec), broken)
	if err != nil || r.First() == nil || r.First().Name != "layer.2.down" {
		t.Errorf("the corrupted step is not found: %v\n%s", err, text(t, r, true))
	}
	lost := clone(rec)
	lost.steps[3].Data = lost.steps[3].Data[1:]
	if _, err := u.againstKernels(lost, clone(rec)); err == nil || !strings.Contains(err.Error(), "step layer.0.attention_output") {
		t.Errorf("a result of the wrong size gives %v", err)
	}
}

func TestOptions(t *testing.T) {
	m := openTiny(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, planFile), []byte("program @x(T: 1..2) {\n}\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	long := batch()
	long.Positions[3] = 5000
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{A: Eval, B: Eval}, "--b eval"},
		{Options{A: "portable", B: "portable", Extract: "x"}, "--extract needs --a eval"},
		{Options{A: Eval, In: long}, "at most"},
		{Options{A: Eval, Package: filepath.Join(dir, "none")}, "none"},
		{Options{A: Eval, Package: dir, Math: ir.BF16}, "compiled with f32 products, not bf16"},
		{Options{A: Eval, Package: dir}, "plan.txt:1: the package was not compiled from model tiny"},
	} {
		c.o.Model = m
		if c.o.In.IDs == nil {
			c.o.In = batch()
		}
		if _, err := Run(context.Background(), c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v gives %v, want an error with %q", c.o, err, c.want)
		}
	}
}
