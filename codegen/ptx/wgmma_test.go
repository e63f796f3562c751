package ptx

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bertc/bertc/codegen/codegentest"
	"github.com/bertc/bertc/codegen/ptx/emu"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the tests of the matmul on wgmma, in the emulator and against float64.

// gemmData is the input of a matmul and its result in float64 with a bound of the error of each
// element.
type gemmData struct {
	spec                kernel.Spec
	rows                int
	x, gamma, beta      []float32 // x is what the f32 buffer has, or the bf16 buffer
	w                   []float32 // [WeightRows][K] in panel order, bf16
	folded              []float32 // gamma · w, bf16
	bias                []float32 // by panel row, padded to 32, with W·beta
	colSum              []float32
	residual            []float32
	pos                 []int32
	cos, sin            []float32
	want, bound         []float64 // [rows][N]
	sums, squares, size []float64 // of the results, by row and slot; size bounds the terms
}

const testPositions = 40

func newGemmData(r *rand.Rand, s kernel.Spec, rows int) *gemmData {
	normal := func(n int, d ir.DType, scale float64) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(r.NormFloat64() * scale)
			if d == ir.BF16 {
				out[i] = num.FromBF16(num.BF16(out[i]))
			}
		}
		return out
	}
	d := &gemmData{spec: s, rows: rows}
	n := s.WeightRows()
	d.x = normal(rows*s.K, s.In, 1)
	d.w = normal(n*s.K, ir.BF16, 1/math.Sqrt(float64(s.K)))
	d.folded = slices.Clone(d.w)
	if s.Prologue != kernel.NoPrologue {
		d.gamma = normal(s.K, ir.F32, 0.5)
		for i := range d.folded {
			d.folded[i] = num.FromBF16(num.BF16(d.w[i] * (1 + d.gamma[i%s.K])))
		}
	}
	d.bias, d.colSum = make([]float32, ceilDiv(n, 32)*32), make([]float32, ceilDiv(n, 32)*32)
	if s.Epilogue.Has(kernel.Bias) || s.Beta {
		copy(d.bias, normal(n, ir.F32, 0.5))
	}
	for i := range n {
		sum := 0.0
		for _, w := range d.folded[i*s.K : (i+1)*s.K] {
			sum += float64(w)
		}
		d.colSum[i] = float32(sum)
	}
	d.residual = normal(rows*s.N, ir.F32, 1)
	for range rows {
		d.pos = append(d.pos, int32(r.IntN(testPositions)))
	}
	for range testPositions * s.HeadDim / 2 {
		sin, cos := math.Sincos(r.Float64() * 7)
		d.cos, d.sin = append(d.cos, float32(cos)), append(d.sin, float32(sin))
	}
	d.reference()
	return d
}

// Errors of an f32 and of a bf16 that is rounded, relative.
const (
	unitF32  = 0x1p-24
	unitBF16 = 0x1p-8
)

