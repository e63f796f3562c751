package kernel

import (
	"fmt"
	"iter"
	"math"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
)

// This file owns the interpreter of kernels: it does what a Plan says on slices, on any machine,
// in the order in which the generated code does it: blocks of packed rows, groups of panels,
// tiles of rows, sums over K with Inst.Mul, epilogue on the scratch tile. It is the oracle of
// codegentest. eval_attention.go and eval_rows.go have the other kinds.
//
// Tensors are slices of f32, row-major unless said otherwise, whose values have been rounded to
// the dtype that the Spec gives them. Means of norms, exponentials and square roots are computed
// in float64 and rounded once: a kernel may differ by a few units in the last place there.

// GemmInput is what a matmul reads. Slices that the Spec has no use for are nil.
type GemmInput struct {
	M           int
	X           []float32 // [M][K]
	Gamma, Beta []float32 // [K]
	W           []float32 // the weight matrix in the order of WeightLayout, padding included
	WScale      []float32 // of its rows when it has codes: in panel order, Panels·PanelN
	Bias        []float32 // in panel order, Panels·PanelN
	Residual    []float32 // [M][N]
	Pos         []int32   // [M]
	Cos, Sin    []float32 // [positions][HeadDim/2]
}

// EvalGemm interprets a matmul and returns [M][N]. Sizes that do not fit the Spec are an error, and so is a
// position outside of the rotary tables.
func EvalGemm(k Kernel, in GemmInput) ([]float32, error) {
	if err := checkKind(k, Gemm); err != nil {
		return nil, err
	}
	if err := in.check(k.Spec); err != nil {
		return nil, err
	}
	var a Packed
	for m := 0; m < in.M; m += k.Plan.BlockM {
		end := min(m+k.Plan.BlockM, in.M)
		p := EvalPrologue(k.Spec, in.X[m*k.Spec.K:end*k.Spec.K], in.Gamma, in.Beta)
		a.Rows, a.Scale = append(a.Rows, p.Rows...), append(a.Scale, p.Scale...)
	}
	return EvalBlocks(k, a, in), nil
}

// Packed is what a prologue makes of rows.
type Packed struct {
	Rows  []float32 // [rows][KPad], in i8 the codes
	Scale []float32 // [rows], in i8 alone
}

// EvalPrologue interprets the prologue function.
func EvalPrologue(s Spec, x, gamma, beta []float32) Packed {
	rows, kPad := len(x)/s.K, s.KPad()
	a := make([]float32, rows*kPad)
	var scale []float32
	for r := range rows {
		row := a[r*kPad : r*kPad+s.K]
		copy(row, x[r*s.K:])
		normRow(s, row, gamma, beta)
		if s.Math == ir.I8 {
			scale = append(scale, Quantize(row, row))
			continue
		}
		for i := range row {
			row[i] = round(s.Math, row[i])
		}
	}
	return Packed{a, scale}
}

// EvalBlocks interprets the calls of the block function on packed rows. X is not read.
func EvalBlocks(k Kernel, a Packed, in GemmInput) []float32 {
	s, p := k.Spec, k.Plan
	out := make([]float32, in.M*s.N)
	g := &gemmEval{spec: s, in: in, out: out, offK: s.WeightLayout().Offsets(1, PanelN, s.K)}
	g.offN = s.WeightLayout().Offsets(0, PanelN, s.K)
	t, _ := LookupTarget(p.Target)
	g.inst, _ = t.Inst(p.Inst)
	blockN := p.BlockN
	if t.Device() {
		blockN = s.Panels() // BlockN are stages
	}
	for m := 0; m < in.M; m += p.BlockM {
		blockEnd := min(m+p.BlockM, in.M)
		for panel := 0; panel < s.Panels(); panel += blockN {
			panelEnd := min(panel+blockN, s.Panels())
			for group := panel; group < panelEnd; group += s.Group() {
				for row := m; row < blockEnd; row += p.MicroM {
					h := min(p.MicroM, blockEnd-row)
					n := min(s.Group(), panelEnd-group)
					tile := g.tile(a, row, h, group, n)
					g.epilogue(tile, row, h, group, n)
				}
			}
		}
	}
	return out
}

type gemmEval struct {
	spec       Spec
	inst       Inst
	in         GemmInput
	out        []float32
	offK, offN []int
}

// tile returns the scratch tile of h rows and n panels, after the bias: [h][Group·32].
func (g *gemmEval) tile(a Packed, row, h, group, n int) []float32 {
	s := g.spec
	width, kPad := s.Group()*PanelN, s.KPad()
	tile := make([]float32, h*width)
	for p := range n {
		w := g.in.W[(group+p)*PanelN*kPad:]
		for r := range h {
			x := a.Rows[(row+r)*kPad : (row+r+1)*kPad]
			for c := range PanelN {
				b := func(k int) float32 { return w[g.offN[c]+g.offK[k]] }
				var acc float32
				if s.Math == ir.I8 {
					acc = dequantize(sumCodes(x, b), g.in.WScale[(group+p)*PanelN+c], a.Scale[row+r])
				} else {
					acc = g.inst.sum(0, x, b)
				}
				if s.Epilogue.Has(Bias) {
					acc += g.in.Bias[(group+p)*PanelN+c]
				}
				tile[r*width+p*PanelN+c] = acc
			}
		}
	}
	return tile
}

