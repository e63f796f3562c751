package passes

import (
	"fmt"
	"slices"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

func assignLayouts(s *State) error {
	l := layouts{p: s.Program, names: map[shared]string{}}
	step := 0
	for _, v := range s.Graph.Values {
		b, ok := s.bound[v]
		if !ok {
			continue
		}
		st := &s.Program.Steps[step]
		step++
		for i := range st.Args {
			a := &st.Args[i]
			if a.Operand.IsBuffer() {
				continue
			}
			name, err := l.weight(st.Name, a.Operand, b, s.Options)
			if err != nil {
				return fmt.Errorf("step %s: %w", st.Name, err)
			}
			a.Name = name
		}
	}
	return nil
}

type layouts struct {
	p     *program.Program
	names map[shared]string // of weights that steps share
}

// shared is what weights that are one are made of: a value, or the scales of its rows.
type shared struct {
	v      *ir.Value
	scales bool
}

// operandWords ends the name of a weight that one step alone reads.
var operandWords = map[program.Operand]string{
	program.W: "weight", program.WScale: "scale", program.BiasW: "bias", program.Gamma: "norm.weight", program.Beta: "norm.bias",
	program.PosTable: "positions",
}

func (l *layouts) weight(step string, o program.Operand, b binding, opts Options) (string, error) {
	if o == program.Cos || o == program.Sin {
		return l.rope(string(o), b, opts)
	}
	v := b.args[o]
	if o == program.WScale {
		v = b.args[program.W]
	}
	key := shared{v, o == program.WScale}
	if name := l.names[key]; name != "" {
		return name, nil
	}
	w := program.Weight{Name: step + "." + operandWords[o], DType: ir.F32, Layout: kernel.Vector}
	gemm := b.spec.Kind == kernel.Gemm
	switch {
	case o == program.W && gemm:
		w.DType, w.Layout = b.spec.Weight, b.spec.WeightLayout()
	case o == program.W:
		w.DType, w.Layout = b.spec.Weight, b.spec.Table
	case o == program.BiasW:
		w.Layout = kernel.PadVector
	case o == program.WScale:
		w.Layout, w.Scales = kernel.PadVector, true
	case o == program.PosTable:
		w.Layout = kernel.RowMajor
	}
	if gemm && b.spec.Epilogue.Has(kernel.GLU) && (o == program.W || o == program.WScale || o == program.BiasW) {
		w.Interleave = kernel.GLUWidth
	}
	if v.Op.Name == "quantize" && (w.Scales || w.DType == ir.I8) {
		v = v.Args[0]
	} else if v.Type.DType != w.DType {
		return "", fmt.Errorf("%s is %%%s of type %s, the kernel reads %s", o, v.Name, v.Type.DType, w.DType)
	}
	var err error
	if w.Parts, err = parts(v); err != nil {
		return "", err
	}
	rows := 0
	for _, part := range w.Parts {
		n := part.Shape[0]
		if w.Interleave > 0 {
			n = (n + w.Interleave - 1) / w.Interleave * w.Interleave
		}
		rows += n
	}
	w.Shape = slices.Clone(w.Parts[0].Shape)
	w.Shape[0] = rows
	if w.Scales {
		w.Shape = w.Shape[:1]
	}
	l.p.Weights = append(l.p.Weights, w)
	l.names[key] = w.Name
	return w.Name, nil
}

// rope returns the rotary table, which all layers share.
func (l *layouts) rope(table string, b binding, o Options) (string, error) {
	if o.MaxPositions < 1 {
		return "", fmt.Errorf("rotary tables need the number of positions")
	}
	w := program.Weight{
		Name: "rope." + table, DType: ir.F32, Layout: kernel.RowMajor,
		Rope:  &program.Rope{Theta: b.theta, HeadDim: b.spec.HeadDim, Positions: o.MaxPositions, Sin: table == string(program.Sin)},
		Shape: []int{o.MaxPositions, b.spec.HeadDim / 2},
	}
	if have := l.p.Weight(w.Name); have != nil {
		if *have.Rope != *w.Rope {
			return "", fmt.Errorf("two rotary tables differ")
		}
		return w.Name, nil
	}
	l.p.Weights = append(l.p.Weights, w)
	return w.Name, nil
}

// parts reads a weight expression as rows that follow one another.
func parts(v *ir.Value) ([]program.Part, error) {
	switch v.Op.Name {
	case "weight":
		return []program.Part{{Tensor: v.Attrs.(*ir.SourceAttrs).Name, Shape: shapeOf(v)}}, nil
	case "cast":
		if v.Args[0].Type.DType == ir.F32 { // rounded once, by the packer
			return parts(v.Args[0])
		}
	case "broadcast":
		if c, ok := v.Args[0].Attrs.(*ir.ConstAttrs); ok && c.Value == 0 {
			return []program.Part{{Shape: shapeOf(v)}}, nil
		}
	case "concat":
		if v.Attrs.(*ir.AxisAttrs).Axis != 0 {
			break
		}
		var all []program.Part
		for _, a := range v.Args {
			ps, err := parts(a)
			if err != nil {
				return nil, err
			}
			all = append(all, ps...)
		}
		return all, nil
	case "mul", "div", "add":
		return changed(v)
	}
	return nil, fmt.Errorf("%%%s = %s cannot be packed", v.Name, v.Op.Name)
}

// changed reads a weight expression times or divided by a vector, of one element a column, or
// with a reshape to one column, of one element a row; or a vector plus another.
func changed(v *ir.Value) ([]program.Part, error) {
	ps, err := parts(v.Args[0])
	if err != nil {
		return nil, err
	}
	f, vector := program.Factor{Columns: v.Type.Rank() == 2, Divide: v.Op.Name == "div", Add: v.Op.Name == "add"}, v.Args[1]
	if vector.Op.Name == "reshape" {
		f.Columns, vector = false, vector.Args[0]
	}
	source, ok := vector.Attrs.(*ir.SourceAttrs)
	if !ok || !f.Columns && !f.Add && len(ps) > 1 || f.Columns && f.Add {
		return nil, fmt.Errorf("%%%s = %s cannot be packed", v.Name, v.Op.Name)
	}
	f.Vector = source.Name
	for i := range ps {
		ps[i].Factors = append(ps[i].Factors, f)
		if f.Add {
			f.First += ps[i].Shape[0]
		}
	}
	return ps, nil
}

func shapeOf(v *ir.Value) []int {
	var shape []int
	for _, d := range v.Type.Dims {
		n, _ := d.IsConst()
		shape = append(shape, n)
	}
	return shape
}

// ensureComplete: but for the memory, the program is as it will be written out.
func ensureComplete(s *State) error { return program.Verify(s.Program) }
