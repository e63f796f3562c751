package ir

import "slices"

// This file owns the graph itself and its edits.

// Symbol is a dim symbol with the inclusive range of values it may take.
type Symbol struct {
	Name     string
	Min, Max int
}

// Value is the result of one op. Its fields are read freely; a pass changes
// a graph by adding values and calling Replace, not by editing attributes in
// place, because values may share one attribute struct.
type Value struct {
	Name  string
	Op    *Op
	Args  []*Value
	Attrs any // pointer to the op's attribute struct, nil for an op without attributes
	Type  Type
	Body  *Graph // of a group, nil otherwise
}

// Graph is a list of values in which each one comes before its users, inputs
// and weights included.
//
// The body of a group is a graph too: its first len(Args) values are inputs
// p0, p1, … that stand for the group's arguments, it has one output, and its
// dims use the symbols of the graph around it.
type Graph struct {
	Name    string
	Symbols []Symbol
	Values  []*Value
	Outputs []*Value
}

// Value returns the value with the given name, or nil.
func (g *Graph) Value(name string) *Value {
	for _, v := range g.Values {
		if v.Name == name {
			return v
		}
	}
	return nil
}

// Inputs returns the values of op input, in order.
func (g *Graph) Inputs() []*Value { return g.withOp("input") }

// Weights returns the values of op weight, in order.
func (g *Graph) Weights() []*Value { return g.withOp("weight") }

func (g *Graph) withOp(name string) []*Value {
	var out []*Value
	for _, v := range g.Values {
		if v.Op.Name == name {
			out = append(out, v)
		}
	}
	return out
}

// Users returns, for each value, the values that have it as an argument, in
// graph order and each once. Outputs are not users.
func (g *Graph) Users() map[*Value][]*Value {
	users := make(map[*Value][]*Value, len(g.Values))
	for _, v := range g.Values {
		for i, a := range v.Args {
			if !slices.Contains(v.Args[:i], a) {
				users[a] = append(users[a], v)
			}
		}
	}
	return users
}

// Replace makes every value after new that uses old use new instead, and
// every output that is old become new. Values up to and including new keep
// their arguments, so new may be computed from old. Nothing is removed; see
// Prune.
func (g *Graph) Replace(old, new *Value) {
	for _, v := range g.Values[slices.Index(g.Values, new)+1:] {
		for i, a := range v.Args {
			if a == old {
				v.Args[i] = new
			}
		}
	}
	for i, o := range g.Outputs {
		if o == old {
			g.Outputs[i] = new
		}
	}
}

// InsertBefore adds vs to the graph in front of at, or at the end when at is
// nil. BuildBefore is the usual way to make such values.
func (g *Graph) InsertBefore(at *Value, vs ...*Value) {
	i := len(g.Values)
	if at != nil {
		i = slices.Index(g.Values, at)
	}
	g.Values = slices.Insert(g.Values, i, vs...)
}

// Prune removes every value that no output depends on. Inputs stay, because
// they are the graph's signature. It returns how many values it removed.
func (g *Graph) Prune() int {
	live := make(map[*Value]bool, len(g.Values))
	for _, o := range g.Outputs {
		live[o] = true
	}
	for _, v := range slices.Backward(g.Values) {
		if v.Op.Name == "input" {
			live[v] = true
		}
		if live[v] {
			for _, a := range v.Args {
				live[a] = true
			}
		}
	}
	before := len(g.Values)
	g.Values = slices.DeleteFunc(g.Values, func(v *Value) bool { return !live[v] })
	return before - len(g.Values)
}

// Clone returns a copy of the graph that shares only ops, attribute structs
// and types with it.
func (g *Graph) Clone() *Graph {
	c := &Graph{Name: g.Name, Symbols: slices.Clone(g.Symbols)}
	copies := make(map[*Value]*Value, len(g.Values))
	for _, v := range g.Values {
		w := &Value{Name: v.Name, Op: v.Op, Attrs: v.Attrs, Type: v.Type}
		for _, a := range v.Args {
			w.Args = append(w.Args, copies[a])
		}
		if v.Body != nil {
			w.Body = v.Body.Clone()
		}
		copies[v] = w
		c.Values = append(c.Values, w)
	}
	for _, o := range g.Outputs {
		c.Outputs = append(c.Outputs, copies[o])
	}
	return c
}
