// Package amd64 emits kernels for x86-64 in Go assembly, through avo.
//
// Emit (this file) makes a Unit of the functions of one kernel. The kernels are in gemm.go,
// attention.go, rowwise.go and gather.go; they share the register tile of product.go, the
// conversions of convert.go and the exponential of exp.go. emit.go has the small vocabulary in
// which all of them are written, and vector.go what differs between 512-bit and 256-bit vectors.
// insts.go and encode.go are for the instructions that neither avo nor the Go assembler know.
//
// Rules for every function here: NOSPLIT, arguments behind one pointer that is never written
// through, VZEROUPPER before RET, and results of a row that do not depend on which other rows
// share the call.
package amd64

import (
	"fmt"
	"slices"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/kernel"
)

// Backend emits for one instruction-set tier.
type Backend struct{ target *kernel.Target }

var _ codegen.Backend = (*Backend)(nil)

// New returns the backend of the tier "amd64/avx512f".
func New() *Backend { return newTier("amd64/avx512f") }

// NewAVX2 returns the backend of the tier "amd64/avx2", for processors without AVX-512.
func NewAVX2() *Backend { return newTier("amd64/avx2") }

// NewBF16 returns the backend of the tier "amd64/avx512bf16", which multiplies pairs of bf16.
func NewBF16() *Backend { return newTier("amd64/avx512bf16") }

func newTier(name string) *Backend {
	t, ok := kernel.LookupTarget(name)
	if !ok {
		panic("amd64: package kernel has no target " + name)
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

// pairs reports whether the plan multiplies pairs of bf16: the packed rows are bf16 then, in the
// first half of the space that f32 rows would take.
func pairs(k kernel.Kernel) bool {
	t, _ := kernel.LookupTarget(k.Plan.Target)
	i, _ := t.Inst(k.Plan.Inst)
	return i.Pairs
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
	u := newUnit(symbol, b.target.Insts[0].Lanes)
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
	var err error
	if unit.Asm, unit.Features, err = u.text(); err != nil {
		return fail(err)
	}
	for _, f := range unit.Features {
		if !slices.Contains(b.target.Features, f) {
			return fail(fmt.Errorf("code needs CPU feature %s, which the tier lacks", f))
		}
	}
	return unit, nil
}
