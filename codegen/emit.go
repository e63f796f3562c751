package codegen

import (
	"fmt"
	"slices"

	"github.com/bertc/bertc/kernel"
)

// This file owns what emitting a kernel is for every backend: which functions a kind of kernel
// has, and the checks around a backend's own work.

// functions are the functions of each kind; a Name is completed by the symbol of a unit.
var functions = map[kernel.Kind][]Func{
	kernel.Gemm: {
		{Role: "Prologue", Args: "GemmArgs", Doc: "packs rows of the left factor"},
		{Role: "Block", Args: "GemmArgs", Doc: "multiplies packed rows by weight panels and applies the epilogue"},
	},
	kernel.Attention: {
		{Role: "PackQ", Args: "AttentionArgs", Doc: "packs and scales queries"},
		{Role: "PackKV", Args: "AttentionArgs", Doc: "packs a block of keys and values"},
		{Role: "Attend", Args: "AttentionArgs", Doc: "does one step of the online softmax"},
		{Role: "Finish", Args: "AttentionArgs", Doc: "writes the weighted means of the values"},
	},
	kernel.Rowwise: {{Role: "Row", Args: "RowArgs", Doc: "normalises rows"}},
	kernel.Gather:  {{Role: "Gather", Args: "GatherArgs", Doc: "reads rows of a table by index"}},
}

// Emit makes the unit of k for target t: it checks the plan, has write make the text of the
// functions, and checks that the features which the text needs are those of the tier.
func Emit(t *kernel.Target, symbol string, k kernel.Kernel, write func([]Func) (asm string, features []string, err error)) (Unit, error) {
	fail := func(err error) (Unit, error) {
		return Unit{}, fmt.Errorf("emit %s for %s: %w", symbol, t.Name, err)
	}
	if k.Plan.Target != t.Name {
		return fail(fmt.Errorf("plan is for target %q", k.Plan.Target))
	}
	if err := kernel.Check(k.Spec, k.Plan); err != nil {
		return fail(err)
	}
	u := Unit{Funcs: slices.Clone(functions[k.Spec.Kind])}
	for i := range u.Funcs {
		u.Funcs[i].Name = symbol + u.Funcs[i].Role
	}
	var err error
	if u.Asm, u.Features, err = write(u.Funcs); err != nil {
		return fail(err)
	}
	for _, f := range u.Features {
		if !slices.Contains(t.Features, f) {
			return fail(fmt.Errorf("code needs CPU feature %s, which the tier lacks", f))
		}
	}
	return u, nil
}
