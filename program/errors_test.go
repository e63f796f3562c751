package program_test

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/filetest"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// TestParseErrors runs testdata/errors: each section is a text that Parse rejects, with the error
// at the offending line.
func TestParseErrors(t *testing.T) {
	filetest.Run(t, "testdata/errors/*.txt", func(t *testing.T, f *filetest.File) {
		for _, s := range f.Sections {
			_, err := program.Parse(filetest.Unmark(s.Text))
			if err == nil {
				t.Errorf("section %q is accepted", s.Name)
				continue
			}
			number, message, _ := strings.Cut(err.Error(), ": ")
			line, bad := strconv.Atoi(number)
			if bad != nil {
				t.Errorf("section %q: the error does not begin with a line: %v", s.Name, err)
			}
			f.WantError(t, s.Name, line, errors.New(message))
		}
	})
}

// TestVerifyErrors makes one change to a legal program for each rule.
func TestVerifyErrors(t *testing.T) {
	for _, c := range []struct{ file, old, new, want string }{
		{"rope.txt", "T: 1..8192", "T: 9..8", "symbol T has range 9..8"},
		{"rope.txt", "M: 1..8192", "T: 1..8192", `two symbols are called "T"`},
		{"rope.txt", "kernel down =", "kernel gate_up =", `two kernels are called "gate_up"`},
		{"rope.txt", "weight rope.sin =", "weight rope.cos =", `two weights are called "rope.cos"`},
		{"rope.txt", "buffer rows =", "buffer ids =", `two buffers are called "ids"`},
		{"rope.txt", "step layer.0.down =", "step layer.0.qkv =", `two steps are called "layer.0.qkv"`},

		{"rope.txt", "plan rowwise generic block=8x0", "plan rowwise generic block=0x0", "kernel hidden: plan rowwise generic: block of 0 rows is not in 1..4096"},
		{"rope.txt", "plan rowwise generic block=8x0", "plan rowwise generic block=8x0\nplan rowwise generic block=16x0", "kernel hidden: two plans for generic"},

		{"rope.txt", "hidden.norm.weight = f32[8] [n]", "hidden.norm.weight = f32[8] [n/4]", `weight hidden.norm.weight: layout "[n/4]": dimension "n": inner factors multiply to 1, want 4`},
		{"rope.txt", "hidden.norm.weight = f32[8] [n]", "hidden.norm.weight = f32[8] [n][k]", "weight hidden.norm.weight: layout [n][k] does not fit shape [8]"},
		{"rope.txt", "hidden.norm.weight = f32[8] [n]", "hidden.norm.weight = f32[0] [n]", "weight hidden.norm.weight: shape [0] is out of range"},
		{"rope.txt", "weight rope.cos = f32[6,2]", "weight rope.cos = f32[4294967296,4294967296]", "weight rope.cos: shape [4294967296,4294967296] is out of range"},
		{"rope.txt", "    part encoder.ln.weight [8]\n", "", "weight hidden.norm.weight: needs exactly one of parts, rope and blob"},
		{"rope.txt", "    part encoder.ln.weight [8]\n", "part encoder.ln.weight [8]\nblob x\n", "weight hidden.norm.weight: needs exactly one of parts, rope and blob"},
		{"rope.txt", "hidden.norm.weight = f32[8] [n]", "hidden.norm.weight = f32[8] [n] interleave=4", "weight hidden.norm.weight: interleave needs two parts or more"},
		{"rope.txt", "rope cos theta=10000 headdim=4", "rope cos theta=10000 headdim=8", "weight rope.cos: the rotary table does not have shape [6,2]"},
		{"rope.txt", "rope cos theta=10000 headdim=4", "rope cos theta=NaN headdim=4", "weight rope.cos: the rotary table does not have shape [6,2]"},
		{"rope.txt", "key.weight [4,8]", "key.weight [4,9]", "weight layer.0.qkv.weight: part encoder.layer.0.attention.self.key.weight [4,9] does not fit [16,8]"},
		{"rope.txt", "key.weight [4,8]", "key.weight [5,8]", "weight layer.0.qkv.weight: parts have 17 rows in all, the shape has 16"},
		{"rope.txt", "up_proj.weight [20,8]", "up_proj.weight [19,8]", "weight layer.0.gate_up.weight: interleaved parts have 20 and 19 rows"},

		{"rope.txt", "buffer attention = temp", "buffer attention = scratch", `buffer attention: unknown role "scratch"`},
		{"rope.txt", "buffer attention = temp bf16[T,8]", "buffer attention = temp bf16[T,2,4]", "buffer attention: type bf16[T,2,4] is not [symbol] or [symbol, columns]"},
		{"rope.txt", "buffer attention = temp bf16[T,8]", "buffer attention = temp bf16[]", "buffer attention: type bf16[] is not [symbol] or [symbol, columns]"},
		{"rope.txt", "buffer attention = temp bf16[T,8]", "buffer attention = temp bf16[S,8]", `buffer attention: rows "S" are not a symbol of the program`},
		{"rope.txt", "buffer attention = temp bf16[T,8]", "buffer attention = temp bf16[T,M]", "buffer attention: 0 columns"},

		{"rope.txt", "step layer.0.down = down", "step layer.0.down = up", `step layer.0.down: unknown kernel "up"`},
		{"rope.txt", "dst=head.dense", "dst=head", `step head.dense: unknown buffer "head"`},
		{"rope.txt", "step head.rows = head.rows src=hidden", "step head.rows = head.rows src=hid", `step head.rows: unknown buffer "hid"`},
		{"rope.txt", "w=layer.0.down.weight", "w=down.weight", `step layer.0.down: unknown weight "down.weight"`},
		{"rope.txt", "step layer.0.down = down src=gate_up res=embed", "step layer.0.down = down src=gate_up", "step layer.0.down: kernel down takes [src res dst w], found [src dst w]"},
		{"rope.txt", "src=hidden index=rows", "index=rows src=hidden", "step head.rows: operand index, want src"},
		{"rope.txt", "src=hidden index=rows dst=head.rows", "src=hidden index=rows dst=rows", "step head.rows: dst is the input rows"},
		{"rope.txt", "src=gate_up res=embed", "src=qkv res=embed", "step layer.0.down: src is bf16[T,16], kernel down wants bf16 and 20 columns"},
		{"rope.txt", "index=rows dst=head.rows", "index=ids dst=head.rows", "step head.rows: index has rows T, the result M"},
		{"rope.txt", "src=qkv dst=attention", "src=qkv dst=picked", "step layer.0.attention: dst has rows M, attention runs on sequences of T"},
		{"rope.txt", "index=ids dst=embed", "index=ids dst=free", "step layer.0.qkv: src reads embed before it is written"},
		{"rope.txt", "src=attention res=embed", "src=embed.bf16 res=embed", "step layer.0.attention_output: src reads embed.bf16 before it is written"},
		{"rope.txt", "step hidden = hidden src=embed dst=hidden", "step hidden = hidden src=embed dst=embed", "step hidden: src and dst are both embed"},
		{"rope.txt", "buffer free = temp", "buffer free = output", "output free is never written"},
		{"rope.txt", "w=layer.0.down.weight", "w=layer.0.gate_up.weight", "step layer.0.down: w is bf16[64,8] [n/32][k/32][n2][k16][n16][k2], kernel down wants bf16[8,20] [n/32][k/32][n2][k16][n16][k2]"},
		{"rope.txt", "cos=rope.cos", "cos=hidden.norm.weight", "step layer.0.qkv: cos is f32[8] [n], kernel qkv wants f32[any,2] [n][k]"},
		{"absolute.txt", "postable=embed.positions", "postable=hidden.norm.bias", "step embed: postable is f32[8] [n], kernel embed wants f32[any,8] [n][k]"},
		{"absolute.txt", "bias=layer.0.qkv.bias", "bias=layer.0.gate_up.bias", "step layer.0.qkv: bias is f32[64] [n/32][n32], kernel qkv wants f32[16] [n/32][n32]"},
		{"absolute.txt", "beta=hidden.norm.bias", "beta=embed.positions", "step hidden: beta is f32[6,8] [n][k], kernel hidden wants f32[8] [n]"},
	} {
		text := read(t, c.file)
		// Two temporary buffers that are free for the changes.
		text = strings.Replace(text, "  buffer logits", "  buffer free = temp f32[T,8]\n  buffer picked = temp bf16[M,8]\n  buffer embed.bf16 = temp bf16[T,8]\n  buffer logits", 1)
		if err := program.Verify(parse(t, text)); err != nil {
			t.Fatal(err)
		}
		changed := strings.Replace(text, c.old, c.new, 1)
		if changed == text {
			t.Errorf("%s does not have %q", c.file, c.old)
		}
		err := program.Verify(parse(t, changed))
		if want := "program @masked_lm: " + c.want; err == nil || err.Error() != want {
			t.Errorf("%q for %q: the error is\n%v\nwant\n%s", c.new, c.old, err, want)
		}
	}
}

