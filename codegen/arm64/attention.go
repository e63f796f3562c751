package arm64

import (
	"unsafe"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns attention: packing of queries, keys and values, the products with a block of keys,
// and the division at the end. The softmax between is in softmax.go. Rows of the scratch buffers are HeadDim
// (queries), BlockN (scores) and whole panels (output) long.

var attentionArgs rt.AttentionArgs

// headRows emits a loop over rows, which are the heads of a group for query after query. It
// moves x, which starts at a query, from row to row; stride is the field with the distance of
// queries and size the bytes of a head.
func (e *emitter) headRows(s kernel.Spec, x gpr, stride uintptr, size int, body func()) {
	group := s.Heads / s.KVHeads
	n, distance := e.arg("n", unsafe.Offsetof(attentionArgs.Rows)), e.arg("distance", stride)
	head, query := e.gp("head"), e.gp("query")
	e.movi(head, group)
	e.mov(query, x)
	e.times(n, func() {
		body()
		same := e.label("query")
		e.addi(x, x, size)
		e.countDown(head, same)
		e.movi(head, group)
		e.add(query, query, distance)
		e.mov(x, query)
		e.bind(same)
	})
}

func packQ(e *emitter, k kernel.Kernel) {
	s := k.Spec
	src, dst := e.arg("src", unsafe.Offsetof(attentionArgs.Q)), e.arg("dst", unsafe.Offsetof(attentionArgs.QPack))
	x, t, scale, round := e.v("x"), e.v("t"), e.v("scale"), e.newRounder(s.Math == ir.BF16)
	e.constF32(scale, s.Scale)
	quads := instOf(k).Rows > 1
	next := func() { e.addi(dst, dst, 4*s.HeadDim) }
	if quads {
		next = e.alternate(dst, 8*s.HeadDim)
	}
	e.headRows(s, src, unsafe.Offsetof(attentionArgs.QStride), s.HeadDim*s.In.Size(), func() {
		e.vectors(s.HeadDim, 4, []stream{{src, s.In.Size()}, {dst, 4}}, func(at, _, count int) {
			e.load(s.In, x, src, at, count, t)
			e.fmul(x, x, scale)
			if quads {
				e.strD(round.narrow(x), dst, 4*at)
				return
			}
			round.to(s.Math, x)
			round.store(ir.F32, x, dst, at, count)
		})
		next()
	})
}

func packKV(e *emitter, k kernel.Kernel) {
	if instOf(k).Rows > 1 {
		e.scope(func() { e.packValueQuads(k) })
		e.scope(func() { e.packKeyQuads(k) })
		return
	}
	e.scope(func() { e.packValues(k) })
	e.scope(func() { e.packKeys(k) })
}

// packValues copies the rows of the values into panels. Rows beyond Keys are not written and
// never read.
func (e *emitter) packValues(k kernel.Kernel) {
	s := k.Spec
	src, dst := e.arg("src", unsafe.Offsetof(attentionArgs.V)), e.arg("dst", unsafe.Offsetof(attentionArgs.VPack))
	stride, n := e.arg("stride", unsafe.Offsetof(attentionArgs.KVStride)), e.arg("n", unsafe.Offsetof(attentionArgs.Keys))
	from, to := e.gp("from"), e.gp("to")
	x, t, round := e.v("x"), e.v("t"), e.newRounder(s.Math == ir.BF16)
	e.times(n, func() {
		e.mov(from, src)
		e.mov(to, dst)
		for d := 0; d < s.HeadDim; d += kernel.PanelN {
			columns := min(kernel.PanelN, s.HeadDim-d)
			e.vectors(columns, 8, nil, func(at, _, count int) {
				e.load(s.In, x, from, at, count, t)
				round.to(s.Math, x)
				e.strQ(x, to, 4*at)
			})
			if done := roundUp(columns, 4); done < kernel.PanelN {
				e.zero(x)
				for c := done; c < kernel.PanelN; c += 4 {
					e.strQ(x, to, 4*c)
				}
			}
			e.addi(from, from, kernel.PanelN*s.In.Size())
			e.addi(to, to, k.Plan.BlockN*panelBytes)
		}
		e.add(src, src, stride)
		e.addi(dst, dst, panelBytes)
	})
}

// packKeys transposes the keys, 4 keys × 4 elements at a time. Keys beyond Keys are zero up to
// the end of their panel.
func (e *emitter) packKeys(k kernel.Kernel) {
	s := k.Spec
	src, dst := e.arg("src", unsafe.Offsetof(attentionArgs.K)), e.arg("dst", unsafe.Offsetof(attentionArgs.KPack))
	stride, left := e.arg("stride", unsafe.Offsetof(attentionArgs.KVStride)), e.arg("left", unsafe.Offsetof(attentionArgs.Keys))
	column, to := e.gp("column"), e.gp("to")
	var key [4]gpr
	var x, y [4]vec
	for i := range key {
		key[i], x[i], y[i] = e.gp("key"), e.v("x"), e.v("y")
	}
	round, t := e.newRounder(s.Math == ir.BF16), e.v("t")
	// keys packs 4 keys, of which all or left exist.
	keys := func(all bool) {
		streams := []stream{{to, panelBytes}}
		for _, p := range key {
			streams = append(streams, stream{p, s.In.Size()})
		}
		e.vectors(s.HeadDim, 1, streams, func(at, _, count int) {
			e.present(x, all, left, func(i int, v vec) {
				e.load(s.In, v, key[i], at, count, t)
				round.to(s.Math, v)
			})
			e.transpose(x, y, count, func(i int, column vec) { e.strQ(column, to, (at+i)*panelBytes) })
		})
	}
	top, part, packed := e.label("keys"), e.label("part"), e.label("packed")
	e.movi(column, 0)
	e.bind(top)
	e.mov(key[0], src)
	for i := range key[1:] {
		e.add(key[i+1], key[i], stride)
	}
	e.add(src, key[3], stride)
	e.add(to, dst, column)
	e.cmpi(left, 4)
	e.branch("LT", part)
	keys(true)
	e.jump(packed)
	e.bind(part)
	keys(false)
	e.bind(packed)
	e.subi(left, left, 4)
	// A panel that is begun is completed.
	e.addi(column, column, 16)
	e.cmpi(column, panelBytes)
	e.branch("LT", top)
	e.movi(column, 0)
	e.addi(dst, dst, s.HeadDim*panelBytes)
	e.cmpi(left, 0)
	e.branch("GT", top)
}

// present loads rows into x, of which all or the first left exist; the others are zero.
func (e *emitter) present(x [4]vec, all bool, left gpr, load func(i int, v vec)) {
	absent := e.label("absent")
	if !all {
		for _, v := range x {
			e.zero(v)
		}
	}
	for i, v := range x {
		if !all {
			e.cmpi(left, i)
			e.branch("LE", absent)
		}
		load(i, v)
	}
	if !all {
		e.bind(absent)
	}
}

// transpose calls body with each of the first count columns of the 4×4 lanes of x. It changes x
// and y.
func (e *emitter) transpose(x, y [4]vec, count int, body func(i int, column vec)) {
	e.zip1s(y[0], x[0], x[2])
	e.zip2s(y[1], x[0], x[2])
	e.zip1s(y[2], x[1], x[3])
	e.zip2s(y[3], x[1], x[3])
	for i := range count {
		zip := e.zip1s
		if i%2 == 1 {
			zip = e.zip2s
		}
		zip(x[0], y[i/2], y[2+i/2])
		body(i, x[0])
	}
}

// attend emits, for each tile of rows: the scores of the block, the softmax step on them, and
// the products with the values.
func attend(e *emitter, k kernel.Kernel) {
	s, p := k.Spec, k.Plan
	width := roundUp(s.HeadDim, kernel.PanelN)
	row, height := e.gp("row"), e.gp("height")
	top := e.label("rows")
	e.movi(row, 0)
	e.bind(top)
	e.rest(height, unsafe.Offsetof(attentionArgs.Rows), row, p.MicroM)

	quads, stepBytes := instOf(k).Rows > 1, panelBytes
	units := height
	if quads {
		units, stepBytes = e.gp("units"), quadBytes/4
		e.addi(units, height, 1)
		e.lsr(units, units, 1)
	}

	// rowsOf sets d to the current rows of a scratch buffer.
	rowsOf := func(name string, field uintptr, bytes int) gpr {
		d := e.arg(name, field)
		e.plusMul(d, d, row, bytes)
		return d
	}
	e.scope(func() {
		scores := e.newProduct(k, 4*s.HeadDim)
		t := tile{a: rowsOf("q", unsafe.Offsetof(attentionArgs.QPack), 4*s.HeadDim), b: e.arg("keys", unsafe.Offsetof(attentionArgs.KPack)),
			c: rowsOf("s", unsafe.Offsetof(attentionArgs.S), 4*p.BlockN), cStride: 4 * p.BlockN, k: s.HeadDim, exact: true, rows: height}
		n := e.arg("n", unsafe.Offsetof(attentionArgs.Keys))
		e.addi(n, n, kernel.PanelN-1)
		e.lsr(n, n, log2(kernel.PanelN))
		e.times(n, func() {
			scores.emit(units, t)
			e.addi(t.b, t.b, s.HeadDim*stepBytes)
		})
	})
	e.scope(func() {
		e.softmax(k, height, rowsOf("s", unsafe.Offsetof(attentionArgs.S), 4*p.BlockN),
			rowsOf("o", unsafe.Offsetof(attentionArgs.O), 4*width),
			rowsOf("max", unsafe.Offsetof(attentionArgs.Max), 4), rowsOf("sum", unsafe.Offsetof(attentionArgs.Sum), 4))
	})
	e.scope(func() {
		output := e.newProduct(k, 4*p.BlockN)
		t := tile{a: rowsOf("s", unsafe.Offsetof(attentionArgs.S), 4*p.BlockN), b: e.arg("values", unsafe.Offsetof(attentionArgs.VPack)),
			c: rowsOf("o", unsafe.Offsetof(attentionArgs.O), 4*width), cStride: 4 * width,
			dynamic: true, kReg: e.arg("keys", unsafe.Offsetof(attentionArgs.Keys)), load: true, exact: true, rows: height}
		if quads {
			e.addi(t.kReg, t.kReg, 3) // a last quad has probabilities and values that are zero
		}
		n := e.gp("n")
		e.movi(n, width/kernel.PanelN)
		e.times(n, func() {
			output.emit(units, t)
			e.addi(t.b, t.b, p.BlockN*stepBytes)
		})
	})
	e.next(row, p.MicroM, unsafe.Offsetof(attentionArgs.Rows), top)
}

func finish(e *emitter, k kernel.Kernel) {
	s := k.Spec
	dst, src := e.arg("dst", unsafe.Offsetof(attentionArgs.Dst)), e.arg("src", unsafe.Offsetof(attentionArgs.O))
	sum := e.arg("sum", unsafe.Offsetof(attentionArgs.Sum))
	x, total, round := e.v("x"), e.v("total"), e.newRounder(s.Out == ir.BF16)
	e.headRows(s, dst, unsafe.Offsetof(attentionArgs.DstStride), s.HeadDim*s.Out.Size(), func() {
		e.ld1r(total, sum)
		e.vectors(s.HeadDim, 4, []stream{{src, 4}, {dst, s.Out.Size()}}, func(at, _, count int) {
			e.ldrQ(x, src, 4*at)
			e.fdiv(x, x, total)
			round.store(s.Out, x, dst, at, count)
		})
		e.addi(sum, sum, 4)
		e.addi(src, src, 4*roundUp(s.HeadDim, kernel.PanelN))
	})
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
