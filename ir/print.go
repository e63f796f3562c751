package ir

import (
	"fmt"
	"strings"
)

// This file owns the printer.

// String returns the text form of the graph, which Parse reads back.
func (g *Graph) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "graph @%s", g.Name)
	if len(g.Symbols) > 0 {
		s := make([]string, len(g.Symbols))
		for i, y := range g.Symbols {
			s[i] = fmt.Sprintf("%s: %d..%d", y.Name, y.Min, y.Max)
		}
		fmt.Fprintf(&b, "(%s)", strings.Join(s, ", "))
	}
	b.WriteString(" {\n")
	printValues(&b, g.Values, "  ")
	fmt.Fprintf(&b, "  return%s\n}\n", nameList(" ", g.Outputs))
	return b.String()
}

func printValues(b *strings.Builder, vs []*Value, indent string) {
	for _, v := range vs {
		printValue(b, v, indent)
	}
}

func printValue(b *strings.Builder, v *Value, indent string) {
	fmt.Fprintf(b, "%s%%%s = %s", indent, v.Name, v.Op.Name)
	if v.Body != nil {
		a := v.Attrs.(*GroupAttrs)
		fmt.Fprintf(b, " %s @%s(%s) {\n", a.Kind, a.Label, nameList("", v.Args))
		printValues(b, v.Body.Values[len(v.Args):], indent+"  ")
		fmt.Fprintf(b, "%s  yield%s\n%s}", indent, nameList(" ", v.Body.Outputs), indent)
	} else {
		if s := PosText(v.Attrs); s != "" {
			b.WriteString(" " + s)
		}
		b.WriteString(nameList(" ", v.Args))
		if s := AttrsText(v.Attrs); s != "" {
			b.WriteString(" " + s)
		}
	}
	fmt.Fprintf(b, " : %s\n", v.Type)
}

// String returns the line of the text form that defines v.
func (v *Value) String() string {
	var b strings.Builder
	printValue(&b, v, "")
	return strings.TrimSuffix(b.String(), "\n")
}

// nameList returns prefix and "%a, %b", or "" when vs is empty.
func nameList(prefix string, vs []*Value) string {
	if len(vs) == 0 {
		return ""
	}
	s := make([]string, len(vs))
	for i, v := range vs {
		s[i] = "%" + v.Name
	}
	return prefix + strings.Join(s, ", ")
}
