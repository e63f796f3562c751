package passes

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/quant"
)

func assignPrecision(s *State) error {
	if s.Options.Math == ir.F32 {
		return nil
	}
	p := precision{
		rewriter: newRewriter(s.Graph), to: s.Options.Math,
		quant: s.Options.Quant, users: s.Graph.Users(), casts: map[*ir.Value]*ir.Value{}, coded: map[*ir.Value]*ir.Value{},
	}
	if p.to == ir.I8 {
		p.to, p.codes = ir.BF16, codes(s.Graph, s.Options.Quant)
	}
	p.walk(func(v *ir.Value) {
		switch v.Op.Name {
		case "linear":
			p.linear(v)
		case "attention":
			p.attention(v)
		case "gather":
			p.gather(v)
		}
	})
	return p.finish()
}

type precision struct {
	*rewriter
	to    ir.DType
	quant *quant.Config
	codes map[*ir.Value]bool        // the linears whose factors are quantised; not nil in i8
	coded map[*ir.Value]*ir.Value   // one quantize for each value, shared
	users map[*ir.Value][]*ir.Value // before the pass
	casts map[*ir.Value]*ir.Value   // one cast for each value, shared
}

// cast returns v in p.to.
func (p precision) cast(v *ir.Value) *ir.Value {
	if v.Type.DType == p.to {
		return v
	}
	if p.casts[v] == nil {
		p.casts[v] = p.Named(p.Op("cast", &ir.CastAttrs{To: p.to}, v), v.Name+"."+p.to.String())
	}
	return p.casts[v]
}

// quantize returns v with its rows rounded to 8 bits.
func (p precision) quantize(v *ir.Value) *ir.Value {
	if p.coded[v] == nil {
		p.coded[v] = p.Named(p.Op("quantize", nil, v), v.Name+".i8")
	}
	return p.coded[v]
}

// codes returns the linears whose factors are quantised: by default those of the layers but the
// first, and the decoder, which are nearly all of the weights. The others are the small ones of
// heads. What the first layers get wrong goes through all the others (docs/numerics.md has what it
// is worth to leave them in bf16): of 16 layers it is one, and one of 4 at least.
func codes(g *ir.Graph, q *quant.Config) map[*ir.Value]bool {
	set := map[*ir.Value]bool{}
	layers := 0
	for _, v := range g.Values {
		layers = max(layers, layerOf(v)+1)
	}
	for _, v := range g.Values {
		if v.Op.Name != "linear" {
			continue
		}
		precision := q.Linear(v.Name).Precision
		if precision == "" && (layerOf(v) >= (layers+12)/16 || vocabulary(g, v.Args[1])) {
			precision = quant.Int8
		}
		if precision == quant.Int8 {
			set[v] = true
		}
	}
	return set
}

// layerOf returns the number of the layer that a value belongs to, −1 for none.
func layerOf(v *ir.Value) int {
	rest, _ := strings.CutPrefix(layerPrefix.FindString(v.Name), "layer.")
	if n, err := strconv.Atoi(strings.TrimSuffix(rest, ".")); err == nil {
		return n
	}
	return -1
}

// gathersCodes reports whether the table of a gather is quantised: not where the options say so, nor
// where a matmul reads it that is not, so that both have one copy.
func (p precision) gathersCodes(v *ir.Value) bool {
	table := v.Args[0]
	return p.codes != nil && p.quant.Linear(v.Name).Precision != quant.BF16 && !slices.ContainsFunc(p.users[table], func(u *ir.Value) bool { return u.Op.Name == "linear" && !p.codes[u] })
}

// vocabulary reports whether a weight has as many rows as the embedding table.
func vocabulary(g *ir.Graph, w *ir.Value) bool {
	for _, v := range g.Values {
		if v.Op.Name == "gather" && v.Args[1].Name == "ids" {
			return v.Args[0].Type.Dims[0].Equal(w.Type.Dims[0])
		}
	}
	return false
}

// only reports whether v has one reader.
func (p precision) only(v *ir.Value) bool {
	return len(p.users[v]) == 1 && !slices.Contains(p.g.Outputs, v)
}

