package ir

import (
	"fmt"
	"math"
)

// This file owns the rules that every graph obeys.

// maxSymbol bounds the values of a symbol.
const maxSymbol = math.MaxInt32

// Verify checks every rule of a graph and returns the first violation:
//
//   - names are well formed, symbols and values have one name each, and the
//     outside names of inputs and weights differ;
//   - each value comes before its users and has as many arguments, and
//     attributes of the type, that its op takes;
//   - the type stated is the type the op infers, its rank is at most 8, its
//     symbols are declared, and its dims are not negative where all symbols
//     have their least or all their greatest value;
//   - outputs exist and belong to the graph;
//   - the body of a group sees its parameters only, holds no sources but
//     const and iota and no groups, and yields one value.
func Verify(g *Graph) error {
	if err := verify(g); err != nil {
		return fmt.Errorf("graph @%s: %w", g.Name, err)
	}
	return nil
}

func verify(g *Graph) error {
	if !isName(g.Name) {
		return fmt.Errorf("name %q is not well formed", g.Name)
	}
	s := &scope{names: map[string]bool{}, defined: map[*Value]bool{}, outside: map[string]*Value{}, least: map[string]int{}, greatest: map[string]int{}}
	for _, y := range g.Symbols {
		if err := s.declare(y); err != nil {
			return err
		}
	}
	if len(g.Outputs) == 0 {
		return fmt.Errorf("nothing is returned")
	}
	return s.graph(g)
}

// scope is what may be used at one place of a graph or group body.
type scope struct {
	names           map[string]bool
	defined         map[*Value]bool
	outside         map[string]*Value // sources by outside name
	least, greatest map[string]int    // values of the symbols
	params          int               // in a group: number of leading parameters
	inGroup         bool
}

func (s *scope) declare(y Symbol) error {
	switch _, twice := s.least[y.Name]; {
	case !isWord(y.Name):
		return fmt.Errorf("symbol name %q is not well formed", y.Name)
	case twice:
		return fmt.Errorf("symbol %s is declared twice", y.Name)
	case y.Min < 0 || y.Max < y.Min || y.Max > maxSymbol:
		return fmt.Errorf("symbol %s has range %d..%d, want 0 ≤ least ≤ greatest ≤ %d", y.Name, y.Min, y.Max, maxSymbol)
	}
	s.least[y.Name], s.greatest[y.Name] = y.Min, y.Max
	return nil
}

// graph checks the values and outputs of g.
func (s *scope) graph(g *Graph) error {
	for i, v := range g.Values {
		switch {
		case v == nil || v.Op == nil || Lookup(v.Op.Name) != v.Op:
			return fmt.Errorf("value %d has no op of the table", i)
		case !isName(v.Name):
			return fmt.Errorf("value %d has name %q, which is not well formed", i, v.Name)
		case s.names[v.Name]:
			return fmt.Errorf("%%%s: name is used twice", v.Name)
		}
		if err := s.value(v, i); err != nil {
			return fmt.Errorf("%%%s: %w", v.Name, err)
		}
		s.names[v.Name] = true
		s.defined[v] = true
	}
	for _, o := range g.Outputs {
		if !s.defined[o] {
			return fmt.Errorf("output %s is not a value of the graph", valueName(o))
		}
	}
	return nil
}

func valueName(v *Value) string {
	if v == nil {
		return "nil"
	}
	return "%" + v.Name
}

func (s *scope) value(v *Value, index int) error {
	for _, a := range v.Args {
		if !s.defined[a] {
			return fmt.Errorf("%s: argument %s is not defined before its use", v.Op.Name, valueName(a))
		}
	}
	if err := checkCall(v); err != nil {
		return err
	}
	if err := s.typ(v.Type); err != nil {
		return err
	}
	if err := s.attrDims(v); err != nil {
		return err
	}
	if (v.Body != nil) != (v.Op.Kind == Group) {
		return fmt.Errorf("%s: only a group has a body, and it must have one", v.Op.Name)
	}
	switch {
	case v.Op.Kind == Group:
		return s.group(v)
	case v.Op.Infer == nil:
		return s.source(v, index)
	}
	t, err := inferValue(v)
	if err != nil {
		return err
	}
	if !t.Equal(v.Type) {
		return fmt.Errorf("%s: type is stated as %s, but is %s", v.Op.Name, v.Type, t)
	}
	return nil
}

