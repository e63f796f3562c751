package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// The interpreter is compared with the mathematics of a Spec, written here in float64 on
// unpacked tensors without blocks or tiles.

func random(r *rand.Rand, d ir.DType, n int, deviation float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.NormFloat64() * deviation)
		if d == ir.BF16 {
			out[i] = num.FromBF16(num.BF16(out[i]))
		}
	}
	return out
}

func rounded(d ir.DType, x float64) float64 {
	if d == ir.BF16 {
		return num.RoundBF16(x)
	}
	return x
}

func naiveNorm(s kernel.Spec, x, gamma, beta []float32) []float64 {
	mean, sum := 0.0, 0.0
	if s.Prologue == kernel.LayerNorm {
		for _, v := range x {
			mean += float64(v) / float64(len(x))
		}
	}
	for _, v := range x {
		sum += (float64(v) - mean) * (float64(v) - mean)
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
		if s.Prologue != kernel.NoPrologue {
			out[i] = (float64(v) - mean) / math.Sqrt(sum/float64(len(x))+s.Eps) * float64(gamma[i])
		}
		if s.Beta {
			out[i] += float64(beta[i])
		}
	}
	return out
}

// quantize rounds a row to 8 bits. The inverse of the scale is an f32, which decides ties.
func quantize(x []float64) {
	most := 0.0
	for _, v := range x {
		most = max(most, math.Abs(v))
	}
	inverse := 127 / float32(most)
	for i, v := range x {
		x[i] = math.RoundToEven(float64(float32(v)*inverse)) * most / 127
	}
}

func naiveSiLU(x float64) float64 { return x / (1 + math.Exp(-x)) }

// naiveGemm returns the result for weights w, [WeightRows][K], and how large the terms of each
// sum are, which bounds the rounding errors.
func naiveGemm(s kernel.Spec, in kernel.GemmInput, w []float32) (out, size []float64) {
	for m := range in.M {
		x := naiveNorm(s, in.X[m*s.K:(m+1)*s.K], in.Gamma, in.Beta)
		if s.Math == ir.I8 {
			quantize(x)
		}
		y, terms := make([]float64, s.WeightRows()), make([]float64, s.WeightRows())
		for n := range y {
			for k, v := range x {
				p := rounded(s.Math, v) * float64(w[n*s.K+k])
				y[n] += p
				terms[n] += math.Abs(p)
			}
			if s.Epilogue.Has(kernel.Bias) {
				y[n] += float64(in.Bias[n])
				terms[n] += math.Abs(float64(in.Bias[n]))
			}
		}
		if s.Epilogue.Has(kernel.Rope) {
			half := s.HeadDim / 2
			for n := 0; n < s.RopeCols(); n += s.HeadDim {
				for j := range half {
					at := int(in.Pos[m])*half + j
					c, sn := float64(in.Cos[at]), float64(in.Sin[at])
					lo, hi := y[n+j], y[n+half+j]
					y[n+j], y[n+half+j] = lo*c-hi*sn, hi*c+lo*sn
					terms[n+j] += terms[n+half+j]
					terms[n+half+j] = terms[n+j]
				}
			}
		}
		for n := range s.N {
			v, t := y[min(n, len(y)-1)], terms[min(n, len(y)-1)]
			switch {
			case s.Epilogue.Has(kernel.GLU):
				// Recipe order interleaves 16 gate rows and 16 up rows.
				gate := n/kernel.GLUWidth*2*kernel.GLUWidth + n%kernel.GLUWidth
				up := gate + kernel.GLUWidth
				v = naiveSiLU(y[gate]) * y[up]
				t = 2*terms[gate]*(1+math.Abs(y[up])) + terms[up]*(1+math.Abs(y[gate]))
			case s.Epilogue.Has(kernel.SiLU):
				v = naiveSiLU(v)
				t *= 2
			case s.Epilogue.Has(kernel.Tanh):
				v = math.Tanh(v)
			}
			if s.Epilogue.Has(kernel.Residual) {
				v += float64(in.Residual[m*s.N+n])
			}
			out, size = append(out, v), append(size, t)
		}
	}
	return out, size
}

// samples returns a few plans of s, of all targets.
func samples(s kernel.Spec) []kernel.Plan {
	var out []kernel.Plan
	r := rand.New(rand.NewPCG(9, 9))
	for _, target := range kernel.Targets() {
		var all []kernel.Plan
		for p := range kernel.Space(s, target) {
			if p.BlockM <= 32 {
				all = append(all, p)
			}
		}
		for range min(3, len(all)) {
			out = append(out, all[r.IntN(len(all))])
		}
	}
	return out
}

