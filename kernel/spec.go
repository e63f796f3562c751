package kernel

import (
	"fmt"
	"strings"

	"github.com/bertc/bertc/ir"
)

// Kind is one of the four shapes of work that a model is made of.
type Kind string

const (
	// Gemm: prologue(x[M,K]) · wᵀ[K,N], then the epilogue.
	Gemm Kind = "gemm"
	// Attention: softmax(scale · q·kᵀ)·v for packed sequences with grouped queries.
	Attention Kind = "attention"
	// Rowwise: a norm of each row of x[M,K].
	Rowwise Kind = "rowwise"
	// Gather: rows of a table by index, optionally plus rows of a second table.
	Gather Kind = "gather"
)

// Prologue is what happens to the rows of x before they are multiplied.
type Prologue string

const (
	NoPrologue Prologue = ""
	RMSNorm    Prologue = "rmsnorm"   // x · rsqrt(mean(x²) + eps) · gamma
	LayerNorm  Prologue = "layernorm" // (x − mean) · rsqrt(var + eps) · gamma [+ beta]
)

// Epilogue is the list of operations on the accumulators, in order, joined by "+".
// The legal lists are the paths through the table in epilogueOps.
type Epilogue string

const (
	Bias     = "bias"     // + bias[N]
	Rope     = "rope"     // rotary embedding of the first (Heads+KVHeads)·HeadDim columns
	SiLU     = "silu"     // x·sigmoid(x)
	Tanh     = "tanh"     // hyperbolic tangent
	GLU      = "glu"      // silu(gate)·up; gate and up columns are interleaved by GLUWidth
	Residual = "residual" // + residual[M,N], f32
)

// GLUWidth is how many gate columns are followed by as many up columns in the weight panels of
// a gated matmul: one vector of each, so that both halves of a product lie in one panel.
const GLUWidth = 16

// epilogueOps gives each operation a rank: an epilogue is legal when its ranks increase.
var epilogueOps = map[string]int{Bias: 0, Rope: 1, SiLU: 1, Tanh: 1, GLU: 1, Residual: 2}

// Ops returns the operations of e in order.
func (e Epilogue) Ops() []string {
	if e == "" {
		return nil
	}
	return strings.Split(string(e), "+")
}

// Has reports whether op is in e.
func (e Epilogue) Has(op string) bool {
	for _, o := range e.Ops() {
		if o == op {
			return true
		}
	}
	return false
}

// Spec is what a kernel computes. It is comparable: equal Specs are one kernel. Fields that a
// kind does not use are zero. The number of rows M is not part of it.
type Spec struct {
	Kind Kind
	// In is the dtype of the activations that are read, Out of those that are written.
	In, Out ir.DType
	// Math is the dtype to which both factors of a product are rounded before they are
	// multiplied (f32: not rounded). Products and sums are f32. i8: both factors are codes of 8
	// bits, those of a row with one scale (quantize.go); sums are i32, and exact.
	Math ir.DType
	// Weight is the dtype of the weight panels or of the gather table.
	Weight ir.DType
	// N and K: columns and inner dimension of a matmul (N counts what is stored: half of the
	// weight rows under GLU); K alone is the row length of rowwise and gather kernels.
	N, K int

	Prologue Prologue
	Beta     bool    // the layernorm has a bias
	Eps      float64 // of the norm
	Epilogue Epilogue

	// Heads, KVHeads and HeadDim belong to attention and to the Rope epilogue.
	Heads, KVHeads, HeadDim int
	// Scale multiplies the scores of attention.
	Scale float64

	// Positions: a gather adds row pos[i] of a second table (absolute position embeddings).
	Positions bool
	// Activations: the table of a gather is a buffer of activations, not a weight.
	Activations bool
	// Table is the layout of a gather's table: RowMajor, or the panel layout of the tied
	// decoder, whose bytes it then shares.
	Table Layout
}

// KPad is K rounded up to what the weight panels hold; packed activations are zero beyond K.
func (s Spec) KPad() int { return s.WeightLayout().Padded(1, s.K)[1] }

// WeightRows is the number of rows of the weight matrix in recipe order: N, or under GLU twice
// N rounded up to GLUWidth.
func (s Spec) WeightRows() int {
	if s.Epilogue.Has(GLU) {
		return 2 * roundUp(s.N, GLUWidth)
	}
	return s.N
}

// Panels is the number of weight panels of PanelN columns.
func (s Spec) Panels() int { return roundUp(s.WeightRows(), PanelN) / PanelN }

// PanelBytes is the size of one weight panel.
func (s Spec) PanelBytes() int { return PanelN * s.KPad() * s.Weight.Size() }

// Group is the number of panels that an epilogue needs at once: whole heads under Rope, one
// panel otherwise. Blocks of panels are multiples of it, except at the end of the matrix.
func (s Spec) Group() int {
	if !s.Epilogue.Has(Rope) {
		return 1
	}
	return min(lcm(s.HeadDim, PanelN)/PanelN, s.Panels())
}

// PanelOut is the number of output columns of one panel: PanelN, or half of it under GLU.
func (s Spec) PanelOut() int {
	if s.Epilogue.Has(GLU) {
		return PanelN / 2
	}
	return PanelN
}

