package ptx

import (
	"encoding/binary"
	"math"
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emu"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns running launches in the emulator, as runtime/cuda does on a device.

// bench is a device with the operands of a kernel in its memory.
type bench struct {
	t      *testing.T
	dev    *emu.Device
	sms    int
	values map[binding]any // uint64, uint32, or matrix for tensor maps
	sizes  map[uint64]int  // of memory with content
}

type binding struct {
	kind    cuda.ParamKind
	operand cuda.Operand
}

// matrix is a bf16 matrix in device memory.
type matrix struct {
	addr              uint64
	rows, cols, pitch int // pitch in bytes
}

func newBench(t *testing.T, seed uint64, sms int) *bench {
	return &bench{t, emu.New(emu.Options{Seed: seed, SMs: sms}), sms, map[binding]any{}, map[uint64]int{}}
}

// alloc returns new memory with that content; nil bytes are left undefined.
func (b *bench) alloc(size int, content []byte) uint64 {
	b.t.Helper()
	p, err := b.dev.Alloc(size)
	if err == nil && content != nil {
		b.sizes[p] = size
		err = b.dev.CopyIn(p, content)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return p
}

func (b *bench) bind(kind cuda.ParamKind, operand cuda.Operand, value any) {
	b.values[binding{kind, operand}] = value
}

// floats binds f32 values to an operand.
func (b *bench) floats(operand cuda.Operand, v []float32) {
	b.bind(cuda.ParamPointer, operand, b.alloc(4*len(v), f32Bytes(v)))
}

// bf16Matrix allocates a matrix of rows of cols elements. What pads a row is NaN.
func (b *bench) bf16Matrix(v []float32, rows, cols int) matrix {
	pitch := cuda.Pitch(cols, true)
	content := make([]byte, rows*pitch)
	for i := range content {
		content[i] = 0xff
	}
	for r := range rows {
		for c := range cols {
			binary.LittleEndian.PutUint16(content[r*pitch+2*c:], uint16(num.BF16(v[r*cols+c])))
		}
	}
	return matrix{b.alloc(len(content), content), rows, cols, pitch}
}

// run does a launch for so many rows or items, a dependent one behind others that use its activations.
func (b *bench) run(module *emu.Module, l cuda.Launch, rows, items int) error {
	k := module.Kernel(l.Entry)
	var params []any
	for _, p := range l.Params {
		v, ok := b.values[binding{p.Kind, p.Operand}]
		if !ok {
			b.t.Fatalf("%s: parameter %+v is not bound", l.Entry, p)
		}
		if m, ok := v.(matrix); ok {
			v = b.tensorMap(m, p)
		}
		params = append(params, v)
	}
	blob, err := k.Pack(params...)
	if err != nil {
		b.t.Fatal(err)
	}
	if l.Dependent {
		b.ahead()
	}
	return b.dev.Launch(k, emu.Config{Grid: [3]int{l.CTAs(rows, items, b.sms)}, Block: [3]int{l.Threads}, Cluster: [3]int{max(l.Cluster, 1)}, Shared: l.Shared, Dependent: l.Dependent}, blob)
}

// swizzles are the emulator's names of the spans in bytes.
var swizzles = map[int]emu.Swizzle{0: emu.SwizzleNone, 32: emu.Swizzle32B, 64: emu.Swizzle64B, 128: emu.Swizzle128B}

// tensorMap encodes the map of a parameter.
func (b *bench) tensorMap(m matrix, p cuda.Param) [128]byte {
	dims, strides := []uint64{uint64(m.cols), uint64(m.rows)}, []uint64{uint64(m.pitch)}
	if len(p.Box) == 3 {
		head := p.Box[0]
		dims = []uint64{uint64(head), uint64(m.cols / head), uint64(m.rows)}
		strides = []uint64{uint64(2 * head), uint64(m.pitch)}
	}
	var box []uint32
	for _, n := range p.Box {
		box = append(box, uint32(n))
	}
	tm, err := b.dev.EncodeTiled(emu.TensorMap{Type: emu.BFloat16, Address: m.addr, Dims: dims, Strides: strides, Box: box, Swizzle: swizzles[p.Swizzle]})
	if err != nil {
		b.t.Fatal(err)
	}
	return tm
}

// readF32 and readBF16 return n values of device memory.
func (b *bench) readF32(addr uint64, n int) []float32 {
	raw := b.read(addr, 4*n)
	out := make([]float32, n)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out
}

func (b *bench) readBF16(m matrix) []float32 {
	raw := b.read(m.addr, m.rows*m.pitch)
	out := make([]float32, 0, m.rows*m.cols)
	for r := range m.rows {
		for c := range m.cols {
			out = append(out, math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[r*m.pitch+2*c:]))<<16))
		}
	}
	return out
}

func (b *bench) read(addr uint64, n int) []byte {
	raw := make([]byte, n)
	if err := b.dev.CopyOut(raw, addr); err != nil {
		b.t.Fatal(err)
	}
	return raw
}

func f32Bytes(v []float32) []byte {
	out := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(out[4*i:], math.Float32bits(x))
	}
	return out
}

func i32Bytes(v []int32) []byte {
	out := make([]byte, 4*len(v))
	for i, x := range v {
		binary.LittleEndian.PutUint32(out[4*i:], uint32(x))
	}
	return out
}
