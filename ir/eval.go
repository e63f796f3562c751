package ir

import (
	"errors"
	"fmt"
	"slices"
)

// This file owns the evaluator: binding of symbols and order of evaluation.

// maxElems bounds the elements of one tensor.
const maxElems = 1 << 36

// EvalOption changes how Eval works.
type EvalOption func(*evaluator)

// WithWeights makes Eval ask f for every weight that is not among its inputs.
// A weight is asked for when it is first needed and dropped after its last use.
func WithWeights(f func(name string, t Type) (*Tensor, error)) EvalOption {
	return func(e *evaluator) { e.weights = f }
}

// WithObserver makes Eval call f with every value of the graph as soon as it
// is computed, in graph order, and with the values in a group's body. f must
// not change the tensor. Decompositions of composites are not observed.
func WithObserver(f func(v *Value, t *Tensor)) EvalOption {
	return func(e *evaluator) { e.observe = f }
}

// WithMaxElems makes Eval fail rather than make a tensor of more than n elements.
func WithMaxElems(n int) EvalOption {
	return func(e *evaluator) { e.limit = n }
}

type evaluator struct {
	weights func(name string, t Type) (*Tensor, error)
	observe func(v *Value, t *Tensor)
	limit   int
	env     map[string]int
	in      map[string]*Tensor
}

// Eval verifies g and computes its outputs. in holds the inputs
// by their outside names, and may hold weights too. Shapes of inputs give the
// symbols their values. A tensor of another element type than the graph
// states is rounded to the stated one. Outputs come in the order of g.Outputs.
func Eval(g *Graph, in map[string]*Tensor, opts ...EvalOption) ([]*Tensor, error) {
	e := &evaluator{in: in, limit: maxElems}
	for _, o := range opts {
		o(e)
	}
	if err := Verify(g); err != nil {
		return nil, err
	}
	var err error
	if e.env, err = bindSymbols(g, in); err != nil {
		return nil, fmt.Errorf("graph @%s: %w", g.Name, err)
	}
	out, err := e.run(g, nil)
	if err != nil {
		return nil, fmt.Errorf("graph @%s: %w", g.Name, err)
	}
	return out, nil
}

// run evaluates g. params, when not nil, are the first values of a group's body.
func (e *evaluator) run(g *Graph, params []*Tensor) ([]*Tensor, error) {
	uses := make(map[*Value]int, len(g.Values))
	for _, v := range g.Values {
		for _, a := range v.Args {
			uses[a]++
		}
	}
	for _, o := range g.Outputs {
		uses[o]++
	}
	known := make(map[*Value]*Tensor, len(g.Values))
	for i, v := range g.Values {
		if i < len(params) {
			known[v] = params[i]
			continue
		}
		args := make([]*Tensor, len(v.Args))
		for j, a := range v.Args {
			args[j] = known[a]
		}
		t, err := e.value(v, args)
		if err != nil {
			return nil, fmt.Errorf("%%%s = %s: %w", v.Name, v.Op.Name, err)
		}
		if e.observe != nil {
			e.observe(v, t)
		}
		known[v] = t
		for _, a := range v.Args {
			if uses[a]--; uses[a] == 0 {
				delete(known, a)
			}
		}
		if uses[v] == 0 {
			delete(known, v)
		}
	}
	out := make([]*Tensor, len(g.Outputs))
	for i, o := range g.Outputs {
		out[i] = known[o]
	}
	return out, nil
}

func (e *evaluator) value(v *Value, args []*Tensor) (*Tensor, error) {
	switch {
	case v.Op.Name == "input" || v.Op.Name == "weight":
		return e.source(v)
	case v.Op.Kind == Group:
		out, err := e.run(v.Body, args)
		if err != nil {
			return nil, err
		}
		return out[0], nil
	case v.Op.Decompose != nil:
		return e.composite(v, args)
	}
	shape, err := e.shape(v.Type)
	if err != nil {
		return nil, err
	}
	out := NewTensor(v.Type.DType, shape...)
	if err := v.Op.Eval(&Call{Args: args, Out: out, Attrs: v.Attrs, Env: e.env}); err != nil {
		return nil, err
	}
	out.round()
	return out, nil
}

