package passes

import (
	"fmt"
	"maps"
	"slices"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

func formGroups(s *State) error {
	f := &former{rewriter: newRewriter(s.Graph), users: s.Graph.Users(), taken: map[*ir.Value]bool{}}
	var groups []*members
	for _, find := range []func(*former, *ir.Value) *members{findGemm, findAttention, findGather, findNorm} {
		for _, anchor := range s.Graph.Values {
			if f.taken[anchor] {
				continue
			}
			m := find(f, anchor)
			if m == nil {
				continue
			}
			for v := range m.in {
				f.taken[v] = true
			}
			groups = append(groups, m)
		}
	}
	place := make(map[*ir.Value]int, len(s.Graph.Values))
	for i, v := range s.Graph.Values {
		place[v] = i
	}
	for _, m := range groups {
		f.group(m, place)
	}
	return f.finish()
}

// former knows the graph as it was before the first group.
type former struct {
	*rewriter
	users map[*ir.Value][]*ir.Value
	taken map[*ir.Value]bool // by a group
}

// members is a group to be: the values that go into it, and what it is called.
type members struct {
	kind   kernel.Kind
	anchor *ir.Value
	in     map[*ir.Value]bool
	result *ir.Value
}

func newMembers(kind kernel.Kind, anchor *ir.Value) *members {
	return &members{kind: kind, anchor: anchor, in: map[*ir.Value]bool{anchor: true}, result: anchor}
}

// only returns the single user of v, or nil when there are more, it is in another group, or v is
// an output.
func (f *former) only(v *ir.Value) *ir.Value {
	if len(f.users[v]) != 1 || f.taken[f.users[v][0]] || slices.Contains(f.g.Outputs, v) {
		return nil
	}
	return f.users[v][0]
}

var norms = []string{"rmsnorm", "layernorm"}

func isNorm(v *ir.Value) bool { return slices.Contains(norms, v.Op.Name) }

func findGemm(f *former, v *ir.Value) *members {
	if v.Op.Name != "linear" {
		return nil
	}
	m := newMembers(kernel.Gemm, v)
	takes := func(x, user *ir.Value, ops ...string) bool {
		m.in[x] = !f.taken[x] && f.only(x) == user && slices.Contains(ops, x.Op.Name)
		return m.in[x]
	}
	if x := v.Args[0]; takes(x, v, "quantize") {
		takes(x.Args[0], x, norms...)
	} else if !takes(x, v, "cast") {
		takes(x, v, norms...)
	}
	maps.DeleteFunc(m.in, func(_ *ir.Value, in bool) bool { return !in })
	for m.extend(f) {
	}
	return m
}

// extend takes the next elementwise operation into the epilogue, which computes in f32 until the
// result is written. Columns that are sliced, rotated and joined again, or sliced into gate and
// up, count as one operation.
func (m *members) extend(f *former) bool {
	if m.result.Type.DType != ir.F32 {
		return false
	}
	if m.slices(f) {
		return true
	}
	u := f.only(m.result)
	if u == nil {
		return false
	}
	switch u.Op.Name {
	case "silu", "tanh", "cast":
	case "add": // the residual: a value of the residual stream, made before
		other := u.Args[0]
		if other == m.result {
			other = u.Args[1]
		}
		if !other.Type.Equal(m.result.Type) || other == m.result {
			return false
		}
	default:
		return false
	}
	m.in[u] = true
	m.result = u
	return true
}

// slices handles: slices of the result, perhaps each with one rope, all read by one concat or glu,
// which puts the columns back in their order.
func (m *members) slices(f *former) bool {
	var taken []*ir.Value
	var end *ir.Value
	for _, s := range f.users[m.result] {
		if s.Op.Name != "slice" {
			return false
		}
		taken = append(taken, s)
		u := f.only(s)
		if u != nil && u.Op.Name == "rope" {
			taken = append(taken, u)
			u = f.only(u)
		}
		if u == nil || (u.Op.Name != "concat" && u.Op.Name != "glu") || end != nil && u != end {
			return false
		}
		end = u
	}
	if end == nil || slices.Contains(f.g.Outputs, m.result) || !allColumns(m.result, end.Args) {
		return false
	}
	for _, t := range append(taken, end) {
		m.in[t] = true
	}
	m.result = end
	return true
}

// allColumns reports whether vs, each perhaps rotated, are slices of x that make up its columns in
// order.
func allColumns(x *ir.Value, vs []*ir.Value) bool {
	at := ir.Const(0)
	for _, v := range vs {
		if v.Op.Name == "rope" {
			v = v.Args[0]
		}
		a, ok := v.Attrs.(*ir.SliceAttrs)
		if !ok || v.Args[0] != x || a.Axis != 1 || !a.Start.Equal(at) {
			return false
		}
		at = a.Stop
	}
	return at.Equal(x.Type.Dims[1])
}

func findAttention(_ *former, v *ir.Value) *members {
	if v.Op.Name != "attention" {
		return nil
	}
	m := newMembers(kernel.Attention, v)
	for _, a := range v.Args[:3] {
		m.in[a] = true // slices are views: other readers of the same columns have their own
	}
	return m
}

func findNorm(_ *former, v *ir.Value) *members {
	if !isNorm(v) {
		return nil
	}
	return newMembers(kernel.Rowwise, v)
}

// findGather: a gather, the cast of its rows, and the position rows that are added to them.
func findGather(f *former, v *ir.Value) *members {
	if v.Op.Name != "gather" || v.Args[1].Name == "positions" {
		return nil
	}
	m := newMembers(kernel.Gather, v)
	for {
		u := f.only(m.result)
		if u == nil || u.Op.Name != "cast" && u.Op.Name != "add" {
			return m
		}
		if u.Op.Name == "add" {
			other := u.Args[0]
			if other == m.result {
				other = u.Args[1]
			}
			if other == m.result || other.Op.Name != "gather" || f.taken[other] || f.only(other) != u {
				return m
			}
			m.in[other] = true
		}
		m.in[u] = true
		m.result = u
	}
}

// group replaces the members by one group value. place is the order of all values.
func (f *former) group(m *members, place map[*ir.Value]int) {
	label := m.anchor.Name
	if m.kind == kernel.Gather {
		label = m.result.Name
	}
	body := slices.Collect(maps.Keys(m.in))
	slices.SortFunc(body, func(a, b *ir.Value) int { return place[a] - place[b] })
	var args []*ir.Value
	for _, v := range body {
		for _, a := range v.Args {
			if !m.in[a] && !slices.Contains(args, a) {
				args = append(args, a)
			}
		}
	}
	g := f.Group(string(m.kind), label, args, func(b *ir.Builder, params []*ir.Value) *ir.Value {
		in := map[*ir.Value]*ir.Value{}
		for i, a := range args {
			in[a] = params[i]
		}
		for _, v := range body {
			var as []*ir.Value
			for _, a := range v.Args {
				as = append(as, in[a])
			}
			in[v] = b.Named(b.Op(v.Op.Name, v.Attrs, as...), v.Name)
		}
		return in[m.result]
	})
	for _, v := range body {
		v.Name = "grouped." + v.Name
	}
	g.Name = label
	f.now[m.result] = g
}

// ensureGroups: whatever is not a source or a weight expression is in a group.
func ensureGroups(s *State) error {
	for _, v := range s.Graph.Values {
		if v.Op.Kind != ir.Group && v.Op.Name != "input" && !weightOnly(v) {
			return fmt.Errorf("%%%s = %s is in no group: no kernel does it", v.Name, v.Op.Name)
		}
	}
	return nil
}