// epilogue applies what follows the bias to a scratch tile and writes the columns that exist.
func (g *gemmEval) epilogue(tile []float32, row, h, group, n int) {
	s := g.spec
	width, col := s.Group()*PanelN, group*s.PanelOut()
	for r := range h {
		t := tile[r*width : (r+1)*width]
		if s.Epilogue.Has(Rope) {
			half := s.HeadDim / 2
			cos, sin := g.in.Cos[int(g.in.Pos[row+r])*half:], g.in.Sin[int(g.in.Pos[row+r])*half:]
			for head := 0; head < width && col+head < s.RopeCols(); head += s.HeadDim {
				for j := range half {
					lo, hi := t[head+j], t[head+half+j]
					t[head+j] = g.inst.Mul(-(hi * sin[j]), lo, cos[j])
					t[head+half+j] = g.inst.Mul(lo*sin[j], hi, cos[j])
				}
			}
		}
		for p := range n {
			for c := range s.PanelOut() {
				at := col + p*s.PanelOut() + c
				if at >= s.N {
					break
				}
				v := t[p*PanelN+c]
				switch {
				case s.Epilogue.Has(GLU):
					v = silu(v) * t[p*PanelN+GLUWidth+c]
				case s.Epilogue.Has(SiLU):
					v = silu(v)
				case s.Epilogue.Has(Tanh):
					v = float32(math.Tanh(float64(v)))
				}
				if s.Epilogue.Has(Residual) {
					v += g.in.Residual[(row+r)*s.N+at]
				}
				g.out[(row+r)*s.N+at] = round(s.Out, v)
			}
		}
	}
}

func (in GemmInput) check(s Spec) error {
	type need struct {
		name      string
		len, want int
	}
	needs := []need{
		{"x", len(in.X), in.M * s.K},
		{"w", len(in.W), s.Panels() * PanelN * s.KPad()},
	}
	if s.Weight == ir.I8 {
		needs = append(needs, need{"wscale", len(in.WScale), s.Panels() * PanelN})
	}
	if s.Prologue != NoPrologue {
		needs = append(needs, need{"gamma", len(in.Gamma), s.K})
	}
	if s.Beta {
		needs = append(needs, need{"beta", len(in.Beta), s.K})
	}
	if s.Epilogue.Has(Bias) {
		needs = append(needs, need{"bias", len(in.Bias), s.Panels() * PanelN})
	}
	if s.Epilogue.Has(Residual) {
		needs = append(needs, need{"residual", len(in.Residual), in.M * s.N})
	}
	if s.Epilogue.Has(Rope) {
		needs = append(needs, need{"pos", len(in.Pos), in.M}, need{"sin", len(in.Sin), len(in.Cos)})
		for i, p := range in.Pos {
			if p < 0 || (int(p)+1)*s.HeadDim/2 > len(in.Cos) {
				return fmt.Errorf("eval gemm: position %d of row %d is outside the rope tables", p, i)
			}
		}
	}
	for _, n := range needs {
		if n.len != n.want {
			return fmt.Errorf("eval gemm: %s has %d elements, want %d", n.name, n.len, n.want)
		}
	}
	return nil
}

func checkKind(k Kernel, kind Kind) error {
	if k.Spec.Kind != kind {
		return fmt.Errorf("eval %s: the spec is a %s", kind, k.Spec.Kind)
	}
	return Check(k.Spec, k.Plan)
}

// sum returns acc + Σ a[k]·b(k) as the instruction does it. The missing steps of a last Sum are
// zero.
func (i Inst) sum(acc float32, a []float32, b func(k int) float32) float32 {
	if i.Sum != nil {
		for k := 0; k < len(a); k += i.Steps {
			x, y := make([]float32, i.Steps), make([]float32, i.Steps)
			for j := range copy(x, a[k:]) {
				y[j] = b(k + j)
			}
			acc = i.Sum(acc, x, y)
		}
		return acc
	}
	for k := range i.steps(len(a)) {
		acc = i.Mul(acc, a[k], b(k))
	}
	return acc
}

// sumCodes returns Σ a[k]·b(k), exactly.
func sumCodes(a []float32, b func(k int) float32) int32 {
	var acc int32
	for k, x := range a {
		acc += int32(x) * int32(b(k))
	}
	return acc
}

// steps yields the steps 0..n−1 of a sum in the instruction's order. The missing half of a last
// pair is zero and left out.
func (i Inst) steps(n int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for k := range n + n%2 {
			if i.Pairs {
				k ^= 1
			}
			if k < n && !yield(k) {
				return
			}
		}
	}
}

// round returns x rounded to d, as f32.
func round(d ir.DType, x float32) float32 {
	if d == ir.BF16 {
		return num.FromBF16(num.BF16(x))
	}
	return x
}

func silu(x float32) float32 {
	return x / (1 + float32(math.Exp(-float64(x))))
}
