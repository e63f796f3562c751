package emit

import (
	"bytes"
	"fmt"
	"reflect"

	"github.com/bertc/bertc/program"
	rt "github.com/bertc/bertc/runtime"
)

// operandFields are the fields of rt.Step.
var operandFields = map[program.Operand]string{
	program.Src: "Src", program.Index: "Index", program.Pos: "Pos", program.Res: "Res", program.Dst: "Dst",
	program.W: "W", program.WScale: "WScale", program.BiasW: "Bias", program.Gamma: "Gamma", program.Beta: "Beta",
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

	m := Module(p, o)
	fmt.Fprintf(&b, "// module is the compiled model.\nvar module = rt.Module{\nName: %q,\nID: [32]byte{", o.Package)
	for i, x := range o.ID {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "0x%02x", x)
	}
	b.WriteString("},\n")
	fmt.Fprintf(&b, "VocabSize: %d,\nMaxPositions: %d,\nMaxTokens: %d,\nHiddenSize: %d,\nLogitsSize: %d,\nEncodeSteps: %d,\n",
		m.VocabSize, m.MaxPositions, m.MaxTokens, m.HiddenSize, m.LogitsSize, m.EncodeSteps)
	for _, f := range []struct {
		name string
		id   rt.BufferID
	}{{"Hidden", m.Hidden}, {"Logits", m.Logits}, {"IDs", m.IDs}, {"Positions", m.Positions}, {"Rows", m.Rows}} {
		if f.id != 0 {
			fmt.Fprintf(&b, "%s: %s,\n", f.name, bufferConst(m.Buffers[f.id-1].Name))
		}
	}
	b.WriteString("Tiers: tiers,\nKernels: []rt.Kernel{\n")
	for _, k := range m.Kernels {
		fmt.Fprintf(&b, "%s: %s,\n", kernelConst(k.Name), literal(reflect.ValueOf(k)))
	}
	b.WriteString("},\nBuffers: []rt.Buffer{\n")
	for _, buf := range m.Buffers {
		fmt.Fprintf(&b, "%s,\n", literal(reflect.ValueOf(buf)))
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
	for _, w := range m.Weights {
		fmt.Fprintf(&b, "%s,\n", literal(reflect.ValueOf(w)))
	}
	b.WriteString("},\n}\n")
	return b.Bytes()
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
