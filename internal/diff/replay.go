package diff

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// This file owns the replay of a test case: through the interpreter of graphs, and through the
// interpreter of kernels, which does exactly what the plan says.

// Replayed is a test case that was run again. Each comparison is with the result of the float64
// interpreter as it is now.
type Replayed struct {
	Name, Kernels string
	Spec          kernel.Spec
	Plan          kernel.Plan // that of target "generic" for the portable kernels
	Expected      Step        // what the interpreter made when the case was written
	Recorded      Step        // what the kernel made then
	Interpreted   Step        // what the interpreter of kernels makes of the plan
}

// Replay evaluates a file that Run extracted, in float64 and by the interpreter of kernels. The
// kernel itself does not run: the file has its result.
func Replay(path string) (Replayed, error) {
	c, weights, err := readCase(path)
	if err != nil {
		return Replayed{}, err
	}
	r, err := c.replay(weights)
	if err != nil {
		return r, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// WriteText writes the three comparisons.
func (r Replayed) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "step %s on kernel set %s\nspec %s\nplan %s\n\n", r.Name, r.Kernels, r.Spec, r.Plan)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "against float64\t"+figureNames)
	for _, row := range []struct {
		what string
		Step
	}{
		{"float64 when the case was written", r.Expected},
		{"the kernel then", r.Recorded},
		{"the interpreter of kernels", r.Interpreted},
	} {
		fmt.Fprintf(t, "%s\t%s\n", row.what, row.figures())
	}
	t.Flush()
	_, err := io.WriteString(w, b.String())
	return err
}

func (c *testCase) replay(weights map[string]*ir.Tensor) (Replayed, error) {
	r := Replayed{Name: c.result.Name, Kernels: c.tier, Spec: c.spec, Plan: c.plan}
	if r.Plan == (kernel.Plan{}) {
		r.Plan, _ = kernel.Choose(c.spec, "generic")
	}
	if err := kernel.Check(r.Spec, r.Plan); err != nil {
		return r, err
	}
	for name, t := range weights {
		c.inputs[name] = t
	}
	// The operands of the kernel are values of the graph.
	wanted := map[*ir.Value]program.Operand{}
	for _, a := range c.args {
		if v := c.local.graph.Value(a.Name); v != nil && a.Operand != program.Dst {
			wanted[v] = a.Operand
		}
	}
	ops := map[program.Operand]*ir.Tensor{}
	theta := 0.0
	out, err := ir.Eval(c.local.graph, c.inputs, ir.WithObserver(func(v *ir.Value, t *ir.Tensor) {
		if o, ok := wanted[v]; ok {
			ops[o] = t
		}
		if a, ok := v.Attrs.(*ir.RopeAttrs); ok {
			theta = a.Theta
		}
	}))
	if err != nil {
		return r, err
	}
	want, budget := out[0], c.result.Budget
	if len(want.Data) != len(c.got.Data) || len(want.Shape) != 2 {
		return r, fmt.Errorf("the graph makes shape %v, the case has %v", want.Shape, c.got.Shape)
	}
	x := interpreter{kernel: kernel.Kernel{Spec: c.spec, Plan: r.Plan}, ops: ops, rows: want.Shape[0], theta: theta}
	if err := x.check(); err != nil {
		return r, err
	}
	result, err := x.run(c.inputs)
	if err != nil {
		return r, err
	}
	interpreted := ir.NewTensor(c.spec.Out, want.Shape...)
	if len(result) != len(interpreted.Data) {
		return r, fmt.Errorf("the kernel makes %d elements, the graph %d", len(result), len(interpreted.Data))
	}
	for i, v := range result {
		interpreted.Data[i] = float64(v)
	}
	r.Expected = measure(c.want, want, u32)
	r.Recorded = measure(c.got, want, budget)
	r.Interpreted = measure(interpreted, want, budget)
	return r, nil
}

// interpreter brings operands into the form that package kernel takes.
type interpreter struct {
	kernel kernel.Kernel
	ops    map[program.Operand]*ir.Tensor
	rows   int
	theta  float64
}

// maxPosition bounds the rotary tables that a case can ask for.
const maxPosition = 1 << 20

// check reports an operand that is missing or does not fit the Spec; package kernel checks the
// activations itself.
func (x interpreter) check() error {
	s := x.kernel.Spec
	for _, o := range program.Operands(s) {
		t := x.ops[o]
		switch o {
		case program.Dst, program.Cos, program.Sin, program.WScale:
			continue
		}
		if t == nil {
			return fmt.Errorf("operand %s of the kernel is not a value of the graph", o)
		}
		rows := s.N
		if s.Epilogue.Has(kernel.GLU) {
			rows *= 2
		}
		table := s.Kind == kernel.Gather && (o == program.W || o == program.Src)
		switch {
		case table && (len(t.Shape) != 2 || t.Shape[1] != s.K),
			!table && o == program.W && len(t.Data) != rows*s.K,
			o == program.BiasW && len(t.Data) != rows:
			return fmt.Errorf("operand %s has shape %v, which does not fit kernel %s", o, t.Shape, s)
		}
		for _, p := range t.Data {
			if o == program.Pos && (p < 0 || p > maxPosition) {
				return fmt.Errorf("position %v is out of range", p)
			}
		}
	}
	return nil
}

