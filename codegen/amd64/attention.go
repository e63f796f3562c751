package amd64

import (
	mathbits "math/bits"
	"unsafe"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
)

// This file owns attention: packing of queries, keys and values, the products with a block of keys,
// and the division at the end. The softmax between is in softmax.go. The scratch buffers hold f32, or where the
// plan multiplies pairs of bf16, such pairs: of elements of a head in queries and keys, of keys
// in probabilities and values. Scores and output are f32 always.

var attentionArgs rt.AttentionArgs

// headSteps is the number of f32, or of pairs of bf16, of a packed head. A tile takes tilePairs at
// a time: those beyond the head are zero.
func headSteps(k kernel.Kernel) int {
	if tiled(k) {
		return roundUp(k.Spec.HeadDim, tileK) / 2
	}
	if pairs(k) {
		return (k.Spec.HeadDim + 1) / 2
	}
	return k.Spec.HeadDim
}

// headRows emits a loop over rows, which are the heads of a group for query after query. It
// moves x, which starts at a query, from row to row; stride is the field with the distance of
// queries and size the bytes of a head.
func (e *emitter) headRows(s kernel.Spec, x reg.Register, stride uintptr, size int, body func()) {
	group := s.Heads / s.KVHeads
	n, head, query := e.arg(unsafe.Offsetof(attentionArgs.Rows)), e.GP64(), e.GP64()
	e.do(x86.MOVQ(operand.U32(group), head))
	e.do(x86.MOVQ(x, query))
	e.times(n, func() {
		body()
		same := e.label("query")
		e.addImm(size, x)
		e.do(x86.DECQ(head))
		e.do(x86.JNE(ref(same)))
		e.do(x86.MOVQ(operand.U32(group), head))
		e.do(x86.ADDQ(e.field(stride), query))
		e.do(x86.MOVQ(query, x))
		e.bind(same)
	})
}

func packQ(e *emitter, k kernel.Kernel) {
	s := k.Spec
	src, dst := e.arg(unsafe.Offsetof(attentionArgs.Q)), e.arg(unsafe.Offsetof(attentionArgs.QPack))
	x, t, tail := e.vec(), e.vec(), e.tail(s.HeadDim)
	packed, stored := ir.F32, tail
	if pairs(k) {
		// The last pair of an odd number of elements is completed with zero.
		packed, stored = ir.BF16, e.tail(2*headSteps(k))
	}
	e.headRows(s, src, unsafe.Offsetof(attentionArgs.QStride), s.HeadDim*s.In.Size(), func() {
		e.vectors(s.HeadDim, 2, tail, func(i reg.Register, offset, _ int, only mask) {
			e.loadVec(s.In, at(src, i, offset, s.In.Size()), only, x)
			e.opConst(mulPS, bits(s.Scale), x, x)
			if packed == ir.F32 {
				e.roundTo(s.Math, x, t)
			}
			if !only.all() {
				only = stored
			}
			e.storeVec(packed, x, at(dst, i, offset, packed.Size()), only, t)
		})
		if from := roundUp(s.HeadDim, 16); tiled(k) && from < 2*headSteps(k) {
			e.zero(x)
			e.do(x86.VMOVUPS(x.AsY(), operand.Mem{Base: dst, Disp: 2 * from}))
		}
		e.addImm(4*headSteps(k), dst)
	})
}

func packKV(e *emitter, k kernel.Kernel) {
	if pairs(k) {
		e.packValuePairs(k)
	} else {
		e.packValues(k)
	}
	e.packKeys(k)
}

// packValues copies the rows of the values into panels. Rows beyond Keys are not written and
// never read.
func (e *emitter) packValues(k kernel.Kernel) {
	s := k.Spec
	src, dst := e.arg(unsafe.Offsetof(attentionArgs.V)), e.arg(unsafe.Offsetof(attentionArgs.VPack))
	x, t, tail := e.vec(), e.vec(), e.tail(s.HeadDim)
	n := e.arg(unsafe.Offsetof(attentionArgs.Keys))
	e.times(n, func() {
		for d := 0; d < roundUp(s.HeadDim, kernel.PanelN); d += e.lanes {
			only := tail
			if d+e.lanes <= s.HeadDim {
				only = mask{}
			}
			if d < s.HeadDim {
				e.loadVec(s.In, operand.Mem{Base: src, Disp: d * s.In.Size()}, only, x)
				e.roundTo(s.Math, x, t)
			} else {
				e.zero(x)
			}
			panel := d / kernel.PanelN * k.Plan.BlockN * panelBytes
			e.do(x86.VMOVUPS(x, operand.Mem{Base: dst, Disp: panel + d%kernel.PanelN*4}))
		}
		e.do(x86.ADDQ(e.field(unsafe.Offsetof(attentionArgs.KVStride)), src))
		e.addImm(panelBytes, dst)
	})
}