// composite evaluates the decomposition of v.
func (e *evaluator) composite(v *Value, args []*Tensor) (*Tensor, error) {
	b := NewBuilder(v.Op.Name)
	params := make([]*Value, len(v.Args))
	for i, a := range v.Args {
		params[i] = b.Input(paramName(i), a.Type)
	}
	b.Output(v.Op.Decompose(b, v, params))
	g, err := b.Graph()
	if err != nil {
		return nil, err
	}
	inner := &evaluator{env: e.env, limit: e.limit}
	out, err := inner.run(g, args)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

func (e *evaluator) source(v *Value) (*Tensor, error) {
	name := v.Attrs.(*SourceAttrs).Name
	t := e.in[name]
	if t == nil && v.Op.Name == "weight" && e.weights != nil {
		var err error
		if t, err = e.weights(name, v.Type); err != nil {
			return nil, err
		}
	}
	if t == nil {
		return nil, fmt.Errorf("no tensor is given for %q", name)
	}
	if err := t.check(); err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	shape, err := e.shape(v.Type)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(shape, t.Shape) {
		return nil, fmt.Errorf("%q has shape %v, want %v for %s", name, t.Shape, shape, v.Type)
	}
	return t.as(v.Type.DType), nil
}

// shape returns the dims of t as numbers.
func (e *evaluator) shape(t Type) ([]int, error) {
	shape := make([]int, len(t.Dims))
	n := 1
	for i, d := range t.Dims {
		var err error
		if shape[i], err = d.Eval(e.env); err != nil {
			return nil, fmt.Errorf("type %s: %w", t, err)
		}
		if shape[i] < 0 {
			return nil, fmt.Errorf("type %s: dim %s is %d", t, d, shape[i])
		}
		// A dim of 0 counts as 1, so that no product of dims is out of bounds.
		if n > e.limit/max(shape[i], 1) {
			return nil, fmt.Errorf("type %s with shape %v has too many elements", t, shape[:i+1])
		}
		n *= max(shape[i], 1)
	}
	return shape, nil
}

// bindSymbols returns the values of g's symbols at the shapes of in, which
// holds inputs by their outside names. A symbol gets its value from a dim
// that has it alone or with a constant added, such as T or B+1.
func bindSymbols(g *Graph, in map[string]*Tensor) (map[string]int, error) {
	env := map[string]int{}
	from := map[string]string{}
	for _, v := range g.Inputs() {
		name := v.Attrs.(*SourceAttrs).Name
		t := in[name]
		if t == nil {
			return nil, fmt.Errorf("no tensor is given for input %q", name)
		}
		if len(t.Shape) != v.Type.Rank() {
			return nil, fmt.Errorf("input %q has shape %v, want %s", name, t.Shape, v.Type)
		}
		for i, d := range v.Type.Dims {
			sym, rest, ok := d.linear()
			if !ok {
				continue
			}
			n := t.Shape[i] - rest
			if old, ok := env[sym]; ok && old != n {
				return nil, fmt.Errorf("input %q with type %s and shape %v makes %s %d, but input %q makes it %d",
					name, v.Type, t.Shape, sym, n, from[sym], old)
			}
			env[sym], from[sym] = n, name
		}
	}
	var errs []error
	for _, s := range g.Symbols {
		n, ok := env[s.Name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("no input gives symbol %s a value", s.Name))
		case n < s.Min || n > s.Max:
			errs = append(errs, fmt.Errorf("input %q makes %s %d, outside of %d..%d", from[s.Name], s.Name, n, s.Min, s.Max))
		}
	}
	return env, errors.Join(errs...)
}

// linear returns the symbol and constant of a dim of the form symbol+constant.
func (d Dim) linear() (sym string, rest int, ok bool) {
	if d.bad || len(d.terms) == 0 || degree(d.terms[0].syms) != 1 || d.terms[0].coef != 1 {
		return "", 0, false
	}
	switch {
	case len(d.terms) == 1:
	case len(d.terms) == 2 && d.terms[1].syms == "":
		rest = d.terms[1].coef
	default:
		return "", 0, false
	}
	return d.terms[0].syms, rest, true
}
