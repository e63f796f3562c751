package program

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns the interpreter of programs. It runs the steps one by one with the interpreters
// of package kernel, on memory and weights as a generated package has them: buffers lie where the
// memory plan puts them in arenas that hold NaN at first, and weights are packed by their recipes
// (eval_weights.go). What the plans, recipes, layouts and lifetimes get wrong shows as wrong
// numbers, without a line of assembly.

// Source returns a checkpoint tensor, in row-major order, and its shape.
type Source func(name string) ([]float32, []int, error)

// Eval verifies p and runs it with the plans of a target. in holds the contents of the input
// buffers by name, and "offsets", where each sequence begins and the number of tokens, when p has
// attention. The result holds the output buffers by name.
func Eval(p *Program, target string, in map[string]*ir.Tensor, weights Source) (map[string]*ir.Tensor, error) {
	if err := Verify(p); err != nil {
		return nil, err
	}
	e := &evaluator{p: p, target: target, rows: map[string]int{}, areas: map[string][]byte{}, source: weights, packed: map[string][]float32{}}
	if err := e.load(in); err != nil {
		return nil, fmt.Errorf("program @%s: %w", p.Name, err)
	}
	for _, s := range p.Steps {
		if err := e.step(s); err != nil {
			return nil, fmt.Errorf("program @%s: step %s: %w", p.Name, s.Name, err)
		}
	}
	out := map[string]*ir.Tensor{}
	for _, b := range p.Buffers {
		if b.Role == Output {
			t := &ir.Tensor{DType: b.Type.DType, Shape: []int{e.rows[b.Symbol()]}, Data: num.Float64s(e.read(b.Name))}
			if len(b.Type.Dims) == 2 {
				t.Shape = append(t.Shape, b.Cols())
			}
			out[b.Name] = t
		}
	}
	return out, nil
}

type evaluator struct {
	p       *Program
	target  string
	rows    map[string]int    // values of the symbols
	areas   map[string][]byte // memory by symbol
	offsets []int             // of the sequences
	source  Source
	packed  map[string][]float32 // weights, by name
}

// load gives the symbols their values, makes the arenas and writes the inputs.
func (e *evaluator) load(in map[string]*ir.Tensor) error {
	for _, b := range e.p.Buffers {
		if b.Offset < 0 {
			return fmt.Errorf("buffer %s has no offset: memory is not planned", b.Name)
		}
		if b.Role != Input {
			continue
		}
		t := in[b.Name]
		if t == nil {
			return fmt.Errorf("no tensor is given for input %q", b.Name)
		}
		if len(t.Shape) != len(b.Type.Dims) || len(t.Shape) == 2 && t.Shape[1] != b.Cols() || len(t.Data) != t.Shape[0]*b.Cols() {
			return fmt.Errorf("input %q has shape %v and %d elements, want %s", b.Name, t.Shape, len(t.Data), b.Type)
		}
		if n, ok := e.rows[b.Symbol()]; ok && n != t.Shape[0] {
			return fmt.Errorf("input %q makes %s %d, another makes it %d", b.Name, b.Symbol(), t.Shape[0], n)
		}
		e.rows[b.Symbol()] = t.Shape[0]
	}
	for _, s := range e.p.Symbols {
		if n, ok := e.rows[s.Name]; ok && (n < s.Min || n > s.Max) {
			return fmt.Errorf("%s is %d, outside of %d..%d", s.Name, n, s.Min, s.Max)
		}
	}
	for _, b := range e.p.Buffers {
		n, ok := e.rows[b.Symbol()]
		if !ok {
			return fmt.Errorf("no input gives symbol %s a value", b.Symbol())
		}
		if e.areas[b.Symbol()] == nil {
			area := make([]byte, e.p.AreaBytes(b.Symbol(), n))
			for i := range area {
				area[i] = 0xff // NaN in every float type, −1 as an integer
			}
			e.areas[b.Symbol()] = area
		}
	}
	for _, b := range e.p.Buffers {
		if b.Role == Input {
			e.writeInput(b, in[b.Name].Data)
		}
	}
	return e.loadOffsets(in["offsets"])
}

func (e *evaluator) loadOffsets(t *ir.Tensor) error {
	attends := slices.ContainsFunc(e.p.Steps, func(s Step) bool { return e.p.Kernel(s.Kernel).Spec.Kind == kernel.Attention })
	if !attends {
		return nil
	}
	if t == nil || len(t.Data) < 2 {
		return fmt.Errorf("no offsets of sequences are given")
	}
	for _, x := range t.Data {
		e.offsets = append(e.offsets, int(x))
	}
	if last := e.offsets[len(e.offsets)-1]; e.offsets[0] != 0 || last != e.rows[Tokens] || !slices.IsSorted(e.offsets) {
		return fmt.Errorf("offsets %v do not run from 0 to %d", e.offsets, e.rows[Tokens])
	}
	return nil
}

