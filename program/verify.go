package program

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// Verify checks everything that the rest of the compiler relies on: names are unique and known,
// every plan is legal, every recipe adds up to its shape, every step has the operands its kernel
// takes with the right types, values are written before they are read, and no two buffers that
// are alive at the same time share memory.
func Verify(p *Program) error {
	for _, check := range []func(*Program) error{verifyNames, verifyKernels, verifyWeights, verifyBuffers, verifySteps, verifyMemory} {
		if err := check(p); err != nil {
			return fmt.Errorf("program @%s: %w", p.Name, err)
		}
	}
	return nil
}

func verifyNames(p *Program) error {
	seen := map[string]string{}
	add := func(kind, name string) error {
		if len(strings.Fields(name)) != 1 || strings.TrimSpace(name) != name {
			return fmt.Errorf("a %s is called %q: a name is one word", kind, name)
		}
		if _, dup := seen[kind+" "+name]; dup {
			return fmt.Errorf("two %ss are called %q", kind, name)
		}
		seen[kind+" "+name] = name
		return nil
	}
	for _, s := range p.Symbols {
		if err := add("symbol", s.Name); err != nil {
			return err
		}
		if s.Min < 0 || s.Max < s.Min {
			return fmt.Errorf("symbol %s has range %d..%d", s.Name, s.Min, s.Max)
		}
	}
	for _, k := range p.Kernels {
		if err := add("kernel", k.Name); err != nil {
			return err
		}
	}
	for _, w := range p.Weights {
		if err := add("weight", w.Name); err != nil {
			return err
		}
	}
	for _, b := range p.Buffers {
		if err := add("buffer", b.Name); err != nil {
			return err
		}
	}
	for _, s := range p.Steps {
		if err := add("step", s.Name); err != nil {
			return err
		}
	}
	return nil
}

func verifyKernels(p *Program) error {
	for _, k := range p.Kernels {
		if err := k.Spec.Valid(); err != nil {
			return fmt.Errorf("kernel %s: %w", k.Name, err)
		}
		if k.From != nil && len(k.From) != len(k.Plans) {
			return fmt.Errorf("kernel %s: %d plans, but %d places that they are from", k.Name, len(k.Plans), len(k.From))
		}
		for i, plan := range k.Plans {
			if err := kernel.Check(k.Spec, plan); err != nil {
				return fmt.Errorf("kernel %s: %w", k.Name, err)
			}
			if slices.ContainsFunc(k.Plans[:i], func(q kernel.Plan) bool { return q.Target == plan.Target }) {
				return fmt.Errorf("kernel %s: two plans for %s", k.Name, plan.Target)
			}
		}
	}
	return nil
}

func verifyWeights(p *Program) error {
	for _, w := range p.Weights {
		if err := w.verify(); err != nil {
			return fmt.Errorf("weight %s: %w", w.Name, err)
		}
	}
	return nil
}

// maxElements bounds the elements of a weight.
const maxElements = 1 << 36

func (w Weight) verify() error {
	dims, err := w.Layout.Dims()
	if err != nil {
		return err
	}
	if len(dims) != len(w.Shape) {
		return fmt.Errorf("layout %s does not fit shape %s", w.Layout, shapeText(w.Shape))
	}
	elements := 1
	for _, d := range w.Shape {
		if d < 1 || d > maxElements/elements {
			return fmt.Errorf("shape %s is out of range", shapeText(w.Shape))
		}
		elements *= d
	}
	sources := 0
	for _, set := range []bool{len(w.Parts) > 0, w.Rope != nil, w.Blob != ""} {
		if set {
			sources++
		}
	}
	if sources != 1 {
		return fmt.Errorf("needs exactly one of parts, rope and blob")
	}
	if w.Interleave > 0 && len(w.Parts) < 2 {
		return fmt.Errorf("interleave needs two parts or more")
	}
	if r := w.Rope; r != nil {
		if r.HeadDim < 2 || r.HeadDim%2 != 0 || r.Positions < 1 || !(r.Theta > 0) || math.IsInf(r.Theta, 1) || !slices.Equal(w.Shape, []int{r.Positions, r.HeadDim / 2}) {
			return fmt.Errorf("the rotary table does not have shape %s", shapeText(w.Shape))
		}
	}
	if len(w.Parts) == 0 {
		if w.Scales {
			return fmt.Errorf("scales need parts")
		}
		return nil
	}
	matrix := w.Shape // of the parts, but for its rows
	if w.Scales {
		if len(w.Shape) != 1 || len(w.Parts[0].Shape) != 2 || w.DType != ir.F32 {
			return fmt.Errorf("scales are a vector of type f32, of parts that are matrices")
		}
		matrix = w.Parts[0].Shape
	} else if w.DType == ir.I8 && len(w.Shape) != 2 {
		return fmt.Errorf("codes are of a matrix, the shape is %s", shapeText(w.Shape))
	}
	rows := 0
	for _, part := range w.Parts {
		for _, f := range part.Factors {
			if len(strings.Fields(f.Vector)) != 1 || f.Columns && (len(part.Shape) != 2 || f.Add || f.First > 0) || f.Add && f.Divide {
				return fmt.Errorf("part %s %s cannot have the factor %s", part.Tensor, shapeText(part.Shape), f)
			}
		}
		if len(strings.Fields(part.Tensor)) > 1 || part.Tensor == zeros {
			return fmt.Errorf("part %q: the text form cannot hold that name", part.Tensor)
		}
		if len(part.Shape) != len(matrix) || !slices.Equal(part.Shape[1:], matrix[1:]) {
			return fmt.Errorf("part %s %s does not fit %s", part.Tensor, shapeText(part.Shape), shapeText(w.Shape))
		}
		n := part.Shape[0]
		if w.Interleave > 0 {
			if n != w.Parts[0].Shape[0] {
				return fmt.Errorf("interleaved parts have %d and %d rows", w.Parts[0].Shape[0], n)
			}
			n = (n + w.Interleave - 1) / w.Interleave * w.Interleave
		}
		rows += n
	}
	if rows != w.Shape[0] {
		return fmt.Errorf("parts have %d rows in all, the shape has %d", rows, w.Shape[0])
	}
	return nil
}

