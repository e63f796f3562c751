package amd64

import (
	"fmt"
	"math"
	"slices"

	asm "github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"
)

// This file owns the width of vectors: ZMM registers with mask registers and broadcast operands
// (AVX-512), or YMM registers with neither (AVX2, in VEX encoding). Where the instructions of the
// two differ by name or form only, the kernels are written once, with what is here.

// wide reports whether vectors have 512 bits.
func (e *emitter) wide() bool { return e.lanes == 16 }

// vec returns a new vector register.
func (e *emitter) vec() reg.VecVirtual {
	if e.wide() {
		return e.ZMM()
	}
	return e.YMM()
}

// vecBytes is the size of a vector.
func (e *emitter) vecBytes() int { return 4 * e.lanes }

type instr3 = func(ops ...operand.Op) (*asm.Instruction, error)

// op is an instruction with two sources. one is the form whose first source is one element of
// memory for all lanes.
type op struct{ narrow, wide, one instr3 }

var (
	addPS   = op{x86.VADDPS, x86.VADDPS, x86.VADDPS_BCST}
	mulPS   = op{x86.VMULPS, x86.VMULPS, x86.VMULPS_BCST}
	divPS   = op{x86.VDIVPS, x86.VDIVPS, x86.VDIVPS_BCST}
	fma213  = op{x86.VFMADD213PS, x86.VFMADD213PS, x86.VFMADD213PS_BCST}
	fnma231 = op{x86.VFNMADD231PS, x86.VFNMADD231PS, x86.VFNMADD231PS_BCST}
	addD    = op{x86.VPADDD, x86.VPADDD, x86.VPADDD_BCST}
	and     = op{three(x86.VPAND), x86.VPANDD, x86.VPANDD_BCST}
	andNot  = op{narrow: three(x86.VPANDN)} // first source without the bits of the second
	xor     = op{three(x86.VPXOR), x86.VPXORD, x86.VPXORD_BCST}
)

func three(f func(a, b, c operand.Op) (*asm.Instruction, error)) instr3 {
	return func(ops ...operand.Op) (*asm.Instruction, error) { return f(ops[0], ops[1], ops[2]) }
}

// op appends o.
func (e *emitter) op(o op, ops ...operand.Op) {
	if e.wide() {
		e.do(o.wide(ops...))
	} else {
		e.do(o.narrow(ops...))
	}
}

// opConst appends o with a constant for all lanes as its first source.
func (e *emitter) opConst(o op, word uint32, ops ...operand.Op) {
	if e.wide() {
		e.do(o.one(slices.Insert(ops, 0, operand.Op(e.words(word)))...))
		return
	}
	all := slices.Repeat([]uint32{word}, e.lanes)
	e.do(o.narrow(slices.Insert(ops, 0, operand.Op(e.words(all...)))...))
}

// opOne appends o with one element of memory for all lanes as its first source.
func (e *emitter) opOne(o op, m operand.Mem, ops ...operand.Op) {
	if e.wide() {
		e.do(o.one(slices.Insert(ops, 0, operand.Op(m))...))
		return
	}
	x := e.vec()
	e.do(x86.VBROADCASTSS(m, x))
	e.do(o.narrow(slices.Insert(ops, 0, operand.Op(x))...))
}

func bits(x float64) uint32 { return math.Float32bits(float32(x)) }

// zero clears x. That does not read it, which avo knows of VPXOR and not of VPXORD.
func (e *emitter) zero(x reg.Register) {
	clear := xor.narrow
	if e.wide() {
		clear = xor.wide
	}
	i, err := clear(x, x, x)
	if err == nil {
		i.CancellingInputs = true
	}
	e.do(i, err)
}

// loadWords sets x to constants, one for each lane.
func (e *emitter) loadWords(w []uint32, x reg.Register) {
	if e.wide() {
		e.do(x86.VMOVDQU32(e.words(w...), x))
	} else {
		e.do(x86.VMOVDQU(e.words(w...), x))
	}
}

// lanesTo is a vector of lane·by + first.
func (e *emitter) lanesTo(first, by int) []uint32 {
	w := make([]uint32, e.lanes)
	for i := range w {
		w[i] = uint32(first + i*by)
	}
	return w
}

// mask says which lanes of a vector exist: the first n, or all of them in the zero mask.
type mask struct {
	n int
	k reg.Register // with those bits set, where there are mask registers
}

func (m mask) all() bool { return m.n == 0 }

// mask returns the mask of the first n lanes.
func (e *emitter) mask(n int) mask {
	if n == e.lanes {
		return mask{}
	}
	m := mask{n: n}
	if e.wide() {
		m.k = e.K()
		r := e.GP32()
		e.do(x86.MOVL(operand.U32(1<<n-1), r))
		e.do(x86.KMOVW(r, m.k))
	}
	return m
}

// tail returns the mask of the last vector of n elements.
func (e *emitter) tail(n int) mask { return e.mask((n-1)%e.lanes + 1) }

// laneMask is the address of a vector with all bits of the first n lanes set.
func (e *emitter) laneMask(n int) operand.Mem {
	w := make([]uint32, e.lanes)
	for i := range n {
		w[i] = math.MaxUint32
	}
	return e.words(w...)
}

// subKeep sets x to x − y in the lanes of a mask, and to zero in the others.
func (e *emitter) subKeep(y, x reg.Register, m mask) {
	switch {
	case m.all():
		e.do(x86.VSUBPS(y, x, x))
	case e.wide():
		e.do(x86.VSUBPS_Z(y, x, m.k, x))
	default:
		e.do(x86.VSUBPS(y, x, x))
		e.do(x86.VANDPS(e.laneMask(m.n), x, x))
	}
}

// gatherWords loads the 32-bit words whose addresses m's vector index gives, under a mask. It
// uses up k, of newGatherMask.
func (e *emitter) gatherWords(m operand.Mem, only mask, k, x reg.Register) {
	switch {
	case e.wide() && only.all():
		e.do(x86.KXNORW(k, k, k))
	case e.wide():
		e.do(x86.KMOVW(only.k, k))
	case only.all():
		e.do(x86.VPCMPEQD(k, k, k))
	default:
		e.do(x86.VMOVUPS(e.laneMask(only.n), k))
	}
	e.zero(x)
	if e.wide() {
		e.do(x86.VPGATHERDD(m, k, x))
	} else {
		e.do(x86.VPGATHERDD(k, m, x))
	}
}

func (e *emitter) newGatherMask() reg.Register {
	if e.wide() {
		return e.K()
	}
	return e.vec()
}

// vexOnly is a pass of the narrow tier: it fails on what takes EVEX. avo gives out vector
// registers above 15 when those below are in use, and the Go assembler then picks the encoding
// that a processor without AVX-512 does not have.
func vexOnly(fn *asm.Function) error {
	for _, i := range fn.Instructions() {
		if len(i.Suffixes) > 0 {
			return fmt.Errorf("%s takes EVEX", i.Opcode)
		}
		for _, r := range i.Registers() {
			switch {
			case r.Kind() == reg.KindOpmask,
				r.Kind() == reg.KindVector && (r.Size() > 32 || registerNumber(r) > 15):
				return fmt.Errorf("%s takes EVEX", i.Opcode)
			}
		}
	}
	return nil
}