// memory returns the bytes of a buffer.
func (e *evaluator) memory(b *Buffer) []byte {
	rows := e.rows[b.Symbol()]
	at := b.Offset * ((rows + RowAlign - 1) / RowAlign * RowAlign)
	return e.areas[b.Symbol()][at:][:rows*b.RowBytes()]
}

func (e *evaluator) writeInput(b Buffer, data []float64) {
	m := e.memory(&b)
	if b.Type.DType == ir.I32 {
		for i, x := range data {
			binary.LittleEndian.PutUint32(m[4*i:], uint32(int32(x)))
		}
		return
	}
	values := make([]float32, len(data))
	for i, x := range data {
		values[i] = float32(x)
	}
	e.write(b.Name, values)
}

// read returns the elements of a float buffer.
func (e *evaluator) read(buffer string) []float32 {
	b := e.p.Buffer(buffer)
	m := e.memory(b)
	out := make([]float32, len(m)/b.Type.DType.Size())
	for i := range out {
		if b.Type.DType == ir.BF16 {
			out[i] = num.FromBF16(binary.LittleEndian.Uint16(m[2*i:]))
		} else {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(m[4*i:]))
		}
	}
	return out
}

// integers returns the elements of an i32 buffer.
func (e *evaluator) integers(buffer string) []int32 {
	if buffer == "" {
		return nil
	}
	m := e.memory(e.p.Buffer(buffer))
	out := make([]int32, len(m)/4)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(m[4*i:]))
	}
	return out
}

// write sets the elements of a float buffer.
func (e *evaluator) write(buffer string, values []float32) {
	b := e.p.Buffer(buffer)
	m := e.memory(b)
	for i, x := range values {
		if b.Type.DType == ir.BF16 {
			binary.LittleEndian.PutUint16(m[2*i:], num.BF16(x))
		} else {
			binary.LittleEndian.PutUint32(m[4*i:], math.Float32bits(x))
		}
	}
}

func (e *evaluator) step(s Step) error {
	k := e.p.Kernel(s.Kernel)
	plan, ok := k.Plan(e.target)
	if !ok {
		return fmt.Errorf("kernel %s has no plan for %s", k.Name, e.target)
	}
	w := map[Operand][]float32{}
	for _, a := range s.Args {
		if !a.Operand.IsBuffer() {
			var err error
			if w[a.Operand], err = e.weight(a.Name); err != nil {
				return err
			}
		}
	}
	run := map[kernel.Kind]func(kernel.Kernel, Step, map[Operand][]float32) ([]float32, error){
		kernel.Gemm: e.gemm, kernel.Attention: e.attention, kernel.Rowwise: e.rowwise, kernel.Gather: e.gather,
	}[k.Spec.Kind]
	out, err := run(kernel.Kernel{Spec: k.Spec, Plan: plan}, s, w)
	if err != nil {
		return err
	}
	e.write(s.Arg(Dst), out)
	return nil
}

func (e *evaluator) gemm(k kernel.Kernel, s Step, w map[Operand][]float32) ([]float32, error) {
	in := kernel.GemmInput{
		M: e.rows[e.p.Buffer(s.Arg(Dst)).Symbol()], X: e.read(s.Arg(Src)), Pos: e.integers(s.Arg(Pos)),
		W: w[W], WScale: w[WScale], Bias: w[BiasW], Gamma: w[Gamma], Beta: w[Beta], Cos: w[Cos], Sin: w[Sin],
	}
	if res := s.Arg(Res); res != "" {
		in.Residual = e.read(res)
	}
	return kernel.EvalGemm(k, in)
}

// attention runs the kernel for each sequence.
func (e *evaluator) attention(k kernel.Kernel, s Step, _ map[Operand][]float32) ([]float32, error) {
	src, cols := e.read(s.Arg(Src)), k.Spec.QKVCols()
	var out []float32
	for i, end := range e.offsets[1:] {
		o, err := kernel.EvalAttention(k, src[e.offsets[i]*cols:end*cols])
		if err != nil {
			return nil, err
		}
		out = append(out, o...)
	}
	return out, nil
}

func (e *evaluator) rowwise(k kernel.Kernel, s Step, w map[Operand][]float32) ([]float32, error) {
	return kernel.EvalRowwise(k, e.read(s.Arg(Src)), w[Gamma], w[Beta])
}

func (e *evaluator) gather(k kernel.Kernel, s Step, w map[Operand][]float32) ([]float32, error) {
	in := kernel.GatherInput{Index: e.integers(s.Arg(Index)), Pos: e.integers(s.Arg(Pos)), PosTable: w[PosTable]}
	if k.Spec.Activations {
		in.Table = e.read(s.Arg(Src))
		in.Rows = e.rows[e.p.Buffer(s.Arg(Src)).Symbol()]
	} else {
		in.Table, in.Scale = w[W], w[WScale]
		in.Rows = e.p.Weight(s.Arg(W)).Shape[0]
	}
	return kernel.EvalGather(k, in)
}
