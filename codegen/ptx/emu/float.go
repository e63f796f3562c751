package emu

import (
	"math"
	"math/big"
	"math/bits"
	"slices"

	"github.com/bertc/bertc/internal/num"
)

// This file owns floating-point arithmetic in registers: formats, rounding, conversions, and the
// approximate functions.

// flush is .ftz: subnormal f32 numbers become zeros of their sign.
func flush(f float32) float32 {
	if u := math.Float32bits(f); u&0x7f800000 == 0 {
		return math.Float32frombits(u & 0x80000000)
	}
	return f
}

// fma32 is a·b+c rounded once. The product is exact in float64; where the sum is halfway between
// two float32 numbers after its own rounding, the rest that was rounded off decides.
func fma32(a, b, c float32) float32 {
	p := float64(a) * float64(b)
	s := p + float64(c)
	if u := math.Float64bits(s); u&(1<<29-1) == 1<<28 {
		t := s - p
		if rest := (p - (s - t)) + (float64(c) - t); rest != 0 {
			if (rest > 0) == (s > 0) {
				u++
			} else {
				u--
			}
			return float32(math.Float64frombits(u))
		}
	}
	return float32(s)
}

func saturate(f float32) float32 {
	if !(f > 0) { // NaN too
		return 0
	}
	return min(f, 1)
}

func fmin(a, b float32, nan bool) float32 {
	switch {
	case a != a || b != b:
		if nan || a != a && b != b {
			return float32(math.NaN())
		}
		if a != a {
			return b
		}
		return a
	}
	return min(a, b)
}

// floatOps are the two-operand float operations, in float64 of exact operands; the result is
// rounded to the type, which is right for sums and products of f32 and narrower (double rounding
// of a 53-bit result to 24 bits or fewer is harmless: 53 ≥ 2·24+2).
var floatOps = map[string]func(a, b float64) float64{
	"add": func(a, b float64) float64 { return a + b },
	"sub": func(a, b float64) float64 { return a - b },
	"mul": func(a, b float64) float64 { return a * b },
	"min": func(a, b float64) float64 { return float64(fmin(float32(a), float32(b), false)) },
	"max": func(a, b float64) float64 { return -float64(fmin(float32(-a), float32(-b), false)) },
}

// half is a 16-bit float format.
type half struct {
	from func(uint16) float32
	to   func(float32) uint16
}

var halves = map[string]half{
	"bf16": {num.FromBF16, num.BF16},
	"f16":  {num.FromF16, num.F16},
}

// packed applies f to both halves of 32-bit values, or to the only one of 16-bit values.
func packed(typ string, f func(a, b, c float64) float64) func(a, b, c uint64) uint64 {
	h, n := halves[typ], 1
	if typ == "bf16x2" || typ == "f16x2" {
		h, n = halves[typ[:len(typ)-2]], 2
	}
	return func(a, b, c uint64) uint64 {
		var out uint64
		for i := range n {
			s := 16 * i
			x := f(float64(h.from(uint16(a>>s))), float64(h.from(uint16(b>>s))), float64(h.from(uint16(c>>s))))
			out |= uint64(h.to(roundOdd32(x))) << s
		}
		return out
	}
}

// roundOdd32 rounds to float32 such that a second rounding to a narrower format is right.
func roundOdd32(x float64) float32 {
	f := float32(x)
	if float64(f) == x || x != x || math.IsInf(float64(f), 0) {
		return f
	}
	u := math.Float32bits(f)
	if u&1 == 0 {
		if (float64(f) < x) == (x > 0) {
			u++
		} else {
			u--
		}
	}
	return math.Float32frombits(u)
}

func isPacked(typ string) bool {
	return slices.Contains([]string{"bf16", "f16", "bf16x2", "f16x2"}, typ)
}

// floatOp decodes add, sub, mul, min, max of float types.
func (d *decoder) floatOp(name, typ string) {
	d.ignore("rn")
	ftz, sat, nan := d.has("ftz"), d.has("sat"), d.has("NaN")
	f := floatOps[name]
	switch {
	case isPacked(typ):
		if nan {
			d.fail("the emulator does not know .NaN of packed types")
		}
		g := packed(typ, func(a, b, _ float64) float64 { return f(a, b) })
		d.binary(typ, func(a, b uint64) uint64 { return g(a, b, 0) })
	case typ == "f64":
		d.binary(typ, func(a, b uint64) uint64 { return bits64(f(f64(a), f64(b))) })
	case nan:
		sign := float32(1)
		if name == "max" {
			sign = -1
		}
		d.binary(typ, func(a, b uint64) uint64 { return bits32(sign * fmin(sign*f32(a), sign*f32(b), true)) })
	case ftz || sat:
		d.binary(typ, func(a, b uint64) uint64 {
			x, y := f32(a), f32(b)
			if ftz {
				x, y = flush(x), flush(y)
			}
			z := float32(f(float64(x), float64(y)))
			if ftz {
				z = flush(z)
			}
			if sat {
				z = saturate(z)
			}
			return bits32(z)
		})
	default:
		d.binary(typ, func(a, b uint64) uint64 { return bits32(float32(f(float64(f32(a)), float64(f32(b))))) })
		if run := fastFloat[name]; run != nil {
			d.in.run = run
		}
	}
}

