package emu

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// This file owns decoding: a kernel's statements become instructions over numbered registers.
// Immediates, addresses of symbols and special registers are registers too, filled when a warp
// starts, so that an instruction reads all its sources the same way.

// action is what a warp does after an instruction.
type action uint8

const (
	actNext   action = iota // go on behind it
	actBranch               // the instruction set the pc itself
	actBlock                // the group waits and executes the instruction again
)

// runner executes an instruction for the lanes of m.
type runner func(w *warp, in *instr, m uint32) action

// instr is a decoded instruction. Which fields are used depends on run.
type instr struct {
	run     runner
	line    int
	guard   int // predicate, -1: none
	neg     bool
	aligned bool    // all lanes of the warp must execute it together
	srcs    []int32 // registers that it reads,
	dsts    []int32 // and writes
	psrcs   []int32 // predicates that it reads

	d, a, b, c int32   // registers, -1: none
	pd, pq     int32   // predicates written, -1: none
	ps         int32   // predicate read, -1: none
	psNeg      bool    // and negated
	vec        []int32 // registers of a vector operand
	off, off2  int64   // byte offsets of addresses
	size       int     // bytes of one element
	target     int     // of a branch
	n          int     // a constant of the instruction
	wg         *wgmmaInstr
}

// Kernel is an entry of a module, decoded.
type Kernel struct {
	Name   string
	Params []Param // in order

	module  *Module
	e       *entry
	code    []instr
	nregs   int
	npreds  int
	consts  []constant
	specs   []special
	shared  int      // bytes of static shared memory, from the start of the window
	dynamic int      // alignment of the extern array
	size    int      // bytes of parameters
	names   []string // of registers
}

// Param is a parameter of a kernel.
type Param struct {
	Name   string
	Type   string // "u64", "f32", …; "b8" for arrays
	Offset int    // in the packed parameters
	Size   int    // bytes
}

type constant struct {
	reg int32
	val uint64
}

type special struct {
	reg  int32
	name string
}

type decoder struct {
	p      *parser
	e      *entry
	k      *Kernel
	st     *statement
	in     *instr
	mods   []string
	regs   []int32 // of entry.regs: register or predicate number, -1: not used yet
	consts map[uint64]int32
	specs  map[string]int32
}

// instructions maps the first word of an opcode to its decoder; each file has its group.
var instructions = func() map[string]func(*decoder) {
	all := map[string]func(*decoder){}
	for _, group := range []map[string]func(*decoder){control, arithmetic, memory, synchronization, matrix, bulk} {
		for name, f := range group {
			if all[name] != nil {
				panic(fmt.Sprintf("two decoders of %s", name))
			}
			all[name] = f
		}
	}
	return all
}()

// decode turns an entry into a kernel.
func decode(p *parser, m *Module, e *entry) *Kernel {
	d := &decoder{p: p, e: e, k: &Kernel{Name: e.name, e: e, module: m}, consts: map[uint64]int32{}, specs: map[string]int32{}}
	k := d.k
	for _, v := range e.params {
		k.Params = append(k.Params, Param{v.name, v.typ, int(v.addr), v.size})
		k.size = int(v.addr) + v.size
	}
	d.layoutShared()
	k.code = make([]instr, len(e.code))
	for i := range e.code {
		d.statement(i)
	}
	return k
}

// sharedBase is where the shared memory of a CTA begins in its window: sm_90 reserves 1 KiB
// (ptxas -v reports it as SHARED:1024).
const sharedBase = 1024

// layoutShared gives shared variables their addresses; the extern array is behind the others.
func (d *decoder) layoutShared() {
	addr := sharedBase
	vars := append(slices.Clone(d.e.shared), d.p.vars...)
	for _, v := range vars {
		if v.space == "shared" && !v.extern {
			addr = (addr + v.align - 1) &^ (v.align - 1)
			v.addr = uint64(addr)
			addr += v.size
			if addr > sharedBase+maxShared {
				d.p.fail(v.line, "the shared variables take more than %d bytes", maxShared)
			}
		}
	}
	d.k.dynamic = 16
	for _, v := range vars {
		if v.space == "shared" && v.extern {
			d.k.dynamic = max(d.k.dynamic, v.align)
		}
	}
	d.k.shared = addr
	start := (addr + d.k.dynamic - 1) &^ (d.k.dynamic - 1)
	for _, v := range vars {
		if v.space == "shared" && v.extern {
			v.addr = uint64(start)
		}
	}
}

func (d *decoder) fail(format string, args ...any) {
	d.p.fail(d.st.line, format, args...)
}

func (d *decoder) statement(i int) {
	d.st = &d.e.code[i]
	d.in = &d.k.code[i]
	d.mods = d.st.op[1:]
	*d.in = instr{line: d.st.line, guard: -1, d: -1, a: -1, b: -1, c: -1, pd: -1, pq: -1, ps: -1}
	if d.st.guard != "" {
		d.in.guard = int(d.pred(d.st.guard))
		d.in.neg = d.st.neg
	}
	f := instructions[d.st.op[0]]
	if f == nil {
		d.fail("the emulator does not know the instruction %q", d.st.op[0])
	}
	f(d)
	if d.in.run == nil {
		d.fail("the emulator does not know this form of %s", d.st.op[0])
	}
}

