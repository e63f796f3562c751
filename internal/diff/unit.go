package diff

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

// This file owns what is known of a compile: its graph in groups, its program, and which value of
// the graph each operand of a step is.

type unit struct {
	graph   *ir.Graph // after form-groups: the group of a step has its name
	program *program.Program
	math    ir.DType
	// args are the operands of each step as choose-plans bound them: names of values of graph,
	// before memory planning joined buffers. Rotary tables have none.
	args map[string][]program.Arg
}

// open compiles the model into dir, or reads what o.Package was compiled to.
func open(ctx context.Context, o Options, dir string) (*unit, error) {
	u := &unit{math: o.Math, args: map[string][]program.Arg{}}
	if o.Package != "" {
		return u, u.read(ctx, o, dir)
	}
	if u.math == 0 {
		u.math = o.Model.DType()
	}
	c := pipeline.Options{Out: dir, Math: u.math, Observe: u.observe}
	switch {
	case gpu(o.A) || gpu(o.B):
		if err := pipeline.CheckGPU(u.math); err != nil {
			side, device := "--b", o.B
			if gpu(o.A) {
				side, device = "--a", o.A
			}
			return nil, fmt.Errorf("%s %s: %w", side, device, err)
		}
		c.Architectures = pipeline.WithGPU()
	case portable(o.A) && portable(o.B):
		c.Architectures = []string{}
	}
	r, err := pipeline.Compile(ctx, o.Model, c)
	u.program = r.Program
	return u, err
}

// portable reports whether a reference or kernel set needs no assembly.
func portable(name string) bool { return name == Eval || name == "portable" }

// gpu reports whether a kernel set is that of a GPU, or of the emulator of one.
func gpu(name string) bool {
	return name != pipeline.DeviceCPU && slices.Contains(pipeline.Devices(), name)
}

// planFile is the text of the program in a generated package.
const planFile = "plan.txt"

// read compiles the model as the package was and checks that the program is the same.
func (u *unit) read(ctx context.Context, o Options, dir string) error {
	file := filepath.Join(dir, planFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	plan, err := program.Parse(string(text))
	if err != nil {
		return fmt.Errorf("%s:%w", file, err)
	}
	po := passes.Options{Math: ir.F32, Observe: u.observe}
	for _, math := range []ir.DType{ir.BF16, ir.I8} { // i8 has both
		if slices.ContainsFunc(plan.Kernels, func(k program.Kernel) bool { return k.Spec.Math == math }) {
			po.Math = math
		}
	}
	if u.math != 0 && u.math != po.Math {
		return fmt.Errorf("%s: the package was compiled with %s products, not %s", dir, pipeline.DTypeName(po.Math), pipeline.DTypeName(u.math))
	}
	u.math = po.Math
	if len(plan.Kernels) > 0 {
		for _, p := range plan.Kernels[0].Plans {
			po.Targets = append(po.Targets, p.Target)
		}
	}
	po.Plans = func(s kernel.Spec, target string) (p kernel.Plan, from string, ok bool) {
		for _, k := range plan.Kernels {
			for i, p := range k.Plans {
				if k.Spec == s && p.Target == target {
					return p, k.PlanFrom(i), true
				}
			}
		}
		return p, "", false
	}
	if u.program, err = o.Model.Program(po); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if line := difference(text, []byte(u.program.String())); line > 0 {
		return fmt.Errorf("%s:%d: the package was not compiled from model %s by this version of bertc", file, line, o.Model.Name)
	}
	return o.Model.CheckPackage(ctx, dir)
}

// difference returns the first line, from 1, in which two texts differ, 0 for none.
func difference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	x, y := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(x), len(y)) {
		if !bytes.Equal(x[i], y[i]) {
			return i + 1
		}
	}
	return min(len(x), len(y)) + 1
}

// observe keeps what later passes overwrite.
func (u *unit) observe(p passes.Pass, s *passes.State, _ time.Duration) {
	u.graph = s.Graph
	if p.Name == "choose-plans" {
		for _, step := range s.Program.Steps {
			u.args[step.Name] = slices.Clone(step.Args)
		}
	}
}

// inputs returns the values that the caller gives a batch.
func (u *unit) inputs(b pipeline.Batch, rows []int32) map[string]*ir.Tensor {
	known := map[string]*ir.Tensor{}
	given := map[string][]int32{"ids": b.IDs, "positions": b.Positions, "offsets": b.Offsets, "rows": rows}
	for _, v := range u.graph.Inputs() {
		data := given[v.Attrs.(*ir.SourceAttrs).Name]
		t := ir.NewTensor(ir.I32, len(data))
		for i, x := range data {
			t.Data[i] = float64(x)
		}
		known[v.Name] = t
	}
	return known
}

// uses counts the groups that read each value.
func (u *unit) uses() map[string]int {
	uses := map[string]int{}
	for v, users := range u.graph.Users() {
		uses[v.Name] = len(users)
	}
	return uses
}

// plan returns the plan of a kernel for a kernel set. The portable kernels follow none.
func (u *unit) plan(name, tier string) (kernel.Plan, bool) {
	for _, p := range u.program.Kernel(name).Plans {
		if _, t, _ := strings.Cut(p.Target, "/"); t == tier {
			return p, true
		}
	}
	return kernel.Plan{}, false
}