// packValuePairs interleaves the values of two keys at a time; an odd last key is paired with
// zeros.
func (e *emitter) packValuePairs(k kernel.Kernel) {
	s := k.Spec
	src, dst := e.arg(unsafe.Offsetof(attentionArgs.V)), e.arg(unsafe.Offsetof(attentionArgs.VPack))
	stride, left := e.arg(unsafe.Offsetof(attentionArgs.KVStride)), e.arg(unsafe.Offsetof(attentionArgs.Keys))
	odd, tail := e.GP64(), e.tail(s.HeadDim)
	x, y := e.ZMM(), e.ZMM()
	var w [16]uint32 // words 0, 16, 1, 17, …
	for i := range w {
		w[i] = uint32(i | (16+i)<<16)
	}
	order := e.ZMM()
	e.do(x86.VMOVDQU32(e.words(w[:]...), order))
	pair := func(whole bool) {
		for d := 0; d < roundUp(s.HeadDim, kernel.PanelN); d += 16 {
			only := tail
			if d+16 <= s.HeadDim {
				only = mask{}
			}
			e.zero(y)
			if d < s.HeadDim {
				e.loadVec(s.In, operand.Mem{Base: src, Disp: d * s.In.Size()}, only, x)
				if whole {
					e.loadVec(s.In, operand.Mem{Base: odd, Disp: d * s.In.Size()}, only, y)
				}
				e.do(node("VCVTNE2PS2BF16", nil, x, y, x))
				e.do(x86.VPERMW(x, order, x))
			} else {
				e.zero(x)
			}
			panel := d / kernel.PanelN * k.Plan.BlockN / 2 * panelBytes
			e.do(x86.VMOVUPS(x, operand.Mem{Base: dst, Disp: panel + d%kernel.PanelN*4}))
		}
	}
	top, last, packed := e.label("pair"), e.label("last"), e.label("packed")
	e.bind(top)
	e.do(x86.CMPQ(left, operand.U8(1)))
	e.do(x86.JEQ(ref(last)))
	e.do(x86.MOVQ(src, odd))
	e.do(x86.ADDQ(stride, odd))
	pair(true)
	e.do(x86.MOVQ(odd, src))
	e.do(x86.ADDQ(stride, src))
	e.addImm(panelBytes, dst)
	e.do(x86.SUBQ(operand.U8(2), left))
	e.do(x86.JNE(ref(top)))
	e.do(x86.JMP(ref(packed)))
	e.bind(last)
	pair(false)
	e.bind(packed)
	if tiled(k) {
		e.zeroValuePairs(k, x)
	}
}

// zeroValuePairs completes the pairs of values to whole tiles. Their probabilities are zero, and a
// product with what was there before might not be.
func (e *emitter) zeroValuePairs(k kernel.Kernel, x reg.VecVirtual) {
	whole := e.label("whole")
	n, dst := e.arg(unsafe.Offsetof(attentionArgs.Keys)), e.GP64()
	e.do(x86.INCQ(n))
	e.do(x86.SHRQ(operand.U8(1), n)) // pairs
	e.do(x86.MOVQ(n, dst))
	e.do(x86.SHLQ(operand.U8(7), dst))
	e.do(x86.ADDQ(e.field(unsafe.Offsetof(attentionArgs.VPack)), dst))
	e.do(x86.NEGQ(n))
	e.do(x86.ANDQ(operand.I32(tilePairs-1), n))
	e.do(x86.JEQ(ref(whole)))
	e.zero(x)
	e.times(n, func() {
		for d := 0; d < roundUp(k.Spec.HeadDim, kernel.PanelN); d += 16 {
			panel := d / kernel.PanelN * k.Plan.BlockN / 2 * panelBytes
			e.do(x86.VMOVUPS(x, operand.Mem{Base: dst, Disp: panel + d%kernel.PanelN*4}))
		}
		e.addImm(panelBytes, dst)
	})
	e.bind(whole)
}

