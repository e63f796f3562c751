package cuda

import (
	"encoding/binary"
	"fmt"

	rt "github.com/bertc/bertc/runtime"
)

// This file owns the parameters of launches: what each is, and how they are packed.

// paramBlock is the packed parameters of a launch and where each begins.
type paramBlock struct {
	data    []byte
	offsets []int
}

func (b *paramBlock) add(value []byte, align int) {
	b.data = append(b.data, make([]byte, rt.RoundUp(len(b.data), align)-len(b.data))...)
	b.offsets = append(b.offsets, len(b.data))
	b.data = append(b.data, value...)
}

func (b *paramBlock) pointer(p Pointer) { b.add(binary.LittleEndian.AppendUint64(nil, uint64(p)), 8) }

func (b *paramBlock) u32(x int) { b.add(binary.LittleEndian.AppendUint32(nil, uint32(x)), 4) }

// tensorMapAlign is the alignment of a tensor map among the parameters.
const tensorMapAlign = 64

// params packs the parameters of a launch of step i in a phase.
func (s *Session) params(i int, l *Launch, ph *phase) (paramBlock, error) {
	var b paramBlock
	step := s.model.step(i)
	for n, p := range l.Params {
		if err := s.param(&b, i, step, p, ph, l); err != nil {
			return b, fmt.Errorf("step %s, parameter %d of %s: %w", step.Name, n, l.Entry, err)
		}
	}
	return b, nil
}

func (s *Session) param(b *paramBlock, i int, step *rt.Step, p Param, ph *phase, l *Launch) error {
	m := s.model
	id := bufferOf(step, p.Operand)
	encode := func(t TensorMap) error {
		data, err := m.driver.EncodeTiled(t)
		if err == nil {
			b.add(data[:], tensorMapAlign)
		}
		return err
	}
	if k, ok := m.key(step, p); ok {
		w := m.weights[k]
		if p.Kind != ParamMap {
			b.pointer(w.at)
			return nil
		}
		return encode(p.tensorMap(w.at, w.rows, w.cols, true))
	}
	switch p.Kind {
	case ParamPointer, ParamMap, ParamShadow, ParamShadowMap, ParamStats:
		if id == 0 {
			return fmt.Errorf("the step has no operand %d", p.Operand)
		}
	}
	buf := &m.buffers[id]
	switch p.Kind {
	case ParamPointer:
		at := s.memory[id].data
		if buf.input {
			at = s.input + Pointer(ph.at[id])
		}
		b.pointer(at)
	case ParamMap:
		return encode(p.tensorMap(s.memory[id].data, s.capacity[buf.extent], buf.cols, buf.bf16))
	case ParamShadow:
		b.pointer(s.memory[id].shadow)
	case ParamShadowMap:
		if !buf.shadow {
			return fmt.Errorf("buffer %s has no shadow", m.mod.Buffers[id-1].Name)
		}
		return encode(p.tensorMap(s.memory[id].shadow, s.capacity[buf.extent], buf.cols, true))
	case ParamStats:
		b.pointer(s.memory[id].stats)
	case ParamSlots:
		b.u32(m.slots[i])
	case ParamRows:
		b.pointer(s.input + controlRows)
	case ParamTopK:
		b.pointer(s.input + controlTopK)
	case ParamItems:
		b.pointer(s.input + Pointer(ph.list(l.Grid.TileM, &m.mod.Kernels[step.Kernel]).at))
	case ParamItemCount:
		b.pointer(s.input + Pointer(ph.list(l.Grid.TileM, &m.mod.Kernels[step.Kernel]).count))
	case ParamScratch:
		b.pointer(s.scratch[step.Kernel])
	case ParamTopIDs:
		b.pointer(s.topIDs)
	case ParamTopLogits:
		b.pointer(s.topLogits)
	case ParamTopSums:
		b.pointer(s.topSums)
	default:
		return fmt.Errorf("unknown kind %d", p.Kind)
	}
	return nil
}

// tensorMap is the tensor map of a parameter over rows of a matrix.
func (p Param) tensorMap(at Pointer, rows, cols int, bf16 bool) TensorMap {
	size := 4
	if bf16 {
		size = 2
	}
	pitch := uint64(Pitch(cols, bf16))
	t := TensorMap{Address: at, F32: !bf16, Swizzle: p.Swizzle, Dims: []uint64{uint64(cols), uint64(rows)}, Strides: []uint64{pitch}}
	if len(p.Box) == 3 {
		t.Dims = []uint64{uint64(p.Box[0]), uint64(cols / p.Box[0]), uint64(rows)}
		t.Strides = []uint64{uint64(p.Box[0] * size), pitch}
	}
	for _, n := range p.Box {
		t.Box = append(t.Box, uint32(n))
	}
	return t
}
