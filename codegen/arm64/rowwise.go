package arm64

import (
	"unsafe"

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
	src, dst gpr
	gamma    gpr      // with a norm
	beta     gpr      // with Spec.Beta
	round    ir.DType // rounded to this before it is written
	out      ir.DType // i8: rows are quantised (codes.go)
	pad      int      // zeros are written from K up to this column
	pairs    bool     // of rows lie interleaved, 8 bytes at a time (see matrix.go)
	// next moves src and dst to the next row.
	next func()
}

func rowNorm(e *emitter, k kernel.Kernel) {
	r := rows{spec: k.Spec, count: unsafe.Offsetof(rowArgs.Rows), round: ir.F32, out: k.Spec.Out, pad: k.Spec.K,
		src: e.arg("src", unsafe.Offsetof(rowArgs.Src)), dst: e.arg("dst", unsafe.Offsetof(rowArgs.Dst)),
		gamma: e.arg("gamma", unsafe.Offsetof(rowArgs.Gamma))}
	if k.Spec.Beta {
		r.beta = e.arg("beta", unsafe.Offsetof(rowArgs.Beta))
	}
	srcStride := e.arg("srcStride", unsafe.Offsetof(rowArgs.SrcStride))
	dstStride := e.arg("dstStride", unsafe.Offsetof(rowArgs.DstStride))
	r.next = func() {
		e.add(r.src, r.src, srcStride)
		e.add(r.dst, r.dst, dstStride)
	}
	e.rows(r)
}

func gemmPrologue(e *emitter, k kernel.Kernel) {
	s := k.Spec
	r := rows{spec: s, count: unsafe.Offsetof(gemmArgs.Rows), round: s.Math, out: ir.F32, pad: s.KPad(),
		src: e.arg("src", unsafe.Offsetof(gemmArgs.Src)), dst: e.arg("dst", unsafe.Offsetof(gemmArgs.A))}
	if s.Prologue != kernel.NoPrologue {
		r.gamma = e.arg("gamma", unsafe.Offsetof(gemmArgs.Gamma))
	}
	if s.Beta {
		r.beta = e.arg("beta", unsafe.Offsetof(gemmArgs.Beta))
	}
	srcStride := e.arg("srcStride", unsafe.Offsetof(gemmArgs.SrcStride))
	r.next = func() {
		e.add(r.src, r.src, srcStride)
		e.addi(r.dst, r.dst, k.RowBytes())
	}
	if r.pairs = instOf(k).Rows > 1; r.pairs {
		r.round, r.out = ir.F32, ir.BF16 // storing rounds
		next := e.alternate(r.dst, 2*k.RowBytes())
		r.next = func() {
			e.add(r.src, r.src, srcStride)
			next()
		}
	}
	if s.Math == ir.I8 {
		r.out = ir.I8
	}
	e.rows(r)
}

// sums is the number of accumulators of a sum over a row. They and the order in which they are
// added are fixed, so the sum depends on the row alone.
const sums = 8

func (e *emitter) rows(r rows) {
	s := r.spec
	acc := e.vs(sums, "sum")
	x, t, mean, scale := e.v("x"), e.v("t"), e.v("mean"), e.v("scale")
	round := e.newRounder(r.round == ir.BF16 || r.out == ir.BF16)
	src := stream{r.src, s.In.Size()}
	load := func(at, count int) { e.load(s.In, x, r.src, at, count, t) }
	// total sets acc[0] to Σ term / K, in all lanes. term gets x and adds to its accumulator.
	total := func(term func(acc vec, count int)) {
		for _, a := range acc {
			e.zero(a)
		}
		e.vectors(s.K, sums, []stream{src}, func(at, copy, count int) {
			load(at, count)
			term(acc[copy], count)
		})
		for step := sums / 2; step > 0; step /= 2 {
			for i := range step {
				e.fadd(acc[i], acc[i], acc[i+step])
			}
		}
		e.sumLanes(acc[0])
		e.constF32(t, float64(s.K))
		e.fdiv(acc[0], acc[0], t)
	}
	n := e.arg("n", r.count)
	e.times(n, func() {
		if s.Prologue == kernel.LayerNorm {
			total(func(acc vec, _ int) { e.fadd(acc, acc, x) })
			e.vmov(mean, acc[0])
			total(func(acc vec, count int) {
				e.fsub(x, x, mean)
				if count < 4 {
					e.ldrQ(t, e.consts, e.words(firstLanes(count)))
					e.vand(x, x, t)
				}
				e.fmla(acc, x, x)
			})
		}
		if s.Prologue == kernel.RMSNorm {
			total(func(acc vec, _ int) { e.fmla(acc, x, x) })
		}
		if s.Prologue != kernel.NoPrologue {
			e.constF32(t, s.Eps)
			e.fadd(acc[0], acc[0], t)
			e.fsqrt(acc[0], acc[0])
			e.constF32(scale, 1)
			e.fdiv(scale, scale, acc[0])
		}
		streams := []stream{src, {r.dst, r.columnBytes()}}
		if s.Prologue != kernel.NoPrologue {
			streams = append(streams, stream{r.gamma, 4})
		}
		if s.Beta {
			streams = append(streams, stream{r.beta, 4})
		}
		// normal loads a vector and normalises it, into x.
		normal := func(at, count int) {
			load(at, count)
			if s.Prologue == kernel.LayerNorm {
				e.fsub(x, x, mean)
			}
			if s.Prologue != kernel.NoPrologue {
				e.fmul(x, x, scale)
				e.load(ir.F32, t, r.gamma, at, count, acc[0])
				e.fmul(x, x, t)
				if s.Beta {
					e.load(ir.F32, t, r.beta, at, count, acc[0])
					e.fadd(x, x, t)
				}
			}
		}
		if r.out == ir.I8 {
			e.quantize(r, streams, acc[1:], x, normal)
			r.next()
			return
		}
		e.vectors(s.K, 4, streams, func(at, _, count int) {
			normal(at, count)
			round.to(r.round, x)
			e.writeColumns(r, x, r.dst, at, count, round)
		})
		e.padRow(r, x, round)
		r.next()
	})
}

// firstLanes is a mask of the first n lanes.
func firstLanes(n int) [4]uint32 {
	var w [4]uint32
	for i := range n {
		w[i] = ^uint32(0)
	}
	return w
}

// columnBytes is the distance of the columns of a row that is written, on average over 8 bytes.
func (r *rows) columnBytes() int {
	if r.pairs {
		return 2 * r.out.Size()
	}
	return r.out.Size()
}

// writeColumns stores count elements of x at column at of a row. A row of a pair always has 4.
func (e *emitter) writeColumns(r rows, x vec, row gpr, at, count int, round *rounder) {
	if r.pairs {
		e.strD(round.narrow(x), row, at*r.columnBytes())
		return
	}
	round.store(r.out, x, row, at, count)
}

// padRow writes zeros from column K up to column pad.
func (e *emitter) padRow(r rows, x vec, round *rounder) {
	from := r.spec.K
	if r.pairs {
		from = roundUp(from, 4)
	}
	if r.pad == from {
		return
	}
	e.scope(func() {
		e.zero(x)
		end := e.gp("pad")
		e.addi(end, r.dst, from*r.columnBytes())
		e.vectors(r.pad-from, 8, []stream{{end, r.columnBytes()}}, func(at, _, count int) {
			e.writeColumns(r, x, end, at, count, round)
		})
	})
}
