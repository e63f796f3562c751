// Package amd64 emits kernels for x86-64 in Go assembly, through avo.
//
// Emit (this file) makes a Unit of the functions of one kernel. The kernels are in gemm.go,
// attention.go with softmax.go, rowwise.go and gather.go; they share the register tile of product.go or the
// tiles of amx.go, the prefetch of prefetch.go, the conversions of convert.go and the exponentials of exp.go.
// emit.go has the small vocabulary in which all of them are written, and vector.go what differs between
// 512-bit and 256-bit vectors.
// insts.go and encode.go are for the instructions that neither avo nor the Go assembler know.
//
// Rules for every function here: NOSPLIT, arguments behind one pointer that is never written
// through, VZEROUPPER before RET, and results of a row that do not depend on which other rows
// share the call.
package amd64

import (
	"fmt"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// Backend emits for one instruction-set tier.
type Backend struct{ target *kernel.Target }

var _ codegen.Backend = (*Backend)(nil)

// New returns the backend of the tier "amd64/avx512f".
func New() *Backend { return newTier("amd64/avx512f") }

// NewAVX2 returns the backend of the tier "amd64/avx2", for processors without AVX-512.
func NewAVX2() *Backend { return newTier("amd64/avx2") }

// NewVNNI returns the backend of the tier "amd64/avx512vnni", which multiplies quads of codes.
func NewVNNI() *Backend { return newTier("amd64/avx512vnni") }

// NewBF16 returns the backend of the tier "amd64/avx512bf16", which multiplies pairs of bf16.
func NewBF16() *Backend { return newTier("amd64/avx512bf16") }

// NewAMX returns the backend of the tier "amd64/amx", which multiplies tiles of bf16 or of codes.
func NewAMX() *Backend { return newTier("amd64/amx") }

func newTier(name string) *Backend {
	t, ok := kernel.LookupTarget(name)
	if !ok {
		panic("amd64: package kernel has no target " + name)
	}
	return &Backend{target: t}
}

// Target returns the tier.
func (b *Backend) Target() *kernel.Target { return b.target }

// instOf returns the instruction that the plan multiplies with.
func instOf(k kernel.Kernel) kernel.Inst {
	t, _ := kernel.LookupTarget(k.Plan.Target)
	i, _ := t.Inst(k.Plan.Inst)
	return i
}

// pairs reports whether the plan multiplies pairs of bf16, one at a time or in tiles: the packed
// rows are bf16 then.
func pairs(k kernel.Kernel) bool { return instOf(k).Pairs || tiled(k) && k.Spec.Math == ir.BF16 }

// tiled reports whether the plan multiplies tiles.
func tiled(k kernel.Kernel) bool { return instOf(k).Tile > 0 }

// emitters are the functions of a kernel by role (codegen.Func).
var emitters = map[string]func(*emitter, kernel.Kernel){
	"Prologue": gemmPrologue, "Block": gemmBlock,
	"PackQ": packQ, "PackKV": packKV, "Attend": attend, "Finish": finish,
	"Row": rowNorm, "Gather": gather,
}

// Emit returns the code of k; see codegen.Backend.
func (b *Backend) Emit(symbol string, k kernel.Kernel) (codegen.Unit, error) {
	return codegen.Emit(b.target, symbol, k, func(funcs []codegen.Func) (string, []string, error) {
		u := newUnit(symbol, b.target.Insts[0].Lanes)
		for _, f := range funcs {
			e := u.function(f)
			emitters[f.Role](e, k)
			e.ret()
			if e.err != nil {
				return "", nil, fmt.Errorf("%s: %w", f.Role, e.err)
			}
		}
		return u.text()
	})
}