// packKeys transposes the keys, as many keys as a vector has lanes × as many elements or pairs at a
// time. Keys beyond Keys are zero up to the end of their panel.
func (e *emitter) packKeys(k kernel.Kernel) {
	s := k.Spec
	src, dst := e.arg(unsafe.Offsetof(attentionArgs.K)), e.arg(unsafe.Offsetof(attentionArgs.KPack))
	stride, left := e.arg(unsafe.Offsetof(attentionArgs.KVStride)), e.arg(unsafe.Offsetof(attentionArgs.Keys))
	from, to, key, n, strip := e.GP64(), e.GP64(), e.GP64(), e.GP64(), e.GP64()
	perStep := 1
	if pairs(k) {
		perStep = 2
	}
	tail := e.tail(s.HeadDim)
	lanes := e.lanes
	var x, y []reg.VecVirtual
	for range lanes {
		x, y = append(x, e.vec()), append(y, e.vec())
	}
	// load reads count elements of a key into x, a vector of them or of pairs.
	load := func(count int, x reg.VecVirtual) {
		vec := func(first int, x reg.VecVirtual) {
			only := tail
			if count-first >= lanes {
				only = mask{}
			}
			e.loadVec(s.In, operand.Mem{Base: key, Disp: first * s.In.Size()}, only, x)
		}
		vec(0, x)
		if perStep == 1 {
			e.roundTo(s.Math, x, y[0])
			return
		}
		if count > 16 {
			vec(16, y[0])
		} else {
			e.zero(y[0])
		}
		e.do(node("VCVTNE2PS2BF16", nil, x, y[0], x))
	}
	// elements packs the next count elements of a strip of keys, of which all or left exist.
	elements := func(count int, all bool) {
		absent := e.label("absent")
		e.do(x86.MOVQ(from, key))
		for i := range x {
			if !all {
				e.zero(x[i])
			}
		}
		for i := range x {
			if !all {
				e.do(x86.CMPQ(left, operand.U8(uint8(i))))
				e.do(x86.JLE(ref(absent)))
			}
			load(count, x[i])
			e.do(x86.ADDQ(stride, key))
		}
		if !all {
			e.bind(absent)
		}
		columns := e.transpose(x, y)
		rows := (count + perStep - 1) / perStep
		if tiled(k) {
			rows = tilePairs
		}
		for i := range rows {
			e.do(x86.VMOVUPS(columns[i], operand.Mem{Base: to, Disp: i * panelBytes}))
		}
		e.addImm(lanes*perStep*s.In.Size(), from)
		e.addImm(lanes*panelBytes, to)
	}
	keys := func(all bool) {
		if full := s.HeadDim / (lanes * perStep); full > 0 {
			e.do(x86.MOVQ(operand.U32(full), n))
			e.times(n, func() { elements(lanes*perStep, all) })
		}
		if rest := s.HeadDim % (lanes * perStep); rest != 0 {
			elements(rest, all)
		}
	}
	top, part, packed := e.label("keys"), e.label("part"), e.label("packed")
	e.do(x86.XORQ(strip, strip))
	e.bind(top)
	e.do(x86.MOVQ(src, from))
	e.do(x86.MOVQ(dst, to))
	e.do(x86.CMPQ(left, operand.U8(uint8(lanes))))
	e.do(x86.JLT(ref(part)))
	keys(true)
	e.do(x86.JMP(ref(packed)))
	e.bind(part)
	keys(false)
	e.bind(packed)
	e.do(x86.MOVQ(stride, key))
	e.do(x86.SHLQ(operand.U8(uint8(mathbits.Len(uint(lanes))-1)), key))
	e.do(x86.ADDQ(key, src))
	e.do(x86.SUBQ(operand.U8(uint8(lanes)), left))
	// All strips of a panel are written, always.
	e.addImm(4*lanes, dst)
	e.do(x86.INCQ(strip))
	e.do(x86.ANDQ(operand.U8(uint8(kernel.PanelN/lanes-1)), strip))
	e.do(x86.JNE(ref(top)))
	e.addImm(headSteps(k)*panelBytes-panelBytes, dst)
	e.do(x86.CMPQ(left, operand.U8(0)))
	e.do(x86.JG(ref(top)))
}

