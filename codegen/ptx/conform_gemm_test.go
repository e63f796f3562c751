package ptx

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emu"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// gemmCase is the operands of a matmul, as the interpreter and as the device have them.
type gemmCase struct {
	s  kernel.Spec
	in kernel.GemmInput
	w  []float32 // [WeightRows][K] as in the checkpoint

	device []float32 // bf16 of gamma·w
	bias   []float32 // with w·beta
	colSum []float32 // of device
}

func newGemmCase(r *rand.Rand, s kernel.Spec, m int) gemmCase {
	c := gemmCase{s: s, in: kernel.GemmInput{M: m, X: normal(r, s.In, m*s.K, 1)}}
	rows := s.WeightRows()
	c.w = normal(r, s.Weight, rows*s.K, 1/math.Sqrt(float64(s.K)))
	c.in.W = kernel.Pack(s.WeightLayout(), c.w, rows, s.K)
	if s.Prologue != kernel.NoPrologue {
		c.in.Gamma = normal(r, ir.F32, s.K, 1)
	}
	if s.Beta {
		c.in.Beta = normal(r, ir.F32, s.K, 1)
	}
	padded := s.Panels() * kernel.PanelN
	if s.Epilogue.Has(kernel.Bias) {
		c.in.Bias = normal(r, ir.F32, padded, 1)
	}
	if s.Epilogue.Has(kernel.Residual) {
		c.in.Residual = normal(r, ir.F32, m*s.N, 1)
	}
	if s.Epilogue.Has(kernel.Rope) {
		for range m {
			c.in.Pos = append(c.in.Pos, int32(r.IntN(positions)))
		}
		for i := range positions * s.HeadDim / 2 {
			sin, cos := math.Sincos(float64(i))
			c.in.Cos, c.in.Sin = append(c.in.Cos, float32(cos)), append(c.in.Sin, float32(sin))
		}
	}
	c.device, c.bias, c.colSum = make([]float32, rows*s.K), make([]float32, padded), make([]float32, padded)
	copy(c.bias, c.in.Bias)
	for n := range rows {
		sum, bias := 0.0, float64(c.bias[n])
		for k := range s.K {
			w := float64(c.w[n*s.K+k])
			if s.Beta {
				bias += w * float64(c.in.Beta[k])
			}
			if s.Prologue != kernel.NoPrologue {
				w *= float64(c.in.Gamma[k])
			}
			w = num.RoundBF16(w)
			c.device[n*s.K+k] = float32(w)
			sum += w
		}
		c.bias[n], c.colSum[n] = float32(bias), float32(sum)
	}
	return c
}

// bind puts the operands into device memory. The weights have the order of the kernel's parameter.
func (c gemmCase) bind(b *bench, order cuda.Order) {
	s, m := c.s, c.in.M
	if s.In == ir.F32 {
		shadow := b.bf16Matrix(c.in.X, m, s.K)
		b.bind(cuda.ParamShadow, cuda.OperandSrc, shadow.addr)
		b.bind(cuda.ParamShadowMap, cuda.OperandSrc, shadow)
	} else {
		x := b.bf16Matrix(c.in.X, m, s.K)
		b.bind(cuda.ParamPointer, cuda.OperandSrc, x.addr)
		b.bind(cuda.ParamMap, cuda.OperandSrc, x)
	}
	rows, kPad := ceilDiv(s.WeightRows(), cuda.OrderRows)*cuda.OrderRows, ceilDiv(s.K, 32)*32
	w := make([]float32, rows*kPad)
	for i := range rows {
		if from := order.PanelRow(i); from < s.WeightRows() {
			copy(w[i*kPad:], c.device[from*s.K:][:s.K])
		}
	}
	weights := b.bf16Matrix(w, rows, kPad)
	b.bind(cuda.ParamPointer, cuda.OperandW, weights.addr)
	b.bind(cuda.ParamMap, cuda.OperandW, weights)
	b.floats(cuda.OperandBias, c.bias)
	b.bind(cuda.ParamColSum, cuda.OperandW, b.alloc(4*len(c.colSum), f32Bytes(c.colSum)))
	n := slots(s.K)
	stats := make([]float32, m*n*2)
	for i, x := range c.in.X {
		at := 2 * (i/s.K*n + i%s.K/statsCols)
		stats[at] += x
		stats[at+1] += x * x
	}
	b.bind(cuda.ParamStats, cuda.OperandSrc, b.alloc(4*len(stats), f32Bytes(stats)))
	b.bind(cuda.ParamSlots, cuda.OperandSrc, uint32(n))
	if c.in.Residual != nil {
		b.floats(cuda.OperandRes, c.in.Residual)
	}
	if c.in.Pos != nil {
		b.bind(cuda.ParamPointer, cuda.OperandPos, b.alloc(4*m, i32Bytes(c.in.Pos)))
		b.floats(cuda.OperandCos, c.in.Cos)
		b.floats(cuda.OperandSin, c.in.Sin)
	}
}

