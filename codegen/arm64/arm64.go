// Package arm64 emits kernels for 64-bit Arm in Go assembly: NEON, and the products of bf16 and of
// 8-bit integers that a tier has.
//
// Emit (this file) makes a Unit of the functions of one kernel. The kernels are in gemm.go,
// attention.go with softmax.go, rowwise.go and gather.go; they share the register tile of product.go, the
// codes of 8 bits of codes.go, the conversions of convert.go and the exponential of exp.go. emit.go has the
// small vocabulary in which all of them are written: registers from a pool, no spilling, one method per
// instruction.
// insts.go is the table of vector instructions, encode.go turns a row into its word.
//
// Rules for every function here: NOSPLIT, no frame, arguments behind one pointer that is never
// written through, and results of a row that do not depend on which other rows share the call.
package arm64

import (
	"fmt"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/kernel"
)

// Backend emits for one instruction-set tier.
type Backend struct{ target *kernel.Target }

var _ codegen.Backend = (*Backend)(nil)

// New returns the backend of the tier "arm64/neon", which every 64-bit Arm processor runs.
func New() *Backend { return newTier("arm64/neon") }

// NewDotProd returns the backend of the tier "arm64/dotprod", which multiplies codes by SDOT.
func NewDotProd() *Backend { return newTier("arm64/dotprod") }

// NewBF16 returns the backend of the tier "arm64/bf16", which multiplies bf16 by BFMMLA and codes by
// SMMLA or SDOT.
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

// emitters are the functions of a kernel by role (codegen.Func).
var emitters = map[string]func(*emitter, kernel.Kernel){
	"Prologue": gemmPrologue, "Block": gemmBlock,
	"PackQ": packQ, "PackKV": packKV, "Attend": attend, "Finish": finish,
	"Row": rowNorm, "Gather": gather,
}

// Emit returns the code of k; see codegen.Backend.
func (b *Backend) Emit(symbol string, k kernel.Kernel) (codegen.Unit, error) {
	return codegen.Emit(b.target, symbol, k, func(funcs []codegen.Func) (string, []string, error) {
		u := newUnit(symbol, b.target.Features)
		for _, f := range funcs {
			e := u.function(f)
			emitters[f.Role](e, k)
			e.ret()
			if e.err != nil {
				return "", nil, fmt.Errorf("%s: %w", f.Role, e.err)
			}
		}
		asm, features := u.text()
		return asm, features, nil
	})
}