// has removes a modifier and reports whether it was there.
func (d *decoder) has(mod string) bool {
	i := slices.Index(d.mods, mod)
	if i < 0 {
		return false
	}
	d.mods = slices.Delete(slices.Clone(d.mods), i, i+1)
	return true
}

// ignore removes modifiers that do not change what the emulator does.
func (d *decoder) ignore(mods ...string) {
	for _, m := range mods {
		d.has(m)
	}
}

// done fails unless all modifiers were used.
func (d *decoder) done() {
	if len(d.mods) > 0 {
		d.fail("the emulator does not know .%s of %s", d.mods[0], d.st.op[0])
	}
}

// typ removes the first modifier that is a type.
func (d *decoder) typ() string {
	for i, m := range d.mods {
		if typeBytes[m] > 0 || m == "pred" {
			d.mods = slices.Delete(slices.Clone(d.mods), i, i+1)
			return m
		}
	}
	d.fail("%s has no type", d.st.op[0])
	return ""
}

func (d *decoder) arity(from, to int) {
	if n := len(d.st.args); n < from || n > to {
		want := fmt.Sprint(from)
		if to != from {
			want += fmt.Sprintf(" to %d", to)
		}
		d.fail("%d operands, want %s", n, want)
	}
}

// arg returns an operand; the caller has checked the arity.
func (d *decoder) arg(i int) *operand { return &d.st.args[i] }

// lookup returns the number of a declared register, or -1, and its type.
func (d *decoder) lookup(name string) (int32, string) {
	i := d.e.reg(d.st.scope, name)
	if i < 0 {
		return -1, ""
	}
	for len(d.regs) <= i {
		d.regs = append(d.regs, -1)
	}
	typ := d.e.regs[i].typ
	if d.regs[i] < 0 {
		if typ == "pred" {
			d.regs[i] = int32(d.k.npreds)
			d.k.npreds++
		} else {
			d.regs[i] = d.newReg()
			d.k.names[d.regs[i]] = name
		}
	}
	return d.regs[i], typ
}

func (d *decoder) newReg() int32 {
	d.k.nregs++
	d.k.names = append(d.k.names, "")
	return int32(d.k.nregs - 1)
}

func (d *decoder) pred(name string) int32 {
	r, typ := d.lookup(name)
	if r < 0 {
		d.fail("%s is not declared", name)
	}
	if typ != "pred" {
		d.fail("%s is a .%s register where a predicate is expected", name, typ)
	}
	return r
}

// psrc is a predicate that the instruction reads.
func (d *decoder) psrc(name string) int32 {
	p := d.pred(name)
	d.in.psrcs = append(d.in.psrcs, p)
	return p
}

func (d *decoder) constReg(v uint64) int32 {
	r, ok := d.consts[v]
	if !ok {
		r = d.newReg()
		d.consts[v] = r
		d.k.consts = append(d.k.consts, constant{r, v})
	}
	return r
}

// checkWidth refuses registers of another size than the type, as ptxas does; loads and
// conversions may use wider ones.
func (d *decoder) checkWidth(name, regType, typ string) {
	if regType == "pred" {
		d.fail("%s is a predicate where a .%s register is expected", name, typ)
	}
	if typ != "" && typeBytes[regType] != typeBytes[typ] && typeBytes[typ] > 1 {
		d.fail("%s is a .%s register, the instruction wants .%s", name, regType, typ)
	}
}

// value returns the register that holds an operand of a type; "" takes any size.
func (d *decoder) value(o *operand, typ string) int32 {
	switch o.kind {
	case opImm:
		v := o.bits(typ)
		if typ == "f32" || typ == "f64" {
			if o.float == 0 {
				d.fail("an integer where a .%s value is expected", typ)
			}
		} else if n := typeBytes[typ]; n > 0 && n < 8 {
			v &= 1<<(8*n) - 1
		}
		return d.constReg(v)
	case opReg, opSymbol:
		if o.neg {
			d.fail("! before %s, which is not read as a predicate", o.name)
		}
		if r, t := d.lookup(o.name); r >= 0 {
			d.checkWidth(o.name, t, typ)
			return r
		}
		if o.kind == opReg {
			return d.special(o.name)
		}
		return d.constReg(d.symbol(o.name) + o.val)
	}
	d.fail("an operand that is not a value")
	return 0
}

// symbol returns the address of a variable in its space.
func (d *decoder) symbol(name string) uint64 {
	v := d.st.scope.variable(name)
	if v == nil {
		d.fail("%s is not declared", name)
	}
	if v.space == "param" {
		return paramBase + v.addr
	}
	return v.addr
}

func (d *decoder) special(name string) int32 {
	if !slices.Contains(specialRegisters, name) {
		d.fail("%s is not declared", name)
	}
	r, ok := d.specs[name]
	if !ok {
		r = d.newReg()
		d.specs[name] = r
		d.k.specs = append(d.k.specs, special{r, name})
	}
	return r
}

