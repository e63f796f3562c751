package emu

import (
	"fmt"
	"math/bits"
	"slices"
)

// This file owns the instructions that compute in registers, each lane by itself; those of floats are
// in float.go.

var arithmetic = map[string]func(*decoder){
	"add": simple("add"), "sub": simple("sub"), "and": simple("and"), "or": simple("or"), "xor": simple("xor"),
	"mul": decodeMul, "mad": decodeMad, "fma": decodeMad, "min": decodeMinMax("min"), "max": decodeMinMax("max"),
	"div": decodeDiv, "rem": decodeDiv, "shl": decodeShift, "shr": decodeShift, "shf": decodeShf,
	"not": decodeNot, "neg": decodeNegAbs, "abs": decodeNegAbs,
	"popc": decodeBits, "clz": decodeBits, "brev": decodeBits, "bfind": decodeBits,
	"bfe": decodeBfe, "bfi": decodeBfi, "prmt": decodePrmt, "lop3": decodeLop3,
	"setp": decodeSetp, "selp": decodeSelp, "mov": decodeMov, "cvt": decodeCvt, "cvta": decodeCvta,
	"ex2": decodeApprox, "lg2": decodeApprox, "rcp": decodeApprox, "rsqrt": decodeApprox, "sqrt": decodeApprox,
	"sin": decodeApprox, "cos": decodeApprox, "tanh": decodeApprox,
}

type lanes = *[32]uint64

func (w *warp) reg(r int32) lanes { return (*[32]uint64)(w.regs[int(r)*32:]) }

func lanes1(f func(a uint64) uint64) runner {
	return func(w *warp, in *instr, m uint32) action {
		d, a := w.reg(in.d), w.reg(in.a)
		for ; m != 0; m &= m - 1 {
			l := bits.TrailingZeros32(m)
			d[l] = f(a[l])
		}
		return actNext
	}
}

func lanes2(f func(a, b uint64) uint64) runner {
	return func(w *warp, in *instr, m uint32) action {
		d, a, b := w.reg(in.d), w.reg(in.a), w.reg(in.b)
		for ; m != 0; m &= m - 1 {
			l := bits.TrailingZeros32(m)
			d[l] = f(a[l], b[l])
		}
		return actNext
	}
}

func lanes3(f func(a, b, c uint64) uint64) runner {
	return func(w *warp, in *instr, m uint32) action {
		d, a, b, c := w.reg(in.d), w.reg(in.a), w.reg(in.b), w.reg(in.c)
		for ; m != 0; m &= m - 1 {
			l := bits.TrailingZeros32(m)
			d[l] = f(a[l], b[l], c[l])
		}
		return actNext
	}
}

func (d *decoder) unary(typ string, f func(a uint64) uint64) {
	d.done()
	d.arity(2, 2)
	d.in.d, d.in.a = d.dst(0, typ), d.src(1, typ)
	d.in.run = lanes1(f)
}

func (d *decoder) binary(typ string, f func(a, b uint64) uint64) {
	d.done()
	d.arity(3, 3)
	d.in.d, d.in.a, d.in.b = d.dst(0, typ), d.src(1, typ), d.src(2, typ)
	d.in.run = lanes2(f)
}

func (d *decoder) ternary(typ string, f func(a, b, c uint64) uint64) {
	d.done()
	d.arity(4, 4)
	d.in.d, d.in.a, d.in.b, d.in.c = d.dst(0, typ), d.src(1, typ), d.src(2, typ), d.src(3, typ)
	d.in.run = lanes3(f)
}

// intOps are two-operand integer operations on extended operands.
var intOps = map[string]func(a, b int64) int64{
	"add": func(a, b int64) int64 { return a + b },
	"sub": func(a, b int64) int64 { return a - b },
	"and": func(a, b int64) int64 { return a & b },
	"or":  func(a, b int64) int64 { return a | b },
	"xor": func(a, b int64) int64 { return a ^ b },
}

// integer applies f to operands of a type and cuts the result.
func integer(typ string, f func(a, b int64) int64) func(a, b uint64) uint64 {
	m := mask(typeBytes[typ])
	if typeBytes[typ] == 8 {
		m = ^uint64(0)
	}
	return func(a, b uint64) uint64 { return uint64(f(extend(a, typ), extend(b, typ))) & m }
}