// typ checks a stated type on its own.
func (s *scope) typ(t Type) error {
	if !t.DType.Valid() {
		return fmt.Errorf("type %s has no element type", t)
	}
	if t.Rank() > maxRank {
		return fmt.Errorf("type %s has rank %d, want at most %d", t, t.Rank(), maxRank)
	}
	for _, d := range t.Dims {
		if err := s.dim(d); err != nil {
			return fmt.Errorf("type %s: %w", t, err)
		}
		for _, env := range []map[string]int{s.least, s.greatest} {
			n, err := d.Eval(env)
			if err != nil {
				return fmt.Errorf("type %s: %w", t, err)
			}
			if n < 0 {
				return fmt.Errorf("type %s: dim %s can be %d", t, d, n)
			}
		}
	}
	return nil
}

// dim checks that d is valid and its symbols are declared.
func (s *scope) dim(d Dim) error {
	if !d.Valid() {
		return fmt.Errorf("a dim overflows")
	}
	for _, name := range d.Symbols() {
		if _, ok := s.least[name]; !ok {
			return fmt.Errorf("symbol %s is not declared", name)
		}
	}
	return nil
}

// attrDims checks the dims among v's attributes.
func (s *scope) attrDims(v *Value) error {
	for _, f := range attrFields(v.Attrs) {
		var dims []Dim
		switch x := f.val.Interface().(type) {
		case Dim:
			dims = []Dim{x}
		case []Dim:
			dims = x
		}
		for _, d := range dims {
			if err := s.dim(d); err != nil {
				return fmt.Errorf("%s: attribute %s: %w", v.Op.Name, f.name, err)
			}
		}
	}
	return nil
}

// source checks an input or weight.
func (s *scope) source(v *Value, index int) error {
	name := v.Attrs.(*SourceAttrs).Name
	if s.inGroup {
		if want := paramName(index); index >= s.params || v.Op.Name != "input" || v.Name != want || name != want {
			return fmt.Errorf("%s %q is inside of a group", v.Op.Name, name)
		}
		return nil
	}
	if old := s.outside[name]; old != nil {
		return fmt.Errorf("%s %q has the name of %%%s", v.Op.Name, name, old.Name)
	}
	s.outside[name] = v
	return nil
}

func (s *scope) group(v *Value) error {
	a, body := v.Attrs.(*GroupAttrs), v.Body
	switch {
	case s.inGroup:
		return fmt.Errorf("group @%s is inside of a group", a.Label)
	case !isWord(a.Kind) || !isName(a.Label) || body.Name != a.Label || len(body.Symbols) > 0:
		return fmt.Errorf("group kind %q and label %q are not well formed, or its body has another name or symbols", a.Kind, a.Label)
	case len(body.Values) < len(v.Args):
		return fmt.Errorf("group @%s has %d arguments, but not as many parameters", a.Label, len(v.Args))
	case len(body.Outputs) != 1:
		return fmt.Errorf("group @%s yields %d values, want 1", a.Label, len(body.Outputs))
	}
	for i, arg := range v.Args {
		if p := body.Values[i]; p == nil || p.Op != Lookup("input") || !p.Type.Equal(arg.Type) {
			return fmt.Errorf("group @%s: value %d of the body is not a parameter of type %s", a.Label, i, arg.Type)
		}
	}
	inner := &scope{names: map[string]bool{}, defined: map[*Value]bool{}, least: s.least, greatest: s.greatest, params: len(v.Args), inGroup: true}
	if err := inner.graph(body); err != nil {
		return fmt.Errorf("group @%s: %w", a.Label, err)
	}
	if r := body.Outputs[0]; !r.Type.Equal(v.Type) {
		return fmt.Errorf("group @%s: type is stated as %s, but %%%s has %s", a.Label, v.Type, r.Name, r.Type)
	}
	return nil
}
