package codegentest

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns the checks of matmuls.

// positions is the length of the tables of positions.
const positions = 40

// gemmInput returns random input for m rows: products have sums of about unit size.
func gemmInput(r *rand.Rand, s kernel.Spec, m int) kernel.GemmInput {
	in := kernel.GemmInput{M: m, X: normal(r, s.In, m*s.K, 1)}
	w := normal(r, s.Weight, s.WeightRows()*s.K, 1/math.Sqrt(float64(s.K)))
	if s.Weight == ir.I8 {
		for range s.Panels() * kernel.PanelN {
			in.WScale = append(in.WScale, float32((0.5+r.Float64())/(codeDeviation*math.Sqrt(float64(s.K)))))
		}
	}
	in.W = kernel.Pack(s.WeightLayout(), w, s.WeightRows(), s.K)
	if s.Prologue != kernel.NoPrologue {
		in.Gamma = normal(r, ir.F32, s.K, 1)
	}
	if s.Beta {
		in.Beta = normal(r, ir.F32, s.K, 1)
	}
	if s.Epilogue.Has(kernel.Bias) {
		in.Bias = normal(r, ir.F32, s.Panels()*kernel.PanelN, 1)
	}
	if s.Epilogue.Has(kernel.Residual) {
		in.Residual = normal(r, ir.F32, m*s.N, 1)
	}
	if s.Epilogue.Has(kernel.Rope) {
		for range m {
			in.Pos = append(in.Pos, int32(r.IntN(positions)))
		}
		for i := range positions * s.HeadDim / 2 {
			sin, cos := math.Sincos(float64(i))
			in.Cos, in.Sin = append(in.Cos, float32(cos)), append(in.Sin, float32(sin))
		}
	}
	return in
}

// gemmRun is one run of a matmul over all rows, as the runtime does it.
type gemmRun struct {
	packed kernel.Packed
	out    []float32
}

// runGemm runs the functions of u on rows from..to of in, with blockM rows and blockN panels a
// call.
func runGemm(t testing.TB, p *program, u unitUnderTest, in kernel.GemmInput, from, to, blockM, blockN int) gemmRun {
	t.Helper()
	s := u.Spec
	rows := to - from
	var b jobBuilder
	srcStride, dstStride, resStride := s.K*s.In.Size()+12, s.N*s.Out.Size()+8, 4*s.N+4
	src := b.buffer(spread(s.In, in.X[from*s.K:to*s.K], s.K, srcStride))
	rowBytes := u.RowBytes()
	a, dst := b.space(kernel.PairedRows.Padded(rows, s.K)[0]*rowBytes), b.space(rows*dstStride)
	tile := b.space(4 * u.Plan.MicroM * s.Group() * kernel.PanelN)
	w := b.floats(s.Weight, in.W)
	gamma, beta, bias := b.floats(ir.F32, in.Gamma), b.floats(ir.F32, in.Beta), b.floats(ir.F32, in.Bias)
	scales := b.floats(ir.F32, in.WScale)
	cos, sin := b.floats(ir.F32, in.Cos), b.floats(ir.F32, in.Sin)
	var res, pos word
	if in.Residual != nil {
		res = b.buffer(spread(ir.F32, in.Residual[from*s.N:to*s.N], s.N, resStride))
	}
	if in.Pos != nil {
		pos = b.ints(in.Pos[from:to])
	}
	for m := 0; m < rows; m += blockM {
		n := min(blockM, rows-m)
		b.call(u.funcs["Prologue"], rt.GemmArgs{}, map[string]word{
			"Rows": value(n), "Src": plus(src, m*srcStride), "SrcStride": value(srcStride),
			"Gamma": gamma, "Beta": beta, "A": plus(a, m*rowBytes),
		})
		for panel := 0; panel < s.Panels(); panel += blockN {
			col := panel * s.PanelOut()
			fields := map[string]word{
				"Rows": value(n), "A": plus(a, m*rowBytes),
				"Panels": value(min(blockN, s.Panels()-panel)), "B": plus(w, panel*s.PanelBytes()),
				"Col": value(col), "Tile": tile,
				"Dst": plus(dst, m*dstStride+col*s.Out.Size()), "DstStride": value(dstStride),
			}
			if in.WScale != nil {
				fields["WScale"] = plus(scales, 4*panel*kernel.PanelN)
			}
			if in.Bias != nil {
				fields["Bias"] = plus(bias, 4*panel*kernel.PanelN)
			}
			if in.Residual != nil {
				fields["Res"], fields["ResStride"] = plus(res, m*resStride+4*col), value(resStride)
			}
			if in.Pos != nil {
				fields["Pos"], fields["Cos"], fields["Sin"] = plus(pos, 4*m), cos, sin
			}
			b.call(u.funcs["Block"], rt.GemmArgs{}, fields)
		}
	}
	r := p.run(t, &b.job)
	b.check(t, r)
	return gemmRun{
		packed: packedRows(t, b.content(r, a), u.Kernel, rows),
		out:    rowsOf(t, b.content(r, dst), s.Out, rows, s.N, dstStride),
	}
}

