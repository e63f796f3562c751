package ir

import "sync"

// This file owns what an op is and how it is found.

// OpKind sorts the ops by what may be asked of them.
type OpKind uint8

// The kinds of op.
const (
	Source    OpKind = iota // makes a value without arguments
	Shape                   // moves elements, computes nothing
	Primitive               // computes; evaluated directly
	Composite               // defined by its decomposition into the kinds above
	Group                   // a fusion group: evaluates its body
)

var kindNames = [...]string{"source", "shape", "primitive", "composite", "group"}

func (k OpKind) String() string { return kindNames[k] }

// Op is one entry of the op table.
type Op struct {
	Name string
	Kind OpKind
	// Args names the arguments for the documentation; optional ones end in "?".
	Args []string
	// MinArgs and MaxArgs bound the number of arguments; MaxArgs < 0 means no bound.
	MinArgs, MaxArgs int
	// NewAttrs returns a pointer to a zero attribute struct; nil for an op without attributes.
	NewAttrs func() any
	// Infer checks arguments and attributes and returns the result type.
	// It is nil where the type is stated (input, weight) or comes from a body (group).
	Infer func(args []Type, attrs any) (Type, error)
	// Eval computes the result; see Call. Set exactly when Decompose is not,
	// except for input, weight and group, which the evaluator itself defines.
	Eval func(c *Call) error
	// Decompose emits the definition of composite v in terms of args and returns its result.
	Decompose func(b *Builder, v *Value, args []*Value) *Value
	// Elementwise: each result element depends only on the argument elements at its own (broadcast) position.
	Elementwise bool
	// RowLocal: each result row (last axis) depends only on the same row of the arguments.
	RowLocal bool
	// Commutative: the two arguments may be exchanged.
	Commutative bool
	Doc         string
}

// opTable is built from table() on first use. The builder is reached from the
// table's decompositions, which rules out a plain initialised variable.
var opTable struct {
	once   sync.Once
	list   []*Op
	byName map[string]*Op
}

func loadTable() {
	opTable.list = table()
	opTable.byName = make(map[string]*Op, len(opTable.list))
	for _, op := range opTable.list {
		opTable.byName[op.Name] = op
	}
}

// Lookup returns the op with the given name, or nil.
func Lookup(name string) *Op {
	opTable.once.Do(loadTable)
	return opTable.byName[name]
}

// Ops returns all ops in table order. The slice must not be changed.
func Ops() []*Op {
	opTable.once.Do(loadTable)
	return opTable.list
}
