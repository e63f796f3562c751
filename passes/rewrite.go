package passes

import (
	"slices"
	"strings"

	"github.com/bertc/bertc/ir"
)

// This file owns how passes change a graph: values that replace others are made at the end of it,
// by one builder, and all values are put in order afterwards. That takes linear time, where
// inserting each value in its place would not.

type rewriter struct {
	*ir.Builder
	g   *ir.Graph
	now map[*ir.Value]*ir.Value // what has been replaced, by what
}

func newRewriter(g *ir.Graph) *rewriter {
	return &rewriter{Builder: g.BuildBefore(nil), g: g, now: map[*ir.Value]*ir.Value{}}
}

// walk calls visit with the values that were there before, in order. Arguments that have been
// replaced by then are up to date.
func (r *rewriter) walk(visit func(v *ir.Value)) {
	for _, v := range slices.Clone(r.g.Values) {
		r.update(v.Args)
		visit(v)
	}
}

// replace lets w take the place and the name of v.
func (r *rewriter) replace(v, w *ir.Value) {
	name := v.Name
	v.Name = "replaced." + name
	w.Name = name
	r.now[v] = w
}

func (r *rewriter) update(vs []*ir.Value) {
	for i, v := range vs {
		for w := r.now[v]; w != nil; w = r.now[w] {
			vs[i] = w
		}
	}
}

// finish makes the graph whole again.
func (r *rewriter) finish() error {
	if err := r.Err(); err != nil {
		return err
	}
	for _, v := range r.g.Values {
		r.update(v.Args)
	}
	r.update(r.g.Outputs)
	arrange(r.g)
	return nil
}

// arrange drops what no output needs and puts the values in the order in which a walk from the
// outputs to the sources finishes with them, so that nothing depends on the order in which the
// graph was made. Inputs that no output needs come first, by name.
func arrange(g *ir.Graph) {
	var order, unused []*ir.Value
	done := map[*ir.Value]bool{}
	var visit func(v *ir.Value)
	visit = func(v *ir.Value) {
		if done[v] {
			return
		}
		done[v] = true
		for _, a := range v.Args {
			visit(a)
		}
		order = append(order, v)
	}
	for _, o := range g.Outputs {
		visit(o)
	}
	for _, v := range g.Inputs() {
		if !done[v] {
			unused = append(unused, v)
		}
	}
	slices.SortFunc(unused, func(a, b *ir.Value) int { return strings.Compare(a.Name, b.Name) })
	g.Values = append(unused, order...)
}