// packedRows returns packed rows, which are RowBytes apart, or the pairs of rows of an instruction
// that multiplies two at a time, which are twice as far apart.
func packedRows(t testing.TB, content []byte, k kernel.Kernel, rows int) kernel.Packed {
	if k.Spec.Math == ir.I8 {
		return packedCodes(t, content, k, rows)
	}
	return kernel.Packed{Rows: packedFloats(t, content, k, rows)}
}

func packedFloats(t testing.TB, content []byte, k kernel.Kernel, rows int) []float32 {
	target, _ := kernel.LookupTarget(k.Plan.Target)
	inst, _ := target.Inst(k.Plan.Inst)
	kPad := k.Spec.KPad()
	switch {
	case inst.Rows > 1:
		var out []float32
		for pair := range kernel.PairedRows.Padded(rows, kPad)[0] / 2 {
			both := rowsOf(t, content[pair*2*k.RowBytes():], ir.BF16, 1, 2*kPad, 2*k.RowBytes())
			out = append(out, kernel.Unpack(kernel.PairedRows, both, 2, kPad)...)
		}
		return out[:rows*kPad]
	case inst.Pairs, inst.Tile > 0:
		return rowsOf(t, content, ir.BF16, rows, kPad, k.RowBytes())
	}
	return rowsOf(t, content, ir.F32, rows, kPad, k.RowBytes())
}

// packedCodes returns packed codes with their scales, and reports an offset that is not −128 times
// the sum of the codes where the instruction has a use for it.
func packedCodes(t testing.TB, content []byte, k kernel.Kernel, rows int) kernel.Packed {
	target, _ := kernel.LookupTarget(k.Plan.Target)
	inst, _ := target.Inst(k.Plan.Inst)
	var p kernel.Packed
	for r := range rows {
		row := content[r*k.RowBytes() : (r+1)*k.RowBytes()]
		if inst.Rows > 1 {
			both := content[r/2*2*k.RowBytes():][:2*k.RowBytes()]
			row = kernel.Unpack("[m/2][b/8][m2][b8]", both, 2, k.RowBytes())[r%2*k.RowBytes():][:k.RowBytes()]
		}
		p.Scale = append(p.Scale, decode(ir.F32, row[:4])...)
		codes, sum := row[kernel.CodesAt:], int32(0)
		for i := range k.Spec.KPad() {
			c := int8(codes[i])
			if inst.CodeBytes == 2 {
				i = i&^3 + [4]int{0, 2, 1, 3}[i%4] // even codes of a quad, then odd ones
				c = int8(codes[2*i])
				if high := int8(codes[2*i+1]); high != c>>7 {
					t.Errorf("row %d: code %d is %d·256 + %d", r, i, high, c)
				}
			}
			sum += int32(c)
			p.Rows = append(p.Rows, float32(c))
		}
		if offset := int32(binary.LittleEndian.Uint32(row[kernel.OffsetAt:])); inst.Unsigned && offset != -128*sum {
			t.Errorf("row %d: offset %d, the codes add up to %d", r, offset, sum)
		}
	}
	return p
}

// compareCodes reports codes that are not those of the interpreter, or with a tolerance, whose
// numbers it is for, not the same or a neighbour.
func compareCodes(t testing.TB, what string, got, want kernel.Packed, kPad int, tol float64) {
	t.Helper()
	for i, w := range want.Rows {
		if d := math.Abs(float64(got.Rows[i] - w)); d != 0 && (tol == 0 || d > 1) {
			t.Errorf("%s: row %d: code %d is %v, want %v", what, i/kPad, i%kPad, got.Rows[i], w)
			return
		}
	}
	compare(t, what+", scales", ir.F32, got.Scale, want.Scale, 1, tol)
}

// exact reports whether the interpreter rounds as the kernel does: not where an instruction adds
// with one rounding, which fused only almost does, nor in functions.
func exact(k kernel.Kernel) bool {
	t, _ := kernel.LookupTarget(k.Plan.Target)
	inst, _ := t.Inst(k.Plan.Inst)
	for _, op := range []string{kernel.Rope, kernel.SiLU, kernel.GLU, kernel.Tanh} {
		if k.Spec.Epilogue.Has(op) {
			return false
		}
	}
	return inst.Sum != nil || k.Spec.Math == ir.I8
}

// extremeRows are rows of K elements whose codes are special: the last element of a row of ordinary
// ones, or of zeros, is the number given.
func extremeRows(s kernel.Spec) []float32 {
	var x []float32
	for _, ordinary := range []float32{1, 0} {
		for _, last := range []float32{0, 0x1p-149, 0x1p-101, -0x1p127, float32(math.Inf(-1)), float32(math.NaN())} {
			for i := range s.K - 1 {
				x = append(x, ordinary*float32(i%7-3))
			}
			x = append(x, last)
		}
	}
	return x
}