// fastFloat are the hot operations without a call for each lane.
var fastFloat = map[string]runner{
	"add": func(w *warp, in *instr, m uint32) action {
		d, a, b := w.reg(in.d), w.reg(in.a), w.reg(in.b)
		for ; m != 0; m &= m - 1 {
			l := bits.TrailingZeros32(m)
			d[l] = bits32(f32(a[l]) + f32(b[l]))
		}
		return actNext
	},
	"mul": func(w *warp, in *instr, m uint32) action {
		d, a, b := w.reg(in.d), w.reg(in.a), w.reg(in.b)
		for ; m != 0; m &= m - 1 {
			l := bits.TrailingZeros32(m)
			d[l] = bits32(f32(a[l]) * f32(b[l]))
		}
		return actNext
	},
}

func isFloat(typ string) bool { return typ == "f32" || typ == "f64" || isPacked(typ) }

func (d *decoder) fma(typ string) {
	d.ignore("rn")
	ftz, sat, relu := d.has("ftz"), d.has("sat"), d.has("relu")
	switch {
	case isPacked(typ):
		// The float64 sum of an exact product is rounded to odd before the format.
		d.ternary(typ, packed(typ, func(a, b, c float64) float64 {
			s := math.FMA(a, b, c)
			if relu {
				s = max(s, 0)
			}
			return s
		}))
	case typ == "f64":
		d.ternary(typ, func(a, b, c uint64) uint64 { return bits64(math.FMA(f64(a), f64(b), f64(c))) })
	case ftz || sat:
		d.ternary(typ, func(a, b, c uint64) uint64 {
			x, y, z := f32(a), f32(b), f32(c)
			if ftz {
				x, y, z = flush(x), flush(y), flush(z)
			}
			r := fma32(x, y, z)
			if ftz {
				r = flush(r)
			}
			if sat {
				r = saturate(r)
			}
			return bits32(r)
		})
	default:
		d.ternary(typ, nil)
		d.in.run = func(w *warp, in *instr, m uint32) action {
			d, a, b, c := w.reg(in.d), w.reg(in.a), w.reg(in.b), w.reg(in.c)
			for ; m != 0; m &= m - 1 {
				l := bits.TrailingZeros32(m)
				d[l] = bits32(fma32(f32(a[l]), f32(b[l]), f32(c[l])))
			}
			return actNext
		}
	}
}

// rounders are the rounding modes of conversions to integers and of integer-valued floats.
var rounders = map[string]func(float64) float64{
	"rni": math.RoundToEven, "rzi": math.Trunc, "rmi": math.Floor, "rpi": math.Ceil,
}

func decodeCvt(d *decoder) {
	var rounder func(float64) float64
	for name, f := range rounders {
		if d.has(name) {
			rounder = f
		}
	}
	toZero := d.has("rz")
	d.ignore("rn")
	ftz, sat, relu := d.has("ftz"), d.has("sat"), d.has("relu")
	to, from := d.typ(), d.typ()
	d.done()
	if to == "bf16x2" || to == "f16x2" {
		if from != "f32" {
			d.fail("cvt.%s from .%s", to, from)
		}
		h := halves[to[:len(to)-2]]
		d.arity(3, 3)
		d.in.d, d.in.a, d.in.b = d.dst(0, to), d.src(1, from), d.src(2, from)
		one := func(v uint64) uint64 { return narrow(h, to, f32(v), toZero, relu) }
		d.in.run = lanes2(func(a, b uint64) uint64 { return one(a)<<16 | one(b) })
		return
	}
	d.arity(2, 2)
	// The registers may be wider than the types.
	d.in.d, d.in.a = d.dst(0, ""), d.src(1, "")
	wide := typeBytes[d.regType(d.arg(0))]
	if wide < typeBytes[to] || d.arg(1).kind == opReg && d.regType(d.arg(1)) != "" && typeBytes[d.regType(d.arg(1))] < typeBytes[from] {
		d.fail("a register is narrower than its type")
	}
	all := ^uint64(0) >> (64 - 8*max(wide, typeBytes[to]))
	cut := func(v int64) uint64 { return uint64(extend(uint64(v), to)) & all }
	get := func(v uint64) float64 { return float64(f32(v)) }
	switch from {
	case "f64":
		get = f64
	case "bf16", "f16":
		h := halves[from]
		get = func(v uint64) float64 { return float64(h.from(uint16(v))) }
	case "f32":
		if ftz {
			get = func(v uint64) float64 { return float64(flush(f32(v))) }
		}
	}
	put := func(x float64) uint64 {
		f := float32(x)
		if ftz {
			f = flush(f)
		}
		if sat {
			f = saturate(f)
		}
		return bits32(f)
	}
	switch to {
	case "f64":
		put = bits64
	case "bf16", "f16":
		h := halves[to]
		put = func(x float64) uint64 { return narrow(h, to, roundOdd32(x), toZero, relu) }
	}
	switch fromFloat, toFloat := isFloat(from), isFloat(to); {
	case fromFloat && toFloat:
		if rounder == nil {
			rounder = func(x float64) float64 { return x }
		}
		d.in.run = lanes1(func(a uint64) uint64 { return put(rounder(get(a))) })
	case fromFloat:
		if rounder == nil {
			d.fail("a conversion to integers without .rni, .rzi, .rmi or .rpi")
		}
		n := 8 * typeBytes[to]
		lo, hi := 0.0, math.Ldexp(1, n)
		if isSigned(to) {
			lo, hi = -math.Ldexp(1, n-1), math.Ldexp(1, n-1)
		}
		d.in.run = lanes1(func(a uint64) uint64 {
			switch x := rounder(get(a)); {
			case x != x:
				return 0
			case x <= lo:
				return cut(int64(lo))
			case x >= hi:
				if isSigned(to) {
					return cut(int64(uint64(1)<<(n-1) - 1))
				}
				return ^uint64(0) >> (64 - n) & all
			case x >= 1<<63:
				return uint64(x)
			default:
				return cut(int64(x))
			}
		})
	case toFloat:
		d.in.run = lanes1(func(a uint64) uint64 {
			v := extend(a, from)
			switch {
			case to == "f64" && !isSigned(from):
				return bits64(float64(uint64(v)))
			case to == "f64":
				return bits64(float64(v))
			case to == "f32" && !isSigned(from):
				return put(float64(float32(uint64(v))))
			case to == "f32":
				return put(float64(float32(v)))
			}
			x, _ := new(big.Float).SetInt64(v).Float64()
			return put(x)
		})
	default:
		if sat {
			lo, hi := int64(0), int64(1)<<(8*typeBytes[to])-1
			if isSigned(to) {
				lo, hi = -1<<(8*typeBytes[to]-1), 1<<(8*typeBytes[to]-1)-1
			}
			if typeBytes[to] == 8 {
				d.fail("the emulator does not know .sat to 64 bits")
			}
			d.in.run = lanes1(func(a uint64) uint64 { return cut(min(max(extend(a, from), lo), hi)) })
			return
		}
		d.in.run = lanes1(func(a uint64) uint64 { return cut(extend(a, from)) })
	}
}

