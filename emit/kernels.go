package emit

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// kernelFiles returns, for each architecture, kernels_ARCH.s, its stubs and its table of tiers, and
// kernels_other.go with an empty table for all other architectures.
func kernelFiles(p *program.Program, backends []codegen.Backend, o Options) ([]File, error) {
	byArch := map[string][]codegen.Backend{}
	var archs []string
	for _, b := range backends {
		arch := b.Target().GOARCH
		if byArch[arch] == nil {
			archs = append(archs, arch)
		}
		byArch[arch] = append(byArch[arch], b)
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

func archFiles(p *program.Program, backends []codegen.Backend, o Options) (asm, stubs []byte, err error) {
	var s, g, table bytes.Buffer
	s.WriteString(header(o))
	s.WriteString("#include \"textflag.h\"\n")
	g.WriteString(header(o))
	fmt.Fprintf(&g, "package %s\n\nimport %q\n\n", o.Package, o.ImportPath+"/internal/rt")
	table.WriteString("// tiers are the kernel sets of this architecture, best first. Implementations are in the order\n// of module.Kernels.\nvar tiers = []rt.Tier{\n")
	for _, b := range backends {
		t := b.Target()
		_, tier, _ := strings.Cut(t.Name, "/")
		fmt.Fprintf(&table, "{Name: %q, Features: []string{%s}, Impls: []rt.Impl{\n", tier, quoted(t.Features))
		for _, k := range p.Kernels {
			plan, ok := k.Plan(t.Name)
			if !ok {
				return nil, nil, fmt.Errorf("emit: kernel %s has no plan for %s", k.Name, t.Name)
			}
			symbol := tier + camel(k.Name)
			u, err := b.Emit(symbol, kernel.Kernel{Spec: k.Spec, Plan: plan})
			if err != nil {
				return nil, nil, fmt.Errorf("emit: kernel %s: %w", k.Name, err)
			}
			fmt.Fprintf(&s, "\n// kernel %s: %s\n// plan %s\n%s", k.Name, k.Spec, plan, u.Asm)
			fmt.Fprintf(&table, "{MicroM: %d, BlockM: %d, BlockN: %d", plan.MicroM, plan.BlockM, plan.BlockN)
			for _, f := range u.Funcs {
				fmt.Fprintf(&g, "// %s %s\n//\n//go:noescape\nfunc %s(a *rt.%s)\n\n", f.Name, f.Doc, f.Name, f.Args)
				fmt.Fprintf(&table, ", %s: %s", f.Role, f.Name)
			}
			fmt.Fprintf(&table, "}, // %s\n", k.Name)
		}
		table.WriteString("}},\n")
	}
	table.WriteString("}\n")
	g.Write(table.Bytes())
	return s.Bytes(), g.Bytes(), nil
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
