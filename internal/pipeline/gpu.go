package pipeline

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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
		u, err := gpuUnit(k)
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

// gpuUnit emits one kernel of a program.
func gpuUnit(k program.Kernel) (ptx.Unit, error) {
	plan, ok := k.Plan(ptx.TargetName)
	if !ok {
		return ptx.Unit{}, fmt.Errorf("kernel %s has no plan for %s", k.Name, ptx.TargetName)
	}
	return ptx.Emit(strings.ReplaceAll(k.Name, ".", "_"), kernel.Kernel{Spec: k.Spec, Plan: plan})
}

// PTX returns the module of a kernel of the program, or of all with an empty name.
func PTX(p *program.Program, name string) (string, error) {
	if name == "" {
		g, err := gpuCode(p)
		if err != nil {
			return "", err
		}
		return g.PTX, nil
	}
	k := p.Kernel(name)
	if k == nil {
		var names []string
		for _, k := range p.Kernels {
			names = append(names, k.Name)
		}
		return "", fmt.Errorf("--kernel %q: the program has no such kernel (kernels: %s)", name, strings.Join(names, ", "))
	}
	u, err := gpuUnit(*k)
	if err != nil {
		return "", err
	}
	return ptx.Module(u.PTX), nil
}

// SASS returns the machine code of a module as NVIDIA's ptxas and nvdisasm print it. Both must be on
// the path.
func SASS(ctx context.Context, module string) (string, error) {
	dir, err := os.MkdirTemp("", "bertc-*")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	source, cubin := filepath.Join(dir, "model.ptx"), filepath.Join(dir, "model.cubin")
	if err := os.WriteFile(source, []byte(module), 0o644); err != nil {
		return "", err
	}
	if out, err := exec.CommandContext(ctx, "ptxas", "-arch=sm_90a", "-O3", source, "-o", cubin).CombinedOutput(); err != nil {
		return "", fmt.Errorf("ptxas: %w: %s", err, out)
	}
	out, err := exec.CommandContext(ctx, "nvdisasm", "-c", cubin).Output()
	if err != nil {
		return "", fmt.Errorf("nvdisasm: %w", err)
	}
	return string(out), nil
}
