package diff

import (
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// small is a case of one norm, as a file would hold it.
func small() (string, []part) {
	vec := func(shape ...int) *ir.Tensor {
		t := ir.NewTensor(ir.F32, shape...)
		for i := range t.Data {
			t.Data[i] = 1
		}
		return t
	}
	y := vec(2, 4) // of x·rsqrt(mean(x²)+eps) with x = 1
	for i := range y.Data {
		y.Data[i] = 1 / math.Sqrt(1+1e-5)
	}
	text := `step n
kernels portable
budget 1e-05
spec rowwise in=f32 out=f32 k=4 prologue=rmsnorm eps=1e-05
operand src=x
operand gamma=w
graph @g(T: 1..8) {
  %x = input "x" : f32[T,4]
  %w = weight "w" : f32[4]
  %n = group rowwise @n(%x, %w) {
    %n = rmsnorm %p0, %p1 {eps=1e-05} : f32[T,4]
    yield %n
  } : f32[T,4]
  return %n
}
`
	return text, []part{
		tensorPart(caseIn+"x", ir.F32, vec(2, 4)), tensorPart(caseWeight+"w", ir.F32, vec(4)),
		tensorPart(caseExpected, ir.F32, y), tensorPart(caseGot, ir.F32, y),
	}
}

func writeCase(t *testing.T, text string, parts []part) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "case.safetensors")
	parts = append([]part{{checkpoint.Info{Name: caseText, DType: "U8", Shape: []int{len(text)}}, []byte(text)}}, parts...)
	var infos []checkpoint.Info
	for _, p := range parts {
		infos = append(infos, p.info)
	}
	err := checkpoint.WriteFile(path, infos, func(i int, w io.Writer) error {
		_, err := w.Write(parts[i].data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestReplayErrors: whatever is wrong with a case is an error that names the file.
func TestReplayErrors(t *testing.T) {
	text, parts := small()
	if r, err := Replay(writeCase(t, text, parts)); err != nil || !r.Interpreted.OK || !r.Recorded.OK {
		t.Fatalf("the case itself gives %+v, %v", r, err)
	}
	for _, c := range []struct{ old, new, want string }{
		{"graph @", "graph", "there is no graph"},
		{"rmsnorm %p0", "rmsnorm %p7", "p7"},
		{"budget 1e-05", "budget small", "small"},
		{"budget 1e-05", "budget NaN", "NaN"},
		{"kernels", "kernel", "unknown fact"},
		{"operand src=x", "operand src", "not operand=name"},
		{"operand src=x", "operand src=y", "operand src of the kernel is not a value"},
		{"k=4", "k=5", "sizes"},
		{"spec rowwise", "spec gemm n=4 math=f32 weight=f32", "operand w of the kernel"},
		{"budget 1e-05", "budget 1e-05\nplan gemm generic", "generic"},
		{"f32[T,4]", "f32[T,3]", "rmsnorm"},
	} {
		path := writeCase(t, strings.ReplaceAll(text, c.old, c.new), parts)
		if _, err := Replay(path); err == nil || !strings.HasPrefix(err.Error(), path) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("with %q for %q: got %v, want an error with %q", c.new, c.old, err, c.want)
		}
	}
	for i, want := range []string{`"x"`, `"w"`, "expected", "got"} {
		without := append(append([]part(nil), parts[:i]...), parts[i+1:]...)
		path := writeCase(t, text, without)
		if _, err := Replay(path); err == nil || !strings.HasPrefix(err.Error(), path) || !strings.Contains(err.Error(), want) {
			t.Errorf("without %s: got %v", want, err)
		}
	}
	other := append(parts[:len(parts):len(parts)], part{checkpoint.Info{Name: "other", DType: "U8", Shape: []int{1}}, []byte{0}})
	if _, err := Replay(writeCase(t, text, other)); err == nil || !strings.Contains(err.Error(), `"other"`) {
		t.Errorf("an unknown tensor gives %v", err)
	}
	if _, err := Replay(filepath.Join(t.TempDir(), "none")); err == nil || !os.IsNotExist(err) && !strings.Contains(err.Error(), "none") {
		t.Errorf("no file gives %v", err)
	}
}

// TestBudgets: budgets grow with what a kernel does and stay far below a wrong result.
func TestBudgets(t *testing.T) {
	gemm := kernel.Spec{Kind: kernel.Gemm, In: ir.F32, Out: ir.F32, Math: ir.F32, Weight: ir.F32, N: 1536, K: 1536}
	bf16 := gemm
	bf16.In, bf16.Math = ir.BF16, ir.BF16
	norm := bf16
	norm.In, norm.Prologue = ir.F32, kernel.RMSNorm
	attention := kernel.Spec{Kind: kernel.Attention, Math: ir.BF16, HeadDim: 64}
	last := 0.0
	for i, s := range []kernel.Spec{{Kind: kernel.Gather}, {Kind: kernel.Gather, Positions: true}, {Kind: kernel.Rowwise, K: 1536}, gemm, norm, attention} {
		b := localBudget(s, 512)
		if i > 0 && b <= last || b > 0.05 {
			t.Errorf("the budget of %s is %g, of the one before %g", s, b, last)
		}
		last = b
	}
	if a, b := localBudget(gemm, 512), localBudget(bf16, 512); a != b {
		t.Errorf("factors that are bf16 already have budget %g, f32 has %g", b, a)
	}
}

func TestMeasure(t *testing.T) {
	tensor := func(data ...float64) *ir.Tensor { return &ir.Tensor{DType: ir.F32, Shape: []int{2, 2}, Data: data} }
	inf, nan := math.Inf(1), math.NaN()
	for _, c := range []struct {
		got, want    *ir.Tensor
		row          int
		error, peak  float64
		ok, withZero bool
	}{
		{tensor(1, 2, 3, 4), tensor(1, 2, 3, 4), 0, 0, 0, true, true},
		{tensor(3, 4, 3, 4.5), tensor(3, 4, 3, 4), 1, 0.1, 0.125, true, false},
		{tensor(3, 4, 3, 8), tensor(3, 4, 3, 4), 1, 0.8, 1, false, false},
		{tensor(3, 4, 0, 1), tensor(3, 4, 0, 0), 1, inf, inf, false, false},
		{tensor(nan, 4, 3, 4), tensor(3, 4, 3, 4), 0, inf, inf, false, false},
		{tensor(nan, inf, 3, 4), tensor(nan, inf, 3, 4), 0, 0, 0, true, true},
	} {
		s := measure(c.got, c.want, 0.2)
		if s.Row != c.row || s.RowError != c.error || s.PeakError != c.peak || s.OK != c.ok {
			t.Errorf("%v against %v: %+v", c.got.Data, c.want.Data, s)
		}
		if s := measure(c.got, c.want, 0); s.OK != c.withZero {
			t.Errorf("%v against %v with budget 0: %+v", c.got.Data, c.want.Data, s)
		}
	}
}
