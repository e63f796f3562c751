package program

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bertc/bertc/ir"
)

// String returns the text form of p, which Parse reads back:
//
//	program @masked_lm(T: 1..16384, B: 1..16384, M: 1..16384) {
//	  kernel qkv = gemm in=f32 out=bf16 math=bf16 weight=bf16 n=1664 k=1536 …
//	    plan gemm amd64/avx512f inst=vfmadd231ps micro=12x32 block=96x8
//	  weight layer.0.qkv.weight = bf16[1664,1536] [n/32][k/32][n2][k16][n16][k2]
//	    part encoder.layer.0.attention.self.query.weight [1536,1536]
//	  buffer x = temp f32[T,1536] @0
//	  step layer.0.qkv = qkv src=x pos=positions dst=qkv w=layer.0.qkv.weight …
//	}
func (p *Program) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "program @%s(", p.Name)
	for i, s := range p.Symbols {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s: %d..%d", s.Name, s.Min, s.Max)
	}
	b.WriteString(") {\n")
	for _, k := range p.Kernels {
		fmt.Fprintf(&b, "  kernel %s = %s\n", k.Name, k.Spec)
		for i, plan := range k.Plans {
			fmt.Fprintf(&b, "    plan %s", plan)
			if from := k.PlanFrom(i); from != "" {
				b.WriteString(fromMark + from)
			}
			b.WriteByte('\n')
		}
	}
	for _, w := range p.Weights {
		fmt.Fprintf(&b, "  weight %s = %s%s %s", w.Name, w.DType, shapeText(w.Shape), w.Layout)
		if w.Interleave > 0 {
			fmt.Fprintf(&b, " interleave=%d", w.Interleave)
		}
		if w.Scales {
			b.WriteString(" " + scalesMark)
		}
		b.WriteByte('\n')
		for _, part := range w.Parts {
			name := part.Tensor
			if name == "" {
				name = zeros
			}
			fmt.Fprintf(&b, "    part %s %s", name, shapeText(part.Shape))
			for _, f := range part.Factors {
				b.WriteString(" " + f.String())
			}
			b.WriteByte('\n')
		}
		if r := w.Rope; r != nil {
			table := "cos"
			if r.Sin {
				table = "sin"
			}
			fmt.Fprintf(&b, "    rope %s theta=%s headdim=%d positions=%d\n", table, strconv.FormatFloat(r.Theta, 'g', -1, 64), r.HeadDim, r.Positions)
		}
		if w.Blob != "" {
			fmt.Fprintf(&b, "    blob %s\n", w.Blob)
		}
	}
	for _, buf := range p.Buffers {
		fmt.Fprintf(&b, "  buffer %s = %s %s", buf.Name, buf.Role, buf.Type)
		if buf.Offset >= 0 {
			fmt.Fprintf(&b, " @%d", buf.Offset)
		}
		b.WriteByte('\n')
	}
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "  step %s = %s", s.Name, s.Kernel)
		for _, a := range s.Args {
			fmt.Fprintf(&b, " %s=%s", a.Operand, a.Name)
		}
		b.WriteByte('\n')
	}
	b.WriteString("}\n")
	return b.String()
}

// fromMark stands between a plan and where it is from.
const fromMark = " ; "

// scalesMark ends the line of a weight that is the scales of rows.
const scalesMark = "scales"

// factorMarks are how factors are written, before the name of the vector.
var factorMarks = map[Factor]string{
	{}: "rows*", {Divide: true}: "rows/", {Columns: true}: "columns*", {Columns: true, Divide: true}: "columns/", {Add: true}: "rows+",
}

// String returns for example "columns*smooth:layer.0.qkv", and "rows+shift:layer.0.qkv@1536" from an
// element on that is not the first.
func (f Factor) String() string {
	text := factorMarks[Factor{Columns: f.Columns, Divide: f.Divide, Add: f.Add}] + f.Vector
	if f.First > 0 {
		text += "@" + strconv.Itoa(f.First)
	}
	return text
}

// zeros is how a part without a tensor is written.
const zeros = "zeros"

func shapeText(shape []int) string {
	t := ir.Type{}
	for _, d := range shape {
		t.Dims = append(t.Dims, ir.Const(d))
	}
	text := t.String()
	return text[strings.IndexByte(text, '['):]
}