// WeightLayout is the layout of the weight matrix in the weight file.
func (s Spec) WeightLayout() Layout {
	switch s.Weight {
	case ir.I8:
		return PanelI8
	case ir.BF16:
		return PanelBF16
	}
	return PanelF32
}

// RopeCols is the number of leading columns that Rope rotates: the queries and the keys.
func (s Spec) RopeCols() int { return (s.Heads + s.KVHeads) * s.HeadDim }

// QKVCols is the number of columns of one row of an attention's input: q | k | v.
func (s Spec) QKVCols() int { return (s.Heads + 2*s.KVHeads) * s.HeadDim }

// Flops returns the multiplications and additions of the kernel for m rows. For attention, m is
// the length of one sequence.
func (s Spec) Flops(m int) int64 {
	switch s.Kind {
	case Gemm:
		n := int64(s.N)
		if s.Epilogue.Has(GLU) {
			n *= 2
		}
		return 2 * int64(m) * n * int64(s.K)
	case Attention:
		return 4 * int64(m) * int64(m) * int64(s.Heads) * int64(s.HeadDim)
	case Rowwise:
		return 4 * int64(m) * int64(s.K)
	}
	return 0
}

// maxHeadDim bounds the size of a head: loops over a head are unrolled in generated code.
const maxHeadDim = 1024

// The largest of the other sizes. They are beyond every model, and products of two of them with
// the size of an element fit an int.
const (
	maxN     = 1 << 24
	maxK     = 1 << 20
	maxHeads = 1 << 12
)

// Valid reports whether s is a Spec that a kernel can exist for.
func (s Spec) Valid() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("spec %s: %s", s, fmt.Sprintf(format, args...))
	}
	float := func(d ir.DType) bool { return d == ir.F32 || d == ir.BF16 }
	factor := func(d ir.DType) bool { return float(d) || d == ir.I8 }
	for _, size := range []struct {
		name   string
		n, max int
	}{{"n", s.N, maxN}, {"k", s.K, maxK}, {"heads", s.Heads, maxHeads}, {"kvheads", s.KVHeads, maxHeads}} {
		if size.n < 0 || size.n > size.max {
			return bad("%s is %d, at most %d is supported", size.name, size.n, size.max)
		}
	}
	switch s.Kind {
	case Gemm:
		if s.N < 1 || s.K < 1 {
			return bad("n and k must be positive, found %d and %d", s.N, s.K)
		}
		if !float(s.In) || !float(s.Out) || !factor(s.Weight) || !factor(s.Math) {
			return bad("dtypes must be f32 or bf16, those of the factors also i8")
		}
		if (s.Math == ir.I8) != (s.Weight == ir.I8) {
			return bad("both factors must be i8 or none")
		}
		if s.Math == ir.I8 && s.K > maxCodes {
			return bad("k is %d, sums of more than %d products of codes do not fit i32", s.K, maxCodes)
		}
		rank := -1
		for _, op := range s.Epilogue.Ops() {
			r, ok := epilogueOps[op]
			if !ok {
				return bad("unknown epilogue operation %q", op)
			}
			if r <= rank {
				return bad("epilogue operation %q is out of order", op)
			}
			rank = r
		}
		if s.Epilogue.Has(Rope) {
			if s.HeadDim < 2 || s.HeadDim%2 != 0 || s.HeadDim > maxHeadDim {
				return bad("rope needs an even head size of at most %d, found %d", maxHeadDim, s.HeadDim)
			}
			if s.Heads < 1 || s.KVHeads < 1 || s.RopeCols() > s.N {
				return bad("rope of %d columns does not fit n", s.RopeCols())
			}
		}
	case Attention:
		if s.Heads < 1 || s.KVHeads < 1 || s.HeadDim < 1 || s.Heads%s.KVHeads != 0 {
			return bad("heads must be a multiple of kvheads")
		}
		if s.HeadDim > maxHeadDim {
			return bad("heads of %d elements are larger than %d", s.HeadDim, maxHeadDim)
		}
		if s.Scale <= 0 {
			return bad("scale must be positive, found %v", s.Scale)
		}
		if !float(s.In) || !float(s.Out) || !float(s.Math) {
			return bad("dtypes must be f32 or bf16")
		}
	case Rowwise:
		if s.K < 1 || s.Prologue == NoPrologue {
			return bad("a rowwise kernel needs k and a norm")
		}
		if !float(s.In) || !float(s.Out) {
			return bad("dtypes must be f32 or bf16")
		}
	case Gather:
		if s.K < 1 || s.Table == "" {
			return bad("a gather needs k and a table layout")
		}
		if dims, err := s.Table.Dims(); err != nil || dims != "nk" {
			return bad("table layout %q is not a layout of [n][k]", s.Table)
		}
		if !factor(s.Weight) || !float(s.Out) {
			return bad("dtypes must be f32 or bf16, that of the table also i8")
		}
	default:
		return fmt.Errorf("spec: unknown kind %q", s.Kind)
	}
	switch s.Prologue {
	case NoPrologue, RMSNorm, LayerNorm:
	default:
		return bad("unknown prologue %q", s.Prologue)
	}
	if s.Prologue != NoPrologue && s.Eps <= 0 {
		return bad("eps must be positive, found %v", s.Eps)
	}
	return nil
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }

func lcm(a, b int) int { return a / gcd(a, b) * b }

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
