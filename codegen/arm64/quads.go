package arm64

import (
	"unsafe"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns the packing of attention's factors for BFMMLA: rows in pairs, keys and values as
// panels of quads (see matrix.go).

// alternate returns what moves p from row to row of pairs that are so many bytes apart: the second
// row of a pair begins 8 bytes after the first.
func (e *emitter) alternate(p gpr, pairBytes int) func() {
	step, pair := e.gp("step"), e.gp("pairBytes")
	e.movi(step, 8)
	e.movi(pair, pairBytes)
	return func() {
		e.add(p, p, step)
		e.sub(step, pair, step)
	}
}

// packKeyQuads copies the keys: the elements of a head are the steps of K. Keys beyond Keys are
// not written; their scores are not used.
func (e *emitter) packKeyQuads(k kernel.Kernel) {
	s := k.Spec
	src, dst := e.arg("src", unsafe.Offsetof(attentionArgs.K)), e.arg("dst", unsafe.Offsetof(attentionArgs.KPack))
	stride, n := e.arg("stride", unsafe.Offsetof(attentionArgs.KVStride)), e.arg("n", unsafe.Offsetof(attentionArgs.Keys))
	x, round, column := e.v("x"), e.newRounder(s.In == ir.F32), e.gp("column")
	e.movi(column, 0)
	e.times(n, func() {
		e.vectors(s.HeadDim, 4, []stream{{src, s.In.Size()}, {dst, quadBytes / 4}}, func(at, _, _ int) {
			if s.In == ir.BF16 {
				e.ldrD(x, src, at*s.In.Size())
				e.strD(x, dst, at*quadBytes/4)
				return
			}
			e.ldrQ(x, src, at*s.In.Size())
			e.strD(round.narrow(x), dst, at*quadBytes/4)
		})
		e.add(src, src, stride)
		e.addi(dst, dst, 8)
		same := e.label("panel")
		e.addi(column, column, 8)
		e.cmpi(column, quadBytes)
		e.branch("LT", same)
		e.movi(column, 0)
		e.addi(dst, dst, (s.HeadDim/4-1)*quadBytes)
		e.bind(same)
	})
}

// packValueQuads transposes the values: 4 keys are the steps of K. Keys beyond Keys are zero up to
// the end of their quad.
func (e *emitter) packValueQuads(k kernel.Kernel) {
	s := k.Spec
	src, dst := e.arg("src", unsafe.Offsetof(attentionArgs.V)), e.arg("dst", unsafe.Offsetof(attentionArgs.VPack))
	stride, left := e.arg("stride", unsafe.Offsetof(attentionArgs.KVStride)), e.arg("left", unsafe.Offsetof(attentionArgs.Keys))
	to := e.gp("to")
	var value [4]gpr
	var x, y [4]vec
	for i := range value {
		value[i], x[i], y[i] = e.gp("value"), e.v("x"), e.v("y")
	}
	t, round := e.v("t"), e.newRounder(true)
	// quad packs 4 keys, of which all or left exist.
	quad := func(all bool) {
		e.mov(to, dst)
		streams := []stream{{to, 8}}
		for _, p := range value {
			streams = append(streams, stream{p, s.In.Size()})
		}
		for d := 0; d < s.HeadDim; d += kernel.PanelN {
			columns := min(kernel.PanelN, s.HeadDim-d)
			e.vectors(columns, 1, streams, func(at, _, _ int) {
				e.present(x, all, left, func(i int, v vec) { e.load(s.In, v, value[i], at, 4, t) })
				e.transpose(x, y, 4, func(i int, column vec) { e.strD(round.narrow(column), to, (at+i)*8) })
			})
			for _, p := range value {
				e.addi(p, p, columns*s.In.Size())
			}
			e.addi(to, to, k.Plan.BlockN*quadBytes/4)
		}
	}
	top, part, packed := e.label("values"), e.label("part"), e.label("packed")
	e.bind(top)
	e.mov(value[0], src)
	for i := range value[1:] {
		e.add(value[i+1], value[i], stride)
	}
	e.add(src, value[3], stride)
	e.cmpi(left, 4)
	e.branch("LT", part)
	quad(true)
	e.jump(packed)
	e.bind(part)
	quad(false)
	e.bind(packed)
	e.addi(dst, dst, quadBytes)
	e.subi(left, left, 4)
	e.cmpi(left, 0)
	e.branch("GT", top)
}
