package passes

import (
	"fmt"
	"strings"

	"github.com/bertc/bertc/ir"
)

func mergeSiblings(s *State) error {
	g := s.Graph
	users := g.Users()
	single := func(v *ir.Value) bool { return len(users[v]) == 1 }
	for _, v := range append([]*ir.Value(nil), g.Values...) {
		switch v.Op.Name {
		case "attention":
			mergeQKV(g, v, single)
		case "glu":
			mergeGateUp(g, v, single)
		}
	}
	g.Prune()
	return nil
}

// siblings reports whether all vs are linear, read the same rows and have no other user.
func siblings(vs []*ir.Value, single func(*ir.Value) bool) bool {
	for _, v := range vs {
		if v.Op.Name != "linear" || v.Args[0] != vs[0].Args[0] || !single(v) {
			return false
		}
	}
	return true
}

// joined adds one linear for all vs, called name, and returns it.
func joined(b *ir.Builder, name string, vs []*ir.Value) *ir.Value {
	var weights, biases []*ir.Value
	bias := false
	for _, v := range vs {
		weights = append(weights, v.Args[1])
		bias = bias || len(v.Args) == 3
	}
	args := []*ir.Value{vs[0].Args[0], b.Op("concat", &ir.AxisAttrs{}, weights...)}
	if bias {
		for _, v := range vs {
			if len(v.Args) == 3 {
				biases = append(biases, v.Args[2])
				continue
			}
			biases = append(biases, b.Op("broadcast", &ir.ShapeAttrs{Shape: v.Args[1].Type.Dims[:1]}, b.Const(ir.F32, 0)))
		}
		args = append(args, b.Op("concat", &ir.AxisAttrs{}, biases...))
	}
	return b.Named(b.Op("linear", vs[0].Attrs, args...), name)
}

// columns adds the slices of m that have the widths of vs.
func columns(b *ir.Builder, m *ir.Value, vs []*ir.Value) []*ir.Value {
	var out []*ir.Value
	at := ir.Const(0)
	for _, v := range vs {
		end := at.Add(v.Type.Dims[1])
		out = append(out, b.Op("slice", &ir.SliceAttrs{Axis: 1, Start: at, Stop: end}, m))
		at = end
	}
	return out
}

// siblingName is the name of one sibling with its last word replaced.
func siblingName(v *ir.Value, word string) string {
	return v.Name[:strings.LastIndexByte(v.Name, '.')+1] + word
}

func mergeQKV(g *ir.Graph, attention *ir.Value, single func(*ir.Value) bool) {
	var linears []*ir.Value
	rotated := false
	for _, a := range attention.Args[:3] {
		if a.Op.Name == "rope" && single(a) {
			a, rotated = a.Args[0], true
		}
		linears = append(linears, a)
	}
	if !siblings(linears, single) {
		return
	}
	b := g.BuildBefore(attention)
	m := joined(b, siblingName(linears[0], "qkv"), linears)
	if rotated {
		parts := columns(b, m, linears)
		for i, a := range attention.Args[:3] {
			if a.Op.Name == "rope" {
				parts[i] = b.Op("rope", a.Attrs, parts[i], a.Args[1])
			}
		}
		m = b.Op("concat", &ir.AxisAttrs{Axis: 1}, parts...)
	}
	qkv := columns(b, m, linears)
	name := attention.Name
	attention.Name = "merged." + name
	b = g.BuildBefore(attention)
	g.Replace(attention, b.Named(b.Op("attention", attention.Attrs, append(qkv, attention.Args[3])...), name))
}

func mergeGateUp(g *ir.Graph, glu *ir.Value, single func(*ir.Value) bool) {
	if !siblings(glu.Args, single) {
		return
	}
	b := g.BuildBefore(glu)
	gateUp := columns(b, joined(b, siblingName(glu.Args[0], "gate_up"), glu.Args), glu.Args)
	name := glu.Name
	glu.Name = "merged." + name
	b = g.BuildBefore(glu)
	g.Replace(glu, b.Named(b.Op("glu", glu.Attrs, gateUp...), name))
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