// simple decodes an operation that exists for integers and perhaps for floats.
func simple(name string) func(*decoder) {
	return func(d *decoder) {
		typ := d.typ()
		switch {
		case isFloat(typ) && floatOps[name] != nil:
			d.floatOp(name, typ)
		case typ == "pred":
			d.predOp(name)
		case name == "and" || name == "or" || name == "xor" || typeBytes[typ] >= 4:
			// Whole registers: the extension does not matter, the cut does.
			f := intOps[name]
			m := ^uint64(0) >> (64 - 8*typeBytes[typ])
			d.binary(typ, func(a, b uint64) uint64 { return uint64(f(int64(a), int64(b))) & m })
		default:
			d.binary(typ, integer(typ, intOps[name]))
		}
	}
}

// predOp decodes and.pred, or.pred, xor.pred, not.pred and mov.pred.
func (d *decoder) predOp(name string) {
	d.done()
	n := 3
	if name == "not" || name == "mov" {
		n = 2
	}
	d.arity(n, n)
	d.predDst(0)
	a, na := d.predArg(1)
	b, nb := a, na
	if n == 3 {
		b, nb = d.predArg(2)
	}
	d.in.run = func(w *warp, in *instr, m uint32) action {
		x, y := w.preds[a]^na, w.preds[b]^nb
		switch name {
		case "and":
			x &= y
		case "or":
			x |= y
		case "xor":
			x ^= y
		case "not":
			x = ^x
		}
		w.setPreds(in, x, m)
		return actNext
	}
}

// predArg is operand i as a predicate and the mask that negates it.
func (d *decoder) predArg(i int) (int32, uint32) {
	d.predSrc(i)
	if d.in.psNeg {
		return d.in.ps, ^uint32(0)
	}
	return d.in.ps, 0
}

// setPreds writes the predicates pd and, with the opposite, pq.
func (w *warp) setPreds(in *instr, v, m uint32) {
	if in.pd >= 0 {
		w.preds[in.pd] = w.preds[in.pd]&^m | v&m
		w.pbad[in.pd] &^= m
	}
	if in.pq >= 0 {
		w.preds[in.pq] = w.preds[in.pq]&^m | ^v&m
		w.pbad[in.pq] &^= m
	}
}

// mulHigh returns the upper half of a product.
func mulHigh(a, b uint64, typ string) uint64 {
	if typeBytes[typ] == 8 {
		hi, _ := bits.Mul64(a, b)
		if isSigned(typ) {
			if int64(a) < 0 {
				hi -= b
			}
			if int64(b) < 0 {
				hi -= a
			}
		}
		return hi
	}
	n := typeBytes[typ]
	return uint64(extend(a, typ)*extend(b, typ)) >> (8 * n) & mask(n)
}

func (d *decoder) product(typ string) (func(a, b uint64) uint64, string) {
	n := typeBytes[typ]
	switch {
	case d.has("wide"):
		if n > 4 {
			d.fail(".wide of a 64-bit type")
		}
		wide := typ[:1] + fmt.Sprint(16*n)
		m := ^uint64(0) >> (64 - 16*n)
		return func(a, b uint64) uint64 { return uint64(extend(a, typ)*extend(b, typ)) & m }, wide
	case d.has("hi"):
		return func(a, b uint64) uint64 { return mulHigh(a, b, typ) }, typ
	case d.has("lo"):
		m := ^uint64(0) >> (64 - 8*n)
		return func(a, b uint64) uint64 { return a * b & m }, typ
	}
	d.fail("%s of integers without .lo, .hi or .wide", d.st.op[0])
	return nil, ""
}

func decodeMul(d *decoder) {
	typ := d.typ()
	if isFloat(typ) {
		d.floatOp("mul", typ)
		return
	}
	f, out := d.product(typ)
	d.done()
	d.arity(3, 3)
	d.in.d, d.in.a, d.in.b = d.dst(0, out), d.src(1, typ), d.src(2, typ)
	d.in.run = lanes2(f)
}

