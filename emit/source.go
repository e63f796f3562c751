package emit

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// dtypes, kinds, norms: what package rt calls them.
var dtypes = map[ir.DType]string{ir.F32: "rt.F32", ir.BF16: "rt.BF16", ir.I32: "rt.I32", ir.I8: "rt.I8"}

var kinds = map[kernel.Kind]string{kernel.Gemm: "rt.Gemm", kernel.Attention: "rt.Attention", kernel.Rowwise: "rt.Rowwise", kernel.Gather: "rt.Gather"}

var norms = map[kernel.Prologue]string{kernel.RMSNorm: "rt.RMSNorm", kernel.LayerNorm: "rt.LayerNorm"}

// operandFields are the fields of rt.Step.
var operandFields = map[program.Operand]string{
	program.Src: "Src", program.Index: "Index", program.Pos: "Pos", program.Res: "Res", program.Dst: "Dst",
	program.W: "W", program.BiasW: "Bias", program.Gamma: "Gamma", program.Beta: "Beta",
	program.Cos: "Cos", program.Sin: "Sin", program.PosTable: "PosTable",
}

func kernelConst(name string) string { return "k" + camel(name) }
func bufferConst(name string) string { return "b" + camel(name) }
func weightConst(name string) string { return "w" + camel(name) }

// programSource is program.go: the tables that the runtime runs.
func programSource(p *program.Program, o Options) []byte {
	var b bytes.Buffer
	b.WriteString(header(o))
	fmt.Fprintf(&b, "package %s\n\nimport %q\n\n", o.Package, o.ImportPath+"/internal/rt")
	consts(&b, "The kernels, as indexes of module.Kernels.", "int", 0, len(p.Kernels), func(i int) string { return kernelConst(p.Kernels[i].Name) })
	consts(&b, "The buffers of the arena.", "rt.BufferID", 1, len(p.Buffers), func(i int) string { return bufferConst(p.Buffers[i].Name) })
	consts(&b, "The weights, in the order of the weight file.", "rt.WeightID", 1, len(p.Weights), func(i int) string { return weightConst(p.Weights[i].Name) })

	fmt.Fprintf(&b, "// module is the compiled model.\nvar module = rt.Module{\nName: %q,\nID: [32]byte{", o.Package)
	for i, x := range o.ID {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "0x%02x", x)
	}
	b.WriteString("},\n")
	fmt.Fprintf(&b, "VocabSize: %d,\nMaxPositions: %d,\nMaxTokens: %d,\nHiddenSize: %d,\nLogitsSize: %d,\nEncodeSteps: %d,\n",
		o.VocabSize, o.MaxPositions, p.Symbols[0].Max, p.Buffer("hidden").Cols(), logitsSize(p), p.HeadStart())
	for _, f := range [][2]string{{"Hidden", "hidden"}, {"Logits", "logits"}, {"IDs", "ids"}, {"Positions", "positions"}, {"Rows", "rows"}} {
		if p.Buffer(f[1]) != nil {
			fmt.Fprintf(&b, "%s: %s,\n", f[0], bufferConst(f[1]))
		}
	}
	b.WriteString("Tiers: tiers,\nKernels: []rt.Kernel{\n")
	for _, k := range p.Kernels {
		fmt.Fprintf(&b, "%s: {%s},\n", kernelConst(k.Name), kernelFields(k))
	}
	b.WriteString("},\nBuffers: []rt.Buffer{\n")
	for _, buf := range p.Buffers {
		extent := "rt.Tokens"
		if buf.Symbol() != program.Tokens {
			extent = "rt.Picked"
		}
		fmt.Fprintf(&b, "{Name: %q, Extent: %s, RowBytes: %d, Offset: %d, DType: %s, Cols: %d},\n",
			buf.Name, extent, buf.RowBytes(), buf.Offset, dtypes[buf.Type.DType], buf.Cols())
	}
	b.WriteString("},\nSteps: []rt.Step{\n")
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "{Name: %q, Kernel: %s", s.Name, kernelConst(s.Kernel))
		for _, a := range s.Args {
			name := weightConst(a.Name)
			if a.Operand.IsBuffer() {
				name = bufferConst(a.Name)
			}
			fmt.Fprintf(&b, ", %s: %s", operandFields[a.Operand], name)
		}
		b.WriteString("},\n")
	}
	b.WriteString("},\nWeights: []rt.Weight{\n")
	for i, w := range p.Weights {
		fmt.Fprintf(&b, "{Name: %q, Bytes: %d},\n", w.Name, o.WeightBytes[i])
	}
	b.WriteString("},\n}\n")
	return b.Bytes()
}

// logitsSize is the columns of the logits, 0 without a head.
func logitsSize(p *program.Program) int {
	if b := p.Buffer("logits"); b != nil {
		return b.Cols()
	}
	return 0
}

func consts(b *bytes.Buffer, doc, typ string, first, n int, name func(int) string) {
	fmt.Fprintf(b, "// %s\nconst (\n", doc)
	for i := range n {
		if i == 0 {
			fmt.Fprintf(b, "%s %s = iota", name(0), typ)
			if first != 0 {
				fmt.Fprintf(b, " + %d", first)
			}
			b.WriteByte('\n')
			continue
		}
		fmt.Fprintln(b, name(i))
	}
	b.WriteString(")\n\n")
}

// kernelFields writes the fields of rt.Kernel that are not zero.
func kernelFields(k program.Kernel) string {
	s := k.Spec
	fs := []string{fmt.Sprintf("Name: %q", k.Name), "Kind: " + kinds[s.Kind]}
	num := func(name string, n int) {
		if n != 0 {
			fs = append(fs, fmt.Sprintf("%s: %d", name, n))
		}
	}
	flag := func(name string, set bool) {
		if set {
			fs = append(fs, name+": true")
		}
	}
	float := func(name string, x float64) {
		if x != 0 {
			fs = append(fs, name+": "+strconv.FormatFloat(x, 'g', -1, 64))
		}
	}
	dtype := func(name string, d ir.DType) {
		if d != 0 {
			fs = append(fs, name+": "+dtypes[d])
		}
	}
	dtype("In", s.In)
	dtype("Out", s.Out)
	dtype("Math", s.Math)
	dtype("WeightType", s.Weight)
	num("N", s.N)
	num("K", s.K)
	if s.Kind == kernel.Gemm || s.Kind == kernel.Gather && !s.Activations {
		num("KPad", s.KPad())
		num("PanelBytes", s.PanelBytes())
	}
	if s.Kind == kernel.Gemm {
		num("Panels", s.Panels())
		num("PanelOut", s.PanelOut())
		num("Group", s.Group())
	}
	if n, ok := norms[s.Prologue]; ok {
		fs = append(fs, "Norm: "+n)
	}
	flag("Beta", s.Beta)
	float("Eps", s.Eps)
	flag("Bias", s.Epilogue.Has(kernel.Bias))
	flag("Rope", s.Epilogue.Has(kernel.Rope))
	flag("SiLU", s.Epilogue.Has(kernel.SiLU))
	flag("Tanh", s.Epilogue.Has(kernel.Tanh))
	flag("GLU", s.Epilogue.Has(kernel.GLU))
	flag("Residual", s.Epilogue.Has(kernel.Residual))
	num("Heads", s.Heads)
	num("KVHeads", s.KVHeads)
	num("HeadDim", s.HeadDim)
	float("Scale", s.Scale)
	flag("AddPositions", s.Positions)
	flag("Activations", s.Activations)
	flag("PanelTable", s.Kind == kernel.Gather && s.Table != kernel.RowMajor)
	return strings.Join(fs, ", ")
}
