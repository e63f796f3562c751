package program_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// testdata/rope.txt and absolute.txt are programs of one layer with a masked-language head.

func read(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func parse(t testing.TB, text string) *program.Program {
	t.Helper()
	p, err := program.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var programs = []string{"rope.txt", "absolute.txt"}

// TestRoundTrip: programs print as they were written, and are legal. The tests of passes do the
// same with every stage of every architecture.
func TestRoundTrip(t *testing.T) {
	for _, name := range programs {
		text := read(t, name)
		p := parse(t, text)
		if got := p.String(); got != text {
			t.Errorf("%s reads back as\n%s", name, got)
		}
		if err := program.Verify(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRoundTripRare: what the programs above do not have.
func TestRoundTripRare(t *testing.T) {
	const text = `program @g() {
  kernel n = rowwise in=f32 out=f32 k=8 prologue=rmsnorm eps=1e-05
    plan rowwise generic block=4x0
    plan rowwise amd64/avx512f block=8x0 ; this machine, 3 rows
  weight w.weight = i8[64,8] [n/32][k/64][n2][k16][n16][k4] interleave=16
    part gate [30,8] columns*smooth:a
    part up [30,8] columns*smooth:a rows/smooth:b
  weight w.scale = f32[64] [n/32][n32] interleave=16 scales
    part gate [30,8] columns*smooth:a
    part up [30,8] columns*smooth:a rows/smooth:b
  weight norm = f32[8] [n]
    part norm [8] rows/smooth:a
  weight w.bias = f32[60] [n/32][n32]
    part gate [30] rows+shift:w
    part zeros [30] rows+shift:w@30
  weight tokenizer = i8[123] [n]
    blob tokenizer
  buffer x = temp f32[T,8]
}
`
	if got := parse(t, text).String(); got != text {
		t.Errorf("it reads back as\n%s", got)
	}
}

func TestLookups(t *testing.T) {
	p := parse(t, read(t, "rope.txt"))
	k := p.Kernel("qkv")
	if k == nil || k.Spec.Kind != kernel.Gemm {
		t.Fatalf("kernel qkv is %v", k)
	}
	if plan, ok := k.Plan("generic"); !ok || plan.BlockM != 8 {
		t.Errorf("its plan is %v, %v", plan, ok)
	}
	if _, ok := k.Plan("z80"); ok {
		t.Error("it has a plan for z80")
	}
	if p.Kernel("x") != nil || p.Buffer("x") != nil || p.Weight("x") != nil {
		t.Error("there is something called x")
	}
	if b := p.Buffer("qkv"); b.Symbol() != "T" || b.Cols() != 16 || b.RowBytes() != 32 {
		t.Errorf("buffer qkv has %d columns, %d bytes in each of %s rows", b.Cols(), b.RowBytes(), b.Symbol())
	}
	if b := p.Buffer("ids"); b.Cols() != 1 || b.RowBytes() != 4 {
		t.Errorf("buffer ids has %d columns, %d bytes in a row", b.Cols(), b.RowBytes())
	}
	s := p.Steps[1]
	if s.Arg(program.Src) != "embed" || s.Arg(program.Res) != "" {
		t.Errorf("step %s reads src=%q res=%q", s.Name, s.Arg(program.Src), s.Arg(program.Res))
	}
	if n := p.HeadStart(); p.Steps[n].Name != "head.rows" {
		t.Errorf("the head starts with step %d", n)
	}
	p.Steps = p.Steps[:p.HeadStart()]
	if n := p.HeadStart(); n != len(p.Steps) {
		t.Errorf("without a head it starts with step %d of %d", n, len(p.Steps))
	}
}

// TestOperands: operands by Spec, in the order of printing.
func TestOperands(t *testing.T) {
	for _, c := range []struct {
		spec kernel.Spec
		want string
	}{
		{kernel.Spec{Kind: kernel.Gemm}, "[src dst w]"},
		{kernel.Spec{Kind: kernel.Gemm, Epilogue: "bias+rope+residual", Prologue: kernel.LayerNorm, Beta: true}, "[src pos res dst w bias gamma beta cos sin]"},
		{kernel.Spec{Kind: kernel.Gemm, Epilogue: "glu", Prologue: kernel.RMSNorm}, "[src dst w gamma]"},
		{kernel.Spec{Kind: kernel.Attention}, "[src dst]"},
		{kernel.Spec{Kind: kernel.Rowwise, Prologue: kernel.RMSNorm}, "[src dst gamma]"},
		{kernel.Spec{Kind: kernel.Gather}, "[index dst w]"},
		{kernel.Spec{Kind: kernel.Gather, Positions: true}, "[index pos dst w postable]"},
		{kernel.Spec{Kind: kernel.Gather, Activations: true}, "[src index dst]"},
	} {
		if got := fmt.Sprint(program.Operands(c.spec)); got != c.want {
			t.Errorf("%s takes %s, want %s", c.spec, got, c.want)
		}
	}
}

// TestLives: spans from the step that writes to the last that reads; writing in place goes on with
// a span, writing anew begins one.
func TestLives(t *testing.T) {
	p := parse(t, `program @g(T: 1..8) {
  buffer in = input f32[T,8]
  buffer unused = input f32[T,8]
  buffer a = temp f32[T,8]
  buffer b = temp f32[T,8]
  buffer out = output f32[T,8]
  step s0 = k src=in dst=a w=b
  step s1 = k src=a dst=b
  step s2 = k src=b res=a dst=a
  step s3 = k src=a dst=b
  step s4 = k src=b dst=out
  step s5 = k src=in dst=a
}`)
	want := [][]program.Life{
		{{First: -1, Last: 5}},                     // in
		{{First: -1, Last: -1}},                    // unused
		{{First: 0, Last: 3}, {First: 5, Last: 5}}, // a, in place in s2, anew in s5
		{{First: 1, Last: 2}, {First: 3, Last: 4}}, // b: "w=b" is the name of a weight
		{{First: 4, Last: 6}},                      // out
	}
	for i, got := range program.Lives(p) {
		if !slices.Equal(got, want[i]) {
			t.Errorf("%s lives %v, want %v", p.Buffers[i].Name, got, want[i])
		}
	}
}

func TestOverlap(t *testing.T) {
	type lives = []program.Life
	for _, c := range []struct {
		a, b lives
		want bool
	}{
		{nil, lives{{0, 9}}, false},
		{lives{{0, 1}}, lives{{2, 3}}, false},
		{lives{{0, 2}}, lives{{2, 3}}, true}, // read by the step that writes the other
		{lives{{0, 1}, {6, 7}}, lives{{2, 5}}, false},
		{lives{{0, 1}, {4, 7}}, lives{{2, 5}}, true},
		{lives{{-1, -1}}, lives{{0, 3}}, false},
	} {
		if got, back := program.Overlap(c.a, c.b), program.Overlap(c.b, c.a); got != c.want || back != c.want {
			t.Errorf("%v and %v overlap: %v, the other way around %v, want %v", c.a, c.b, got, back, c.want)
		}
	}
}

// TestAreaBytes: the area holds the buffer that ends last, rows are rounded up to 16.
func TestAreaBytes(t *testing.T) {
	p := parse(t, `program @g(T: 1..8192, M: 1..8192) {
  buffer a = temp f32[T,8] @4
  buffer b = temp bf16[T,3] @40
  buffer c = temp f32[M,8] @0
}`)
	if s := p.HeadSymbol(); s != "M" {
		t.Errorf("the symbol of the head is %q", s)
	}
	for _, c := range []struct {
		symbol     string
		rows, want int
	}{
		{"T", 1, 16 * 48}, {"T", 16, 16 * 48}, {"T", 17, 32 * 48}, {"T", 0, 0}, // b: 6 bytes, rounded up to 8
		{"M", 5, 16 * 32},
		{"X", 5, 0},
	} {
		if got := p.AreaBytes(c.symbol, c.rows); got != c.want {
			t.Errorf("%d rows of %s take %d bytes, want %d", c.rows, c.symbol, got, c.want)
		}
	}
}
