package passes

import (
	"fmt"
	"strings"

	"github.com/bertc/bertc/ir"
)

func canonicalize(s *State) error {
	g := s.Graph
	arrange(g)
	seen := map[string]*ir.Value{}
	canon := map[*ir.Value]*ir.Value{}
	for _, v := range g.Values {
		for i, a := range v.Args {
			if c := canon[a]; c != nil {
				v.Args[i] = c
			}
		}
		if v.Op.Kind == ir.Group || v.Op.Name == "input" {
			continue
		}
		key := valueKey(v)
		if first := seen[key]; first != nil {
			canon[v] = first
		} else {
			seen[key] = v
		}
	}
	for i, o := range g.Outputs {
		if c := canon[o]; c != nil {
			g.Outputs[i] = c
		}
	}
	arrange(g)
	return nil
}

// valueKey is equal for values that compute the same.
func valueKey(v *ir.Value) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s %s", v.Op.Name, v.Type, ir.PosText(v.Attrs), ir.AttrsText(v.Attrs))
	for _, a := range v.Args {
		fmt.Fprintf(&b, " %p", a)
	}
	return b.String()
}
