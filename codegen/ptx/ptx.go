// Package ptx emits kernels for NVIDIA H100 (sm_90a) as PTX text, and the launch table that goes
// with them (runtime/cuda). It has no assembler and no driver: package emu runs its text anywhere.
//
// Emit (this file) makes a Unit of the entries of one kernel. asm.go has the small vocabulary in
// which all of them are written. Every size of a Spec is a constant of the text; row counts are read
// from device memory, so that one launch of a graph serves many of them.
package ptx

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// TargetName is the target of this package in package kernel.
const TargetName = "ptx/sm90a"

// Unit is the code of one kernel.
type Unit struct {
	// PTX are the entries, without the header of a module.
	PTX string
	// Kernel is how they are launched.
	Kernel cuda.Kernel
}

// part is one launch and the entry that it starts.
type part struct {
	entry  *entry
	launch cuda.Launch
}

// variant is the launches for at most maxRows rows, 0 for any number.
type variant struct {
	maxRows int
	parts   []part
}

// emitters make the variants of a kernel, by kind and instruction. symbol prefixes every entry.
var emitters = map[[2]string]func(symbol string, k kernel.Kernel) []variant{
	{string(kernel.Gemm), "wgmma"}:         wgmmaGemms,
	{string(kernel.Gemm), "mma.sync"}:      gemm,
	{string(kernel.Attention), "wgmma"}:    flashAttention,
	{string(kernel.Attention), "mma.sync"}: attention,
	{string(kernel.Rowwise), ""}:           rowwise,
	{string(kernel.Gather), ""}:            gather,
}

// Emit returns the code of k. It fails when k.Plan is not legal for k.Spec and this target. Equal
// arguments give equal text.
func Emit(symbol string, k kernel.Kernel) (Unit, error) {
	fail := func(err error) (Unit, error) {
		return Unit{}, fmt.Errorf("emit %s for %s: %w", symbol, TargetName, err)
	}
	if k.Plan.Target != TargetName {
		return fail(fmt.Errorf("plan is for target %q", k.Plan.Target))
	}
	if err := kernel.Check(k.Spec, k.Plan); err != nil {
		return fail(err)
	}
	make, ok := emitters[[2]string{string(k.Spec.Kind), k.Plan.Inst}]
	if !ok {
		return fail(fmt.Errorf("no %s by %s", k.Spec.Kind, k.Plan.Inst))
	}
	var u Unit
	var b strings.Builder
	fmt.Fprintf(&b, "// %s\n// %s\n", k.Spec, k.Plan)
	for _, v := range make(symbol, k) {
		out := cuda.Variant{MaxRows: v.maxRows}
		for _, p := range v.parts {
			if p.entry.err != nil {
				return fail(p.entry.err)
			}
			b.WriteString(p.entry.text())
			out.Launches = append(out.Launches, p.launch)
			if slices.ContainsFunc(p.launch.Params, func(p cuda.Param) bool { return p.Kind == cuda.ParamStats && p.Operand == cuda.OperandDst }) {
				u.Kernel.StatsCols = statsCols
			}
		}
		u.Kernel.Variants = append(u.Kernel.Variants, out)
	}
	u.PTX = b.String()
	return u, nil
}

// Module returns the text of a module of entries: what a driver loads and an assembler takes. The
// version is the lowest that has every instruction in use, so that old drivers take it.
func Module(entries ...string) string {
	return ".version 8.0\n.target sm_90a\n.address_size 64\n\n.extern .shared .align 1024 .b8 smem[];\n\n" + strings.Join(entries, "\n")
}
