// Package arm64 emits kernels for 64-bit Arm in Go assembly: NEON, and BF16 where a tier has it.
//
// Emit (this file) makes a Unit of the functions of one kernel. The kernels are in gemm.go,
// attention.go, rowwise.go and gather.go; they share the register tile of product.go, the
// conversions of convert.go and the exponential of exp.go. emit.go has the small vocabulary in
// which all of them are written: registers from a pool, no spilling, one method per instruction.
// insts.go is the table of vector instructions, encode.go turns a row into its word.
//
// Rules for every function here: NOSPLIT, no frame, arguments behind one pointer that is never
// written through, and results of a row that do not depend on which other rows share the call.
package arm64

import (
	"fmt"
	"slices"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/kernel"
)

// Backend emits for one instruction-set tier.
type Backend struct{ target *kernel.Target }

var _ codegen.Backend = (*Backend)(nil)

// New returns the backend of the tier "arm64/neon", which every 64-bit Arm processor runs.
func New() *Backend { return newTier("arm64/neon") }

// NewBF16 returns the backend of the tier "arm64/bf16", which multiplies bf16 by BFMMLA.
func NewBF16() *Backend { return newTier("arm64/bf16") }

func newTier(name string) *Backend {
	t, ok := kernel.LookupTarget(name)
	if !ok {
		panic("arm64: package kernel has no target " + name)
	}
	return &Backend{target: t}
}

// Target returns the tier.
func (b *Backend) Target() *kernel.Target { return b.target }

// role is one function that a kind of kernel has.
type role struct {
	name, args, doc string
	emit            func(*emitter, kernel.Kernel)
}

var roles = map[kernel.Kind][]role{
	kernel.Gemm: {
		{"Prologue", "GemmArgs", "packs rows of the left factor", gemmPrologue},
		{"Block", "GemmArgs", "multiplies packed rows by weight panels and applies the epilogue", gemmBlock},
	},
	kernel.Attention: {
		{"PackQ", "AttentionArgs", "packs and scales queries", packQ},
		{"PackKV", "AttentionArgs", "packs a block of keys and values", packKV},
		{"Attend", "AttentionArgs", "does one step of the online softmax", attend},
		{"Finish", "AttentionArgs", "writes the weighted means of the values", finish},
	},
	kernel.Rowwise: {{"Row", "RowArgs", "normalises rows", rowNorm}},
	kernel.Gather:  {{"Gather", "GatherArgs", "reads rows of a table by index", gather}},
}

// Emit returns the code of k; see codegen.Backend.
func (b *Backend) Emit(symbol string, k kernel.Kernel) (codegen.Unit, error) {
	fail := func(err error) (codegen.Unit, error) {
		return codegen.Unit{}, fmt.Errorf("emit %s for %s: %w", symbol, b.target.Name, err)
	}
	if k.Plan.Target != b.target.Name {
		return fail(fmt.Errorf("plan is for target %q", k.Plan.Target))
	}
	if err := kernel.Check(k.Spec, k.Plan); err != nil {
		return fail(err)
	}
	u := newUnit(symbol, b.target.Features)
	var unit codegen.Unit
	for _, r := range roles[k.Spec.Kind] {
		f := codegen.Func{Name: symbol + r.name, Role: r.name, Args: r.args, Doc: r.doc}
		e := u.function(f)
		r.emit(e, k)
		e.ret()
		if e.err != nil {
			return fail(fmt.Errorf("%s: %w", r.name, e.err))
		}
		unit.Funcs = append(unit.Funcs, f)
	}
	unit.Asm, unit.Features = u.text()
	for _, f := range unit.Features {
		if !slices.Contains(b.target.Features, f) {
			return fail(fmt.Errorf("code needs CPU feature %s, which the tier lacks", f))
		}
	}
	return unit, nil
}