// TestVerifyMemory: offsets, on a program of four steps.
func TestVerifyMemory(t *testing.T) {
	text := `program @g(T: 1..8) {
  kernel n = rowwise in=f32 out=f32 k=2 prologue=rmsnorm eps=1e-05
  weight w = f32[2] [n]
    part w [2]
  buffer in = input f32[T,2] @%d
  buffer a = temp f32[T,2] @%d
  buffer b = temp f32[T,2] @%d
  buffer out = output f32[T,2] @%d
  step s0 = n src=in dst=a gamma=w
  step s1 = n src=a dst=b gamma=w
  step s2 = n src=in dst=out gamma=w
}
`
	for _, c := range []struct {
		in, a, b, out int
		want          string
	}{
		{0, 8, 16, 8, ""},
		{0, 8, 16, 16, ""},
		{0, 8, 12, 24, "program @g: buffers a and b are alive together and share memory"},
		{0, 4, 16, 24, "program @g: buffers in and a are alive together and share memory"},
		{8, 16, 0, 4, "program @g: buffers in and out are alive together and share memory"},
		{0, 8, 18, 24, "program @g: buffer b: offset 18 is not a multiple of 4"},
	} {
		err := program.Verify(parse(t, fmt.Sprintf(text, c.in, c.a, c.b, c.out)))
		if got := fmt.Sprint(err); got != c.want && (err != nil || c.want != "") {
			t.Errorf("offsets %d, %d, %d, %d: the error is %v, want %q", c.in, c.a, c.b, c.out, err, c.want)
		}
	}
}