// reference computes the result. Bounds: each of the K sums is off by a unit of the sum of the
// sizes of its terms (wgmma may cut instead of rounding, twice that), scaling, bias and the rest
// by a few; functions of ex2.approx and rcp.approx by 8.
func (d *gemmData) reference() {
	s := d.spec
	n := s.WeightRows()
	for row := range d.rows {
		x := make([]float64, s.K)
		sum, square := 0.0, 0.0
		for i := range x {
			v := d.x[row*s.K+i]
			sum, square = sum+float64(v), square+float64(v)*float64(v)
			x[i] = float64(num.FromBF16(num.BF16(v)))
		}
		mean, scale := 0.0, 1.0
		switch s.Prologue {
		case kernel.LayerNorm:
			mean = sum / float64(s.K)
			scale = 1 / math.Sqrt(square/float64(s.K)-mean*mean+s.Eps)
		case kernel.RMSNorm:
			scale = 1 / math.Sqrt(square/float64(s.K)+s.Eps)
		}
		y, e := make([]float64, n), make([]float64, n)
		for c := range n {
			acc, size := 0.0, 0.0
			for k, w := range d.folded[c*s.K : (c+1)*s.K] {
				acc += x[k] * float64(w)
				size += math.Abs(x[k] * float64(w))
			}
			size += math.Abs(mean * float64(d.colSum[c]))
			y[c] = scale*(acc-mean*float64(d.colSum[c])) + float64(d.bias[c])
			e[c] = (2*float64(s.K)*size*scale + 8*(size*scale+math.Abs(y[c])+math.Abs(float64(d.bias[c])))) * unitF32
		}
		if s.Epilogue.Has(kernel.Rope) {
			half := s.HeadDim / 2
			for head := 0; head < s.RopeCols(); head += s.HeadDim {
				for j := range half {
					cos, sin := float64(d.cos[int(d.pos[row])*half+j]), float64(d.sin[int(d.pos[row])*half+j])
					lo, hi := y[head+j], y[head+half+j]
					y[head+j], y[head+half+j] = lo*cos-hi*sin, hi*cos+lo*sin
					bound := e[head+j] + e[head+half+j] + 4*unitF32*(math.Abs(lo)+math.Abs(hi))
					e[head+j], e[head+half+j] = bound, bound
				}
			}
		}
		for c := range s.N {
			v, bound := y[c], e[c]
			sigmoid := func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }
			switch {
			case s.Epilogue.Has(kernel.GLU):
				p := c/kernel.GLUWidth*2*kernel.GLUWidth + c%kernel.GLUWidth
				gate, up := y[p], y[p+kernel.GLUWidth]
				act := gate * sigmoid(gate)
				v = act * up
				bound = (1.1*e[p]+(8+math.Abs(gate))*unitF32*math.Abs(act))*math.Abs(up) + e[p+kernel.GLUWidth]*math.Abs(act)
			case s.Epilogue.Has(kernel.SiLU):
				v = y[c] * sigmoid(y[c])
				bound = 1.1*bound + (8+math.Abs(y[c]))*unitF32*math.Abs(v)
			case s.Epilogue.Has(kernel.Tanh):
				v = math.Tanh(y[c])
				bound += 8 * unitF32
			}
			if s.Epilogue.Has(kernel.Residual) {
				v += float64(d.residual[row*s.N+c])
				bound += 2 * unitF32 * math.Abs(v)
			}
			if s.Out == ir.BF16 {
				bound += unitBF16 * (math.Abs(v) + bound)
			}
			d.want, d.bound = append(d.want, v), append(d.bound, bound)
		}
	}
}

// place puts the operands in the memory of a device, in the order o of the weight rows.
func (d *gemmData) place(b *bench, o cuda.Order) (dst, shadow, stats uint64) {
	s := d.spec
	x := b.bf16Matrix(d.x, d.rows, s.K)
	b.bind(cuda.ParamMap, cuda.OperandSrc, x)
	b.bind(cuda.ParamShadowMap, cuda.OperandSrc, x)
	n := s.WeightRows()
	rows, kPad := ceilDiv(n, cuda.OrderRows)*cuda.OrderRows, ceilDiv(s.K, 32)*32
	w := make([]float32, rows*kPad)
	for i := range rows {
		if from := o.PanelRow(i); from < n {
			copy(w[i*kPad:], d.folded[from*s.K:(from+1)*s.K])
		}
	}
	b.bind(cuda.ParamMap, cuda.OperandW, b.bf16Matrix(w, rows, kPad))
	count := uint32(d.rows)
	b.bind(cuda.ParamRows, 0, b.alloc(4, i32Bytes([]int32{int32(count)})))
	b.floats(cuda.OperandBias, d.bias)
	b.bind(cuda.ParamColSum, cuda.OperandW, b.alloc(4*len(d.colSum), f32Bytes(d.colSum)))
	if s.Prologue != kernel.NoPrologue {
		b.bind(cuda.ParamStats, cuda.OperandSrc, b.alloc(d.rows*slots(s.K)*8, f32Bytes(d.stats())))
	}
	if s.Epilogue.Has(kernel.Rope) {
		b.bind(cuda.ParamPointer, cuda.OperandPos, b.alloc(4*len(d.pos), i32Bytes(d.pos)))
		b.floats(cuda.OperandCos, d.cos)
		b.floats(cuda.OperandSin, d.sin)
	}
	dst = b.alloc(d.rows*cuda.Pitch(s.N, s.Out == ir.BF16), nil)
	if s.Epilogue.Has(kernel.Residual) {
		// In place, as in a model.
		dst = b.alloc(4*len(d.residual), f32Bytes(d.residual))
		b.bind(cuda.ParamPointer, cuda.OperandRes, dst)
	}
	b.bind(cuda.ParamPointer, cuda.OperandDst, dst)
	shadow = b.alloc(d.rows*cuda.Pitch(s.N, true), nil)
	stats = b.alloc(d.rows*slots(s.N)*8, nil)
	b.bind(cuda.ParamShadow, cuda.OperandDst, shadow)
	b.bind(cuda.ParamStats, cuda.OperandDst, stats)
	return dst, shadow, stats
}