func decodeMad(d *decoder) {
	typ := d.typ()
	if isFloat(typ) {
		d.fma(typ)
		return
	}
	f, out := d.product(typ)
	d.done()
	d.arity(4, 4)
	d.in.d, d.in.a, d.in.b, d.in.c = d.dst(0, out), d.src(1, typ), d.src(2, typ), d.src(3, out)
	m := ^uint64(0) >> (64 - 8*typeBytes[out])
	d.in.run = lanes3(func(a, b, c uint64) uint64 { return (f(a, b) + c) & m })
}

func decodeMinMax(name string) func(*decoder) {
	return func(d *decoder) {
		typ := d.typ()
		if isFloat(typ) {
			d.floatOp(name, typ)
			return
		}
		d.binary(typ, func(a, b uint64) uint64 {
			less := extend(a, typ) < extend(b, typ)
			if !isSigned(typ) {
				less = a < b
			}
			if less == (name == "min") {
				return a
			}
			return b
		})
	}
}

func decodeDiv(d *decoder) {
	typ := d.typ()
	if typ == "f32" {
		d.ignore("rn", "approx", "full")
		ftz := d.has("ftz")
		d.binary(typ, func(a, b uint64) uint64 {
			x, y := f32(a), f32(b)
			if ftz {
				x, y = flush(x), flush(y)
			}
			z := x / y
			if ftz {
				z = flush(z)
			}
			return bits32(z)
		})
		return
	}
	rem := d.st.op[0] == "rem"
	all := ^uint64(0) >> (64 - 8*typeBytes[typ])
	d.binary(typ, func(a, b uint64) uint64 {
		if b == 0 {
			if rem { // "machine-specific" in PTX ISA; the values are those of the usual expansion
				return a
			}
			return all
		}
		var q, r uint64
		if isSigned(typ) {
			x, y := extend(a, typ), extend(b, typ)
			if y == -1 {
				q, r = uint64(-x), 0
			} else {
				q, r = uint64(x/y), uint64(x%y)
			}
		} else {
			q, r = a/b, a%b
		}
		if rem {
			return r & all
		}
		return q & all
	})
}

// decodeShift: amounts beyond the width give zeros or signs (PTX ISA, "shl", "shr").
func decodeShift(d *decoder) {
	typ := d.typ()
	d.done()
	d.arity(3, 3)
	d.in.d, d.in.a, d.in.b = d.dst(0, typ), d.src(1, typ), d.src(2, "b32")
	m := ^uint64(0) >> (64 - 8*typeBytes[typ])
	if d.st.op[0] == "shl" {
		d.in.run = lanes2(func(a, b uint64) uint64 { return a << b & m })
	} else if isSigned(typ) {
		d.in.run = lanes2(func(a, b uint64) uint64 { return uint64(extend(a, typ)>>b) & m })
	} else {
		d.in.run = lanes2(func(a, b uint64) uint64 { return a >> b })
	}
}

func decodeShf(d *decoder) {
	left := d.has("l")
	if !left && !d.has("r") {
		d.fail("shf without .l or .r")
	}
	wrap := d.has("wrap")
	if !wrap && !d.has("clamp") {
		d.fail("shf without .wrap or .clamp")
	}
	d.typ()
	d.ternary("b32", func(a, b, c uint64) uint64 {
		v := b<<32 | a
		n := c & 31
		if !wrap {
			n = min(c, 32)
		}
		if left {
			return v << n >> 32
		}
		return v >> n & 0xffffffff
	})
}

func decodeNot(d *decoder) {
	typ := d.typ()
	if typ == "pred" {
		d.predOp("not")
		return
	}
	m := ^uint64(0) >> (64 - 8*typeBytes[typ])
	d.unary(typ, func(a uint64) uint64 { return ^a & m })
}