// TestVerifyUnprintable: what a program made by hand can have and its text cannot.
func TestVerifyUnprintable(t *testing.T) {
	for _, c := range []struct {
		set  func(p *program.Program)
		want string
	}{
		{func(p *program.Program) { p.Kernels[0].Name = "" }, `a kernel is called "": a name is one word`},
		{func(p *program.Program) { p.Steps[0].Name = "a b" }, `a step is called "a b": a name is one word`},
		{func(p *program.Program) { p.Weights[0].Parts[0].Tensor = "a b" }, `weight embed.weight: part "a b": the text form cannot hold that name`},
		{func(p *program.Program) { p.Weights[0].Parts[0].Tensor = "zeros" }, `weight embed.weight: part "zeros": the text form cannot hold that name`},
		{func(p *program.Program) { p.Kernels[0].From = []string{"a", "b"} }, "kernel embed: 1 plans, but 2 places that they are from"},
		{func(p *program.Program) { p.Kernels[0].Spec.Kind = "conv" }, `kernel embed: spec: unknown kind "conv"`},
		{func(p *program.Program) { p.Kernels[0].Plans[0] = kernel.Plan{} }, "kernel embed: plan  : does a , the spec is a gather"},
	} {
		p := parse(t, read(t, "rope.txt"))
		c.set(p)
		if err := program.Verify(p); err == nil || err.Error() != "program @masked_lm: "+c.want {
			t.Errorf("the error is %v, want %s", err, c.want)
		}
	}
}
