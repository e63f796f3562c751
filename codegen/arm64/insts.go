package arm64

// This file owns the table of vector instructions, the only place with encodings, and the method
// of each. All of them are written as words: the Go assembler of Go 1.26 lacks most, and that of
// Go 1.27 gets some of those that it has wrong.

// inst is a row of the table.
type inst struct {
	name   string
	syntax string // as GNU as reads it
	base   uint32 // the word with all operands zero
	form   form
	size   int // of the form: bits of an element, or bytes of the access
	use    use
	// feature is the CPU feature beyond the Armv8.0 baseline, by the name of the manual.
	feature string
}

// use is what the instruction does with its first operand.
type use uint8

const (
	sets   use = iota // writes it
	adds              // reads and writes it
	stores            // reads it
)

var insts = []inst{
	{name: "FMLA", syntax: "fmla v{d}.4s, v{n}.4s, v{m}.4s", base: 0x4e20cc00, form: formDNM, use: adds},
	{name: "FMLS", syntax: "fmls v{d}.4s, v{n}.4s, v{m}.4s", base: 0x4ea0cc00, form: formDNM, use: adds},
	{name: "FMLAe", syntax: "fmla v{d}.4s, v{n}.4s, v{m}.s[{i}]", base: 0x4f801000, form: formLane, use: adds},
	{name: "FMULe", syntax: "fmul v{d}.4s, v{n}.4s, v{m}.s[{i}]", base: 0x4f809000, form: formLane},
	{name: "FADD", syntax: "fadd v{d}.4s, v{n}.4s, v{m}.4s", base: 0x4e20d400, form: formDNM},
	{name: "FSUB", syntax: "fsub v{d}.4s, v{n}.4s, v{m}.4s", base: 0x4ea0d400, form: formDNM},
	{name: "FMUL", syntax: "fmul v{d}.4s, v{n}.4s, v{m}.4s", base: 0x6e20dc00, form: formDNM},
	{name: "FDIV", syntax: "fdiv v{d}.4s, v{n}.4s, v{m}.4s", base: 0x6e20fc00, form: formDNM},
	{name: "FMAX", syntax: "fmax v{d}.4s, v{n}.4s, v{m}.4s", base: 0x4e20f400, form: formDNM},
	{name: "FMIN", syntax: "fmin v{d}.4s, v{n}.4s, v{m}.4s", base: 0x4ea0f400, form: formDNM},
	{name: "FADDP", syntax: "faddp v{d}.4s, v{n}.4s, v{m}.4s", base: 0x6e20d400, form: formDNM},
	{name: "FMAXP", syntax: "fmaxp v{d}.4s, v{n}.4s, v{m}.4s", base: 0x6e20f400, form: formDNM},
	{name: "FCMEQ", syntax: "fcmeq v{d}.4s, v{n}.4s, v{m}.4s", base: 0x4e20e400, form: formDNM},
	{name: "FABS", syntax: "fabs v{d}.4s, v{n}.4s", base: 0x4ea0f800, form: formDN},
	{name: "FNEG", syntax: "fneg v{d}.4s, v{n}.4s", base: 0x6ea0f800, form: formDN},
	{name: "FSQRT", syntax: "fsqrt v{d}.4s, v{n}.4s", base: 0x6ea1f800, form: formDN},
	{name: "FCVTNS", syntax: "fcvtns v{d}.4s, v{n}.4s", base: 0x4e21a800, form: formDN},
	{name: "SCVTF", syntax: "scvtf v{d}.4s, v{n}.4s", base: 0x4e21d800, form: formDN},

	{name: "ADD", syntax: "add v{d}.4s, v{n}.4s, v{m}.4s", base: 0x4ea08400, form: formDNM},
	{name: "SUB", syntax: "sub v{d}.4s, v{n}.4s, v{m}.4s", base: 0x6ea08400, form: formDNM},
	{name: "UMAX", syntax: "umax v{d}.4s, v{n}.4s, v{m}.4s", base: 0x6ea06400, form: formDNM},
	{name: "UMAXP", syntax: "umaxp v{d}.4s, v{n}.4s, v{m}.4s", base: 0x6ea0a400, form: formDNM},
	{name: "AND", syntax: "and v{d}.16b, v{n}.16b, v{m}.16b", base: 0x4e201c00, form: formDNM},
	{name: "ORR", syntax: "orr v{d}.16b, v{n}.16b, v{m}.16b", base: 0x4ea01c00, form: formDNM},
	{name: "BSL", syntax: "bsl v{d}.16b, v{n}.16b, v{m}.16b", base: 0x6e601c00, form: formDNM, use: adds},
	{name: "SHL", syntax: "shl v{d}.4s, v{n}.4s, #{i}", base: 0x4f005400, form: formShl, size: 32},
	{name: "USHR", syntax: "ushr v{d}.4s, v{n}.4s, #{i}", base: 0x6f000400, form: formShr, size: 32},
	{name: "SSHR", syntax: "sshr v{d}.4s, v{n}.4s, #{i}", base: 0x4f000400, form: formShr, size: 32},
	{name: "SHLL", syntax: "shll v{d}.4s, v{n}.4h, #16", base: 0x2e613800, form: formDN},
	{name: "SHRN", syntax: "shrn v{d}.4h, v{n}.4s, #{i}", base: 0x0f008400, form: formShr, size: 16},

	{name: "SXTLb", syntax: "sxtl v{d}.8h, v{n}.8b", base: 0x0f08a400, form: formDN},
	{name: "SXTLh", syntax: "sxtl v{d}.4s, v{n}.4h", base: 0x0f10a400, form: formDN},
	{name: "XTNs", syntax: "xtn v{d}.4h, v{n}.4s", base: 0x0e612800, form: formDN},
	{name: "XTNh", syntax: "xtn v{d}.8b, v{n}.8h", base: 0x0e212800, form: formDN},

	{name: "SDOTe", syntax: "sdot v{d}.4s, v{n}.16b, v{m}.4b[{i}]", base: 0x4f80e000, form: formLane, use: adds, feature: "FEAT_DotProd"},
	{name: "SMMLA", syntax: "smmla v{d}.4s, v{n}.16b, v{m}.16b", base: 0x4e80a400, form: formDNM, use: adds, feature: "FEAT_I8MM"},
	{name: "BFCVTN", syntax: "bfcvtn v{d}.4h, v{n}.4s", base: 0x0ea16800, form: formDN, feature: bf16Feature},
	{name: "BFMMLA", syntax: "bfmmla v{d}.4s, v{n}.8h, v{m}.8h", base: 0x6e40ec00, form: formDNM, use: adds, feature: bf16Feature},

	{name: "ZERO", syntax: "movi v{d}.2d, #0", base: 0x6f00e400, form: formNone},
	{name: "DUPs1", syntax: "mov s{d}, v{n}.s[1]", base: 0x5e0c0400, form: formDN},
	{name: "DUPd1", syntax: "mov d{d}, v{n}.d[1]", base: 0x5e180400, form: formDN},
	{name: "ZIP1h", syntax: "zip1 v{d}.8h, v{n}.8h, v{m}.8h", base: 0x4e403800, form: formDNM},
	{name: "ZIP1s", syntax: "zip1 v{d}.4s, v{n}.4s, v{m}.4s", base: 0x4e803800, form: formDNM},
	{name: "ZIP2s", syntax: "zip2 v{d}.4s, v{n}.4s, v{m}.4s", base: 0x4e807800, form: formDNM},
	{name: "ZIP1d", syntax: "zip1 v{d}.2d, v{n}.2d, v{m}.2d", base: 0x4ec03800, form: formDNM},
	{name: "ZIP2d", syntax: "zip2 v{d}.2d, v{n}.2d, v{m}.2d", base: 0x4ec07800, form: formDNM},

	{name: "LDRq", syntax: "ldr q{d}, [x{n}, #{i}]", base: 0x3dc00000, form: formMem, size: 16},
	{name: "LDRd", syntax: "ldr d{d}, [x{n}, #{i}]", base: 0xfd400000, form: formMem, size: 8},
	{name: "LDRs", syntax: "ldr s{d}, [x{n}, #{i}]", base: 0xbd400000, form: formMem, size: 4},
	{name: "LDRh", syntax: "ldr h{d}, [x{n}, #{i}]", base: 0x7d400000, form: formMem, size: 2},
	{name: "LDRb", syntax: "ldr b{d}, [x{n}, #{i}]", base: 0x3d400000, form: formMem, size: 1},
	{name: "LD1R", syntax: "ld1r {v{d}.4s}, [x{n}]", base: 0x4d40c800, form: formBase},
	{name: "STRq", syntax: "str q{d}, [x{n}, #{i}]", base: 0x3d800000, form: formMem, size: 16, use: stores},
	{name: "STRd", syntax: "str d{d}, [x{n}, #{i}]", base: 0xfd000000, form: formMem, size: 8, use: stores},
	{name: "STRs", syntax: "str s{d}, [x{n}, #{i}]", base: 0xbd000000, form: formMem, size: 4, use: stores},
	{name: "STRh", syntax: "str h{d}, [x{n}, #{i}]", base: 0x7d000000, form: formMem, size: 2, use: stores},
}