// row returns the case with row i alone.
func (c gemmCase) row(i int) gemmCase {
	out := c
	out.in.M = 1
	out.in.X = c.in.X[i*c.s.K:][:c.s.K]
	if c.in.Residual != nil {
		out.in.Residual = c.in.Residual[i*c.s.N:][:c.s.N]
	}
	if c.in.Pos != nil {
		out.in.Pos = c.in.Pos[i : i+1]
	}
	return out
}

// want returns the result in float64, how large the terms of each sum are, and how large the root of
// the sum of their squares is.
func (c gemmCase) want() (out, size, root []float64) {
	s, in := c.s, c.in
	for m := range in.M {
		x := in.X[m*s.K:][:s.K]
		mean, scale := 0.0, 1.0
		if s.Prologue != kernel.NoPrologue {
			squares := 0.0
			for _, v := range x {
				mean += float64(v) / float64(s.K)
				squares += float64(v) * float64(v) / float64(s.K)
			}
			if s.Prologue == kernel.RMSNorm {
				mean = 0
			}
			scale = 1 / math.Sqrt(squares-mean*mean+s.Eps)
		}
		y, t, q := make([]float64, s.WeightRows()), make([]float64, s.WeightRows()), make([]float64, s.WeightRows())
		for n := range y {
			for k, v := range x {
				p := num.RoundBF16(float64(v)) * float64(c.device[n*s.K+k])
				y[n] += p
				t[n] += math.Abs(p)
				q[n] += p * p
			}
			shift := mean * float64(c.colSum[n])
			y[n] = scale*(y[n]-shift) + float64(c.bias[n])
			t[n] = scale*(t[n]+math.Abs(shift)) + math.Abs(float64(c.bias[n]))
			q[n] = scale * math.Sqrt(q[n])
		}
		if s.Epilogue.Has(kernel.Rope) {
			half := s.HeadDim / 2
			for n := 0; n < s.RopeCols(); n += s.HeadDim {
				for j := n; j < n+half; j++ {
					at := int(in.Pos[m])*half + j - n
					cos, sin := float64(in.Cos[at]), float64(in.Sin[at])
					y[j], y[j+half] = y[j]*cos-y[j+half]*sin, y[j+half]*cos+y[j]*sin
					t[j] += t[j+half]
					t[j+half] = t[j]
					q[j] += q[j+half]
					q[j+half] = q[j]
				}
			}
		}
		for n := range s.N {
			at := n
			if s.Epilogue.Has(kernel.GLU) {
				at = n/kernel.GLUWidth*2*kernel.GLUWidth + n%kernel.GLUWidth
			}
			v, tn, qn := y[at], t[at], q[at]
			silu := v / (1 + math.Exp(-v))
			switch {
			case s.Epilogue.Has(kernel.GLU):
				up := at + kernel.GLUWidth
				v = silu * y[up]
				spread := func(a, b float64) float64 { return 2*a*(1+math.Abs(y[up])) + b*(1+math.Abs(y[at])) }
				tn, qn = spread(tn, t[up]), spread(qn, q[up])
			case s.Epilogue.Has(kernel.SiLU):
				v, tn, qn = silu, 2*tn, 2*qn
			case s.Epilogue.Has(kernel.Tanh):
				v = math.Tanh(v)
				tn++
			}
			if s.Epilogue.Has(kernel.Residual) {
				v += float64(in.Residual[m*s.N+n])
				tn += math.Abs(v)
			}
			out, size, root = append(out, v), append(size, tn), append(root, qn)
		}
	}
	return out, size, root
}