// transpose transposes the lanes of x, of as many registers as each has lanes, and returns the
// registers of the result, x or y: 2×2, 4×4 within the 128-bit parts of a register, then the parts.
func (e *emitter) transpose(x, y []reg.VecVirtual) []reg.VecVirtual {
	for i := 0; i < e.lanes; i += 2 {
		e.do(x86.VUNPCKLPS(x[i+1], x[i], y[i]))
		e.do(x86.VUNPCKHPS(x[i+1], x[i], y[i+1]))
	}
	for i := 0; i < e.lanes; i += 4 {
		for j := range 2 {
			e.do(x86.VUNPCKLPD(y[i+j+2], y[i+j], x[i+2*j]))
			e.do(x86.VUNPCKHPD(y[i+j+2], y[i+j], x[i+2*j+1]))
		}
	}
	// x[4r+c] holds, in part q, column 4q+c of rows 4r..4r+3.
	if !e.wide() {
		for c := range 4 {
			e.do(x86.VPERM2F128(operand.U8(0x20), x[4+c], x[c], y[c]))
			e.do(x86.VPERM2F128(operand.U8(0x31), x[4+c], x[c], y[4+c]))
		}
		return y
	}
	for c := range 4 {
		for pair := range 2 {
			lo, hi := x[8*pair+c], x[8*pair+4+c]
			e.do(x86.VSHUFF32X4(operand.U8(0x88), hi, lo, y[4*c+pair]))   // quarters 0, 2
			e.do(x86.VSHUFF32X4(operand.U8(0xdd), hi, lo, y[4*c+2+pair])) // quarters 1, 3
		}
	}
	for c := range 4 {
		for odd := range 2 {
			lo, hi := y[4*c+2*odd], y[4*c+2*odd+1]
			e.do(x86.VSHUFF32X4(operand.U8(0x88), hi, lo, x[4*odd+c]))
			e.do(x86.VSHUFF32X4(operand.U8(0xdd), hi, lo, x[8+4*odd+c]))
		}
	}
	return x
}

