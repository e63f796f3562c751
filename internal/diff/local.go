package diff

import (
	"fmt"
	"reflect"

	"github.com/bertc/bertc/ir"
)

// This file owns the reference of one step: a graph of its group alone, whose inputs are the
// values that the group reads and whose weights are those of the checkpoint, with the expressions
// that convert and join them. Its result is not rounded to the type that the kernel writes, so
// that it can be told whether a kernel rounded the right way; see measure.go.

type local struct {
	graph  *ir.Graph
	inputs []string // names of the values that are read
}

// local returns the reference of a step.
func (u *unit) local(step string) (*local, error) {
	g := u.graph.Value(step)
	if g == nil || g.Op.Kind != ir.Group {
		return nil, fmt.Errorf("step %s: the graph has no group of that name", step)
	}
	c := &copier{b: ir.NewBuilder(g.Name), known: map[*ir.Value]*ir.Value{}, l: &local{}}
	// Symbols that no input of the step depends on would be left without a value.
	used := map[string]bool{}
	for _, a := range g.Args {
		for _, d := range a.Type.Dims {
			for _, s := range d.Symbols() {
				used[s] = true
			}
		}
	}
	for _, s := range u.graph.Symbols {
		if used[s.Name] {
			c.b.Symbol(s.Name, s.Min, s.Max)
		}
	}
	c.b.Output(c.group(g))
	var err error
	if c.l.graph, err = c.b.Graph(); err != nil {
		return nil, fmt.Errorf("step %s: %w", step, err)
	}
	return c.l, nil
}

// copier copies values of one graph to the builder of another.
type copier struct {
	b     *ir.Builder
	known map[*ir.Value]*ir.Value
	l     *local
}

// value copies an argument of the group: another group or an input becomes an input, and
// anything else, which is made of weights, is copied with what it is made of.
func (c *copier) value(v *ir.Value) *ir.Value {
	if have := c.known[v]; have != nil {
		return have
	}
	var r *ir.Value
	switch {
	case v.Op.Kind == ir.Group || v.Op.Name == "input":
		c.l.inputs = append(c.l.inputs, v.Name)
		r = c.b.Input(v.Name, v.Type)
	case v.Op.Name == "weight":
		r = c.b.Weight(v.Attrs.(*ir.SourceAttrs).Name, v.Type)
	default:
		r = copyOp(c.b, v, v.Attrs, c.value)
	}
	// The builder knows no names but its own; those of one graph are distinct as they are.
	r.Name = v.Name
	c.known[v] = r
	return r
}

func (c *copier) group(g *ir.Value) *ir.Value {
	var args []*ir.Value
	for _, a := range g.Args {
		args = append(args, c.value(a))
	}
	a, result := g.Attrs.(*ir.GroupAttrs), g.Body.Outputs[0]
	r := c.b.Group(a.Kind, a.Label, args, func(b *ir.Builder, params []*ir.Value) *ir.Value {
		in := map[*ir.Value]*ir.Value{}
		arg := func(v *ir.Value) *ir.Value { return in[v] }
		for i, v := range g.Body.Values {
			switch {
			case i < len(params):
				in[v] = params[i]
				continue
			case v == result && v.Op.Name == "cast":
				return in[v.Args[0]]
			case v == result:
				in[v] = copyOp(b, v, wide(v.Attrs), arg)
			default:
				in[v] = copyOp(b, v, v.Attrs, arg)
			}
			in[v].Name = v.Name
		}
		return in[result]
	})
	r.Name = g.Name
	return r
}

func copyOp(b *ir.Builder, v *ir.Value, attrs any, arg func(*ir.Value) *ir.Value) *ir.Value {
	var args []*ir.Value
	for _, a := range v.Args {
		args = append(args, arg(a))
	}
	return b.Op(v.Op.Name, attrs, args...)
}

// wide returns attrs with the result type f32, which the interpreter does not round to, when they
// have one.
func wide(attrs any) any {
	if attrs == nil {
		return nil
	}
	w := reflect.New(reflect.TypeOf(attrs).Elem())
	w.Elem().Set(reflect.ValueOf(attrs).Elem())
	if out := w.Elem().FieldByName("Out"); out.IsValid() {
		out.Set(reflect.ValueOf(ir.F32))
	}
	return w.Interface()
}

// read returns what the step reads of the values that are known.
func (l *local) read(known map[string]*ir.Tensor) map[string]*ir.Tensor {
	in := map[string]*ir.Tensor{}
	for _, name := range l.inputs {
		if known[name] != nil {
			in[name] = known[name]
		}
	}
	return in
}

// eval computes the step in float64 from values by their names in the graph.
func (l *local) eval(known map[string]*ir.Tensor, weight func(string, ir.Type) (*ir.Tensor, error)) (*ir.Tensor, error) {
	out, err := ir.Eval(l.graph, l.read(known), ir.WithWeights(weight))
	if err != nil {
		return nil, err
	}
	return out[0], nil
}
