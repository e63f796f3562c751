package pipeline

import (
	"fmt"
	"strings"

	"github.com/bertc/bertc/codegen/ptx"
	"github.com/bertc/bertc/emit"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// This file owns emitting a program for the GPU.

// gpuCode emits the kernels of a program as one PTX text and its launch table.
func gpuCode(p *program.Program) (*emit.GPU, error) {
	g := &emit.GPU{}
	var entries []string
	for _, k := range p.Kernels {
		plan, ok := k.Plan(ptx.TargetName)
		if !ok {
			return nil, fmt.Errorf("kernel %s has no plan for %s", k.Name, ptx.TargetName)
		}
		u, err := ptx.Emit(strings.ReplaceAll(k.Name, ".", "_"), kernel.Kernel{Spec: k.Spec, Plan: plan})
		if err != nil {
			return nil, err
		}
		entries = append(entries, u.PTX)
		g.Program.Kernels = append(g.Program.Kernels, u.Kernel)
	}
	if b := p.Buffer("logits"); b != nil {
		u := ptx.TopK("top_k", b.Cols())
		entries = append(entries, u.PTX)
		g.Program.TopK = u.Kernel
	}
	g.PTX = ptx.Module(entries...)
	return g, nil
}
