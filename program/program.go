package program

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// Program is the compiled model, before it is written out.
type Program struct {
	Name    string
	Symbols []ir.Symbol
	Kernels []Kernel
	Weights []Weight
	Buffers []Buffer
	Steps   []Step
}

// Kernel is one Spec with the plan of each target. Steps with equal Specs share it.
type Kernel struct {
	Name  string
	Spec  kernel.Spec
	Plans []kernel.Plan // one a target, in the order of the targets
	// From says where each plan is from, when it is not from kernel.Choose; nil, or as long as Plans.
	From []string
}

// Plan returns the kernel's plan for a target.
func (k Kernel) Plan(target string) (kernel.Plan, bool) {
	for _, p := range k.Plans {
		if p.Target == target {
			return p, true
		}
	}
	return kernel.Plan{}, false
}

// PlanFrom returns where the i-th plan is from, "" when it is from kernel.Choose.
func (k Kernel) PlanFrom(i int) string {
	if k.From == nil {
		return ""
	}
	return k.From[i]
}

// Role is what a buffer is to the caller.
type Role string

const (
	Input  Role = "input"  // written by the caller
	Temp   Role = "temp"   // may share memory with others
	Output Role = "output" // stays valid until the next call
)

// Buffer is a row-major tensor in the session's arena: one row for each token (or picked row).
// The area of all buffers whose rows are counted by one symbol is Offset bytes times the number
// of rows into the arena; -1 before memory is planned.
type Buffer struct {
	Name   string
	Role   Role
	Type   ir.Type // [symbol] or [symbol, columns]
	Offset int
}

// Symbol returns the symbol that counts the rows of b.
func (b Buffer) Symbol() string { return b.Type.Dims[0].String() }

// Cols returns the elements of one row.
func (b Buffer) Cols() int {
	if len(b.Type.Dims) == 1 {
		return 1
	}
	n, _ := b.Type.Dims[1].IsConst()
	return n
}

// RowBytes returns the bytes of one row.
func (b Buffer) RowBytes() int { return b.Cols() * b.Type.DType.Size() }

// Step is one kernel call. Operands are names of buffers and weights by the operand's meaning;
// which of them a kernel takes follows from its Spec (Operands).
type Step struct {
	Name   string
	Kernel string
	Args   []Arg
}

// Arg is one operand of a step.
type Arg struct {
	Operand Operand
	Name    string // of a buffer or weight
}

// Operand is the meaning of an argument of a kernel call.
type Operand string

// The operands, in the order in which they are printed. Src to Dst are buffers, the others weights.
const (
	Src      Operand = "src"      // activations that are read
	Index    Operand = "index"    // i32 row numbers of a gather
	Pos      Operand = "pos"      // i32 positions of the rows
	Res      Operand = "res"      // residual
	Dst      Operand = "dst"      // result
	W        Operand = "w"        // weight panels, or the table of a gather
	WScale   Operand = "wscale"   // f32 [N] in panel order: scales of rows of codes
	BiasW    Operand = "bias"     // f32 [N] in panel order
	Gamma    Operand = "gamma"    // f32 [K]
	Beta     Operand = "beta"     // f32 [K]
	Cos      Operand = "cos"      // rotary table
	Sin      Operand = "sin"      // rotary table
	PosTable Operand = "postable" // f32 position embeddings
)

var operandOrder = []Operand{Src, Index, Pos, Res, Dst, W, WScale, BiasW, Gamma, Beta, Cos, Sin, PosTable}

// IsBuffer reports whether o names a buffer rather than a weight. The table of a gather that
// reads activations is the exception: it is passed as src.
func (o Operand) IsBuffer() bool {
	switch o {
	case Src, Index, Pos, Res, Dst:
		return true
	}
	return false
}

// Operands returns the operands that a kernel of Spec s takes, in print order.
func Operands(s kernel.Spec) []Operand {
	takes := map[Operand]bool{Dst: true}
	switch s.Kind {
	case kernel.Gemm:
		takes[Src], takes[W] = true, true
		takes[BiasW] = s.Epilogue.Has(kernel.Bias)
		takes[Res] = s.Epilogue.Has(kernel.Residual)
		rope := s.Epilogue.Has(kernel.Rope)
		takes[Pos], takes[Cos], takes[Sin] = rope, rope, rope
	case kernel.Attention:
		takes[Src] = true
	case kernel.Rowwise:
		takes[Src] = true
	case kernel.Gather:
		takes[Index] = true
		takes[W], takes[Src] = !s.Activations, s.Activations
		takes[Pos], takes[PosTable] = s.Positions, s.Positions
	}
	takes[WScale] = s.Weight == ir.I8
	if s.Prologue != kernel.NoPrologue {
		takes[Gamma], takes[Beta] = true, s.Beta
	}
	var ops []Operand
	for _, o := range operandOrder {
		if takes[o] {
			ops = append(ops, o)
		}
	}
	return ops
}

// Arg returns the name bound to operand o, or "".
func (s Step) Arg(o Operand) string {
	for _, a := range s.Args {
		if a.Operand == o {
			return a.Name
		}
	}
	return ""
}

// Kernel returns the kernel of that name, or nil.
func (p *Program) Kernel(name string) *Kernel {
	for i := range p.Kernels {
		if p.Kernels[i].Name == name {
			return &p.Kernels[i]
		}
	}
	return nil
}

// Buffer returns the buffer of that name, or nil.
func (p *Program) Buffer(name string) *Buffer {
	for i := range p.Buffers {
		if p.Buffers[i].Name == name {
			return &p.Buffers[i]
		}
	}
	return nil
}

// Weight returns the weight of that name, or nil.
func (p *Program) Weight(name string) *Weight {
	for i := range p.Weights {
		if p.Weights[i].Name == name {
			return &p.Weights[i]
		}
	}
	return nil
}

// HeadStart returns the index of the first step that runs on picked rows: the steps before it
// make the hidden states. It is len(p.Steps) when there is no head.
func (p *Program) HeadStart() int {
	for i, s := range p.Steps {
		if dst := p.Buffer(s.Arg(Dst)); dst != nil && dst.Symbol() != Tokens {
			return i
		}
	}
	return len(p.Steps)
}

// Tokens is the symbol that counts the tokens of a batch; the other row symbol counts the rows
// that a head is applied to.
const Tokens = "T"

// RowAlign is the multiple to which a session rounds the number of rows of an area, so that
// every buffer begins on a cache line: offsets are multiples of 4 bytes per row.
const RowAlign = 16

// HeadSymbol returns the symbol that counts the rows of the head, "" when there is none.
func (p *Program) HeadSymbol() string {
	for _, b := range p.Buffers {
		if b.Symbol() != Tokens {
			return b.Symbol()
		}
	}
	return ""
}

// AreaBytes returns the bytes of the area of all buffers counted by symbol, for rows rows.
func (p *Program) AreaBytes(symbol string, rows int) int {
	perRow := 0
	for _, b := range p.Buffers {
		if b.Symbol() == symbol {
			perRow = max(perRow, b.Offset+(b.RowBytes()+3)/4*4)
		}
	}
	return perRow * ((rows + RowAlign - 1) / RowAlign * RowAlign)
}