// narrow makes the last operation before a matmul write p.to directly: a norm or a gated unit
// that nothing else reads. Anything else gets a cast.
func (p precision) narrow(v *ir.Value) *ir.Value {
	if v.Type.DType == p.to {
		return v
	}
	if p.only(v) && v.Type.DType == ir.F32 {
		switch a := v.Attrs.(type) {
		case *ir.NormAttrs:
			p.replace(v, p.Op(v.Op.Name, &ir.NormAttrs{Eps: a.Eps, Out: p.to}, v.Args...))
			return p.now[v]
		case *ir.GluAttrs:
			p.replace(v, p.Op("glu", &ir.GluAttrs{Act: a.Act, Out: p.to}, v.Args...))
			return p.now[v]
		}
	}
	return p.cast(v)
}

// linear rounds both factors. What is quantised is rounded to 16 bits before that where it is
// written to memory: the results of attention and of a gated unit, not those of a norm.
func (p precision) linear(v *ir.Value) {
	args := append([]*ir.Value{v.Args[0], v.Args[1]}, v.Args[2:]...)
	if !p.codes[v] {
		args[0], args[1] = p.narrow(args[0]), p.cast(args[1])
	} else {
		if args[0].Op.Name == "glu" {
			args[0] = p.narrow(args[0])
		}
		args[0], args[1] = p.quantize(args[0]), p.quantize(args[1])
	}
	p.replace(v, p.Op("linear", &ir.LinearAttrs{Out: v.Type.DType}, args...))
}

// attention reads slices of one value: that value is cast once. The result is rounded when a matmul
// alone reads it.
func (p precision) attention(v *ir.Value) {
	whole := p.cast(v.Args[0].Args[0])
	var args []*ir.Value
	for _, a := range v.Args[:3] {
		args = append(args, p.Op("slice", a.Attrs, whole))
	}
	a := *v.Attrs.(*ir.AttentionAttrs)
	a.Out = v.Type.DType
	if p.only(v) && p.users[v][0].Op.Name == "linear" {
		a.Out = p.to
	}
	p.replace(v, p.Op("attention", &a, append(args, v.Args[3])...))
}

// gather narrows the embedding table. Position embeddings stay f32: they are small (2048 rows at
// most) and are added to the f32 residual stream. Tables of activations are not weights.
func (p precision) gather(v *ir.Value) {
	if !weightOnly(v.Args[0]) || v.Type.DType != ir.F32 || v.Args[1].Name == "positions" {
		return
	}
	if p.gathersCodes(v) {
		p.replace(v, p.Op("gather", nil, p.quantize(v.Args[0]), v.Args[1]))
		return
	}
	row := p.Named(p.Op("gather", nil, p.cast(v.Args[0]), v.Args[1]), v.Name+"."+p.to.String())
	p.replace(v, p.Op("cast", &ir.CastAttrs{To: ir.F32}, row))
}

// weightOnly reports whether v is computed from weights and constants alone, at pack time.
func weightOnly(v *ir.Value) bool {
	switch v.Op.Name {
	case "weight", "const":
		return true
	case "cast", "quantize", "concat", "broadcast", "mul", "div", "add", "reshape":
		for _, a := range v.Args {
			if !weightOnly(a) {
				return false
			}
		}
		return true
	}
	return false
}

// ensurePrecision: the factors of every product have the policy's dtype, or both are quantised.
func ensurePrecision(s *State) error {
	policy := s.Options.Math
	if policy == ir.I8 {
		policy = ir.BF16
	}
	for _, v := range s.Graph.Values {
		n := map[string]int{"attention": 3, "linear": 2}[v.Op.Name]
		if s.Options.Math == ir.I8 && v.Op.Name == "linear" && v.Args[0].Op.Name == "quantize" && v.Args[1].Op.Name == "quantize" {
			continue
		}
		for _, a := range v.Args[:n] {
			if a.Type.DType != policy {
				return fmt.Errorf("%%%s = %s: %%%s is %s, the policy is %s", v.Name, v.Op.Name, a.Name, a.Type.DType, policy)
			}
		}
	}
	return nil
}