// attend emits, for each tile of rows: the scores of the block, the softmax step on them, and
// the products with the values.
func attend(e *emitter, k kernel.Kernel) {
	s, p := k.Spec, k.Plan
	width := roundUp(s.HeadDim, kernel.PanelN)
	rows := e.argSlot(unsafe.Offsetof(attentionArgs.Rows))
	q, scores := e.argSlot(unsafe.Offsetof(attentionArgs.QPack)), e.argSlot(unsafe.Offsetof(attentionArgs.S))
	o := e.argSlot(unsafe.Offsetof(attentionArgs.O))
	max, sum := e.argSlot(unsafe.Offsetof(attentionArgs.Max)), e.argSlot(unsafe.Offsetof(attentionArgs.Sum))
	height := e.slot()
	steps := headSteps(k)
	var tile *product
	var tiles *tiles
	if tiled(k) {
		tile, tiles = e.newScratch(), e.newTiles(instOf(k).Name)
	} else {
		tile = e.newProduct(p.MicroM, 4*steps, false, pairs(k))
	}

	top, last := e.label("rows"), e.label("rows")
	e.bind(top)
	h := e.load(rows)
	e.do(x86.CMPQ(h, operand.U32(p.MicroM)))
	e.do(x86.JLE(ref(last)))
	e.do(x86.MOVQ(operand.U32(p.MicroM), h))
	e.bind(last)
	e.do(x86.MOVQ(h, height))

	a, b, whole, end, c, panel, n := e.GP64(), e.GP64(), e.GP64(), e.GP64(), e.GP64(), e.GP64(), e.GP64()
	if tiles != nil {
		tiles.configure(h)
	}

	// Scores: all panels of keys.
	e.do(x86.MOVQ(scores, c))
	e.do(x86.MOVQ(e.field(unsafe.Offsetof(attentionArgs.KPack)), panel))
	e.do(x86.MOVQ(e.field(unsafe.Offsetof(attentionArgs.Keys)), n))
	e.addImm(kernel.PanelN-1, n)
	e.do(x86.SHRQ(operand.U8(5), n))
	e.times(n, func() {
		e.do(x86.MOVQ(q, a))
		e.do(x86.MOVQ(panel, b))
		e.addImm(steps*panelBytes, panel)
		if tiles != nil {
			tiles.multiply(height, tileProduct{a: a, aStride: 4 * steps,
				b: b, bStride: panelBytes, bSide: tileRow, bStep: tilePairs * panelBytes,
				c: c, cStride: 4 * p.BlockN, steps: operand.U32(steps / tilePairs), zero: true})
			e.addImm(panelBytes, c)
			return
		}
		tile.heights(h, func(h int) {
			sums := place{c, 4 * p.BlockN}
			tile.begin(h, sums, true)
			e.do(x86.LEAQ(operand.Mem{Base: b, Disp: steps / turnSteps(h) * turnSteps(h) * panelBytes}, whole))
			tile.sumRows(h, a, b, whole, panel, sums)
			tile.finish(h, sums, nil)
		})
		e.addImm(panelBytes, c)
	})

	e.softmax(k, tile, softmaxRows{height, scores, o, max, sum})

	// Output: all panels of values, as many steps as there are keys.
	tile.aStride = 4 * p.BlockN
	e.do(x86.MOVQ(height, h))
	e.do(x86.MOVQ(o, c))
	e.do(x86.MOVQ(e.field(unsafe.Offsetof(attentionArgs.VPack)), panel))
	e.do(x86.MOVQ(operand.U32(width/kernel.PanelN), n))
	keys := e.arg(unsafe.Offsetof(attentionArgs.Keys)) // in bytes of the rows of a panel
	blockBytes := p.BlockN * panelBytes
	switch {
	case tiles != nil: // in steps of a tile
		blockBytes /= 2
		e.addImm(tileK-1, keys)
		e.do(x86.SHRQ(operand.U8(5), keys))
	case pairs(k):
		blockBytes /= 2
		e.do(x86.INCQ(keys))
		e.do(x86.SHRQ(operand.U8(1), keys))
		fallthrough
	default:
		e.do(x86.SHLQ(operand.U8(7), keys))
	}
	e.times(n, func() {
		e.do(x86.MOVQ(scores, a))
		e.do(x86.MOVQ(panel, b))
		if tiles != nil {
			tiles.multiply(height, tileProduct{a: a, aStride: 4 * p.BlockN,
				b: b, bStride: panelBytes, bSide: tileRow, bStep: tilePairs * panelBytes,
				c: c, cStride: 4 * width, steps: keys})
			e.addImm(blockBytes, panel)
			e.addImm(panelBytes, c)
			return
		}
		e.do(x86.LEAQ(operand.Mem{Base: panel, Index: keys, Scale: 1}, end))
		tile.heights(h, func(h int) {
			sums := place{c, 4 * width}
			tile.begin(h, sums, false)
			e.do(x86.MOVQ(keys, whole))
			e.do(x86.ANDQ(operand.I32(-turnSteps(h)*panelBytes), whole))
			e.do(x86.ADDQ(b, whole))
			tile.sumRows(h, a, b, whole, end, sums)
			tile.finish(h, sums, nil)
		})
		e.addImm(blockBytes, panel)
		e.addImm(panelBytes, c)
	})

	e.addImm(4*p.MicroM*steps, q)
	e.addImm(4*p.MicroM*width, o)
	e.addImm(4*p.MicroM, max)
	e.addImm(4*p.MicroM, sum)
	e.do(x86.SUBQ(operand.U32(p.MicroM), rows))
	e.do(x86.JG(ref(top)))
	if tiles != nil {
		tiles.release()
	}
}

func finish(e *emitter, k kernel.Kernel) {
	s := k.Spec
	dst, src := e.arg(unsafe.Offsetof(attentionArgs.Dst)), e.arg(unsafe.Offsetof(attentionArgs.O))
	sum := e.arg(unsafe.Offsetof(attentionArgs.Sum))
	x, t, total, tail := e.vec(), e.vec(), e.vec(), e.tail(s.HeadDim)
	e.headRows(s, dst, unsafe.Offsetof(attentionArgs.DstStride), s.HeadDim*s.Out.Size(), func() {
		e.do(x86.VBROADCASTSS(operand.Mem{Base: sum}, total))
		e.vectors(s.HeadDim, 2, tail, func(i reg.Register, offset, _ int, only mask) {
			e.loadVec(ir.F32, at(src, i, offset, 4), only, x)
			e.do(x86.VDIVPS(total, x, x))
			e.storeVec(s.Out, x, at(dst, i, offset, s.Out.Size()), only, t)
		})
		e.addImm(4, sum)
		e.addImm(4*roundUp(s.HeadDim, kernel.PanelN), src)
	})
}

func roundUp(n, to int) int { return (n + to - 1) / to * to }