// src is operand i, which the instruction reads as a value of a type.
func (d *decoder) src(i int, typ string) int32 {
	r := d.value(d.arg(i), typ)
	d.in.srcs = append(d.in.srcs, r)
	return r
}

// dstReg is a register that the instruction writes.
func (d *decoder) dstReg(o *operand, typ string) int32 {
	if o.kind == opSink {
		r := d.newReg()
		d.in.dsts = append(d.in.dsts, r)
		return r
	}
	if o.kind != opReg && o.kind != opSymbol || o.neg {
		d.fail("the destination is not a register")
	}
	r, t := d.lookup(o.name)
	if r < 0 {
		d.fail("%s is not declared", o.name)
	}
	d.checkWidth(o.name, t, typ)
	d.in.dsts = append(d.in.dsts, r)
	return r
}

func (d *decoder) dst(i int, typ string) int32 { return d.dstReg(d.arg(i), typ) }

// regType returns the declared type of a register operand.
func (d *decoder) regType(o *operand) string {
	_, t := d.lookup(o.name)
	return t
}

// predDst is p or p|q.
func (d *decoder) predDst(i int) {
	o := d.arg(i)
	if o.kind == opReg || o.kind == opSymbol {
		d.in.pd = d.pred(o.name)
	} else if o.kind != opSink {
		d.fail("the destination is not a predicate")
	}
	if o.pair != "" && o.pair != "_" {
		d.in.pq = d.pred(o.pair)
	}
}

// predSrc is operand i read as a predicate, possibly negated.
func (d *decoder) predSrc(i int) {
	o := d.arg(i)
	if o.kind != opReg && o.kind != opSymbol {
		d.fail("operand %d is not a predicate", i+1)
	}
	d.in.ps, d.in.psNeg = d.psrc(o.name), o.neg
}

// imm is operand i, which must be an integer constant.
func (d *decoder) imm(i int) int {
	o := d.arg(i)
	if o.kind != opImm || o.float != 0 {
		d.fail("operand %d is not an integer constant", i+1)
	}
	return int(int64(o.val))
}

// vector is operand i as n registers that the instruction writes or reads.
func (d *decoder) vector(i, n int, typ string, write bool) []int32 {
	o := d.arg(i)
	if n == 1 && o.kind != opVector {
		o = &operand{kind: opVector, list: []operand{*o}}
	}
	if o.kind != opVector || len(o.list) != n {
		d.fail("operand %d is not a vector of %d", i+1, n)
	}
	var out []int32
	for j := range o.list {
		if write {
			out = append(out, d.dstReg(&o.list[j], typ))
		} else {
			r := d.value(&o.list[j], typ)
			d.in.srcs = append(d.in.srcs, r)
			out = append(out, r)
		}
	}
	return out
}

// address is operand i as base register and offset. Addresses of the shared and param spaces may
// be in 32-bit registers.
func (d *decoder) address(i int) (int32, int64) {
	o := d.arg(i)
	if o.kind != opAddr {
		d.fail("operand %d is not an address", i+1)
	}
	if o.name == "" {
		return d.constReg(0), int64(o.val)
	}
	if r, t := d.lookup(o.name); r >= 0 {
		if typeBytes[t] < 4 {
			d.fail("%s, a .%s register, cannot hold an address", o.name, t)
		}
		d.in.srcs = append(d.in.srcs, r)
		return r, int64(o.val)
	}
	return d.constReg(d.symbol(o.name)), int64(o.val)
}

// label is operand i as a position in the code.
func (d *decoder) label(i int) int {
	o := d.arg(i)
	if o.kind == opSymbol {
		if at, ok := d.st.scope.label(o.name); ok {
			return at
		}
	}
	d.fail("%s is not a label", o.name)
	return 0
}

// space removes the state space from the modifiers: generic where there is none.
func (d *decoder) space() space {
	for i, m := range d.mods {
		name, sub, _ := strings.Cut(m, "::")
		s := slices.Index(spaceNames, name)
		if s < 0 {
			continue
		}
		d.mods = slices.Delete(slices.Clone(d.mods), i, i+1)
		if sub != "" && sub != "cta" && sub != "cluster" && sub != "entry" {
			d.fail("the emulator does not know .%s", m)
		}
		if sub == "cluster" {
			return spaceCluster
		}
		return space(s)
	}
	return spaceGeneric
}

func f32(v uint64) float32     { return math.Float32frombits(uint32(v)) }
func bits32(f float32) uint64  { return uint64(math.Float32bits(f)) }
func f64(v uint64) float64     { return math.Float64frombits(v) }
func bits64(f float64) uint64  { return math.Float64bits(f) }
func mask(bytes int) uint64    { return 1<<(8*bytes) - 1 }
func isSigned(typ string) bool { return typ[0] == 's' }

// extend returns the integer of a register value of a type.
func extend(v uint64, typ string) int64 {
	n := 64 - 8*typeBytes[typ]
	if isSigned(typ) {
		return int64(v<<n) >> n
	}
	return int64(v << n >> n)
}