func decodeNegAbs(d *decoder) {
	typ := d.typ()
	ftz := d.has("ftz")
	abs := d.st.op[0] == "abs"
	var signs uint64
	switch typ {
	case "f64":
		signs = 1 << 63
	case "f32":
		signs = 1 << 31
	case "bf16", "f16":
		signs = 1 << 15
	case "bf16x2", "f16x2":
		signs = 1<<31 | 1<<15
	default:
		d.unary(typ, integer1(typ, func(a int64) int64 {
			if abs && a >= 0 {
				return a
			}
			return -a
		}))
		return
	}
	d.unary(typ, func(a uint64) uint64 {
		if ftz && typ == "f32" {
			a = bits32(flush(f32(a)))
		}
		if abs {
			return a &^ signs
		}
		return a ^ signs
	})
}

func integer1(typ string, f func(a int64) int64) func(a uint64) uint64 {
	g := integer(typ, func(a, _ int64) int64 { return f(a) })
	return func(a uint64) uint64 { return g(a, 0) }
}

func decodeBits(d *decoder) {
	name := d.st.op[0]
	typ := d.typ()
	n := 8 * typeBytes[typ]
	if name == "brev" {
		d.unary(typ, func(a uint64) uint64 { return bits.Reverse64(a) >> (64 - n) })
		return
	}
	shift := d.has("shiftamt")
	d.done()
	d.arity(2, 2)
	d.in.d, d.in.a = d.dst(0, "b32"), d.src(1, typ)
	switch name {
	case "popc":
		d.in.run = lanes1(func(a uint64) uint64 { return uint64(bits.OnesCount64(a)) })
	case "clz":
		d.in.run = lanes1(func(a uint64) uint64 { return uint64(bits.LeadingZeros64(a) - (64 - n)) })
	case "bfind":
		d.in.run = lanes1(func(a uint64) uint64 {
			if isSigned(typ) && extend(a, typ) < 0 {
				a = ^a & (^uint64(0) >> (64 - n))
			}
			if a == 0 {
				return 0xffffffff
			}
			top := bits.Len64(a) - 1
			if shift {
				top = n - 1 - top
			}
			return uint64(top)
		})
	}
}

// decodeBfe: PTX ISA "bfe", whose pseudocode this follows.
func decodeBfe(d *decoder) {
	typ := d.typ()
	d.done()
	d.arity(4, 4)
	d.in.d, d.in.a, d.in.b, d.in.c = d.dst(0, typ), d.src(1, typ), d.src(2, "b32"), d.src(3, "b32")
	width := 8 * typeBytes[typ]
	all := ^uint64(0) >> (64 - width)
	d.in.run = lanes3(func(a, b, c uint64) uint64 {
		pos, n := int(b&0xff), int(c&0xff)
		if n == 0 {
			return 0
		}
		v := a >> pos
		if n < 64 {
			v &= 1<<n - 1
		}
		if isSigned(typ) && a>>min(pos+n-1, width-1)&1 != 0 {
			if keep := min(n, max(width-pos, 0)); keep < 64 {
				v |= ^uint64(0) << keep
			}
		}
		return v & all
	})
}

func decodeBfi(d *decoder) {
	typ := d.typ()
	d.done()
	d.arity(5, 5)
	in := d.in
	in.d, in.a, in.b, in.c = d.dst(0, typ), d.src(1, typ), d.src(2, typ), d.src(3, "b32")
	length := d.src(4, "b32")
	all := ^uint64(0) >> (64 - 8*typeBytes[typ])
	in.run = func(w *warp, in *instr, m uint32) action {
		d, a, b, c, n := w.reg(in.d), w.reg(in.a), w.reg(in.b), w.reg(in.c), w.reg(length)
		for ; m != 0; m &= m - 1 {
			l := bits.TrailingZeros32(m)
			field := all
			if n := n[l] & 0xff; n < 64 {
				field = 1<<n - 1
			}
			field = field << (c[l] & 0xff) & all
			d[l] = b[l]&^field | a[l]<<(c[l]&0xff)&field
		}
		return actNext
	}
}

// decodePrmt: the default mode of "prmt", four selectors of which bit 3 replicates the sign.
func decodePrmt(d *decoder) {
	d.ignore("b32")
	d.ternary("b32", func(a, b, c uint64) uint64 {
		v := b<<32 | a
		var out uint64
		for i := range 4 {
			s := c >> (4 * i)
			x := v >> (8 * (s & 7)) & 0xff
			if s&8 != 0 {
				x = uint64(int8(x)>>7) & 0xff
			}
			out |= x << (8 * i)
		}
		return out
	})
}

