package ir

import (
	"fmt"
	"slices"
	"strings"
)

// This file owns the builder, the only way graphs are made other than parsing.

// Builder adds values to a graph, inferring their types. After the first
// error it adds nothing more and its methods return placeholders with an empty
// type; Graph and Err return that error.
type Builder struct {
	g     *Graph
	at    *Value // new values go in front of it; nil: at the end
	names map[string]int
	err   error
}

// NewBuilder returns a builder of a new graph.
func NewBuilder(name string) *Builder {
	return (&Graph{Name: name}).BuildBefore(nil)
}

// BuildBefore returns a builder that adds values to g in front of at, or at
// the end when at is nil. A loop that does so ranges over a clone of g.Values.
func (g *Graph) BuildBefore(at *Value) *Builder {
	b := &Builder{g: g, at: at, names: make(map[string]int, len(g.Values))}
	for _, v := range g.Values {
		b.names[v.Name] = 1
	}
	return b
}

// Err returns the first error.
func (b *Builder) Err() error { return b.err }

// Graph returns the graph, or the first error.
func (b *Builder) Graph() (*Graph, error) {
	if b.err != nil {
		return nil, b.err
	}
	return b.g, nil
}

// Symbol declares a dim symbol with its inclusive range and returns it as a dim.
func (b *Builder) Symbol(name string, min, max int) Dim {
	b.g.Symbols = append(b.g.Symbols, Symbol{Name: name, Min: min, Max: max})
	return Sym(name)
}

// Input adds an input of the graph.
func (b *Builder) Input(name string, t Type) *Value {
	return b.add(&Value{Name: nameOf(name), Op: Lookup("input"), Attrs: &SourceAttrs{Name: name}, Type: t})
}

// Weight adds a tensor that comes from the checkpoint.
func (b *Builder) Weight(name string, t Type) *Value {
	return b.add(&Value{Name: nameOf(name), Op: Lookup("weight"), Attrs: &SourceAttrs{Name: name}, Type: t})
}

// Const adds the scalar x.
func (b *Builder) Const(d DType, x float64) *Value {
	a := &ConstAttrs{Value: x}
	if d != F32 {
		a.DType = d
	}
	return b.Op("const", a)
}

// Op adds the op with the given name. attrs is a pointer to the op's
// attribute struct, or nil for zero attributes; it must not change afterwards.
func (b *Builder) Op(name string, attrs any, args ...*Value) *Value {
	v := &Value{Name: name, Op: Lookup(name), Args: slices.Clone(args), Attrs: attrs}
	switch {
	case b.err != nil:
		return v
	case v.Op == nil:
		b.fail("no op is called %q", name)
		v.Op = Lookup("const")
		return v
	case v.Op.Infer == nil:
		b.fail("op %s is not made by Op; use Input, Weight or Group", name)
		return v
	}
	if attrs == nil && v.Op.NewAttrs != nil {
		v.Attrs = v.Op.NewAttrs()
	}
	t, err := inferValue(v)
	if err != nil {
		b.fail("%%%s: %w", b.unique(name), err)
		return v
	}
	v.Type = t
	return b.add(v)
}

// Group adds a fusion group. body receives a builder of the group's body and
// one parameter for each argument, and returns the group's result.
func (b *Builder) Group(kind, label string, args []*Value, body func(b *Builder, params []*Value) *Value) *Value {
	v := &Value{Name: nameOf(label), Op: Lookup("group"), Args: slices.Clone(args), Attrs: &GroupAttrs{Kind: kind, Label: label}}
	if b.err != nil {
		return v
	}
	inner := NewBuilder(label)
	params := make([]*Value, len(args))
	for i, a := range args {
		params[i] = inner.Input(paramName(i), a.Type)
	}
	r := body(inner, params)
	if r == nil {
		inner.fail("body has no result")
	}
	inner.Output(r)
	if inner.err != nil {
		b.fail("group @%s: %w", label, inner.err)
		return v
	}
	v.Body, v.Type = inner.g, r.Type
	return b.add(v)
}

// paramName is the name of the i-th parameter in a group's body.
func paramName(i int) string { return fmt.Sprintf("p%d", i) }

// Named renames v, which this builder made, and returns it. When the name is
// taken, v gets the name with a number added.
func (b *Builder) Named(v *Value, name string) *Value {
	if b.err == nil && v.Name != name {
		v.Name = b.unique(nameOf(name))
	}
	return v
}

// Output appends outputs to the graph.
func (b *Builder) Output(vs ...*Value) {
	if b.err == nil {
		b.g.Outputs = append(b.g.Outputs, vs...)
	}
}

func (b *Builder) add(v *Value) *Value {
	if b.err == nil {
		v.Name = b.unique(v.Name)
		b.g.InsertBefore(b.at, v)
	}
	return v
}

func (b *Builder) fail(format string, args ...any) {
	if b.err == nil {
		b.err = fmt.Errorf("graph @%s: "+format, append([]any{b.g.Name}, args...)...)
	}
}

// unique returns name, with a number added when it is taken, and takes it.
func (b *Builder) unique(name string) string {
	n := name
	for b.names[n] > 0 {
		b.names[name]++
		n = fmt.Sprintf("%s_%d", name, b.names[name])
	}
	b.names[n] = 1
	return n
}

// nameOf turns any name into one that the text form accepts.
func nameOf(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x80 && isNameByte(byte(r)) {
			return r
		}
		return '_'
	}, s)
	if s == "" || !isNameStart(s[0]) {
		s = "_" + s
	}
	return s
}

// inferValue checks v's arity and attributes and infers its type.
func inferValue(v *Value) (Type, error) {
	if err := checkCall(v); err != nil {
		return Type{}, err
	}
	args := make([]Type, len(v.Args))
	for i, a := range v.Args {
		args[i] = a.Type
	}
	t, err := v.Op.Infer(args, v.Attrs)
	if err != nil {
		return Type{}, fmt.Errorf("%s: %w", v.Op.Name, err)
	}
	return t, nil
}
