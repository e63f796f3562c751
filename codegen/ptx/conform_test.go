package ptx

import (
	"bytes"
	"fmt"
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

// This file owns the conformance of kernels: every Spec of codegentest that the target can do runs in
// the emulator with every tile of its plan, and is compared with the mathematics of what the device
// multiplies, in float64, and with the interpreter of package kernel.

// positions is the length of tables of positions.
const positions = 40

func round(d ir.DType, x float64) float64 {
	if d == ir.BF16 {
		return num.RoundBF16(x)
	}
	return float64(float32(x))
}

// normal returns n numbers of the given deviation, rounded to d.
func normal(r *rand.Rand, d ir.DType, n int, deviation float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(round(d, r.NormFloat64()*deviation))
	}
	return out
}

// plansOf returns the best plan of s for each instruction, and with -long a few others.
func plansOf(s kernel.Spec) []kernel.Plan {
	plans := bestPlans(s)
	if !codegentest.Long() {
		return plans
	}
	all := slices.Collect(kernel.Space(s, TargetName))
	r := rand.New(rand.NewPCG(uint64(len(s.String())), uint64(s.K)))
	for range min(4, len(all)) {
		plans = append(plans, all[r.IntN(len(all))])
	}
	return plans
}

// compile emits a kernel and parses its text.
func compile(t *testing.T, k kernel.Kernel) (Unit, *emu.Module) {
	t.Helper()
	u, err := Emit("k", k)
	if err != nil {
		t.Fatal(err)
	}
	return u, parse(t, u)
}

func parse(t *testing.T, u Unit) *emu.Module {
	t.Helper()
	m, err := emu.Parse(Module(u.PTX))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// eachKernel runs a test of every Spec of a kind with its plans.
func eachKernel(t *testing.T, kind kernel.Kind, test func(t *testing.T, k kernel.Kernel)) {
	for i, s := range codegentest.Specs() {
		if s.Kind != kind {
			continue
		}
		for _, p := range plansOf(s) {
			t.Run(fmt.Sprintf("%d/%s", i, p), func(t *testing.T) {
				t.Parallel()
				defer func() {
					if t.Failed() {
						t.Logf("spec %s", s)
					}
				}()
				test(t, kernel.Kernel{Spec: s, Plan: p})
			})
		}
	}
}

// output is memory for a result, with a row more than the kernel may write.
type output struct {
	b           *bench
	d           ir.DType
	rows, cols  int
	pitch, size int
	addr        uint64
}

const untouched = 0xa5

// output binds memory to the result of a kernel, with shadow and statistics where it is f32.
func (b *bench) output(d ir.DType, rows, cols int) (dst, shadow, stats output) {
	make := func(kind cuda.ParamKind, d ir.DType, cols int) output {
		o := output{b: b, d: d, rows: rows, cols: cols, pitch: cuda.Pitch(cols, d == ir.BF16)}
		o.size = (rows + 1) * o.pitch
		o.addr = b.alloc(o.size, bytes.Repeat([]byte{untouched}, o.size))
		b.bind(kind, cuda.OperandDst, o.addr)
		return o
	}
	dst = make(cuda.ParamPointer, d, cols)
	if d == ir.F32 {
		shadow = make(cuda.ParamShadow, ir.BF16, cols)
		stats = make(cuda.ParamStats, ir.F32, 2*slots(cols))
	}
	return dst, shadow, stats
}

// values returns the rows, and reports bytes behind them that were written.
func (o output) values() []float32 {
	o.b.t.Helper()
	raw := o.b.read(o.addr, o.size)
	for i, c := range raw[o.rows*o.pitch:] {
		if c != untouched {
			o.b.t.Errorf("byte %d behind the last row was written", i)
			break
		}
	}
	if o.d == ir.F32 {
		return o.b.readF32(o.addr, o.rows*o.cols)
	}
	return o.b.readBF16(matrix{o.addr, o.rows, o.cols, o.pitch})
}

// checkShadow compares the shadow of an f32 result with its values.
func checkShadow(t *testing.T, dst []float32, shadow output) {
	t.Helper()
	for i, got := range shadow.values() {
		if want := float32(num.RoundBF16(float64(dst[i]))); math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("shadow: element %d is %v, want %v", i, got, want)
		}
	}
}

// checkStats compares the statistics of an f32 result of so many columns with its values.
func checkStats(t *testing.T, dst []float32, cols int, stats output) {
	t.Helper()
	n, got := slots(cols), stats.values()
	for r := range len(dst) / cols {
		for slot := range n {
			sum, squares, size := 0.0, 0.0, 0.0
			for _, v := range dst[r*cols+slot*statsCols : r*cols+min((slot+1)*statsCols, cols)] {
				x := float64(v)
				sum, squares, size = sum+x, squares+x*x, size+math.Abs(x)
			}
			at := 2 * (r*n + slot)
			// 32 additions of f32, at most 2^-24 each.
			if math.Abs(float64(got[at])-sum) > 2e-6*size || math.Abs(float64(got[at+1])-squares) > 2e-6*squares {
				t.Fatalf("statistics of row %d, slot %d: %v, want %v and %v", r, slot, got[at:at+2], sum, squares)
			}
		}
	}
}

// same reports elements that differ in any bit.
func same(t *testing.T, what string, got, want []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s: element %d is %v, want the same bits as %v", what, i, got[i], want[i])
		}
	}
}

