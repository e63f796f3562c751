package kernel

import (
	"slices"

	"github.com/bertc/bertc/ir"
)

// Plan is how a target does a Spec. It is flat and comparable and holds no derived value.
//
// The text form is one line, for example
//
//	gemm amd64/avx512f inst=vfmadd231ps micro=12x32 block=96x8
//
// Sums over K run from 0 to K−1 with one f32 accumulator per output element (in pairs, the odd
// step first, or in blocks with sums of their own, where Inst says so), whatever the tile and the
// block: this order (the ReductionKey)
// is part of Inst, so that plans of one Inst may be mixed over row counts and thread counts
// without changing a bit of the result.
//
// On a GPU the sizes mean what device.go says.
type Plan struct {
	Kind   Kind
	Target string
	// Inst is the multiply-accumulate instruction, a row of the target's instruction table.
	Inst string
	// MicroM × MicroN is the register tile of a matmul: rows × columns.
	MicroM, MicroN int
	// BlockM is the number of rows that a work item packs and keeps: of a matmul, of attention
	// (queries × heads of a group), of a rowwise or gather kernel.
	BlockM int
	// BlockN is the number of weight panels of a work item of a matmul, and the number of keys
	// of a block of attention.
	BlockN int
}

// ReductionKey names the order in which a plan sums over K. Plans of one Spec that may serve
// the same package at different row counts must have equal keys.
func (p Plan) ReductionKey() string {
	if t, ok := LookupTarget(p.Target); ok {
		switch i, _ := t.Inst(p.Inst); {
		case slices.Equal(i.Math, codes):
			return "exact"
		case i.Pairs:
			return p.Inst + " k=1,0,3,2.."
		case i.Tile > 0:
			return p.Inst + " k=(0,2..30)+(1,3..31),.."
		}
	}
	return p.Inst + " k=0.."
}

// Kernel is a Spec and the Plan that does it.
type Kernel struct {
	Spec Spec
	Plan Plan
}

// RowBytes is the distance in bytes of the packed rows of a matmul: that of f32 rows, of bf16 rows
// where the instruction has tiles, and its gap. Rows of codes have a header (quantize.go).
func (k Kernel) RowBytes() int {
	t, _ := LookupTarget(k.Plan.Target)
	i, _ := t.Inst(k.Plan.Inst)
	return i.rowBytes(k.Spec)
}

// rowBytes is RowBytes of a kernel with the instruction.
func (i Inst) rowBytes(s Spec) int {
	if s.Math == ir.I8 {
		return CodesAt + i.CodeBytes*s.KPad()
	}
	size := ir.F32.Size()
	if i.Tile > 0 {
		size = ir.BF16.Size()
	}
	return size*s.KPad() + i.RowGap
}