// within reports elements that are further from want than their bound: rounding errors of f32
// (2e-6 of the terms of a sum), the neighbours of factors that were rounded to bf16, and the
// rounding of the result.
func within(t *testing.T, what string, s kernel.Spec, got []float32, want, size []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i, w := range want {
		bound := 2e-6*(size[i]+math.Abs(w)) + 1e-7
		if s.Math == ir.BF16 {
			bound += 1e-4 * size[i]
		}
		if s.Math == ir.I8 && s.Prologue != kernel.NoPrologue {
			bound += 1e-3 * size[i] // a code may be the neighbour
		}
		if s.Out == ir.BF16 {
			bound += 0x1p-8 * math.Abs(w)
		}
		if !(math.Abs(float64(got[i])-w) <= bound) {
			t.Errorf("%s: element %d: %v, want %v ± %.2g", what, i, got[i], w, bound)
			return
		}
	}
}

// codes returns the weights w as packed codes and scales, and sets w to their values.
func codes(s kernel.Spec, w []float32) (packed, scales []float32) {
	scales = make([]float32, s.Panels()*kernel.PanelN)
	rows := make([]float32, len(w))
	for n := range s.WeightRows() {
		row := rows[n*s.K : (n+1)*s.K]
		scales[n] = kernel.QuantizeWeights(row, w[n*s.K:(n+1)*s.K])
		for k, c := range row {
			w[n*s.K+k] = c * scales[n]
		}
	}
	return kernel.Pack(s.WeightLayout(), rows, s.WeightRows(), s.K), scales
}

func TestEvalGemm(t *testing.T) {
	base := kernel.Spec{Kind: kernel.Gemm, In: ir.F32, Out: ir.F32, Math: ir.F32, Weight: ir.F32, N: 96, K: 64}
	with := func(f func(*kernel.Spec)) kernel.Spec { s := base; f(&s); return s }
	specs := []kernel.Spec{
		base,
		with(func(s *kernel.Spec) { s.N, s.K, s.Epilogue = 51, 170, "bias+silu" }),
		with(func(s *kernel.Spec) { s.N, s.K, s.Epilogue = 51, 170, "bias+tanh" }),
		with(func(s *kernel.Spec) { s.Weight, s.Math, s.Epilogue = ir.BF16, ir.BF16, "bias+glu+residual"; s.N = 40 }),
		with(func(s *kernel.Spec) {
			s.Weight, s.Math, s.In, s.Epilogue, s.K = ir.I8, ir.I8, ir.BF16, "bias+residual", 70
		}),
		with(func(s *kernel.Spec) {
			s.Weight, s.Math, s.Epilogue, s.N, s.Prologue, s.Eps = ir.I8, ir.I8, "glu", 40, kernel.RMSNorm, 1e-6
		}),
		with(func(s *kernel.Spec) { s.Prologue, s.Eps, s.Beta = kernel.LayerNorm, 1e-5, true; s.K = 33 }),
		with(func(s *kernel.Spec) {
			s.Prologue, s.Eps, s.Weight, s.Out = kernel.RMSNorm, 1e-6, ir.BF16, ir.BF16
			s.Epilogue, s.Heads, s.KVHeads, s.HeadDim, s.N = "rope", 2, 1, 24, 100
		}),
	}
	for i, s := range specs {
		for _, p := range samples(s) {
			for _, m := range []int{1, p.MicroM + 1, p.BlockM + 1} {
				r := rand.New(rand.NewPCG(uint64(i), uint64(m)))
				w := random(r, s.Weight, s.WeightRows()*s.K, 0.1)
				in := kernel.GemmInput{M: m, X: random(r, s.In, m*s.K, 1), W: kernel.Pack(s.WeightLayout(), w, s.WeightRows(), s.K),
					Gamma: random(r, ir.F32, s.K, 1), Beta: random(r, ir.F32, s.K, 1),
					Bias:     random(r, ir.F32, s.Panels()*kernel.PanelN, 1),
					Residual: random(r, ir.F32, m*s.N, 1)}
				for j := range m {
					in.Pos = append(in.Pos, int32(j%7))
				}
				for j := range 7 * max(s.HeadDim, 2) / 2 {
					sin, cos := math.Sincos(float64(j))
					in.Cos, in.Sin = append(in.Cos, float32(cos)), append(in.Sin, float32(sin))
				}
				if s.Weight == ir.I8 {
					in.W, in.WScale = codes(s, w)
				}
				got, err := kernel.EvalGemm(kernel.Kernel{Spec: s, Plan: p}, in)
				if err != nil {
					t.Fatal(err)
				}
				want, size := naiveGemm(s, in, w)
				within(t, fmt.Sprintf("%s\n%s\n%d rows", s, p, m), s, got, want, size)
			}
		}
	}
}

