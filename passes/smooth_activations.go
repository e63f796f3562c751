package passes

import (
	"fmt"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/quant"
)

// smoothActivations moves the range of activations into weights where the options say so: column k of a
// matmul's weight is multiplied by a factor, and element k of what makes its left factor divided by
// it (SmoothQuant, arXiv 2211.10438). In exact arithmetic nothing changes. It adds to biases what the
// options say that rounding the weights takes away.
func smoothActivations(s *State) error {
	m := smoother{newRewriter(s.Graph), s.Graph.Users(), s.Options.Quant}
	known := map[string]bool{}
	var err error
	m.walk(func(v *ir.Value) {
		if err != nil || v.Op.Name != "linear" && (v.Op.Name != "gather" || !weightOnly(v.Args[0])) {
			return
		}
		name := v.Name
		known[name] = true
		if l := m.quant.Linear(name); l.Smooth != nil {
			if e := m.linear(v, len(l.Smooth)); e != nil {
				err = fmt.Errorf("matmul %s: %w", name, e)
				return
			}
		}
		if l := m.quant.Linear(name); l.Shift != nil {
			if e := m.shift(v, name, len(l.Shift)); e != nil {
				err = fmt.Errorf("matmul %s: %w", name, e)
			}
		}
	})
	for _, name := range m.quant.Names() {
		if err == nil && !known[name] {
			err = fmt.Errorf("no matmul is called %s", name)
		}
	}
	if err != nil {
		return err
	}
	return m.finish()
}

type smoother struct {
	*rewriter
	users map[*ir.Value][]*ir.Value // before the pass
	quant *quant.Config
}

func (m smoother) linear(v *ir.Value, factors int) error {
	x, w := v.Args[0], v.Args[1]
	if v.Op.Name == "gather" {
		return fmt.Errorf("it is a table, which has no smoothing factors")
	}
	if k := cols(w); k != factors {
		return fmt.Errorf("%d smoothing factors for %d columns", factors, k)
	}
	if len(m.users[w]) > 1 {
		return fmt.Errorf("its weight cannot be smoothed: %%%s has other readers", w.Name)
	}
	vector := m.Named(m.Weight(quant.VectorName(v.Name), ir.MakeType(ir.F32, ir.Const(factors))), v.Name+".smooth")
	switch {
	case len(m.users[x]) != 1:
		return fmt.Errorf("its left factor cannot be smoothed: %%%s has other readers", x.Name)
	case isNorm(x):
		args := []*ir.Value{x.Args[0]}
		for _, a := range x.Args[1:] {
			args = append(args, m.Op("div", nil, a, vector))
		}
		m.replace(x, m.Op(x.Op.Name, x.Attrs, args...))
	case x.Op.Name == "glu":
		if err := m.up(x, vector); err != nil {
			return err
		}
	default:
		return fmt.Errorf("its left factor cannot be smoothed: %s does not make it from weights of its own", x.Op.Name)
	}
	args := append([]*ir.Value{m.now[x], m.Op("mul", nil, w, vector)}, v.Args[2:]...)
	m.replace(v, m.Op("linear", v.Attrs, args...))
	return nil
}

// shift adds a vector to the bias of the matmul of that name, which gets one where it has none.
func (m smoother) shift(v *ir.Value, name string, elements int) error {
	if v.Op.Name == "gather" {
		return fmt.Errorf("it is a table, which has no bias to shift")
	}
	if w := m.now[v]; w != nil {
		v = w
	}
	if n := cols(v); n != elements {
		return fmt.Errorf("a shift of %d elements for %d rows of the weight", elements, n)
	}
	vector := m.Named(m.Weight(quant.ShiftName(name), ir.MakeType(ir.F32, ir.Const(elements))), name+".shift")
	bias := m.noBias(v.Args[1])
	if len(v.Args) == 3 {
		bias = v.Args[2]
	}
	m.replace(v, m.Op("linear", v.Attrs, v.Args[0], v.Args[1], m.Op("add", nil, bias, vector)))
	return nil
}

// noBias returns zeros in as many parts as the weight has.
func (m smoother) noBias(w *ir.Value) *ir.Value {
	switch w.Op.Name {
	case "mul", "div":
		return m.noBias(w.Args[0])
	case "concat":
		var zeros []*ir.Value
		for _, part := range w.Args {
			zeros = append(zeros, m.noBias(part))
		}
		return m.Op("concat", &ir.AxisAttrs{}, zeros...)
	}
	return m.Op("broadcast", &ir.ShapeAttrs{Shape: w.Type.Dims[:1]}, m.Const(ir.F32, 0))
}

// up divides the up half of a gated unit, whose columns are the last half of one matmul.
func (m smoother) up(glu, vector *ir.Value) error {
	gate, up := glu.Args[0], glu.Args[1]
	l := up.Args[0]
	if l.Op.Name != "linear" || gate.Args[0] != l {
		return fmt.Errorf("its left factor cannot be smoothed: gate and up are not one matmul")
	}
	var half func(c, vector *ir.Value) *ir.Value
	half = func(c, vector *ir.Value) *ir.Value {
		if c.Op.Name == "mul" { // it has been smoothed itself
			return m.Op("mul", nil, half(c.Args[0], vector), c.Args[1])
		}
		if c.Op.Name == "add" { // a shift is that of the weight as it is packed
			return m.Op("add", nil, half(c.Args[0], vector), c.Args[1])
		}
		return m.Op("concat", c.Attrs, c.Args[0], m.Op("div", nil, c.Args[1], vector))
	}
	column := m.Op("reshape", &ir.ShapeAttrs{Shape: []ir.Dim{vector.Type.Dims[0], ir.Const(1)}}, vector)
	args := []*ir.Value{l.Args[0], half(l.Args[1], column)}
	if len(l.Args) == 3 {
		args = append(args, half(l.Args[2], vector))
	}
	joined := m.Op("linear", l.Attrs, args...)
	m.replace(l, joined)
	m.replace(glu, m.Op("glu", glu.Attrs, m.Op("slice", gate.Attrs, joined), m.Op("slice", up.Attrs, joined)))
	return nil
}