func decodeLop3(d *decoder) {
	d.ignore("b32")
	d.done()
	d.arity(5, 5)
	in := d.in
	in.d, in.a, in.b, in.c = d.dst(0, "b32"), d.src(1, "b32"), d.src(2, "b32"), d.src(3, "b32")
	table := d.imm(4)
	in.run = lanes3(func(a, b, c uint64) uint64 {
		var out uint64
		for i := range 8 {
			if table>>i&1 == 0 {
				continue
			}
			x, y, z := a, b, c
			if i&4 == 0 {
				x = ^x
			}
			if i&2 == 0 {
				y = ^y
			}
			if i&1 == 0 {
				z = ^z
			}
			out |= x & y & z
		}
		return out & 0xffffffff
	})
}

// compare returns the comparison of setp. The u forms of float types are true for NaN.
func (d *decoder) compare(name, typ string) func(a, b uint64) bool {
	order := func(less, equal, greater, unordered bool) func(a, b uint64) bool {
		switch {
		case isFloat(typ):
			get := func(v uint64) float64 { return float64(f32(v)) }
			switch typ {
			case "f64":
				get = f64
			case "bf16", "f16":
				get = func(v uint64) float64 { return float64(halves[typ].from(uint16(v))) }
			}
			return func(a, b uint64) bool {
				x, y := get(a), get(b)
				switch {
				case x < y:
					return less
				case x == y:
					return equal
				case x > y:
					return greater
				}
				return unordered
			}
		case isSigned(typ):
			return func(a, b uint64) bool {
				x, y := extend(a, typ), extend(b, typ)
				return x < y && less || x == y && equal || x > y && greater
			}
		}
		return func(a, b uint64) bool { return a < b && less || a == b && equal || a > b && greater }
	}
	switch name {
	case "eq":
		return order(false, true, false, false)
	case "ne":
		return order(true, false, true, false)
	case "lt", "lo":
		return order(true, false, false, false)
	case "le", "ls":
		return order(true, true, false, false)
	case "gt", "hi":
		return order(false, false, true, false)
	case "ge", "hs":
		return order(false, true, true, false)
	case "equ":
		return order(false, true, false, true)
	case "neu":
		return order(true, false, true, true)
	case "ltu":
		return order(true, false, false, true)
	case "leu":
		return order(true, true, false, true)
	case "gtu":
		return order(false, false, true, true)
	case "geu":
		return order(false, true, true, true)
	case "num":
		return order(true, true, true, false)
	case "nan":
		return order(false, false, false, true)
	}
	d.fail("the emulator does not know the comparison .%s", name)
	return nil
}

func decodeSetp(d *decoder) {
	if len(d.mods) < 2 {
		d.fail("setp without comparison and type")
	}
	name := d.mods[0]
	d.mods = d.mods[1:]
	d.ignore("ftz")
	typ := d.typ()
	f := d.compare(name, typ)
	logic := ""
	for _, l := range []string{"and", "or", "xor"} {
		if d.has(l) {
			logic = l
		}
	}
	d.done()
	n := 3
	if logic != "" {
		n = 4
	}
	d.arity(n, n)
	d.predDst(0)
	d.in.a, d.in.b = d.src(1, typ), d.src(2, typ)
	var c int32
	var negate uint32
	if logic != "" {
		c, negate = d.predArg(3)
	}
	d.in.run = func(w *warp, in *instr, m uint32) action {
		a, b := w.reg(in.a), w.reg(in.b)
		var v uint32
		for rest := m; rest != 0; rest &= rest - 1 {
			l := bits.TrailingZeros32(rest)
			if f(a[l], b[l]) {
				v |= 1 << l
			}
		}
		v2 := ^v
		if logic != "" {
			p := w.preds[c] ^ negate
			switch logic {
			case "and":
				v, v2 = v&p, v2&p
			case "or":
				v, v2 = v|p, v2|p
			case "xor":
				v, v2 = v^p, v2^p
			}
		}
		w.setPreds(in, v, m)
		if in.pq >= 0 {
			w.preds[in.pq] = w.preds[in.pq]&^m | v2&m
		}
		return actNext
	}
}