// stats returns the statistics of x, [rows][slots][2].
func (d *gemmData) stats() []float32 {
	var out []float32
	for row := range d.rows {
		x := d.x[row*d.spec.K : (row+1)*d.spec.K]
		for chunk := range slices.Chunk(x, statsCols) {
			sum, square := 0.0, 0.0
			for _, v := range chunk {
				sum, square = sum+float64(v), square+float64(v)*float64(v)
			}
			out = append(out, float32(sum), float32(square))
		}
	}
	return out
}

// check compares results, shadow and statistics.
func (d *gemmData) check(t *testing.T, b *bench, dst, shadow, stats uint64) []float32 {
	t.Helper()
	s := d.spec
	var got []float32
	if s.Out == ir.BF16 {
		got = b.readBF16(matrix{dst, d.rows, s.N, cuda.Pitch(s.N, true)})
	} else {
		got = b.readF32(dst, d.rows*s.N)
	}
	worst := 0.0
	for i, v := range got {
		off := math.Abs(float64(v) - d.want[i])
		if !(off <= d.bound[i]) {
			t.Fatalf("row %d column %d is %v, want %v ± %.2g", i/s.N, i%s.N, v, d.want[i], d.bound[i])
		}
		worst = max(worst, off/d.bound[i])
	}
	t.Logf("largest error: %.2f of its bound", worst)
	if s.Out == ir.BF16 {
		return got
	}
	for i, v := range b.readBF16(matrix{shadow, d.rows, s.N, cuda.Pitch(s.N, true)}) {
		if want := num.FromBF16(num.BF16(got[i])); v != want {
			t.Fatalf("shadow of row %d column %d is %v, want %v", i/s.N, i%s.N, v, want)
		}
	}
	sums := b.readF32(stats, d.rows*slots(s.N)*2)
	for row := range d.rows {
		slot := 0
		for chunk := range slices.Chunk(got[row*s.N:(row+1)*s.N], statsCols) {
			sum, size, square := 0.0, 0.0, 0.0
			for _, v := range chunk {
				sum, size, square = sum+float64(v), size+math.Abs(float64(v)), square+float64(v)*float64(v)
			}
			at := 2 * (row*slots(s.N) + slot)
			// 32 terms are added in 8 steps.
			if math.Abs(float64(sums[at])-sum) > 8*unitF32*size || math.Abs(float64(sums[at+1])-square) > 9*unitF32*square {
				t.Fatalf("statistics of row %d slot %d are %v, want %v and %v", row, slot, sums[at:at+2], sum, square)
			}
			slot++
		}
	}
	return got
}

// wgmmaSpec returns a Spec of bf16 arithmetic.
func wgmmaSpec(n, k int, p kernel.Prologue, e kernel.Epilogue, in, out ir.DType) kernel.Spec {
	s := kernel.Spec{Kind: kernel.Gemm, In: in, Out: out, Math: ir.BF16, Weight: ir.BF16, N: n, K: k, Prologue: p, Epilogue: e}
	if p != kernel.NoPrologue {
		s.Eps = 1e-5
	}
	if s.Epilogue.Has(kernel.Rope) {
		s.Heads, s.KVHeads, s.HeadDim = n/64-2, 1, 64
	}
	return s
}