func verifyBuffers(p *Program) error {
	for _, b := range p.Buffers {
		if !slices.Contains([]Role{Input, Temp, Output}, b.Role) {
			return fmt.Errorf("buffer %s: unknown role %q", b.Name, b.Role)
		}
		if n := len(b.Type.Dims); n < 1 || n > 2 {
			return fmt.Errorf("buffer %s: type %s is not [symbol] or [symbol, columns]", b.Name, b.Type)
		}
		if !slices.ContainsFunc(p.Symbols, func(s ir.Symbol) bool { return s.Name == b.Symbol() }) {
			return fmt.Errorf("buffer %s: rows %q are not a symbol of the program", b.Name, b.Symbol())
		}
		if b.Cols() < 1 || b.Cols() > 1<<24 {
			return fmt.Errorf("buffer %s: %d columns", b.Name, b.Cols())
		}
	}
	return nil
}

// want is what an operand must look like: a buffer with these columns and dtype.
type want struct {
	dtype ir.DType
	cols  int
}

func wants(s kernel.Spec) map[Operand]want {
	w := map[Operand]want{
		Index: {ir.I32, 1},
		Pos:   {ir.I32, 1},
	}
	switch s.Kind {
	case kernel.Gemm:
		w[Src] = want{s.In, s.K}
		w[Dst] = want{s.Out, s.N}
		w[Res] = want{ir.F32, s.N}
	case kernel.Attention:
		w[Src] = want{s.In, s.QKVCols()}
		w[Dst] = want{s.Out, s.Heads * s.HeadDim}
	case kernel.Rowwise, kernel.Gather:
		w[Src] = want{s.In, s.K}
		w[Dst] = want{s.Out, s.K}
	}
	return w
}

// weightWants returns the dtype, layout and shape of each weight operand; 0 is any size.
func weightWants(s kernel.Spec) map[Operand]Weight {
	vec := func(n int) Weight { return Weight{DType: ir.F32, Layout: kernel.Vector, Shape: []int{n}} }
	w := map[Operand]Weight{Gamma: vec(s.K), Beta: vec(s.K)}
	switch s.Kind {
	case kernel.Gemm:
		w[W] = Weight{DType: s.Weight, Layout: s.WeightLayout(), Shape: []int{s.WeightRows(), s.K}}
		w[WScale] = Weight{DType: ir.F32, Layout: kernel.PadVector, Shape: []int{s.WeightRows()}, Scales: true}
		w[BiasW] = Weight{DType: ir.F32, Layout: kernel.PadVector, Shape: []int{s.WeightRows()}}
		w[Cos] = Weight{DType: ir.F32, Layout: kernel.RowMajor, Shape: []int{0, s.HeadDim / 2}}
		w[Sin] = w[Cos]
	case kernel.Gather:
		w[W] = Weight{DType: s.Weight, Layout: s.Table, Shape: []int{0, s.K}}
		w[WScale] = Weight{DType: ir.F32, Layout: kernel.PadVector, Shape: []int{0}, Scales: true}
		w[PosTable] = Weight{DType: ir.F32, Layout: kernel.RowMajor, Shape: []int{0, s.K}}
	}
	return w
}

func verifySteps(p *Program) error {
	written := map[string]bool{}
	for _, b := range p.Buffers {
		written[b.Name] = b.Role == Input
	}
	for _, s := range p.Steps {
		if err := verifyStep(p, s, written); err != nil {
			return fmt.Errorf("step %s: %w", s.Name, err)
		}
		written[s.Arg(Dst)] = true
	}
	for _, b := range p.Buffers {
		if b.Role == Output && !written[b.Name] {
			return fmt.Errorf("output %s is never written", b.Name)
		}
	}
	return nil
}

