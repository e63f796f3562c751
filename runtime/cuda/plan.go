package cuda

import (
	"fmt"

	rt "github.com/bertc/bertc/runtime"
)

// This file owns what the program says of the device's memory: the rows of the buffers, and which
// of them have a shadow and statistics.

// buffer is a buffer of the module on the device.
type buffer struct {
	extent rt.Extent
	cols   int
	bf16   bool
	input  bool // the host writes it before a call
	shadow bool
	slots  int // the most that a writer makes of its statistics; 0: nobody reads them
}

// plan derives the buffers and checks that the launch table is one of this module.
func (m *Model) plan() error {
	mod := m.mod
	if len(m.program.Kernels) != len(mod.Kernels) {
		return fmt.Errorf("has %d kernels, its launch table %d", len(mod.Kernels), len(m.program.Kernels))
	}
	m.buffers = make([]buffer, len(mod.Buffers)+1)
	for i, b := range mod.Buffers {
		m.buffers[i+1] = buffer{extent: b.Extent, cols: b.Cols, bf16: b.DType == rt.BF16}
	}
	for _, id := range []rt.BufferID{mod.IDs, mod.Positions, mod.Rows} {
		m.buffers[id].input = true
	}
	normed := make([]bool, len(m.buffers))
	for i := range mod.Steps {
		s := &mod.Steps[i]
		k := &mod.Kernels[s.Kernel]
		if len(m.program.Kernels[s.Kernel].Variants) == 0 {
			return fmt.Errorf("kernel %s has no launches", k.Name)
		}
		if k.Kind != rt.Gemm {
			continue
		}
		if b := &m.buffers[s.Src]; !b.bf16 {
			b.shadow = true
		}
		normed[s.Src] = normed[s.Src] || k.Norm != rt.NoNorm
	}
	written := make([]int, len(m.buffers)) // slots of the last writer so far
	m.slots = make([]int, len(mod.Steps)+1)
	for i := range mod.Steps {
		s := &mod.Steps[i]
		m.slots[i] = written[s.Src]
		if k := &mod.Kernels[s.Kernel]; k.Kind == rt.Gemm && k.Norm != rt.NoNorm && written[s.Src] == 0 {
			return fmt.Errorf("step %s reads statistics of %s, which nothing writes", s.Name, mod.Buffers[s.Src-1].Name)
		}
		written[s.Dst] = 0
		if per := m.program.Kernels[s.Kernel].StatsCols; normed[s.Dst] && per > 0 {
			written[s.Dst] = rt.CeilDiv(m.buffers[s.Dst].cols, per)
		}
		m.buffers[s.Dst].slots = max(m.buffers[s.Dst].slots, written[s.Dst])
	}
	return nil
}

// variant returns the launches for so many rows.
func (k *Kernel) variant(rows int) *Variant {
	for i := range k.Variants {
		if v := &k.Variants[i]; v.MaxRows == 0 || rows <= v.MaxRows {
			return v
		}
	}
	return &k.Variants[len(k.Variants)-1]
}

// bufferOf returns the buffer of an operand, 0 when it is a weight or none.
func bufferOf(s *rt.Step, o Operand) rt.BufferID {
	switch o {
	case OperandSrc:
		return s.Src
	case OperandDst:
		return s.Dst
	case OperandRes:
		return s.Res
	case OperandIndex:
		return s.Index
	case OperandPos:
		return s.Pos
	}
	return 0
}

// weightOf returns the weight of an operand, 0 when it is a buffer or none.
func weightOf(s *rt.Step, o Operand) rt.WeightID {
	switch o {
	case OperandW:
		return s.W
	case OperandBias:
		return s.Bias
	case OperandGamma:
		return s.Gamma
	case OperandBeta:
		return s.Beta
	case OperandCos:
		return s.Cos
	case OperandSin:
		return s.Sin
	case OperandPosTable:
		return s.PosTable
	}
	return 0
}