func TestEvalAttention(t *testing.T) {
	for _, s := range []kernel.Spec{
		{Kind: kernel.Attention, In: ir.F32, Out: ir.F32, Math: ir.F32, Heads: 4, KVHeads: 2, HeadDim: 24, Scale: 0.2},
		{Kind: kernel.Attention, In: ir.BF16, Out: ir.BF16, Math: ir.F32, Heads: 2, KVHeads: 2, HeadDim: 8, Scale: 0.35},
	} {
		for _, p := range samples(s) {
			for _, n := range []int{1, 2, 33, p.BlockN + 1} {
				r := rand.New(rand.NewPCG(1, uint64(n)))
				cols, d := s.QKVCols(), s.HeadDim
				x := random(r, s.In, n*cols, 1)
				got, err := kernel.EvalAttention(kernel.Kernel{Spec: s, Plan: p}, x)
				if err != nil {
					t.Fatal(err)
				}
				var want, size []float64
				for q := range n {
					for h := range s.Heads {
						kv := s.Heads + h/(s.Heads/s.KVHeads)
						o, sum := make([]float64, d), 0.0
						for j := range n {
							score := 0.0
							for i := range d {
								score += float64(x[q*cols+h*d+i]) * float64(x[j*cols+kv*d+i])
							}
							w := math.Exp(score * s.Scale)
							sum += w
							for i := range d {
								o[i] += w * float64(x[j*cols+(kv+s.KVHeads)*d+i])
							}
						}
						for i := range d {
							want, size = append(want, o[i]/sum), append(size, 4)
						}
					}
				}
				within(t, fmt.Sprintf("%s\n%s\n%d tokens", s, p, n), s, got, want, size)
			}
		}
	}
}

func TestEvalRows(t *testing.T) {
	s := kernel.Spec{Kind: kernel.Rowwise, In: ir.F32, Out: ir.F32, K: 51, Prologue: kernel.LayerNorm, Beta: true, Eps: 1e-5}
	r := rand.New(rand.NewPCG(1, 2))
	x, gamma, beta := random(r, ir.F32, 5*s.K, 3), random(r, ir.F32, s.K, 1), random(r, ir.F32, s.K, 1)
	for _, p := range samples(s) {
		got, err := kernel.EvalRowwise(kernel.Kernel{Spec: s, Plan: p}, x, gamma, beta)
		if err != nil {
			t.Fatal(err)
		}
		var want []float64
		for m := 0; m < len(x); m += s.K {
			want = append(want, naiveNorm(s, x[m:m+s.K], gamma, beta)...)
		}
		within(t, s.String(), s, got, want, make([]float64, len(want)))
	}
}

func TestEvalGather(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, layout := range []kernel.Layout{kernel.RowMajor, kernel.PanelF32, kernel.PanelBF16} {
		s := kernel.Spec{Kind: kernel.Gather, Weight: ir.F32, Out: ir.F32, K: 40, Positions: true, Table: layout}
		table, pos := random(r, ir.F32, 70*s.K, 1), random(r, ir.F32, 4*s.K, 1)
		in := kernel.GatherInput{Index: []int32{69, 0, 33}, Pos: []int32{1, 3, 0}, Rows: 70,
			Table: kernel.Pack(layout, table, 70, s.K), PosTable: pos}
		for _, p := range samples(s) {
			got, err := kernel.EvalGather(kernel.Kernel{Spec: s, Plan: p}, in)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				m, c := i/s.K, i%s.K
				if want := table[int(in.Index[m])*s.K+c] + pos[int(in.Pos[m])*s.K+c]; v != want {
					t.Fatalf("%s: row %d column %d: %v, want %v", layout, m, c, v, want)
				}
			}
		}
	}
}

func TestEvalErrors(t *testing.T) {
	s := kernel.Spec{Kind: kernel.Gemm, In: ir.F32, Out: ir.F32, Math: ir.F32, Weight: ir.F32, N: 32, K: 8}
	p, ok := kernel.Choose(s, "generic")
	if !ok {
		t.Fatal("no plan")
	}
	k := kernel.Kernel{Spec: s, Plan: p}
	if _, err := kernel.EvalGemm(k, kernel.GemmInput{M: 1, X: make([]float32, 8)}); err == nil {
		t.Error("missing weights: no error")
	}
	if _, err := kernel.EvalRowwise(k, nil, nil, nil); err == nil {
		t.Error("wrong kind: no error")
	}
	bad := k
	bad.Plan.BlockM++
	if _, err := kernel.EvalGemm(bad, kernel.GemmInput{}); err == nil && bad.Plan.BlockM%bad.Plan.MicroM != 0 {
		t.Error("illegal plan: no error")
	}
	if _, err := kernel.EvalGather(kernel.Kernel{Spec: kernel.Spec{Kind: kernel.Gather, Weight: ir.F32, K: 2, Table: kernel.RowMajor},
		Plan: kernel.Plan{Kind: kernel.Gather, Target: "generic", BlockM: 4}}, kernel.GatherInput{Index: []int32{3}, Rows: 2, Table: make([]float32, 4)}); err == nil {
		t.Error("index outside the table: no error")
	}
}