func TestGather(t *testing.T) {
	eachKernel(t, kernel.Gather, func(t *testing.T, k kernel.Kernel) { checkGather(t, k) })
	// A table of activations.
	for _, d := range []ir.DType{ir.F32, ir.BF16} {
		checkGather(t, kernel.Kernel{
			Spec: kernel.Spec{Kind: kernel.Gather, In: d, Weight: d, Out: ir.F32, K: 51, Activations: true, Table: kernel.RowMajor},
			Plan: kernel.Plan{Kind: kernel.Gather, Target: TargetName, BlockM: 4},
		})
	}
}

func checkGather(t *testing.T, k kernel.Kernel) {
	s := k.Spec
	u, m := compile(t, k)
	const tableRows = 75
	for _, rows := range []int{1, k.Plan.BlockM + 1} {
		r := rand.New(rand.NewPCG(3, uint64(rows)))
		table := normal(r, s.Weight, tableRows*s.K, 1)
		in := kernel.GatherInput{Rows: tableRows, Table: kernel.Pack(s.Table, table, tableRows, s.K), PosTable: normal(r, ir.F32, positions*s.K, 1)}
		for i := range rows {
			in.Index = append(in.Index, int32((i*37+tableRows-1)%tableRows))
			in.Pos = append(in.Pos, int32(r.IntN(positions)))
		}
		b := newBench(t, 1, 4)
		b.bind(cuda.ParamPointer, cuda.OperandIndex, b.alloc(4*rows, i32Bytes(in.Index)))
		b.bind(cuda.ParamPointer, cuda.OperandPos, b.alloc(4*rows, i32Bytes(in.Pos)))
		b.floats(cuda.OperandPosTable, in.PosTable)
		if s.Activations {
			b.bind(cuda.ParamPointer, cuda.OperandSrc, b.buffer(s.In, table, tableRows, s.K).addr)
		} else {
			b.bind(cuda.ParamPointer, cuda.OperandW, b.buffer(s.Weight, padCols(table, s.K, ceilDiv(s.K, 32)*32), tableRows, ceilDiv(s.K, 32)*32).addr)
		}
		dst, shadow, stats := b.output(s.Out, rows, s.K)
		b.launch(u, m, rows, 0, 0)
		want, err := kernel.EvalGather(k, in)
		if err != nil {
			t.Fatal(err)
		}
		same(t, fmt.Sprintf("%d rows", rows), dst.values(), want)
		if s.Out == ir.F32 {
			checkShadow(t, want, shadow)
			checkStats(t, want, s.K, stats)
		}
	}
}

// padCols returns rows of cols elements with zeros up to padded.
func padCols(v []float32, cols, padded int) []float32 {
	var out []float32
	for r := 0; r < len(v); r += cols {
		out = append(append(out, v[r:r+cols]...), make([]float32, padded-cols)...)
	}
	return out
}

// buffer allocates rows of a buffer of type d.
func (b *bench) buffer(d ir.DType, v []float32, rows, cols int) matrix {
	if d == ir.BF16 {
		return b.bf16Matrix(v, rows, cols)
	}
	return matrix{b.alloc(4*len(v), f32Bytes(v)), rows, cols, 4 * cols}
}

// launch runs the launches of a variant.
func (b *bench) launch(u Unit, m *emu.Module, rows, items, variant int) {
	b.t.Helper()
	count := func(n int) uint64 { return b.alloc(4, i32Bytes([]int32{int32(n)})) }
	b.bind(cuda.ParamRows, 0, count(rows))
	b.bind(cuda.ParamItemCount, 0, count(items))
	for _, l := range u.Kernel.Variants[variant].Launches {
		if err := b.run(m, l, rows, items); err != nil {
			b.t.Fatal(err)
		}
	}
}

func TestRowwise(t *testing.T) {
	eachKernel(t, kernel.Rowwise, func(t *testing.T, k kernel.Kernel) {
		s := k.Spec
		u, m := compile(t, k)
		r := rand.New(rand.NewPCG(2, 0))
		for _, rows := range []int{1, k.Plan.BlockM + 1} {
			x, gamma := normal(r, s.In, rows*s.K, 3), normal(r, ir.F32, s.K, 1)
			var beta []float32
			b := newBench(t, 2, 4)
			if s.Beta {
				beta = normal(r, ir.F32, s.K, 1)
				b.floats(cuda.OperandBeta, beta)
			}
			b.floats(cuda.OperandGamma, gamma)
			b.bind(cuda.ParamPointer, cuda.OperandSrc, b.buffer(s.In, x, rows, s.K).addr)
			dst, shadow, stats := b.output(s.Out, rows, s.K)
			b.launch(u, m, rows, 0, 0)
			want, err := kernel.EvalRowwise(k, x, gamma, beta)
			if err != nil {
				t.Fatal(err)
			}
			got := dst.values()
			for i, w := range want {
				row := want[i/s.K*s.K:][:s.K]
				largest := 0.0
				for _, v := range row {
					largest = max(largest, math.Abs(float64(v)))
				}
				// A square root 2 ulp off, sums of f32, and the rounding of the result.
				bound := 1e-6*largest + step(s.Out)*math.Abs(float64(w))
				if !(math.Abs(float64(got[i])-float64(w)) <= bound) {
					t.Fatalf("%d rows: element %d: %v, want %v ± %.2g", rows, i, got[i], w, bound)
				}
			}
			if s.Out == ir.F32 {
				checkShadow(t, got, shadow)
				checkStats(t, got, s.K, stats)
			}
		}
	})
}

// step is the distance to the neighbour of a rounded value, relative to it.
func step(d ir.DType) float64 {
	if d == ir.BF16 {
		return 0x1p-7
	}
	return 0
}
