package irtest

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
)

// This file owns random tensors for the inputs and weights of any graph.

// Env returns random values for the symbols of g, small where the range
// allows, and T at least B where both are symbols.
func Env(g *ir.Graph, seed uint64) map[string]int {
	r := rand.New(rand.NewPCG(seed, 1))
	env := map[string]int{}
	for _, s := range g.Symbols {
		env[s.Name] = s.Min + r.IntN(min(s.Max-s.Min, 11)+1)
	}
	if b, ok := env["B"]; ok && env["T"] > 0 {
		env["B"] = min(b, env["T"])
	}
	return env
}

// Inputs returns random tensors for every input and weight of g, by outside
// name, with the shapes at the given values of the symbols; nil means
// Env(g, seed). Floats are normal and exact in their type. An i32 input that
// goes straight into gather or attention holds valid ids or offsets.
func Inputs(g *ir.Graph, seed uint64, env map[string]int) map[string]*ir.Tensor {
	if env == nil {
		env = Env(g, seed)
	}
	r := rand.New(rand.NewPCG(seed, 2))
	in := map[string]*ir.Tensor{}
	for _, v := range g.Values {
		a, ok := v.Attrs.(*ir.SourceAttrs)
		if !ok {
			continue
		}
		t := ir.NewTensor(v.Type.DType, shape(v.Type, env)...)
		fill(t, r)
		if v.Type.DType == ir.I32 {
			constrain(t, g, v, env, r)
		}
		in[a.Name] = t
	}
	return in
}

func shape(t ir.Type, env map[string]int) []int {
	s := make([]int, t.Rank())
	for i, d := range t.Dims {
		n, err := d.Eval(env)
		if err != nil {
			panic("irtest: " + err.Error())
		}
		s[i] = n
	}
	return s
}

// exact rounds a float to its type.
var exact = map[ir.DType]func(float64) float64{ir.F32: num.RoundF32, ir.BF16: num.RoundBF16, ir.F16: num.RoundF16}

func fill(t *ir.Tensor, r *rand.Rand) {
	for i := range t.Data {
		switch t.DType {
		case ir.I8:
			t.Data[i] = float64(r.IntN(17) - 8)
		case ir.I32:
			t.Data[i] = float64(r.IntN(4))
		case ir.Bool:
			t.Data[i] = float64(r.IntN(2))
		default:
			t.Data[i] = exact[t.DType](r.NormFloat64())
		}
	}
}

// constrain makes t valid for the ops of g that use v directly, also inside
// of groups.
func constrain(t *ir.Tensor, g *ir.Graph, v *ir.Value, env map[string]int, r *rand.Rand) {
	for _, u := range g.Values {
		for i, a := range u.Args {
			switch {
			case a != v:
			case u.Body != nil:
				constrain(t, u.Body, u.Body.Values[i], env, r)
			case u.Op.Name == "attention":
				offsets(t.Data, shape(u.Type, env)[0], r)
			case u.Op.Name == "gather" && i == 1:
				rows := shape(u.Args[0].Type, env)[0]
				for j := range t.Data {
					t.Data[j] = float64(r.IntN(rows))
				}
			}
		}
	}
}

// offsets fills out with the boundaries of sequences of n tokens in all, none
// of them empty when there are tokens enough.
func offsets(out []float64, n int, r *rand.Rand) {
	if len(out) < 2 {
		return
	}
	inner := len(out) - 2
	cuts := make([]int, 0, inner)
	if inner < n {
		for _, c := range r.Perm(n - 1)[:inner] {
			cuts = append(cuts, c+1)
		}
	}
	for len(cuts) < inner {
		cuts = append(cuts, r.IntN(n+1))
	}
	slices.Sort(cuts)
	out[0], out[len(out)-1] = 0, float64(n)
	for i, c := range cuts {
		out[i+1] = float64(c)
	}
}

// CheckSame fails the test unless the two graphs have outputs that agree on
// the given inputs: RelL2 of each output is at most tol.
func CheckSame(t testing.TB, before, after *ir.Graph, in map[string]*ir.Tensor, tol float64) {
	t.Helper()
	want, err := ir.Eval(before, in)
	if err != nil {
		t.Fatalf("before: %v", err)
	}
	got, err := ir.Eval(after, in)
	if err != nil {
		t.Fatalf("after: %v", err)
	}
	if len(got) != len(want) {
		t.Fatalf("after has %d outputs, before has %d", len(got), len(want))
	}
	for i, w := range want {
		if !slices.Equal(got[i].Shape, w.Shape) {
			t.Errorf("output %d has shape %v after, %v before", i, got[i].Shape, w.Shape)
			continue
		}
		if e := num.RelL2(got[i].Data, w.Data); !(e <= tol) {
			worst, at := num.MaxAbs(got[i].Data, w.Data)
			t.Errorf("output %d %%%s: rel-l2 %.3g is above %.3g, max-abs %.3g at %d\nbefore:\n%s\nafter:\n%s", i, before.Outputs[i].Name, e, tol, worst, at, before, after)
		}
	}
}