// TestWgmmaGemm runs matmuls of all epilogues, with tails of rows, columns and K, on tiles of
// several sizes, all of which must give the same bits.
func TestWgmmaGemm(t *testing.T) {
	for _, c := range []struct {
		spec  kernel.Spec
		tiles []wgmmaTile
	}{
		{wgmmaSpec(256, 128, "", "", ir.BF16, ir.BF16), []wgmmaTile{{128, 256, 4, 1}, {64, 64, 2, 1}, {128, 128, 3, 2}}},
		{wgmmaSpec(200, 170, kernel.RMSNorm, "bias+silu", ir.F32, ir.BF16), []wgmmaTile{{64, 32, 3, 1}, {128, 192, 3, 2}}},
		{wgmmaSpec(96, 64, kernel.LayerNorm, "bias+glu", ir.F32, ir.BF16), []wgmmaTile{{64, 64, 3, 1}, {128, 256, 3, 2}}},
		{wgmmaSpec(20, 100, "", "glu", ir.BF16, ir.BF16), []wgmmaTile{{64, 32, 3, 1}, {128, 64, 3, 2}}},
		{wgmmaSpec(320, 72, kernel.RMSNorm, "bias+rope", ir.F32, ir.BF16), []wgmmaTile{{128, 208, 3, 2}, {64, 16, 3, 1}, {128, 64, 3, 1}}},
		{wgmmaSpec(192, 320, "", "bias+residual", ir.BF16, ir.F32), []wgmmaTile{{128, 192, 2, 2}, {64, 32, 2, 1}}},
		{wgmmaSpec(52, 40, "", "residual", ir.BF16, ir.F32), []wgmmaTile{{128, 32, 2, 2}, {64, 64, 2, 1}}},
		{wgmmaSpec(70, 96, kernel.LayerNorm, "bias+tanh", ir.F32, ir.F32), []wgmmaTile{{128, 96, 2, 2}, {64, 32, 2, 1}}},
	} {
		t.Run(c.spec.String(), func(t *testing.T) {
			for _, rows := range []int{1, 70, 300} {
				d := newGemmData(rand.New(rand.NewPCG(1, uint64(rows))), c.spec, rows)
				var bits []float32
				for i, tile := range c.tiles {
					got := runWgmma(t, d, tile, uint64(i), rows)
					if bits == nil {
						bits = got
					}
					if !slices.Equal(bits, got) {
						t.Errorf("tile %v gives other bits than tile %v", tile, c.tiles[0])
					}
				}
			}
		})
	}
}

// runWgmma runs one tile and checks the result.
func runWgmma(t *testing.T, d *gemmData, tile wgmmaTile, seed uint64, rows int) []float32 {
	t.Helper()
	p := newWgmmaGemm("gemm", d.spec, tile)
	module := parseEntry(t, p.entry)
	b := newBench(t, seed, 4)
	dst, shadow, stats := d.place(b, weightOrder(d.spec))
	if err := b.run(module, p.launch, rows, 0); err != nil {
		t.Fatalf("tile %v, %d rows, seed %d: %v", tile, rows, seed, err)
	}
	return d.check(t, b, dst, shadow, stats)
}

func parseEntry(t *testing.T, e *entry) *emu.Module {
	t.Helper()
	if e.err != nil {
		t.Fatal(e.err)
	}
	m, err := emu.Parse(Module(e.text()))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestWgmmaModel runs the matmuls of the full size for few rows, with the tile of many rows and the
// one that is chosen for few; without -long only the first.
func TestWgmmaModel(t *testing.T) {
	const rows = 33
	specs := []kernel.Spec{
		wgmmaSpec(1664, 1536, kernel.RMSNorm, "bias+rope", ir.F32, ir.BF16),
		wgmmaSpec(1536, 1536, "", "bias+residual", ir.BF16, ir.F32),
		wgmmaSpec(4096, 1536, kernel.RMSNorm, "bias+glu", ir.F32, ir.BF16),
		wgmmaSpec(1536, 4096, "", "bias+residual", ir.BF16, ir.F32),
	}
	if !codegentest.Long() {
		specs = specs[:1]
	}
	for _, s := range specs {
		t.Run(s.String(), func(t *testing.T) {
			d := newGemmData(rand.New(rand.NewPCG(3, uint64(s.N))), s, rows)
			best, _ := kernel.Choose(s, TargetName)
			var bits []float32
			for i, p := range []kernel.Plan{kernel.WgmmaPlan(s, TargetName, rows), best} {
				got := runWgmma(t, d, wgmmaTile{p.MicroM, p.MicroN, p.BlockN, p.BlockM / p.MicroM}, uint64(i), rows)
				if bits != nil && !slices.Equal(bits, got) {
					t.Errorf("plan %s gives other bits than that of few rows", p)
				}
				bits = got
			}
		})
	}
}