// order returns the order of the weights of a launch.
func order(l cuda.Launch) cuda.Order {
	for _, p := range l.Params {
		if p.Operand == cuda.OperandW {
			return p.Order
		}
	}
	return cuda.Order{}
}

// runGemm runs a variant and returns the result.
func runGemm(t *testing.T, u Unit, m *emu.Module, c gemmCase, variant int, seed uint64) []float32 {
	t.Helper()
	b := newBench(t, seed, 4)
	c.bind(b, order(u.Kernel.Variants[variant].Launches[0]))
	dst, shadow, stats := b.output(c.s.Out, c.in.M, c.s.N)
	b.launch(u, m, c.in.M, 0, variant)
	got := dst.values()
	if c.s.Out == ir.F32 {
		checkShadow(t, got, shadow)
		checkStats(t, got, c.s.N, stats)
	}
	return got
}

func TestGemm(t *testing.T) {
	eachKernel(t, kernel.Gemm, func(t *testing.T, k kernel.Kernel) {
		s := k.Spec
		u, m := compile(t, k)
		for i, v := range u.Kernel.Variants {
			g := v.Launches[0].Grid
			rows := g.TileM + 1
			if v.MaxRows > 0 {
				rows = min(rows, v.MaxRows)
			}
			c := newGemmCase(rand.New(rand.NewPCG(1, uint64(rows))), s, rows)
			got := runGemm(t, u, m, c, i, uint64(i))
			compareGemm(t, fmt.Sprintf("%d rows", rows), k, c, got)
			for _, row := range []int{0, rows - 1} {
				alone := runGemm(t, u, m, c.row(row), 0, 7)
				same(t, fmt.Sprintf("row %d of %d alone", row, rows), alone, got[row*s.N:][:s.N])
			}
		}
	})
}

// compareGemm compares a result with the float64 sums of the device's factors, and with the
// interpreter.
func compareGemm(t *testing.T, what string, k kernel.Kernel, c gemmCase, got []float32) {
	t.Helper()
	s := k.Spec
	want, size, root := c.want()
	for i, w := range want {
		// Sums and functions of f32, and the rounding of the result.
		bound := 3e-6*(size[i]+math.Abs(w)) + 1e-7 + step(s.Out)/2*math.Abs(w)
		if !(math.Abs(float64(got[i])-w) <= bound) {
			t.Fatalf("%s: row %d column %d: %v, want %v ± %.2g", what, i/s.N, i%s.N, got[i], w, bound)
		}
	}
	eval, err := kernel.EvalGemm(k, c.in)
	if err != nil {
		t.Fatal(err)
	}
	for i, w := range eval {
		bound := 4e-6*(size[i]+math.Abs(float64(w))) + 1e-7 + step(s.Out)*math.Abs(float64(w))
		if s.Prologue != kernel.NoPrologue {
			// The interpreter rounds x·scale·gamma to bf16, the device x and gamma·w: three roundings of
			// 2^-9 at most in each term, independent of each other; 5 deviations.
			bound += 5 * 3 * 0x1p-9 * root[i]
		}
		if !(math.Abs(float64(got[i])-float64(w)) <= bound) {
			t.Fatalf("%s, interpreter: row %d column %d: %v, want %v ± %.2g", what, i/s.N, i%s.N, got[i], w, bound)
		}
	}
}

// TestSharedMemory: tiles of heads of any size, the widest unit of columns, fit a CTA.
func TestSharedMemory(t *testing.T) {
	for head := 2; head <= 256; head += 2 {
		s := kernel.Spec{Kind: kernel.Gemm, In: ir.BF16, Out: ir.BF16, Math: ir.BF16, Weight: ir.BF16, N: 3 * head, K: 64,
			Epilogue: "rope", Heads: 1, KVHeads: 1, HeadDim: head}
		var tiles []mmaTile
		for _, f := range fewRows {
			tiles = append(tiles, narrowTile(s, f.m, f.n, f.stages))
		}
		for p := range kernel.Space(s, TargetName) {
			if p.Inst == "mma.sync" {
				tiles = append(tiles, newMMATile(p.MicroM, p.MicroN, p.BlockN))
			}
		}
		for _, m := range tiles {
			if m.shared() > kernel.DeviceShared || m.stages < 2 {
				t.Errorf("heads of %d: tile %dx%d with %d stages takes %d bytes", head, m.m, m.n, m.stages, m.shared())
			}
		}
	}
}