// narrow rounds an f32 number to a 16-bit format.
func narrow(h half, typ string, f float32, toZero, relu bool) uint64 {
	if relu && !(f > 0) && f == f {
		f = 0
	}
	v := h.to(f)
	if toZero && f == f {
		if g := h.from(v); math.Abs(float64(g)) > math.Abs(float64(f)) {
			v-- // the magnitude is in the low bits of both formats
		}
	}
	return uint64(v)
}

// approximate are the functions of the special function unit with the relative error that PTX ISA
// allows them (sin and cos: absolute, in the first quadrant; lg2: absolute near 1).
var approximate = map[string]struct {
	f        func(x float64) float64
	err      float64
	absolute bool
}{
	"ex2":   {math.Exp2, 0x1p-22, false},
	"lg2":   {math.Log2, 0x1p-22, true},
	"rcp":   {func(x float64) float64 { return 1 / x }, 0x1p-23, false},
	"rsqrt": {func(x float64) float64 { return 1 / math.Sqrt(x) }, 1.28e-7, false}, // 2^-22.9
	"sqrt":  {math.Sqrt, 0x1p-23, false},
	"sin":   {math.Sin, 5.1e-7, true}, // 2^-20.9
	"cos":   {math.Cos, 5.1e-7, true},
	"tanh":  {math.Tanh, 0x1p-11, false},
}

// perturb adds up to the error that is allowed, always the same for the same operand.
func perturb(name string, x float32, y float64) float64 {
	a := approximate[name]
	r := rng(math.Float32bits(x))
	e := a.err * (float64(int64(r.next())>>11) / (1 << 52))
	if !a.absolute {
		e *= y
	}
	if e != e || math.IsInf(y, 0) {
		return y
	}
	return y + e
}

func decodeApprox(d *decoder) {
	name := d.st.op[0]
	d.ignore("rn")
	ftz := d.has("ftz")
	typ := d.typ()
	f := approximate[name].f
	exact := !d.has("approx")
	switch {
	case isPacked(typ) && (name == "ex2" || name == "tanh"):
		g := packed(typ, func(a, _, _ float64) float64 { return f(a) })
		d.unary(typ, func(a uint64) uint64 { return g(a, 0, 0) })
	case typ == "f32":
		d.unary(typ, nil)
		one := func(a uint64, perturbed bool) uint64 {
			x := f32(a)
			if ftz {
				x = flush(x)
			}
			r := f(float64(x))
			if perturbed {
				r = perturb(name, x, r)
			}
			y := float32(r)
			if ftz {
				y = flush(y)
			}
			return bits32(y)
		}
		d.in.run = func(w *warp, in *instr, m uint32) action {
			d, a := w.reg(in.d), w.reg(in.a)
			perturbed := w.sim.dev.opt.Perturb && !exact
			lanesOf(m, func(l int) { d[l] = one(a[l], perturbed) })
			return actNext
		}
	}
}
