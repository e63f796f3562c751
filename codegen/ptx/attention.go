package ptx

import (
	"math"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns attention by mma.sync: the online softmax (Milakov and Gimelshein, arXiv 1805.02867)
// over blocks of keys from the start of the sequence, with queries and heads of a group packed as
// rows. A warp has 16 rows. Scores and results are fragments in registers; those of the scores are,
// rounded, the left factor of the product with the values (PTX ISA, "Matrix Fragments for
// mma.m16n8k16").
//
// Sizes of heads are padded to 16 with zeros in shared memory. A row has the same bits in any block.

type attentionEntry struct {
	*entry
	spec        kernel.Spec
	rows, keys  int // of a block
	padded      int // size of a head in shared memory
	pitch       int // bytes from one row in shared memory to the next
	tid         reg
	start, size reg // of the sequence
	kv, row0    reg // key/value head, first packed row
	packed      reg // packed rows of the sequence
	src, dst    reg
	shadow      reg // of dst, "" unless it is f32
}

func attention(symbol string, k kernel.Kernel) []variant {
	s := k.Spec
	a := &attentionEntry{entry: newEntry(symbol, 2*k.Plan.BlockM), spec: s, rows: k.Plan.BlockM, keys: k.Plan.BlockN, padded: ceilDiv(s.HeadDim, 16) * 16}
	a.pitch = 2*a.padded + 16 // eight rows lie in all banks
	a.item()
	a.attend()
	a.do("ret")
	g := cuda.Grid{Kind: cuda.GridItems, TileM: a.rows}
	return []variant{{parts: []part{{a.entry, a.launch((a.rows+4*a.keys)*a.pitch, 0, g)}}}}
}

// group is the number of query heads of a key/value head.
func (a *attentionEntry) group() int { return a.spec.Heads / a.spec.KVHeads }

// item reads the CTA's item. A CTA without one ends.
func (a *attentionEntry) item() {
	a.src = a.pointer(cuda.OperandSrc)
	a.dst = a.pointer(cuda.OperandDst)
	if a.spec.Out == ir.F32 {
		a.shadow = a.param(cuda.Param{Kind: cuda.ParamShadow, Operand: cuda.OperandDst})
	}
	items := a.param(cuda.Param{Kind: cuda.ParamItems})
	count := a.r("ld.global.u32", at(a.param(cuda.Param{Kind: cuda.ParamItemCount}), 0))
	id := a.r("mov.u32", "%ctaid.x")
	a.retIf(a.p("setp.ge.u32", id, count))
	a.start, a.size, a.kv, a.row0 = a.b32(), a.b32(), a.b32(), a.b32()
	a.do("ld.global.v4.u32", vec(a.start, a.size, a.kv, a.row0), at(a.rd("mad.wide.u32", id, 16, items), 0))
	a.packed = a.r("mul.lo.u32", a.size, a.group())
	a.tid = a.r("mov.u32", "%tid.x")
}

// head returns the address of a head of a token of the sequence: column begin + head·HeadDim.
func (a *attentionEntry) head(token, head reg, begin int) reg {
	s := a.spec
	size := s.In.Size()
	row := a.rd("mad.wide.u32", a.r("add.u32", a.start, token), cuda.Pitch(s.QKVCols(), s.In == ir.BF16), a.src)
	return a.rd("mad.wide.u32", a.r("mad.lo.u32", head, s.HeadDim, begin), size, row)
}

// copyRows copies n rows to shared memory as bf16, zeros behind the head. from returns the address of a
// row.
func (a *attentionEntry) copyRows(to reg, n int, from func(row reg) reg) {
	s := a.spec
	if s.In == ir.BF16 && s.HeadDim%8 == 0 {
		chunks := a.padded / 8
		i := a.r("mov.u32", a.tid)
		a.loop(i, n*chunks, a.threads, func() {
			row, chunk := a.divMod(i, chunks)
			offset := a.r("shl.b32", chunk, 4)
			dst := a.r("mad.lo.u32", row, a.pitch, a.r("add.u32", to, offset))
			bytes := a.r("min.u32", a.r("sub.u32", 2*s.HeadDim, a.r("min.u32", offset, 2*s.HeadDim)), 16)
			a.do("cp.async.cg.shared.global", at(dst, 0), at(a.rd("mad.wide.u32", chunk, 16, from(row)), 0), 16, bytes)
		})
		return
	}
	i := a.r("mov.u32", a.tid)
	a.loop(i, n*a.padded, a.threads, func() {
		row, d := a.divMod(i, a.padded)
		inside := a.p("setp.lt.u32", d, s.HeadDim)
		h := a.b16()
		src := a.rd("mad.wide.u32", d, s.In.Size(), from(row))
		if s.In == ir.BF16 {
			a.do("mov.b16", h, 0)
			a.doIf(inside, "ld.global.b16", h, at(src, 0))
		} else {
			a.do("cvt.rn.bf16.f32", h, a.load(src, inside))
		}
		a.do("st.shared.b16", at(a.r("mad.lo.u32", row, a.pitch, a.r("mad.lo.u32", d, 2, to)), 0), h)
	})
}

func (a *attentionEntry) attend() {
	s := a.spec
	smem := a.r("mov.u32", "smem")
	last := a.r("sub.u32", a.packed, 1)
	a.copyRows(smem, a.rows, func(row reg) reg {
		// Rows behind the last are computed as the last, and not written.
		query, h := a.divMod(a.r("min.u32", a.r("add.u32", a.row0, row), last), a.group())
		return a.head(query, a.r("mad.lo.u32", a.kv, a.group(), h), 0)
	})
	a.do("cp.async.commit_group")

	// Two buffers of a block of keys and its values.
	block := 2 * a.keys * a.pitch
	buffers := a.r("add.u32", smem, a.rows*a.pitch)
	lastKey := a.r("sub.u32", a.size, 1)
	loadBlock := func(first, buffer reg) {
		for i, begin := range []int{s.Heads * s.HeadDim, (s.Heads + s.KVHeads) * s.HeadDim} {
			a.copyRows(a.r("add.u32", buffer, i*a.keys*a.pitch), a.keys, func(row reg) reg {
				return a.head(a.r("min.u32", a.r("add.u32", first, row), lastKey), a.kv, begin)
			})
		}
	}
	key := a.r("mov.u32", 0)
	loadBlock(key, buffers)
	a.do("cp.async.commit_group")
	a.do("cp.async.wait_group", 1)
	a.do("bar.sync", 0)

	lane := a.r("and.b32", a.tid, 31)
	warpRow := a.r("shl.b32", a.r("shr.u32", a.tid, 5), 4)
	queryAt := a.r("mad.lo.u32", a.r("add.u32", warpRow, a.r("and.b32", lane, 15)), a.pitch, a.r("mad.lo.u32", a.r("shr.u32", lane, 4), 16, smem))
	var q [][]reg
	for d := 0; d < a.padded; d += 16 {
		q = append(q, a.ldmatrix(4, "", at(queryAt, 2*d)))
	}
	keyAt := a.fragmentB(lane, a.r("mov.u32", 0), a.pitch, buffers)
	// Values lie with a key a row, so that the matrices are transposed: those of keys 0 and 8, of columns
	// 0, then of columns 8.
	valueAt := a.r("mad.lo.u32", a.r("and.b32", lane, 15), a.pitch, a.r("mad.lo.u32", a.r("shr.u32", lane, 4), 16, a.r("add.u32", buffers, a.keys*a.pitch)))

	o := make([][]reg, a.padded/8)
	for j := range o {
		o[j] = []reg{a.f("mov.f32", 0.0), a.f("mov.f32", 0.0), a.f("mov.f32", 0.0), a.f("mov.f32", 0.0)}
	}
	// Of the two rows of a lane, 8 apart.
	var largest, sum [2]reg
	for h := range 2 {
		largest[h], sum[h] = a.f("mov.f32", math.Inf(-1)), a.f("mov.f32", 0.0)
	}
	scale := s.Scale * math.Log2E
	use := a.r("mov.u32", 0) // offset of the buffer in use
	a.loop(key, a.size, a.keys, func() {
		next := a.r("add.u32", key, a.keys)
		other := a.r("sub.u32", block, use)
		a.when(a.p("setp.lt.u32", next, a.size), func() {
			loadBlock(next, a.r("add.u32", buffers, other))
		})
		a.do("cp.async.commit_group")
		a.do("cp.async.wait_group", 1)
		a.do("bar.sync", 0)

		scores := make([][]reg, a.keys/8)
		for j := range scores {
			scores[j] = []reg{a.f("mov.f32", 0.0), a.f("mov.f32", 0.0), a.f("mov.f32", 0.0), a.f("mov.f32", 0.0)}
		}
		k := a.r("add.u32", keyAt, use)
		for d := range q {
			for j := 0; j < len(scores); j += 2 {
				b := a.ldmatrix(4, "", at(k, 8*j*a.pitch+32*d))
				a.mma(scores[j], q[d], b[:2])
				a.mma(scores[j+1], q[d], b[2:])
			}
		}
		a.when(a.p("setp.gt.u32", next, a.size), func() {
			col := a.r("add.u32", key, a.r("shl.b32", a.r("and.b32", lane, 3), 1))
			for j := range scores {
				for i := range 2 {
					out := a.p("setp.ge.u32", a.r("add.u32", col, 8*j+i), a.size)
					a.doIf(out, "mov.f32", scores[j][i], math.Inf(-1))
					a.doIf(out, "mov.f32", scores[j][i+2], math.Inf(-1))
				}
			}
		})
		for h := range 2 {
			top := a.f("mov.f32", largest[h])
			for j := range scores {
				a.do("max.f32", top, top, scores[j][2*h])
				a.do("max.f32", top, top, scores[j][2*h+1])
			}
			a.shuffle("max.f32", top, 1, 2)
			offset := a.f("mul.rn.f32", top, -scale)
			shrink := a.f("ex2.approx.ftz.f32", a.f("fma.rn.f32", largest[h], scale, offset))
			a.do("mov.f32", largest[h], top)
			a.do("mul.rn.f32", sum[h], sum[h], shrink)
			for j := range o {
				a.do("mul.rn.f32", o[j][2*h], o[j][2*h], shrink)
				a.do("mul.rn.f32", o[j][2*h+1], o[j][2*h+1], shrink)
			}
			for j := range scores {
				for i := 2 * h; i < 2*h+2; i++ {
					a.do("fma.rn.f32", scores[j][i], scores[j][i], scale, offset)
					a.do("ex2.approx.ftz.f32", scores[j][i], scores[j][i])
					a.do("add.rn.f32", sum[h], sum[h], scores[j][i])
				}
			}
		}
		v := a.r("add.u32", valueAt, use)
		for kk := 0; kk < len(scores); kk += 2 {
			lo, hi := scores[kk], scores[kk+1]
			p := []reg{a.packBF16(lo[0], lo[1]), a.packBF16(lo[2], lo[3]), a.packBF16(hi[0], hi[1]), a.packBF16(hi[2], hi[3])}
			for j := 0; j < len(o); j += 2 {
				b := a.ldmatrix(4, ".trans", at(v, 8*kk*a.pitch+16*j))
				a.mma(o[j], p, b[:2])
				a.mma(o[j+1], p, b[2:])
			}
		}
		a.do("mov.u32", use, other)
		a.do("bar.sync", 0)
	})
	a.finish(lane, warpRow, o, sum)
}

// finish writes the results divided by the sums of the probabilities.
func (a *attentionEntry) finish(lane, warpRow reg, o [][]reg, sum [2]reg) {
	s := a.spec
	for h := range 2 {
		a.shuffle("add.rn.f32", sum[h], 1, 2)
		inverse := a.f("rcp.approx.ftz.f32", sum[h])
		row := a.r("add.u32", a.row0, a.r("add.u32", warpRow, a.r("add.u32", a.r("shr.u32", lane, 2), 8*h)))
		a.when(a.p("setp.lt.u32", row, a.packed), func() {
			query, head := a.divMod(row, a.group())
			token := a.r("add.u32", a.start, query)
			head = a.r("mad.lo.u32", a.kv, a.group(), head)
			for j := range o {
				a.do("mul.rn.f32", o[j][2*h], o[j][2*h], inverse)
				a.do("mul.rn.f32", o[j][2*h+1], o[j][2*h+1], inverse)
			}
			write := func(to reg, d ir.DType) {
				pitch, size := cuda.Pitch(s.Heads*s.HeadDim, d == ir.BF16), d.Size()
				col := a.r("shl.b32", a.r("and.b32", lane, 3), 1)
				to = a.element(to, token, pitch, a.r("mad.lo.u32", head, s.HeadDim, col), size)
				for j := range o {
					c := a.columnsBelow(a.r("add.u32", col, 8*j), s.HeadDim, "")
					a.storePair(a.rd("add.u64", to, 8*j*size), d, s.HeadDim%2 == 0, c, [2]reg{o[j][2*h], o[j][2*h+1]})
				}
			}
			write(a.dst, s.Out)
			if a.shadow != "" {
				a.when(a.ptrSet(a.shadow), func() { write(a.shadow, ir.BF16) })
			}
		})
	}
}
