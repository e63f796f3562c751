package ir

import (
	"fmt"
	"reflect"
	"strings"
)

// This file owns the generated documentation of the op table.

// kindTitles are the headings of docs/ops.md, in order.
var kindTitles = []struct {
	kind  OpKind
	title string
}{
	{Source, "Sources"},
	{Shape, "Shape ops"},
	{Primitive, "Primitives"},
	{Composite, "Composites"},
	{Group, "Groups"},
}

const docsIntro = `# Ops

Generated from the op table in ir/table.go by ` + "`go test ./ir -run TestDocs -update`" + `.

Each entry shows arguments and attributes; an argument with ? is optional. An attribute that is not given has the
default 0, "not set" or what the text says. Values of type f32 are evaluated in float64 without rounding, because the
evaluator is the reference; results of every other type are rounded to it. A composite is defined by its decomposition
into primitives, computes in f32 and is rounded once, to ` + "`out`" + `, which defaults to the element type of its first argument.
`

// FormatDocs returns the text of docs/ops.md.
func FormatDocs() string {
	var b strings.Builder
	b.WriteString(docsIntro)
	for _, k := range kindTitles {
		fmt.Fprintf(&b, "\n## %s\n", k.title)
		for _, op := range Ops() {
			if op.Kind == k.kind {
				fmt.Fprintf(&b, "\n### %s\n\n`%s`\n\n%s\n", op.Name, op.signature(), op.Doc)
				if p := op.properties(); p != "" {
					fmt.Fprintf(&b, "\n%s\n", p)
				}
			}
		}
	}
	return b.String()
}

// signature shows how the op is written.
func (op *Op) signature() string {
	if op.Kind == Group {
		return "group kind @label(%a, …) { … yield %r }"
	}
	parts := []string{op.Name}
	var named []string
	if op.NewAttrs != nil {
		for _, f := range attrFields(op.NewAttrs()) {
			switch {
			case f.pos && f.val.Kind() == reflect.String:
				parts = append(parts, `"`+f.name+`"`)
			case f.pos:
				parts = append(parts, f.name)
			default:
				named = append(named, f.name+": "+attrTypes[f.val.Type()])
			}
		}
	}
	if len(op.Args) > 0 {
		parts = append(parts, strings.Join(op.Args, ", "))
	}
	if named != nil {
		parts = append(parts, "{"+strings.Join(named, ", ")+"}")
	}
	return strings.Join(parts, " ")
}

// attrTypes names the types of attributes for readers.
var attrTypes = map[reflect.Type]string{
	reflect.TypeFor[float64](): "number",
	reflect.TypeFor[int]():     "integer",
	reflect.TypeFor[[]int]():   "integers",
	reflect.TypeFor[string]():  "word",
	reflect.TypeFor[DType]():   "type",
	reflect.TypeFor[Dim]():     "dim",
	reflect.TypeFor[[]Dim]():   "dims",
}

// properties lists the flags of the op in words.
func (op *Op) properties() string {
	var p []string
	for _, f := range []struct {
		set  bool
		word string
	}{
		{op.Elementwise, "elementwise"},
		{op.RowLocal && !op.Elementwise, "row-local"},
		{op.Commutative, "commutative"},
	} {
		if f.set {
			p = append(p, f.word)
		}
	}
	if p == nil {
		return ""
	}
	s := strings.Join(p, ", ")
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