func verifyStep(p *Program, s Step, written map[string]bool) error {
	k := p.Kernel(s.Kernel)
	if k == nil {
		return fmt.Errorf("unknown kernel %q", s.Kernel)
	}
	ops := Operands(k.Spec)
	if len(ops) != len(s.Args) {
		var found []Operand
		for _, a := range s.Args {
			found = append(found, a.Operand)
		}
		return fmt.Errorf("kernel %s takes %v, found %v", k.Name, ops, found)
	}
	bufWants, wWants := wants(k.Spec), weightWants(k.Spec)
	dst := p.Buffer(s.Arg(Dst))
	if dst == nil {
		return fmt.Errorf("unknown buffer %q", s.Arg(Dst))
	}
	if dst.Role == Input {
		return fmt.Errorf("dst is the input %s", dst.Name)
	}
	if k.Spec.Kind == kernel.Attention && dst.Symbol() != Tokens {
		return fmt.Errorf("dst has rows %s, attention runs on sequences of %s", dst.Symbol(), Tokens)
	}
	for i, a := range s.Args {
		if a.Operand != ops[i] {
			return fmt.Errorf("operand %s, want %s", a.Operand, ops[i])
		}
		if !a.Operand.IsBuffer() {
			w := p.Weight(a.Name)
			if w == nil {
				return fmt.Errorf("unknown weight %q", a.Name)
			}
			ww := wWants[a.Operand]
			fits := slices.EqualFunc(w.Shape, ww.Shape, func(n, want int) bool { return n == want || want == 0 })
			if w.DType != ww.DType || w.Layout != ww.Layout || w.Scales != ww.Scales || !fits {
				return fmt.Errorf("%s is %s%s %s, kernel %s wants %s%s %s", a.Operand, w.DType, shapeText(w.Shape), w.Layout, k.Name, ww.DType, strings.ReplaceAll(shapeText(ww.Shape), "[0,", "[any,"), ww.Layout)
			}
			continue
		}
		b := p.Buffer(a.Name)
		if b == nil {
			return fmt.Errorf("unknown buffer %q", a.Name)
		}
		if bw := bufWants[a.Operand]; b.Type.DType != bw.dtype || b.Cols() != bw.cols {
			return fmt.Errorf("%s is %s, kernel %s wants %s and %d columns", a.Operand, b.Type, k.Name, bw.dtype, bw.cols)
		}
		rowsOf := dst.Symbol()
		if a.Operand == Src && k.Spec.Kind == kernel.Gather {
			rowsOf = b.Symbol()
		}
		if b.Symbol() != rowsOf {
			return fmt.Errorf("%s has rows %s, the result %s", a.Operand, b.Symbol(), rowsOf)
		}
		if a.Operand != Dst && !written[a.Name] {
			return fmt.Errorf("%s reads %s before it is written", a.Operand, a.Name)
		}
		if a.Operand != Dst && a.Operand != Res && a.Name == dst.Name {
			return fmt.Errorf("%s and dst are both %s", a.Operand, a.Name)
		}
	}
	return nil
}

// Life is a span of steps in which a buffer holds a value: from the step that writes it to the
// last that reads it. -1 is before the first step, len(p.Steps) after the last.
type Life struct{ First, Last int }

// Lives returns, for every buffer in the order of p.Buffers, the spans in which it holds
// something. A step that writes a buffer without reading it begins a new span. Inputs hold their
// value from before the first step, outputs until after the last.
func Lives(p *Program) [][]Life {
	index := make(map[string]int, len(p.Buffers))
	lives := make([][]Life, len(p.Buffers))
	for i, b := range p.Buffers {
		index[b.Name] = i
		if b.Role == Input {
			lives[i] = []Life{{-1, -1}}
		}
	}
	for n, s := range p.Steps {
		dst := s.Arg(Dst)
		read := false
		for _, a := range s.Args {
			i, ok := index[a.Name]
			if !ok || !a.Operand.IsBuffer() || a.Operand == Dst || len(lives[i]) == 0 {
				continue
			}
			lives[i][len(lives[i])-1].Last = n
			read = read || a.Name == dst
		}
		if i, ok := index[dst]; ok && !read {
			lives[i] = append(lives[i], Life{n, n})
		}
	}
	for i, b := range p.Buffers {
		if b.Role == Output && len(lives[i]) > 0 {
			lives[i][len(lives[i])-1].Last = len(p.Steps)
		}
	}
	return lives
}

// Overlap reports whether two buffers with these spans hold something in the same step.
func Overlap(a, b []Life) bool {
	for _, x := range a {
		for _, y := range b {
			if x.First <= y.Last && y.First <= x.Last {
				return true
			}
		}
	}
	return false
}

func verifyMemory(p *Program) error {
	lives := Lives(p)
	for i, a := range p.Buffers {
		if a.Offset < 0 {
			continue
		}
		if a.Offset%4 != 0 {
			return fmt.Errorf("buffer %s: offset %d is not a multiple of 4", a.Name, a.Offset)
		}
		for j, b := range p.Buffers[:i] {
			if b.Offset < 0 || a.Symbol() != b.Symbol() || !Overlap(lives[i], lives[j]) {
				continue
			}
			if a.Offset < b.Offset+b.RowBytes() && b.Offset < a.Offset+a.RowBytes() {
				return fmt.Errorf("buffers %s and %s are alive together and share memory", b.Name, a.Name)
			}
		}
	}
	return nil
}
