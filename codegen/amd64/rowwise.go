package amd64

import (
	"unsafe"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns the norm of rows: the rowwise kernel, and the prologue of a matmul, which
// differ in what they write.

var rowArgs rt.RowArgs

// rows is a loop over rows that are read, normalised, rounded to a type and written.
type rows struct {
	spec     kernel.Spec
	count    uintptr // offset of Rows in the arguments
	src, dst reg.Register
	gamma    reg.Register // nil without a norm
	beta     reg.Register // nil without one
	round    ir.DType     // rounded to this before it is written
	out      ir.DType
	pad      int // zeros are written from K up to this column
	codes    int // bytes of a code, where rows are quantised (codes.go); 0 otherwise
	// next moves src and dst to the next row.
	next func()
}

func rowNorm(e *emitter, k kernel.Kernel) {
	r := rows{spec: k.Spec, count: unsafe.Offsetof(rowArgs.Rows), round: ir.F32, out: k.Spec.Out, pad: k.Spec.K,
		src: e.arg(unsafe.Offsetof(rowArgs.Src)), dst: e.arg(unsafe.Offsetof(rowArgs.Dst)),
		gamma: e.arg(unsafe.Offsetof(rowArgs.Gamma))}
	if k.Spec.Beta {
		r.beta = e.arg(unsafe.Offsetof(rowArgs.Beta))
	}
	r.next = func() {
		e.do(x86.ADDQ(e.field(unsafe.Offsetof(rowArgs.SrcStride)), r.src))
		e.do(x86.ADDQ(e.field(unsafe.Offsetof(rowArgs.DstStride)), r.dst))
	}
	e.rows(r)
}

func gemmPrologue(e *emitter, k kernel.Kernel) {
	s := k.Spec
	r := rows{spec: s, count: unsafe.Offsetof(gemmArgs.Rows), round: s.Math, out: ir.F32, pad: s.KPad(),
		src: e.arg(unsafe.Offsetof(gemmArgs.Src)), dst: e.arg(unsafe.Offsetof(gemmArgs.A))}
	if pairs(k) {
		r.round, r.out = ir.F32, ir.BF16 // storing rounds
	}
	if s.Math == ir.I8 {
		r.codes = instOf(k).CodeBytes
	}
	if s.Prologue != kernel.NoPrologue {
		r.gamma = e.arg(unsafe.Offsetof(gemmArgs.Gamma))
	}
	if s.Beta {
		r.beta = e.arg(unsafe.Offsetof(gemmArgs.Beta))
	}
	r.next = func() {
		e.do(x86.ADDQ(e.field(unsafe.Offsetof(gemmArgs.SrcStride)), r.src))
		e.addImm(k.RowBytes(), r.dst)
	}
	e.rows(r)
}

// sums is the number of accumulators of 16 lanes of a sum over a row. They and the order in which
// they are added are fixed, so the sum depends on the row alone.
const sums = 4

func (e *emitter) rows(r rows) {
	s := r.spec
	tail := e.tail(s.K)
	parts := 16 / e.lanes // registers of an accumulator
	var acc []reg.VecVirtual
	for range sums * parts {
		acc = append(acc, e.vec())
	}
	x, t, mean, scale := e.vec(), e.vec(), e.vec(), e.vec()
	load := func(i reg.Register, offset int, m mask) {
		e.loadVec(s.In, at(r.src, i, offset, s.In.Size()), m, x)
	}
	// total sets acc[0] to Σ term / K, in all lanes. term gets x and adds to its accumulator.
	total := func(term func(acc reg.Register, m mask)) {
		for _, a := range acc {
			e.zero(a)
		}
		e.vectors(s.K, sums*parts, tail, func(i reg.Register, offset, copy int, m mask) {
			load(i, offset, m)
			term(acc[copy], m)
		})
		for _, sum := range [][2]int{{0, 1}, {2, 3}, {0, 2}} {
			for p := range parts {
				to := acc[sum[0]*parts+p]
				e.do(x86.VADDPS(acc[sum[1]*parts+p], to, to))
			}
		}
		e.sumLanes(acc[:parts], t)
		e.opConst(divPS, bits(float64(s.K)), acc[0], acc[0])
	}
	n := e.arg(r.count)
	e.times(n, func() {
		if s.Prologue == kernel.LayerNorm {
			total(func(acc reg.Register, _ mask) { e.do(x86.VADDPS(x, acc, acc)) })
			e.do(x86.VMOVAPS(acc[0], mean))
			total(func(acc reg.Register, m mask) {
				e.subKeep(mean, x, m)
				e.do(x86.VFMADD231PS(x, x, acc))
			})
		}
		if s.Prologue == kernel.RMSNorm {
			total(func(acc reg.Register, _ mask) { e.do(x86.VFMADD231PS(x, x, acc)) })
		}
		if s.Prologue != kernel.NoPrologue {
			e.opConst(addPS, bits(s.Eps), acc[0], acc[0])
			e.do(x86.VSQRTPS(acc[0], acc[0]))
			e.do(x86.VBROADCASTSS(e.f32(1), scale))
			e.do(x86.VDIVPS(acc[0], scale, scale))
		}
		// normal loads a vector and normalises it, into x.
		normal := func(i reg.Register, offset int, lanes mask) {
			load(i, offset, lanes)
			m := func(base reg.Register, size int) operand.Mem { return at(base, i, offset, size) }
			switch {
			case s.Prologue == kernel.LayerNorm:
				e.do(x86.VSUBPS(mean, x, x))
				fallthrough
			case s.Prologue == kernel.RMSNorm:
				e.do(x86.VMULPS(scale, x, x))
				e.loadVec(ir.F32, m(r.gamma, 4), lanes, t)
				e.do(x86.VMULPS(t, x, x))
				if r.beta != nil {
					e.loadVec(ir.F32, m(r.beta, 4), lanes, t)
					e.do(x86.VADDPS(t, x, x))
				}
			}
		}
		if r.codes > 0 {
			e.quantize(r, tail, acc, x, t, normal)
			r.next()
			return
		}
		e.vectors(s.K, 2, tail, func(i reg.Register, offset, _ int, m mask) {
			normal(i, offset, m)
			e.roundTo(r.round, x, t)
			e.storeVec(r.out, x, at(r.dst, i, offset, r.out.Size()), m, t)
		})
		if r.pad > s.K {
			e.zero(x)
			for c := s.K; c < r.pad; c += e.lanes {
				e.storeVec(r.out, x, operand.Mem{Base: r.dst, Disp: c * r.out.Size()}, e.mask(min(e.lanes, r.pad-c)), t)
			}
		}
		r.next()
	})
}
