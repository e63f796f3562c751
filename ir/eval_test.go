package ir_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/ir/irtest"
)

func parse(t testing.TB, text string) *ir.Graph {
	t.Helper()
	g, err := ir.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// reference compares the one output of a graph with an independent function
// of the graph's inputs.
func reference(t *testing.T, text string, env map[string]int, f func(in map[string]*ir.Tensor) []float64) {
	t.Helper()
	g := parse(t, text)
	for seed := range uint64(5) {
		in := irtest.Inputs(g, seed, env)
		out, err := ir.Eval(g, in)
		if err != nil {
			t.Fatal(err)
		}
		want := f(in)
		if e := num.RelL2(out[0].Data, want); !(e < 1e-12) {
			t.Errorf("seed %d: rel-l2 is %g\ngot  %v\nwant %v", seed, e, out[0].Data[:8], want[:8])
		}
	}
}

func TestLinear(t *testing.T) {
	reference(t, `graph @g(T: 1..64) {
  %x = input "x" : bf16[T,37]
  %w = input "w" : bf16[19,37]
  %b = input "b" : f16[19]
  %y = linear %x, %w, %b {out=f32} : f32[T,19]
  return %y
}`, map[string]int{"T": 23}, func(in map[string]*ir.Tensor) []float64 {
		x, w, b := in["x"].Data, in["w"].Data, in["b"].Data
		out := make([]float64, 23*19)
		for i := range out {
			for k := range 37 {
				out[i] += x[i/19*37+k] * w[i%19*37+k]
			}
			out[i] += b[i%19]
		}
		return out
	})
}

func TestLargeDot(t *testing.T) {
	// Large enough to be split among processors, with a number of columns
	// that is no multiple of anything.
	reference(t, `graph @g {
  %x = input "x" : f32[2,3,1031]
  %w = input "w" : f32[2,131,1031]
  %y = dot %x, %w : f32[2,3,131]
  return %y
}`, nil, func(in map[string]*ir.Tensor) []float64 {
		x, w := in["x"].Data, in["w"].Data
		out := make([]float64, 2*3*131)
		for b := range 2 {
			for m := range 3 {
				for n := range 131 {
					for k := range 1031 {
						out[(b*3+m)*131+n] += x[(b*3+m)*1031+k] * w[(b*131+n)*1031+k]
					}
				}
			}
		}
		return out
	})
}

func TestNorms(t *testing.T) {
	const n = 24
	moments := func(x []float64) (mean, square, variance float64) {
		for _, v := range x {
			mean += v / n
			square += v * v / n
		}
		for _, v := range x {
			variance += (v - mean) * (v - mean) / n
		}
		return
	}
	reference(t, `graph @g(T: 1..64) {
  %x = input "x" : f32[T,24]
  %g = input "g" : bf16[24]
  %y = rmsnorm %x, %g {eps=0.25} : f32[T,24]
  return %y
}`, map[string]int{"T": 7}, func(in map[string]*ir.Tensor) []float64 {
		x := in["x"].Data
		out := make([]float64, len(x))
		for i, v := range x {
			_, square, _ := moments(x[i/n*n : i/n*n+n])
			out[i] = v / math.Sqrt(square+0.25) * in["g"].Data[i%n]
		}
		return out
	})
	reference(t, `graph @g(T: 1..64) {
  %x = input "x" : f32[T,2,24]
  %g = input "g" : f32[24]
  %b = input "b" : f32[24]
  %y = layernorm %x, %g, %b {eps=0.25} : f32[T,2,24]
  return %y
}`, map[string]int{"T": 4}, func(in map[string]*ir.Tensor) []float64 {
		x := in["x"].Data
		out := make([]float64, len(x))
		for i, v := range x {
			mean, _, variance := moments(x[i/n*n : i/n*n+n])
			out[i] = (v-mean)/math.Sqrt(variance+0.25)*in["g"].Data[i%n] + in["b"].Data[i%n]
		}
		return out
	})
}

func TestNormOverSymbol(t *testing.T) {
	reference(t, `graph @g(T: 1..64) {
  %x = input "x" : f32[3,T]
  %g = input "g" : f32[T]
  %y = rmsnorm %x, %g {eps=0.25} : f32[3,T]
  return %y
}`, map[string]int{"T": 5}, func(in map[string]*ir.Tensor) []float64 {
		x := in["x"].Data
		out := make([]float64, len(x))
		for i, v := range x {
			s := 0.0
			for _, u := range x[i/5*5 : i/5*5+5] {
				s += u * u
			}
			out[i] = v / math.Sqrt(s/5+0.25) * in["g"].Data[i%5]
		}
		return out
	})
}

func TestRope(t *testing.T) {
	const heads, d = 3, 8
	reference(t, `graph @g(T: 1..64) {
  %x = input "x" : f32[T,24]
  %p = input "p" : i32[T]
  %y = rope %x, %p {heads=3, theta=10000} : f32[T,24]
  return %y
}`, map[string]int{"T": 9}, func(in map[string]*ir.Tensor) []float64 {
		x, pos := in["x"].Data, in["p"].Data
		out := make([]float64, len(x))
		for t := range pos {
			for h := range heads {
				row := x[(t*heads+h)*d:][:d]
				for j := range d / 2 {
					// The pair is a complex number that is turned by angle.
					angle := pos[t] * math.Pow(10000, -2*float64(j)/d)
					z := complex(row[j], row[j+d/2]) * complex(math.Cos(angle), math.Sin(angle))
					out[(t*heads+h)*d+j], out[(t*heads+h)*d+j+d/2] = real(z), imag(z)
				}
			}
		}
		return out
	})
}

func TestActivations(t *testing.T) {
	for act, f := range map[string]func(float64) float64{
		"silu": func(x float64) float64 { return x / (1 + math.Exp(-x)) },
		"gelu": func(x float64) float64 { return x * 0.5 * math.Erfc(-x/math.Sqrt2) },
	} {
		each := func(in map[string]*ir.Tensor) []float64 {
			var out []float64
			for _, x := range in["x"].Data {
				out = append(out, f(x))
			}
			return out
		}
		reference(t, `graph @g {
  %x = input "x" : f32[40]
  %y = `+act+` %x : f32[40]
  return %y
}`, nil, each)
		reference(t, `graph @g {
  %x = input "x" : f32[40]
  %u = input "u" : f16[40]
  %y = glu %x, %u {act=`+act+`} : f32[40]
  return %y
}`, nil, func(in map[string]*ir.Tensor) []float64 {
			out := each(in)
			for i := range out {
				out[i] *= in["u"].Data[i]
			}
			return out
		})
	}
}

func TestAttention(t *testing.T) {
	for _, c := range []struct{ heads, kv, d, tokens, seqs int }{{4, 4, 3, 11, 3}, {6, 2, 4, 9, 1}, {4, 1, 5, 7, 7}, {1, 1, 1, 8, 2}} {
		reference(t, fmt.Sprintf(`graph @g(T: 1..64, B: 1..64) {
  %%q = input "q" : f32[T,%d]
  %%k = input "k" : f32[T,%d]
  %%v = input "v" : f32[T,%d]
  %%o = input "o" : i32[B+1]
  %%y = attention %%q, %%k, %%v, %%o {heads=%d, kvheads=%d, scale=0.7} : f32[T,%d]
  return %%y
}`, c.heads*c.d, c.kv*c.d, c.kv*c.d, c.heads, c.kv, c.heads*c.d),
			map[string]int{"T": c.tokens, "B": c.seqs}, func(in map[string]*ir.Tensor) []float64 {
				return attention(in, c.heads, c.kv, c.d)
			})
	}
}

// attention goes sequence by sequence, token by token, head by head.
func attention(in map[string]*ir.Tensor, heads, kv, d int) []float64 {
	q, k, v, offsets := in["q"].Data, in["k"].Data, in["v"].Data, in["o"].Data
	out := make([]float64, len(q))
	for s := range len(offsets) - 1 {
		lo, hi := int(offsets[s]), int(offsets[s+1])
		for t := lo; t < hi; t++ {
			for h := range heads {
				head := h / (heads / kv)
				var weights []float64
				total := 0.0
				for u := lo; u < hi; u++ {
					score := 0.0
					for j := range d {
						score += q[(t*heads+h)*d+j] * k[(u*kv+head)*d+j]
					}
					weights = append(weights, math.Exp(0.7*score))
					total += weights[len(weights)-1]
				}
				for u := lo; u < hi; u++ {
					for j := range d {
						out[(t*heads+h)*d+j] += weights[u-lo] / total * v[(u*kv+head)*d+j]
					}
				}
			}
		}
	}
	return out
}

func TestPrecision(t *testing.T) {
	g := parse(t, `graph @g {
  %x = input "x" : f32[1]
  %n = neg %x : f32[1]
  %h = cast %n {to=bf16} : bf16[1]
  %s = add %h, %h : bf16[1]
  return %n, %h, %s
}`)
	x := 1.0 / 3
	out, err := ir.Eval(g, map[string]*ir.Tensor{"x": {DType: ir.F32, Shape: []int{1}, Data: []float64{x}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := out[0].Data[0]; got != -x {
		t.Errorf("f32 is rounded: %v", got)
	}
	if got := out[1].Data[0]; got != num.RoundBF16(-x) {
		t.Errorf("bf16 is not rounded: %v", got)
	}
	if got := out[2].Data[0]; got != 2*num.RoundBF16(-x) {
		t.Errorf("sum in bf16 is %v", got)
	}
}

func TestInputIsRounded(t *testing.T) {
	g := parse(t, `graph @g {
  %w = weight "w" : bf16[1]
  return %w
}`)
	given := &ir.Tensor{DType: ir.F32, Shape: []int{1}, Data: []float64{0.1}}
	out, err := ir.Eval(g, map[string]*ir.Tensor{"w": given})
	if err != nil {
		t.Fatal(err)
	}
	if out[0].Data[0] != num.RoundBF16(0.1) || given.Data[0] != 0.1 {
		t.Errorf("got %v, given %v", out[0].Data, given.Data)
	}
}

func TestWeightsAndObserver(t *testing.T) {
	g := parse(t, `graph @g {
  %x = input "x" : f32[2]
  %w = weight "a/w" : f32[2]
  %y = group mul @scale(%x, %w) {
    %m = mul %p0, %p1 : f32[2]
    yield %m
  } : f32[2]
  %z = silu %y : f32[2]
  return %z
}`)
	var asked, seen []string
	_, err := ir.Eval(g, map[string]*ir.Tensor{"x": ir.NewTensor(ir.F32, 2)},
		ir.WithWeights(func(name string, typ ir.Type) (*ir.Tensor, error) {
			asked = append(asked, name+" "+typ.String())
			return ir.NewTensor(ir.F32, 2), nil
		}),
		ir.WithObserver(func(v *ir.Value, x *ir.Tensor) { seen = append(seen, v.Name) }))
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(asked, []string{"a/w f32[2]"}) {
		t.Errorf("asked for %v", asked)
	}
	if !slices.Equal(seen, []string{"x", "w", "m", "y", "z"}) {
		t.Errorf("observed %v", seen)
	}
}

func TestEvalErrors(t *testing.T) {
	const text = `graph @g(T: 1..8, B: 1..4) {
  %x = input "x" : f32[T,2]
  %i = input "i" : i32[T]
  %o = input "o" : i32[B+1]
  %w = weight "w" : f32[3,2]
  %y = gather %w, %i : f32[T,2]
  %r = add %x, %y : f32[T,2]
  return %r
}`
	good := func() map[string]*ir.Tensor {
		return map[string]*ir.Tensor{
			"x": ir.NewTensor(ir.F32, 3, 2), "i": ir.NewTensor(ir.I32, 3), "o": ir.NewTensor(ir.I32, 2), "w": ir.NewTensor(ir.F32, 3, 2),
		}
	}
	g := parse(t, text)
	if _, err := ir.Eval(g, good()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		want string
		spot func(in map[string]*ir.Tensor)
		opts []ir.EvalOption
	}{
		{`no tensor is given for input "x"`, func(in map[string]*ir.Tensor) { delete(in, "x") }, nil},
		{`%w = weight: no tensor is given for "w"`, func(in map[string]*ir.Tensor) { delete(in, "w") }, nil},
		{`%w = weight: lost`, func(in map[string]*ir.Tensor) { delete(in, "w") },
			[]ir.EvalOption{ir.WithWeights(func(string, ir.Type) (*ir.Tensor, error) { return nil, fmt.Errorf("lost") })}},
		{`input "x" has shape [3], want f32[T,2]`, func(in map[string]*ir.Tensor) { in["x"] = ir.NewTensor(ir.F32, 3) }, nil},
		{`%x = input: "x" has shape [3 4], want [3 2] for f32[T,2]`, func(in map[string]*ir.Tensor) { in["x"] = ir.NewTensor(ir.F32, 3, 4) }, nil},
		{`input "i" with type i32[T] and shape [4] makes T 4, but input "x" makes it 3`, func(in map[string]*ir.Tensor) { in["i"] = ir.NewTensor(ir.I32, 4) }, nil},
		{`input "o" makes B 5, outside of 1..4`, func(in map[string]*ir.Tensor) { in["o"] = ir.NewTensor(ir.I32, 6) }, nil},
		{`input "o" makes B -1, outside of 1..4`, func(in map[string]*ir.Tensor) { in["o"] = ir.NewTensor(ir.I32, 0) }, nil},
		{`"w": shape [3 2] has 6 elements, data has 1`, func(in map[string]*ir.Tensor) { in["w"].Data = []float64{1} }, nil},
		{`"w": shape [-3 2] has a negative dim`, func(in map[string]*ir.Tensor) { in["w"].Shape = []int{-3, 2} }, nil},
		{`"w": element type is not set`, func(in map[string]*ir.Tensor) { in["w"].DType = 0 }, nil},
		{`%y = gather: id 3 at index 1 is outside of a table of 3 rows`, func(in map[string]*ir.Tensor) { in["i"].Data[1] = 3 }, nil},
		{`%y = gather: id -1 at index 0 is outside of a table of 3 rows`, func(in map[string]*ir.Tensor) { in["i"].Data[0] = -1 }, nil},
		{`has too many elements`, func(map[string]*ir.Tensor) {}, []ir.EvalOption{ir.WithMaxElems(5)}},
	} {
		in := good()
		c.spot(in)
		if _, err := ir.Eval(g, in, c.opts...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got error %v, want %s", err, c.want)
		}
	}
}

func TestSliceOutOfRange(t *testing.T) {
	g := parse(t, `graph @g(T: 1..8) {
  %x = input "x" : f32[T]
  %y = slice %x {start=2, stop=4} : f32[2]
  return %y
}`)
	_, err := ir.Eval(g, map[string]*ir.Tensor{"x": ir.NewTensor(ir.F32, 3)})
	if err == nil || !strings.Contains(err.Error(), "range 2..4 is outside of axis 0 with dim 3") {
		t.Errorf("got %v", err)
	}
}

func TestUnboundSymbol(t *testing.T) {
	g := parse(t, `graph @g(T: 1..8) {
  %x = input "x" : f32[2*T]
  return %x
}`)
	_, err := ir.Eval(g, map[string]*ir.Tensor{"x": ir.NewTensor(ir.F32, 4)})
	if err == nil || !strings.Contains(err.Error(), "no input gives symbol T a value") {
		t.Errorf("got %v", err)
	}
}