func (x interpreter) run(inputs map[string]*ir.Tensor) ([]float32, error) {
	k, s := x.kernel, x.kernel.Spec
	switch s.Kind {
	case kernel.Rowwise:
		return kernel.EvalRowwise(k, x.floats(program.Src), x.floats(program.Gamma), x.floats(program.Beta))
	case kernel.Attention:
		return x.attention(inputs["offsets"])
	case kernel.Gather:
		table := x.ops[program.W]
		if s.Activations {
			table = x.ops[program.Src]
		}
		rows := narrow(table)
		scales := x.codes(rows)
		return kernel.EvalGather(k, kernel.GatherInput{
			Index: x.ints(program.Index), Rows: table.Shape[0], Table: kernel.Pack(s.Table, rows, table.Shape...), Scale: scales,
			Pos: x.ints(program.Pos), PosTable: x.floats(program.PosTable),
		})
	}
	in := kernel.GemmInput{
		M: x.rows, X: x.floats(program.Src), Gamma: x.floats(program.Gamma), Beta: x.floats(program.Beta),
		Residual: x.floats(program.Res), Pos: x.ints(program.Pos),
	}
	w, rows := x.interleaved(program.W, s.K)
	if scales := x.codes(w); scales != nil {
		in.WScale = kernel.Pack(kernel.PadVector, scales, rows)
	}
	in.W = kernel.Pack(s.WeightLayout(), w, rows, s.K)
	if s.Epilogue.Has(kernel.Bias) {
		bias, rows := x.interleaved(program.BiasW, 1)
		in.Bias = kernel.Pack(kernel.PadVector, bias, rows)
	}
	if s.Epilogue.Has(kernel.Rope) {
		in.Cos, in.Sin = x.rope(in.Pos)
	}
	return kernel.EvalGemm(k, in)
}

// codes turns rows of weights into their codes and returns the scales, nil for a Spec without codes. The
// rows have the values of codes: they give the same codes again, and the scale but for its last bit.
func (x interpreter) codes(w []float32) (scales []float32) {
	if x.kernel.Spec.Weight != ir.I8 {
		return nil
	}
	for row := range slices.Chunk(w, x.kernel.Spec.K) {
		scales = append(scales, kernel.QuantizeWeights(row, row))
	}
	return scales
}

// attention interprets one sequence after another.
func (x interpreter) attention(offsets *ir.Tensor) ([]float32, error) {
	qkv, cols := x.floats(program.Src), x.kernel.Spec.QKVCols()
	if offsets == nil {
		return nil, fmt.Errorf("the case has no input \"offsets\"")
	}
	var out []float32
	for i := 1; i < len(offsets.Data); i++ {
		from, to := int(offsets.Data[i-1])*cols, int(offsets.Data[i])*cols
		if from < 0 || to < from || to > len(qkv) {
			return nil, fmt.Errorf("sequence %d is outside of the rows", i-1)
		}
		rows, err := kernel.EvalAttention(x.kernel, qkv[from:to])
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
	}
	return out, nil
}

func (x interpreter) floats(o program.Operand) []float32 {
	if x.ops[o] == nil {
		return nil
	}
	return narrow(x.ops[o])
}

func (x interpreter) ints(o program.Operand) []int32 {
	if x.ops[o] == nil {
		return nil
	}
	out := make([]int32, len(x.ops[o].Data))
	for i, v := range x.ops[o].Data {
		out[i] = int32(v)
	}
	return out
}

// interleaved returns a matrix or vector of the weight's rows, in recipe order: under GLU, groups
// of gate and up rows alternate, and the last group of each is filled up with zeros.
func (x interpreter) interleaved(o program.Operand, cols int) (data []float32, rows int) {
	s, src := x.kernel.Spec, x.floats(o)
	if !s.Epilogue.Has(kernel.GLU) {
		return src, s.WeightRows()
	}
	data = make([]float32, s.WeightRows()*cols)
	for half := range 2 {
		for n := range s.N {
			to := n/kernel.GLUWidth*2*kernel.GLUWidth + half*kernel.GLUWidth + n%kernel.GLUWidth
			copy(data[to*cols:(to+1)*cols], src[(half*s.N+n)*cols:])
		}
	}
	return data, s.WeightRows()
}

// rope returns the rotary tables up to the largest position; see program.Rope.
func (x interpreter) rope(pos []int32) (cos, sin []float32) {
	d, last := x.kernel.Spec.HeadDim, int32(0)
	for _, p := range pos {
		last = max(last, p)
	}
	for p := range last + 1 {
		for j := range d / 2 {
			angle := float64(p) * math.Pow(x.theta, -2*float64(j)/float64(d))
			cos, sin = append(cos, float32(math.Cos(angle))), append(sin, float32(math.Sin(angle)))
		}
	}
	return cos, sin
}

// narrow returns the elements of t in f32.
func narrow(t *ir.Tensor) []float32 {
	out := make([]float32, len(t.Data))
	for i, v := range t.Data {
		out[i] = float32(v)
	}
	return out
}
