package passes

import (
	"fmt"
	"math"
	"slices"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// binding is what a fusion group is as a kernel call: the Spec, and which value of the graph is
// which operand. theta is set under Rope: its tables are weights that no value stands for.
type binding struct {
	spec  kernel.Spec
	args  map[program.Operand]*ir.Value
	theta float64
}

// bind derives the Spec of a group. It fails on a body that no kernel does.
func bind(g *ir.Value) (binding, error) {
	b := binding{
		spec: kernel.Spec{Kind: kernel.Kind(g.Attrs.(*ir.GroupAttrs).Kind), Out: g.Type.DType},
		args: map[program.Operand]*ir.Value{},
	}
	outer := map[*ir.Value]*ir.Value{}
	for i, a := range g.Args {
		outer[g.Body.Values[i]] = a
	}
	body := g.Body.Values[len(g.Args):]
	if len(body) == 0 || body[len(body)-1] != g.Body.Outputs[0] {
		return b, fmt.Errorf("group @%s: its last operation is not its result", g.Name)
	}
	derive := map[kernel.Kind]func(*binding, []*ir.Value, map[*ir.Value]*ir.Value) error{
		kernel.Gemm:      bindGemm,
		kernel.Attention: bindAttention,
		kernel.Rowwise:   bindRowwise,
		kernel.Gather:    bindGather,
	}[b.spec.Kind]
	if derive == nil {
		return b, fmt.Errorf("group @%s: unknown kind %q", g.Name, b.spec.Kind)
	}
	if err := derive(&b, body, outer); err != nil {
		return b, fmt.Errorf("group @%s: %w", g.Name, err)
	}
	if err := b.spec.Valid(); err != nil {
		return b, fmt.Errorf("group @%s: %w", g.Name, err)
	}
	return b, nil
}

func cols(v *ir.Value) int {
	n, _ := v.Type.Dims[len(v.Type.Dims)-1].IsConst()
	return n
}

func unexpected(v *ir.Value) error { return fmt.Errorf("no kernel of this kind does %s", v.Op.Name) }

// norm reads a norm and returns its input.
func (b *binding) norm(v *ir.Value, outer map[*ir.Value]*ir.Value) *ir.Value {
	b.spec.Prologue = kernel.Prologue(v.Op.Name)
	b.spec.Eps = v.Attrs.(*ir.NormAttrs).Eps
	b.args[program.Gamma] = outer[v.Args[1]]
	if len(v.Args) == 3 {
		b.spec.Beta = true
		b.args[program.Beta] = outer[v.Args[2]]
	}
	return v.Args[0]
}

func (b *binding) epilogue(op string) {
	if b.spec.Epilogue != "" {
		b.spec.Epilogue += "+"
	}
	b.spec.Epilogue += kernel.Epilogue(op)
}

func bindGemm(b *binding, body []*ir.Value, outer map[*ir.Value]*ir.Value) error {
	s := &b.spec
	i := slices.IndexFunc(body, func(v *ir.Value) bool { return v.Op.Name == "linear" })
	if i < 0 {
		return fmt.Errorf("it has no linear")
	}
	l := body[i]
	x := l.Args[0]
	s.Math, s.Weight = x.Type.DType, l.Args[1].Type.DType
	before := body[:i]
	if i > 0 && x == body[i-1] && x.Op.Name == "quantize" {
		s.Math, s.Weight = ir.I8, ir.I8
		if w := outer[l.Args[1]]; w == nil || w.Op.Name != "quantize" {
			return fmt.Errorf("one factor is quantised and the other not")
		}
		x, before = x.Args[0], body[:i-1]
	}
	if len(before) > 0 {
		switch {
		case len(before) > 1 || before[0] != x:
			return unexpected(before[0])
		case isNorm(x):
			x = b.norm(x, outer)
		case x.Op.Name == "cast":
			x = x.Args[0]
		default:
			return unexpected(x)
		}
	}
	s.In, s.K, s.N = x.Type.DType, cols(x), cols(l)
	b.args[program.Src], b.args[program.W] = outer[x], outer[l.Args[1]]
	if len(l.Args) == 3 {
		b.epilogue(kernel.Bias)
		b.args[program.BiasW] = outer[l.Args[2]]
	}
	result := l
	for _, v := range body[i+1:] {
		switch v.Op.Name {
		case "slice", "rope":
			continue // read with the concat or glu that they end in
		case "concat", "glu":
			if !allColumns(result, v.Args) {
				return unexpected(v)
			}
		case "silu", "tanh", "cast", "add":
			if !slices.Contains(v.Args, result) {
				return unexpected(v)
			}
		default:
			return unexpected(v)
		}
		if err := b.after(v, result, outer); err != nil {
			return err
		}
		result = v
	}
	return nil
}

// after adds operation v on result to the epilogue.
func (b *binding) after(v, result *ir.Value, outer map[*ir.Value]*ir.Value) error {
	switch v.Op.Name {
	case "concat":
		return b.rope(v.Args, outer)
	case "silu":
		b.epilogue(kernel.SiLU)
	case "tanh":
		b.epilogue(kernel.Tanh)
	case "glu":
		if act := v.Attrs.(*ir.GluAttrs).Act; act != "" && act != "silu" {
			return fmt.Errorf("no kernel does glu with act=%s", act)
		}
		b.epilogue(kernel.GLU)
		b.spec.N = cols(v)
	case "add":
		b.epilogue(kernel.Residual)
		other := v.Args[0]
		if other == result {
			other = v.Args[1]
		}
		if outer[other] == nil || !other.Type.Equal(result.Type) {
			return unexpected(v)
		}
		b.args[program.Res] = outer[other]
	}
	return nil
}

// rope reads the columns that a concat joins: queries and keys that are rotated, then the rest.
func (b *binding) rope(columns []*ir.Value, outer map[*ir.Value]*ir.Value) error {
	s := &b.spec
	for i, v := range columns {
		if v.Op.Name != "rope" {
			continue
		}
		a, pos := v.Attrs.(*ir.RopeAttrs), outer[v.Args[1]]
		switch {
		case i == 0:
			b.epilogue(kernel.Rope)
			s.Heads, s.HeadDim, b.theta = a.Heads, cols(v)/a.Heads, a.Theta
			b.args[program.Pos] = pos
		case i == 1 && a.Theta == b.theta && cols(v)/a.Heads == s.HeadDim && pos == b.args[program.Pos]:
			s.KVHeads = a.Heads
		default:
			return fmt.Errorf("a kernel rotates queries and keys, the first two parts, by the same angles; part %d is not so", i+1)
		}
	}
	if s.Heads > 0 && s.KVHeads == 0 {
		return fmt.Errorf("a kernel rotates queries and keys, here only the queries are")
	}
	return nil
}

func bindAttention(b *binding, body []*ir.Value, outer map[*ir.Value]*ir.Value) error {
	v := body[len(body)-1]
	if v.Op.Name != "attention" {
		return unexpected(v)
	}
	for _, a := range v.Args[:3] {
		if a.Op.Name != "slice" {
			return unexpected(a)
		}
	}
	qkv := v.Args[0].Args[0]
	a := v.Attrs.(*ir.AttentionAttrs)
	s := &b.spec
	s.In, s.Math = qkv.Type.DType, qkv.Type.DType
	s.Heads, s.KVHeads, s.Scale = a.Heads, a.KVHeads, a.Scale
	s.HeadDim = cols(v.Args[0]) / a.Heads
	if s.KVHeads == 0 {
		s.KVHeads = s.Heads
	}
	if s.Scale == 0 {
		s.Scale = 1 / math.Sqrt(float64(s.HeadDim))
	}
	if !allColumns(qkv, v.Args[:3]) {
		return fmt.Errorf("its arguments are not the columns of one value in the order q, k, v")
	}
	if o := outer[v.Args[3]]; o == nil || o.Op.Name != "input" || o.Name != "offsets" {
		return fmt.Errorf("attention takes the sequences of the batch: its last argument must be the input \"offsets\"")
	}
	b.args[program.Src] = outer[qkv]
	return nil
}

func bindRowwise(b *binding, body []*ir.Value, outer map[*ir.Value]*ir.Value) error {
	if v := body[len(body)-1]; len(body) > 1 || !isNorm(v) {
		return unexpected(v)
	}
	x := b.norm(body[0], outer)
	b.spec.In, b.spec.K = x.Type.DType, cols(x)
	b.args[program.Src] = outer[x]
	return nil
}

func bindGather(b *binding, body []*ir.Value, outer map[*ir.Value]*ir.Value) error {
	s := &b.spec
	adds := 0
	for _, v := range body {
		switch {
		case v.Op.Name == "add" && adds == 0 && s.Positions && v.Args[0] != v.Args[1]:
			adds++
		case v.Op.Name == "gather" && outer[v.Args[1]].Name == "positions":
			s.Positions = true
			b.args[program.PosTable], b.args[program.Pos] = outer[v.Args[0]], outer[v.Args[1]]
		case v.Op.Name == "gather":
			if b.args[program.Index] != nil {
				return fmt.Errorf("it reads two tables by index; the second one of a kernel is read by position")
			}
			table := outer[v.Args[0]]
			s.In, s.Weight, s.K = table.Type.DType, table.Type.DType, cols(table)
			if table.Op.Name == "quantize" {
				s.Weight = ir.I8
			}
			s.Table = kernel.RowMajor
			b.args[program.Index] = outer[v.Args[1]]
			if s.Activations = !weightOnly(table); s.Activations {
				b.args[program.Src] = table
			} else {
				b.args[program.W] = table
			}
		case v.Op.Name == "cast":
		default:
			return unexpected(v)
		}
	}
	return nil
}
