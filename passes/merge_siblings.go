package passes

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bertc/bertc/ir"
)

func mergeSiblings(s *State) error {
	m := merger{newRewriter(s.Graph), s.Graph.Users()}
	m.walk(func(v *ir.Value) {
		switch v.Op.Name {
		case "attention":
			m.qkv(v)
		case "glu":
			m.gateUp(v)
		}
	})
	return m.finish()
}

type merger struct {
	*rewriter
	users map[*ir.Value][]*ir.Value // before the pass
}

// single reports whether v has one user and is not an output.
func (m merger) single(v *ir.Value) bool {
	return len(m.users[v]) == 1 && !slices.Contains(m.g.Outputs, v)
}

// siblings reports whether all vs are different linears that read the same rows, have attributes
// that a joined one can have, and have no other user.
func (m merger) siblings(vs []*ir.Value) bool {
	for i, v := range vs {
		if v.Op.Name != "linear" || v.Args[0] != vs[0].Args[0] || v.Args[1].Type.DType != vs[0].Args[1].Type.DType ||
			ir.AttrsText(v.Attrs) != ir.AttrsText(vs[0].Attrs) || !m.single(v) || slices.Contains(vs[:i], v) {
			return false
		}
	}
	return true
}

// joined adds one linear for all vs, called name, and returns it.
func (m merger) joined(name string, vs []*ir.Value) *ir.Value {
	var weights, biases []*ir.Value
	bias := false
	for _, v := range vs {
		weights = append(weights, v.Args[1])
		bias = bias || len(v.Args) == 3
	}
	args := []*ir.Value{vs[0].Args[0], m.Op("concat", &ir.AxisAttrs{}, weights...)}
	if bias {
		for _, v := range vs {
			if len(v.Args) == 3 {
				biases = append(biases, v.Args[2])
				continue
			}
			biases = append(biases, m.Op("broadcast", &ir.ShapeAttrs{Shape: v.Args[1].Type.Dims[:1]}, m.Const(ir.F32, 0)))
		}
		args = append(args, m.Op("concat", &ir.AxisAttrs{}, biases...))
	}
	return m.Named(m.Op("linear", vs[0].Attrs, args...), name)
}

// columns adds the slices of x that have the widths of vs.
func (m merger) columns(x *ir.Value, vs []*ir.Value) []*ir.Value {
	var out []*ir.Value
	at := ir.Const(0)
	for _, v := range vs {
		end := at.Add(v.Type.Dims[1])
		out = append(out, m.Op("slice", &ir.SliceAttrs{Axis: 1, Start: at, Stop: end}, x))
		at = end
	}
	return out
}

// siblingName is the name of one sibling with its last word replaced.
func siblingName(v *ir.Value, word string) string {
	return v.Name[:strings.LastIndexByte(v.Name, '.')+1] + word
}

func (m merger) qkv(attention *ir.Value) {
	var linears []*ir.Value
	rotated := false
	for _, a := range attention.Args[:3] {
		if a.Op.Name == "rope" && m.single(a) {
			a, rotated = a.Args[0], true
		}
		linears = append(linears, a)
	}
	if !m.siblings(linears) {
		return
	}
	x := m.joined(siblingName(linears[0], "qkv"), linears)
	if rotated {
		parts := m.columns(x, linears)
		for i, a := range attention.Args[:3] {
			if a.Op.Name == "rope" {
				parts[i] = m.Op("rope", a.Attrs, parts[i], a.Args[1])
			}
		}
		x = m.Op("concat", &ir.AxisAttrs{Axis: 1}, parts...)
	}
	args := append(m.columns(x, linears), attention.Args[3])
	m.replace(attention, m.Op("attention", attention.Attrs, args...))
}

func (m merger) gateUp(glu *ir.Value) {
	if !m.siblings(glu.Args) {
		return
	}
	x := m.joined(siblingName(glu.Args[0], "gate_up"), glu.Args)
	m.replace(glu, m.Op("glu", glu.Attrs, m.columns(x, glu.Args)...))
}

// ensureMerged: attention and glu read slices of one value.
func ensureMerged(s *State) error {
	for _, v := range s.Graph.Values {
		n := map[string]int{"attention": 3, "glu": 2}[v.Op.Name]
		for _, a := range v.Args[:n] {
			if a.Op.Name != "slice" || a.Args[0] != v.Args[0].Args[0] {
				return fmt.Errorf("%%%s = %s: its arguments are not slices of one value: the matmuls before it read different rows or are used twice", v.Name, v.Op.Name)
			}
		}
	}
	return nil
}