var instByName = func() map[string]*inst {
	m := map[string]*inst{}
	for i := range insts {
		m[insts[i].name] = &insts[i]
	}
	return m
}()

// vec is a vector register, gpr a general one.
type (
	vec uint8
	gpr uint8
)

// lane is one 32-bit element of a vector.
type lane struct {
	v vec
	i int
}

func (v vec) s(i int) lane { return lane{v, i} }

func (e *emitter) fmla(d, n, m vec)              { e.dnm("FMLA", d, n, m) }
func (e *emitter) fmls(d, n, m vec)              { e.dnm("FMLS", d, n, m) }
func (e *emitter) fmlaLane(d, n vec, m lane)     { e.lane("FMLAe", d, n, m) }
func (e *emitter) fmulLane(d, n vec, m lane)     { e.lane("FMULe", d, n, m) }
func (e *emitter) fadd(d, n, m vec)              { e.dnm("FADD", d, n, m) }
func (e *emitter) fsub(d, n, m vec)              { e.dnm("FSUB", d, n, m) }
func (e *emitter) fmul(d, n, m vec)              { e.dnm("FMUL", d, n, m) }
func (e *emitter) fdiv(d, n, m vec)              { e.dnm("FDIV", d, n, m) }
func (e *emitter) fmax(d, n, m vec)              { e.dnm("FMAX", d, n, m) }
func (e *emitter) fmin(d, n, m vec)              { e.dnm("FMIN", d, n, m) }
func (e *emitter) faddp(d, n, m vec)             { e.dnm("FADDP", d, n, m) }
func (e *emitter) fmaxp(d, n, m vec)             { e.dnm("FMAXP", d, n, m) }
func (e *emitter) fcmeq(d, n, m vec)             { e.dnm("FCMEQ", d, n, m) }
func (e *emitter) fabs(d, n vec)                 { e.dn("FABS", d, n) }
func (e *emitter) fneg(d, n vec)                 { e.dn("FNEG", d, n) }
func (e *emitter) fsqrt(d, n vec)                { e.dn("FSQRT", d, n) }
func (e *emitter) fcvtns(d, n vec)               { e.dn("FCVTNS", d, n) }
func (e *emitter) scvtf(d, n vec)                { e.dn("SCVTF", d, n) }
func (e *emitter) vadd(d, n, m vec)              { e.dnm("ADD", d, n, m) }
func (e *emitter) vsub(d, n, m vec)              { e.dnm("SUB", d, n, m) }
func (e *emitter) umax(d, n, m vec)              { e.dnm("UMAX", d, n, m) }
func (e *emitter) umaxp(d, n, m vec)             { e.dnm("UMAXP", d, n, m) }
func (e *emitter) vand(d, n, m vec)              { e.dnm("AND", d, n, m) }
func (e *emitter) vorr(d, n, m vec)              { e.dnm("ORR", d, n, m) }
func (e *emitter) bsl(d, n, m vec)               { e.dnm("BSL", d, n, m) }
func (e *emitter) shl(d, n vec, bits int)        { e.shift("SHL", d, n, bits) }
func (e *emitter) ushr(d, n vec, bits int)       { e.shift("USHR", d, n, bits) }
func (e *emitter) sshr(d, n vec, bits int)       { e.shift("SSHR", d, n, bits) }
func (e *emitter) shll(d, n vec)                 { e.dn("SHLL", d, n) }
func (e *emitter) shrn(d, n vec, bits int)       { e.shift("SHRN", d, n, bits) }
func (e *emitter) sxtlB(d, n vec)                { e.dn("SXTLb", d, n) }
func (e *emitter) sxtlH(d, n vec)                { e.dn("SXTLh", d, n) }
func (e *emitter) xtnS(d, n vec)                 { e.dn("XTNs", d, n) }
func (e *emitter) xtnH(d, n vec)                 { e.dn("XTNh", d, n) }
func (e *emitter) sdotLane(d, n vec, m lane)     { e.lane("SDOTe", d, n, m) }
func (e *emitter) smmla(d, n, m vec)             { e.dnm("SMMLA", d, n, m) }
func (e *emitter) bfcvtn(d, n vec)               { e.dn("BFCVTN", d, n) }
func (e *emitter) bfmmla(d, n, m vec)            { e.dnm("BFMMLA", d, n, m) }
func (e *emitter) zero(d vec)                    { e.op("ZERO", operands{d: uint8(d)}) }
func (e *emitter) upperS(d, n vec)               { e.dn("DUPs1", d, n) }
func (e *emitter) upperD(d, n vec)               { e.dn("DUPd1", d, n) }
func (e *emitter) zip1h(d, n, m vec)             { e.dnm("ZIP1h", d, n, m) }
func (e *emitter) zip1s(d, n, m vec)             { e.dnm("ZIP1s", d, n, m) }
func (e *emitter) zip2s(d, n, m vec)             { e.dnm("ZIP2s", d, n, m) }
func (e *emitter) zip1d(d, n, m vec)             { e.dnm("ZIP1d", d, n, m) }
func (e *emitter) zip2d(d, n, m vec)             { e.dnm("ZIP2d", d, n, m) }
func (e *emitter) ldrQ(d vec, base gpr, off int) { e.mem("LDRq", d, base, off) }
func (e *emitter) ldrD(d vec, base gpr, off int) { e.mem("LDRd", d, base, off) }
func (e *emitter) ldrS(d vec, base gpr, off int) { e.mem("LDRs", d, base, off) }
func (e *emitter) ldrH(d vec, base gpr, off int) { e.mem("LDRh", d, base, off) }
func (e *emitter) ldrB(d vec, base gpr, off int) { e.mem("LDRb", d, base, off) }
func (e *emitter) ld1r(d vec, base gpr)          { e.mem("LD1R", d, base, 0) }
func (e *emitter) strQ(d vec, base gpr, off int) { e.mem("STRq", d, base, off) }
func (e *emitter) strD(d vec, base gpr, off int) { e.mem("STRd", d, base, off) }
func (e *emitter) strS(d vec, base gpr, off int) { e.mem("STRs", d, base, off) }
func (e *emitter) strH(d vec, base gpr, off int) { e.mem("STRh", d, base, off) }

func (e *emitter) vmov(d, n vec) { e.vorr(d, n, n) }

func (e *emitter) dn(name string, d, n vec) { e.op(name, operands{d: uint8(d), n: uint8(n)}) }
func (e *emitter) dnm(name string, d, n, m vec) {
	e.op(name, operands{uint8(d), uint8(n), uint8(m), 0})
}
func (e *emitter) shift(name string, d, n vec, bits int) {
	e.op(name, operands{d: uint8(d), n: uint8(n), i: bits})
}
func (e *emitter) lane(name string, d, n vec, m lane) {
	e.op(name, operands{uint8(d), uint8(n), uint8(m.v), m.i})
}
func (e *emitter) mem(name string, d vec, base gpr, off int) {
	e.op(name, operands{d: uint8(d), n: uint8(base), i: off})
}
