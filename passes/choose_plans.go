package passes

import (
	"fmt"
	"regexp"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// layerPrefix is what the names of one layer's values begin with; a kernel is named without it.
var layerPrefix = regexp.MustCompile(`^layer\.\d+\.`)

func choosePlans(s *State) error {
	g := s.Graph
	p := &program.Program{Name: g.Name, Symbols: g.Symbols}
	s.bound = map[*ir.Value]binding{}
	matmulWeights := map[*ir.Value]bool{}
	for _, v := range g.Values {
		if v.Op.Kind != ir.Group {
			continue
		}
		b, err := bind(v)
		if err != nil {
			return err
		}
		s.bound[v] = b
		if b.spec.Kind == kernel.Gemm {
			matmulWeights[b.args[program.W]] = true
		}
	}
	outputs := map[*ir.Value]bool{}
	for _, o := range g.Outputs {
		outputs[o] = true
	}
	for _, v := range g.Values {
		role := program.Temp
		switch {
		case v.Op.Name == "input":
			role = program.Input
		case outputs[v]:
			role = program.Output
		case v.Op.Kind != ir.Group:
			continue
		}
		if v.Op.Name == "input" && v.Name == "offsets" {
			continue // read by the loop around attention, not by kernels
		}
		p.Buffers = append(p.Buffers, program.Buffer{Name: v.Name, Role: role, Type: v.Type, Offset: -1})
		b, ok := s.bound[v]
		if !ok {
			continue
		}
		// A table that a matmul reads too keeps the matmul's layout: one copy in the file.
		if b.spec.Kind == kernel.Gather && matmulWeights[b.args[program.W]] {
			b.spec.Table = kernel.Spec{Kind: kernel.Gemm, Weight: b.spec.Weight}.WeightLayout()
			s.bound[v] = b
		}
		name, err := addKernel(p, layerPrefix.ReplaceAllString(v.Name, ""), b.spec, s.Options)
		if err != nil {
			return err
		}
		step := program.Step{Name: v.Name, Kernel: name}
		for _, o := range program.Operands(b.spec) {
			a := program.Arg{Operand: o}
			switch {
			case o == program.Dst:
				a.Name = v.Name
			case b.args[o] != nil:
				a.Name = b.args[o].Name
			}
			step.Args = append(step.Args, a)
		}
		p.Steps = append(p.Steps, step)
	}
	s.Program = p
	return nil
}

// addKernel returns the name of the kernel for spec, which it adds when p has none.
func addKernel(p *program.Program, name string, spec kernel.Spec, o Options) (string, error) {
	for _, k := range p.Kernels {
		if k.Spec == spec {
			return k.Name, nil
		}
	}
	for base, n := name, 2; p.Kernel(name) != nil; n++ {
		name = fmt.Sprintf("%s_%d", base, n)
	}
	k := program.Kernel{Name: name, Spec: spec}
	for _, target := range o.Targets {
		plan, from, ok := kernel.Plan{}, "", false
		if o.Plans != nil {
			plan, from, ok = o.Plans(spec, target)
		}
		if !ok {
			if plan, ok = kernel.Choose(spec, target); !ok {
				return "", fmt.Errorf("%s: no legal plan for %s", spec, target)
			}
		}
		if err := kernel.Check(spec, plan); err != nil {
			return "", err
		}
		k.Plans, k.From = append(k.Plans, plan), append(k.From, from)
	}
	p.Kernels = append(p.Kernels, k)
	return name, nil
}