func decodeSelp(d *decoder) {
	typ := d.typ()
	d.done()
	d.arity(4, 4)
	d.in.d, d.in.a, d.in.b = d.dst(0, typ), d.src(1, typ), d.src(2, typ)
	p, negate := d.predArg(3)
	d.in.run = func(w *warp, in *instr, m uint32) action {
		d, a, b := w.reg(in.d), w.reg(in.a), w.reg(in.b)
		v := w.preds[p] ^ negate
		for ; m != 0; m &= m - 1 {
			l := bits.TrailingZeros32(m)
			if v>>l&1 != 0 {
				d[l] = a[l]
			} else {
				d[l] = b[l]
			}
		}
		return actNext
	}
}

func decodeMov(d *decoder) {
	typ := d.typ()
	if typ == "pred" {
		d.predOp("mov")
		return
	}
	d.done()
	d.arity(2, 2)
	switch {
	case d.arg(0).kind == opVector: // unpack
		n := len(d.arg(0).list)
		part := typeBytes[typ] / max(n, 1)
		if n != 2 && n != 4 || part < 2 {
			d.fail("a mov of .%s into %d registers", typ, n)
		}
		d.in.a = d.src(1, typ)
		d.in.vec = d.vector(0, n, fmt.Sprintf("b%d", 8*part), true)
		d.in.run = func(w *warp, in *instr, m uint32) action {
			a := *w.reg(in.a)
			for i, r := range in.vec {
				d := w.reg(r)
				for rest := m; rest != 0; rest &= rest - 1 {
					l := bits.TrailingZeros32(rest)
					d[l] = a[l] >> (8 * part * i) & mask(part)
				}
			}
			return actNext
		}
	case d.arg(1).kind == opVector: // pack
		n := len(d.arg(1).list)
		part := typeBytes[typ] / max(n, 1)
		if n != 2 && n != 4 || part < 2 {
			d.fail("a mov of %d registers into .%s", n, typ)
		}
		d.in.d = d.dst(0, typ)
		d.in.vec = d.vector(1, n, fmt.Sprintf("b%d", 8*part), false)
		d.in.run = func(w *warp, in *instr, m uint32) action {
			for rest := m; rest != 0; rest &= rest - 1 {
				l := bits.TrailingZeros32(rest)
				var v uint64
				for i, r := range in.vec {
					v |= w.reg(r)[l] << (8 * part * i)
				}
				w.reg(in.d)[l] = v
			}
			return actNext
		}
	case d.arg(1).kind == opReg && slices.Contains([]string{"%clock", "%clock64", "%globaltimer"}, d.arg(1).name):
		d.in.d = d.dst(0, typ)
		m := ^uint64(0) >> (64 - 8*typeBytes[typ])
		d.in.run = func(w *warp, in *instr, active uint32) action {
			for ; active != 0; active &= active - 1 {
				w.reg(in.d)[bits.TrailingZeros32(active)] = w.sim.steps & m
			}
			return actNext
		}
	default:
		d.in.d, d.in.a = d.dst(0, typ), d.src(1, typ)
		d.in.run = func(w *warp, in *instr, m uint32) action {
			d, a := w.reg(in.d), w.reg(in.a)
			if m == ^uint32(0) {
				*d = *a
				return actNext
			}
			for ; m != 0; m &= m - 1 {
				l := bits.TrailingZeros32(m)
				d[l] = a[l]
			}
			return actNext
		}
	}
}

// decodeCvta: the windows of the generic address space are in memory.go.
func decodeCvta(d *decoder) {
	to := d.has("to")
	s := d.space()
	typ := d.typ()
	base := map[space]uint64{spaceShared: sharedWindow, spaceCluster: sharedWindow, spaceGlobal: 0, spaceConst: 0, spaceParam: 0}
	b, ok := base[s]
	if !ok {
		d.fail("cvta without a state space that the emulator knows")
	}
	if to {
		b = -b
	}
	d.unary(typ, func(a uint64) uint64 { return a + b })
}
