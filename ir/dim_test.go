package ir_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bertc/bertc/ir"
)

func TestDimText(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"0", "0"},
		{"64", "64"},
		{"T", "T"},
		{"1+B", "B+1"},
		{"-T+5", "-T+5"},
		{"2*T+1", "2*T+1"},
		{"T*2*3", "6*T"},
		{"B*T*B", "B*B*T"},
		{"T-T", "0"},
		{"T-2*T", "-T"},
		{"a*b+b*a-1", "2*a*b-1"},
		{"z + a*b + 7 - 7", "a*b+z"},
	} {
		d, err := ir.ParseDim(c.in)
		if err != nil {
			t.Errorf("%s: %v", c.in, err)
			continue
		}
		if d.String() != c.want {
			t.Errorf("%s prints as %s, want %s", c.in, d, c.want)
		}
	}
	for _, bad := range []string{"", "+", "T+", "2T", "T**2", "1.5", "(T)", "--1", "T.x", "%T"} {
		if d, err := ir.ParseDim(bad); err == nil {
			t.Errorf("%q is read as %s", bad, d)
		}
	}
}

// randomDim returns a dim and a function that computes it directly.
func randomDim(r *rand.Rand, depth int) (ir.Dim, func(env map[string]int) int) {
	if depth == 0 {
		if r.IntN(2) == 0 {
			n := r.IntN(7) - 3
			return ir.Const(n), func(map[string]int) int { return n }
		}
		s := []string{"A", "B", "C"}[r.IntN(3)]
		return ir.Sym(s), func(env map[string]int) int { return env[s] }
	}
	x, fx := randomDim(r, depth-1)
	y, fy := randomDim(r, depth-1)
	switch r.IntN(3) {
	case 0:
		return x.Add(y), func(e map[string]int) int { return fx(e) + fy(e) }
	case 1:
		return x.Sub(y), func(e map[string]int) int { return fx(e) - fy(e) }
	}
	return x.Mul(y), func(e map[string]int) int { return fx(e) * fy(e) }
}

func TestDimAlgebra(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 2000 {
		d, f := randomDim(r, r.IntN(4))
		env := map[string]int{"A": r.IntN(20) - 5, "B": r.IntN(20) - 5, "C": r.IntN(20) - 5}
		got, err := d.Eval(env)
		if err != nil {
			t.Fatal(err)
		}
		if want := f(env); got != want {
			t.Fatalf("%s is %d at %v, want %d", d, got, env, want)
		}
		again, err := ir.ParseDim(d.String())
		if err != nil || !again.Equal(d) {
			t.Fatalf("%s is read back as %s (%v)", d, again, err)
		}
		e, _ := randomDim(r, 2)
		if !d.Add(e).Sub(e).Equal(d) || !d.Mul(e).Equal(e.Mul(d)) || !d.Add(e).Mul(d).Equal(d.Mul(d).Add(e.Mul(d))) {
			t.Fatalf("%s and %s break a law of arithmetic", d, e)
		}
	}
}

func TestDimProperties(t *testing.T) {
	d := ir.Sym("T").Mul(ir.Sym("B")).Add(ir.Sym("T"))
	if got := d.Symbols(); !slices.Equal(got, []string{"B", "T"}) {
		t.Errorf("symbols of %s are %v", d, got)
	}
	if _, ok := d.IsConst(); ok {
		t.Errorf("%s is a constant", d)
	}
	if n, ok := (ir.Dim{}).IsConst(); !ok || n != 0 {
		t.Errorf("the zero Dim is %d, %v", n, ok)
	}
	if _, err := d.Eval(map[string]int{"T": 1}); err == nil {
		t.Error("a dim is evaluated without a symbol")
	}
}

func TestDimOverflow(t *testing.T) {
	big := ir.Const(1 << 40)
	sum := ir.Const(0)
	for i := range 70 {
		sum = sum.Add(ir.Sym("s" + string(rune('A'+i%60)) + string(rune('A'+i/60))))
	}
	for name, d := range map[string]ir.Dim{"product": big.Mul(big), "sum": ir.Const(1 << 60).Add(ir.Const(1)), "terms": sum} {
		if d.Valid() || d.Equal(d) || d.Add(ir.Const(1)).Valid() || d.String() != "overflow" {
			t.Errorf("%s: %s is taken for a valid dim", name, d)
		}
		if _, err := d.Eval(nil); err == nil {
			t.Errorf("%s: evaluated", name)
		}
	}
	if _, err := ir.Sym("T").Mul(ir.Sym("T")).Mul(ir.Sym("T")).Eval(map[string]int{"T": 1 << 30}); err == nil {
		t.Error("an overflow in Eval is not reported")
	}
}

func TestParseType(t *testing.T) {
	for _, s := range []string{"f32[]", "bf16[T,1536]", "i8[2*T+1]", "bool[B+1,4]"} {
		typ, err := ir.ParseType(s)
		if err != nil || typ.String() != s {
			t.Errorf("%s is read as %s (%v)", s, typ, err)
		}
	}
	for _, s := range []string{"", "f32", "f64[]", "f32[", "f32[] f32[]", "notype[]"} {
		if typ, err := ir.ParseType(s); err == nil {
			t.Errorf("%q is read as %s", s, typ)
		}
	}
}

func TestDTypes(t *testing.T) {
	for d, want := range map[ir.DType]struct {
		name string
		size int
	}{ir.F32: {"f32", 4}, ir.BF16: {"bf16", 2}, ir.F16: {"f16", 2}, ir.I8: {"i8", 1}, ir.I32: {"i32", 4}, ir.Bool: {"bool", 1}, 0: {"notype", 0}, 77: {"notype", 0}} {
		if d.String() != want.name || d.Size() != want.size {
			t.Errorf("%d is %s of %d bytes, want %s of %d", uint8(d), d, d.Size(), want.name, want.size)
		}
		if p, ok := ir.ParseDType(want.name); ok != d.Valid() || ok && p != d {
			t.Errorf("%s is read as %s, %v", want.name, p, ok)
		}
	}
}