// checkExtremes checks the prologue on extremeRows.
func checkExtremes(t *testing.T, p *program, u unitUnderTest) {
	s := u.Spec
	x := extremeRows(s)
	m := len(x) / s.K
	in := gemmInput(rand.New(rand.NewPCG(6, 0)), s, m)
	in.X = x
	got, want := runGemm(t, p, u, in, 0, m, m, u.Plan.BlockN).packed, kernel.EvalPrologue(s, x, nil, nil)
	for i, w := range want.Rows {
		if got.Rows[i] != w {
			t.Errorf("extreme row %d: code %d is %v, want %v", i/s.KPad(), i%s.KPad(), got.Rows[i], w)
			break
		}
	}
	for r, w := range want.Scale {
		if g := got.Scale[r]; g != w && (g == g || w == w) {
			t.Errorf("extreme row %d: scale %v, want %v", r, g, w)
		}
	}
}

func checkGemm(t *testing.T, p *program, u unitUnderTest) {
	s, plan := u.Spec, u.Plan
	if s.Math == ir.I8 && s.Prologue == kernel.NoPrologue {
		checkExtremes(t, p, u)
	}
	for _, m := range rowCounts(plan) {
		in := gemmInput(rand.New(rand.NewPCG(1, uint64(m))), s, m)
		got := runGemm(t, p, u, in, 0, m, plan.BlockM, plan.BlockN)
		what := fmt.Sprintf("%d rows", m)

		// The norm is rounded a few times on the way; a bf16 result may then be the neighbour.
		packed := kernel.EvalPrologue(s, in.X, in.Gamma, in.Beta)
		tol := 0.0
		if s.Prologue != kernel.NoPrologue {
			tol = 1e-6
		}
		d := s.Math
		if tol == 0 {
			d = ir.F32
		}
		if s.Math == ir.I8 {
			compareCodes(t, what+", prologue", got.packed, packed, s.KPad(), tol)
		} else {
			compare(t, what+", prologue", d, got.packed.Rows, packed.Rows, s.KPad(), tol)
		}
		// The blocks are compared on the kernel's own packed rows, so that they must agree almost
		// exactly.
		want := kernel.EvalBlocks(u.Kernel, got.packed, in)
		compare(t, what, s.Out, got.out, want, s.N, 2e-6)
		if exact(u.Kernel) {
			same(t, what+", exactly", got.out, want)
		}

		for _, row := range []int{0, m / 2, m - 1} {
			alone := runGemm(t, p, u, in, row, row+1, 1, s.Panels())
			same(t, fmt.Sprintf("row %d of %d alone, all panels in one call", row, m), alone.out, got.out[row*s.N:(row+1)*s.N])
		}
	}
}

// samePlans checks that two plans of a Spec whose sums have one order give the same bits, each in
// its program.
func samePlans(t *testing.T, pa, pb *program, a, b unitUnderTest) {
	if a.Plan.ReductionKey() != b.Plan.ReductionKey() {
		return
	}
	const m = 13
	in := gemmInput(rand.New(rand.NewPCG(5, m)), a.Spec, m)
	same(t, fmt.Sprintf("against plan %s", a.Plan),
		runGemm(t, pb, b, in, 0, m, b.Plan.BlockM, b.Plan.BlockN).out,
		runGemm(t, pa, a, in, 0, m, a.Plan.BlockM, a.Plan.BlockN).out)
}

// siluSpec is a matmul that is silu of a column: with weight 1, x goes through unchanged.
var siluSpec = gemm(allF32, 1, 1, kernel.NoPrologue, "silu")

// siluULP is the largest error of silu in units in the last place: two for the exponential, one
// half each for the sum and the quotient.
const siluULP = 3

// checkSiLU checks silu over its whole range, and with it the exponential.
func checkSiLU(t *testing.T, p *program, u unitUnderTest) {
	xs := []float32{0, 1e-30, 1, 87, 88.5, 89, 100, 149, 151, 1000, 3e38, float32(math.Inf(1)), float32(math.NaN())}
	for i := range 4000 {
		xs = append(xs, float32(i)/40)
	}
	for _, x := range xs {
		if !math.IsInf(float64(x), 1) {
			xs = append(xs, -x)
		}
	}
	in := kernel.GemmInput{M: len(xs), X: xs, W: kernel.Pack(u.Spec.WeightLayout(), []float32{1}, 1, 1)}
	worst := uint32(0)
	for i, got := range runGemm(t, p, u, in, 0, len(xs), u.Plan.BlockM, 1).out {
		x := float64(xs[i])
		want := x / (1 + math.Exp(-x))
		switch ulp := num.ULP32(got, float32(want)); {
		case want != want || math.IsInf(want, 0):
			if float64(got) != want && got == got {
				t.Errorf("silu(%v) = %v, want %v", x, got, want)
			}
		case x < -88:
			// Beyond e⁸⁸ the exponential is no f32, and the quotient 0.
			if math.Abs(float64(got)-want) > 0x1p-120 {
				t.Errorf("silu(%v) = %v, want about %v", x, got, want)
			}
		case ulp > siluULP:
			t.Errorf("silu(%v) = %v, want %v: %d ulp", x, got, want, ulp)
		default:
			worst = max(worst, ulp)
		}
	}
	t.Logf("silu: at most %d ulp off", worst)
}
