package diff

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// This file owns test cases: one step as one safetensors file, with everything that it takes to
// run it again. The tensors are
//
//	case           U8: the text below
//	in.NAME        an input of the graph
//	weight.NAME    a tensor of the checkpoint
//	expected       F32: the result of the interpreter, rounded
//	got            the result of the kernel
//
// and the text is one line for each fact, then the step as a graph:
//
//	step layer.0.qkv
//	kernels avx512f
//	budget 7.6e-06
//	spec gemm in=f32 …
//	plan gemm amd64/avx512f …
//	operand src=embed
//	graph @masked_lm(T: 1..16384) { …

type testCase struct {
	local  *local
	result Step
	tier   string
	spec   kernel.Spec
	plan   kernel.Plan // zero for the portable kernels
	args   []program.Arg
	inputs map[string]*ir.Tensor
	got    *ir.Tensor
	want   *ir.Tensor
}

// Names and prefixes of the tensors of a case.
const (
	caseText     = "case"
	caseIn       = "in."
	caseWeight   = "weight."
	caseExpected = "expected"
	caseGot      = "got"
)

// text returns the case without its tensors.
func (c *testCase) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "step %s\nkernels %s\nbudget %v\nspec %s\n", c.result.Name, c.tier, c.result.Budget, c.spec)
	if c.plan != (kernel.Plan{}) {
		fmt.Fprintf(&b, "plan %s\n", c.plan)
	}
	for _, a := range c.args {
		if a.Name != "" {
			fmt.Fprintf(&b, "operand %s=%s\n", a.Operand, a.Name)
		}
	}
	b.WriteString(c.local.graph.String())
	return b.String()
}

// part is one tensor of the file.
type part struct {
	info checkpoint.Info
	data []byte
}

// write writes the case, with weights from m.
func (c *testCase) write(path string, m *pipeline.Model) error {
	text := []byte(c.text())
	parts := []part{{checkpoint.Info{Name: caseText, DType: "U8", Shape: []int{len(text)}}, text}}
	for _, name := range c.local.inputs {
		t := c.inputs[name]
		parts = append(parts, tensorPart(caseIn+name, t.DType, t))
	}
	for _, w := range c.local.graph.Weights() {
		name := w.Attrs.(*ir.SourceAttrs).Name
		t, err := m.Checkpoint.Tensor(name)
		if err != nil {
			return err
		}
		info := t.Info
		info.Name = caseWeight + name
		parts = append(parts, part{info, t.Data})
	}
	parts = append(parts, tensorPart(caseExpected, ir.F32, c.want), tensorPart(caseGot, c.got.DType, c.got))
	var infos []checkpoint.Info
	for _, p := range parts {
		infos = append(infos, p.info)
	}
	return checkpoint.WriteFile(path, infos, func(i int, w io.Writer) error {
		_, err := w.Write(parts[i].data)
		return err
	})
}

// tensorPart returns t as elements of type d.
func tensorPart(name string, d ir.DType, t *ir.Tensor) part {
	return part{checkpoint.Info{Name: name, DType: fileType(d), Shape: t.Shape}, encode(d, t.Data)}
}

// fileType returns the name of an element type in files.
func fileType(d ir.DType) checkpoint.DType { return checkpoint.DType(strings.ToUpper(d.String())) }

// readCase reads a case. Its local has no list of inputs, and its result only a name.
func readCase(path string) (*testCase, map[string]*ir.Tensor, error) {
	f, err := checkpoint.OpenFile(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	c := &testCase{local: &local{}, inputs: map[string]*ir.Tensor{}}
	weights := map[string]*ir.Tensor{}
	text := ""
	for _, info := range f.Tensors() {
		t, err := f.Tensor(info.Name)
		if err != nil {
			return nil, nil, err
		}
		if info.Name == caseText {
			text = string(t.Data)
			continue
		}
		tensor, err := toTensor(t)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: tensor %q: %w", path, info.Name, err)
		}
		in, isIn := strings.CutPrefix(info.Name, caseIn)
		weight, isWeight := strings.CutPrefix(info.Name, caseWeight)
		switch {
		case isIn:
			c.inputs[in] = tensor
		case isWeight:
			weights[weight] = tensor
		case info.Name == caseExpected:
			c.want = tensor
		case info.Name == caseGot:
			c.got = tensor
		default:
			return nil, nil, fmt.Errorf("%s: tensor %q is not part of a test case", path, info.Name)
		}
	}
	if c.want == nil || c.got == nil || !slices.Equal(c.want.Shape, c.got.Shape) || len(c.got.Shape) != 2 || len(c.got.Data) == 0 {
		return nil, nil, fmt.Errorf("%s: not a test case: tensors %q and %q of one shape [rows, columns] are needed", path, caseExpected, caseGot)
	}
	if err := c.parse(text); err != nil {
		return nil, nil, fmt.Errorf("%s: tensor %q: %w", path, caseText, err)
	}
	return c, weights, nil
}

// toTensor returns a tensor of a file for the interpreter.
func toTensor(t checkpoint.Tensor) (*ir.Tensor, error) {
	d, ok := ir.ParseDType(strings.ToLower(string(t.DType)))
	if !ok || d != ir.I32 && !t.DType.IsWeight() {
		return nil, fmt.Errorf("dtype %s is not used in test cases", t.DType)
	}
	out := ir.NewTensor(d, slices.Clone(t.Shape)...)
	if d == ir.F16 {
		for i := range out.Data {
			out.Data[i] = float64(num.FromF16(binary.LittleEndian.Uint16(t.Data[2*i:])))
		}
		return out, nil
	}
	decode(d, out.Data, t.Data)
	return out, nil
}

// parse reads what text writes.
func (c *testCase) parse(text string) error {
	at := strings.Index(text, "graph @")
	if at < 0 {
		return fmt.Errorf("there is no graph")
	}
	var err error
	if c.local.graph, err = ir.Parse(text[at:]); err != nil {
		return err
	}
	for line := range strings.Lines(text[:at]) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		switch key {
		case "step":
			c.result.Name = value
		case "kernels":
			c.tier = value
		case "budget":
			if c.result.Budget, err = strconv.ParseFloat(value, 64); err == nil && !(c.result.Budget >= 0) {
				err = fmt.Errorf("budget %s is not a distance", value)
			}
		case "spec":
			c.spec, err = kernel.ParseSpec(value)
		case "plan":
			c.plan, err = kernel.ParsePlan(value)
		case "operand":
			operand, name, ok := strings.Cut(value, "=")
			if !ok {
				err = fmt.Errorf("%q is not operand=name", value)
			}
			c.args = append(c.args, program.Arg{Operand: program.Operand(operand), Name: name})
		default:
			err = fmt.Errorf("unknown fact %q", key)
		}
		if err != nil {
			return err
		}
	}
	return c.spec.Valid()
}
