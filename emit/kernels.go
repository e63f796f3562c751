package emit

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// Tier is one kernel set of the package: what a backend emits for one plan per kernel. A package
// may have several of one backend, which differ in their plans (the tuner makes such packages).
type Tier struct {
	Name    string
	Backend codegen.Backend
	Plans   []kernel.Plan // by index of Program.Kernels
}

// Tiers returns one tier for each backend, with the plans of the program. A tier is called what
// follows the architecture in the name of its target.
func Tiers(p *program.Program, backends []codegen.Backend) ([]Tier, error) {
	var tiers []Tier
	for _, b := range backends {
		target := b.Target().Name
		_, name, _ := strings.Cut(target, "/")
		t := Tier{Name: name, Backend: b}
		for _, k := range p.Kernels {
			plan, ok := k.Plan(target)
			if !ok {
				return nil, fmt.Errorf("emit: kernel %s has no plan for %s", k.Name, target)
			}
			t.Plans = append(t.Plans, plan)
		}
		tiers = append(tiers, t)
	}
	return tiers, nil
}

// kernelFiles returns, for each architecture, kernels_ARCH.s, its stubs and its table of tiers, and
// kernels_other.go with an empty table for all other architectures.
func kernelFiles(p *program.Program, tiers []Tier, o Options) ([]File, error) {
	byArch := map[string][]Tier{}
	var archs []string
	for _, t := range tiers {
		arch := t.Backend.Target().GOARCH
		if byArch[arch] == nil {
			archs = append(archs, arch)
		}
		byArch[arch] = append(byArch[arch], t)
	}
	var files []File
	var without []string
	for _, arch := range archs {
		asm, stubs, err := archFiles(p, byArch[arch], o)
		if err != nil {
			return nil, err
		}
		files = append(files, File{"kernels_" + arch + ".s", asm}, File{"kernels_" + arch + ".go", stubs})
		without = append(without, "!"+arch)
	}
	var b bytes.Buffer
	b.WriteString(header(o))
	if len(without) > 0 {
		fmt.Fprintf(&b, "//go:build %s\n\n", strings.Join(without, " && "))
	}
	fmt.Fprintf(&b, "package %s\n\nimport %q\n\n", o.Package, o.ImportPath+"/internal/rt")
	b.WriteString("// tiers is empty: this architecture runs the portable kernels.\nvar tiers []rt.Tier\n")
	return append(files, File{"kernels_other.go", b.Bytes()}), nil
}

func archFiles(p *program.Program, tiers []Tier, o Options) (asm, stubs []byte, err error) {
	var s, g, table bytes.Buffer
	s.WriteString(header(o))
	s.WriteString("#include \"textflag.h\"\n")
	g.WriteString(header(o))
	fmt.Fprintf(&g, "package %s\n\nimport %q\n\n", o.Package, o.ImportPath+"/internal/rt")
	table.WriteString("// tiers are the kernel sets of this architecture, best first. Implementations are in the order\n// of module.Kernels.\nvar tiers = []rt.Tier{\n")
	done := map[kernel.Kernel]string{}  // fields of rt.Impl
	code := map[string][]codegen.Func{} // by the text without names: tiers share what is the same
	for _, t := range tiers {
		target := t.Backend.Target()
		fmt.Fprintf(&table, "{Name: %q, Features: []string{%s}, ", t.Name, quoted(target.Features))
		if target.Avoid != nil {
			fmt.Fprintf(&table, "Avoid: []string{%s}, ", quoted(target.Avoid))
		}
		table.WriteString("Impls: []rt.Impl{\n")
		for i, k := range p.Kernels {
			one := kernel.Kernel{Spec: k.Spec, Plan: t.Plans[i]}
			if _, ok := done[one]; !ok {
				name := symbol(t.Name) + camel(k.Name)
				u, err := t.Backend.Emit(name, one)
				if err != nil {
					return nil, nil, fmt.Errorf("emit: kernel %s: %w", k.Name, err)
				}
				text := strings.ReplaceAll(u.Asm, name, "")
				funcs, shared := code[text]
				if !shared {
					funcs, code[text] = u.Funcs, u.Funcs
					fmt.Fprintf(&s, "\n// kernel %s: %s\n// plan %s\n%s", k.Name, k.Spec, one.Plan, u.Asm)
				}
				fields := fmt.Sprintf("MicroM: %d, BlockM: %d, BlockN: %d", one.Plan.MicroM, one.Plan.BlockM, one.Plan.BlockN)
				if k.Spec.Kind == kernel.Gemm {
					fields += fmt.Sprintf(", RowBytes: %d", one.RowBytes())
				}
				if inst, _ := target.Inst(one.Plan.Inst); inst.CallMACs > 0 {
					fields += fmt.Sprintf(", CallMACs: %d", inst.CallMACs)
				}
				for _, f := range funcs {
					if !shared {
						fmt.Fprintf(&g, "// %s %s\n//\n//go:noescape\nfunc %s(a *rt.%s)\n\n", f.Name, f.Doc, f.Name, f.Args)
					}
					fields += fmt.Sprintf(", %s: %s", f.Role, f.Name)
				}
				done[one] = fields
			}
			fmt.Fprintf(&table, "{%s}, // %s\n", done[one], k.Name)
		}
		table.WriteString("}},\n")
	}
	table.WriteString("}\n")
	g.Write(table.Bytes())
	return s.Bytes(), g.Bytes(), nil
}

// symbol makes an identifier of a tier's name.
func symbol(tier string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return -1
	}, tier)
}

func quoted(words []string) string {
	var q []string
	for _, w := range words {
		q = append(q, fmt.Sprintf("%q", w))
	}
	return strings.Join(q, ", ")
}

// camel turns "layer.0.gate_up" into "Layer0GateUp".
func camel(name string) string {
	var b strings.Builder
	up := true
	for _, r := range name {
		if r == '.' || r == '_' || r == '-' {
			up = true
			continue
		}
		if up && 'a' <= r && r <= 'z' {
			r -= 'a' - 'A'
		}
		up = false
		b.WriteRune(r)
	}
	return b.String()
}
