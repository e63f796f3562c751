package arm64

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/bertc/bertc/codegen"
)

// This file owns the vocabulary of the emitters: units, functions, registers, constants, loops.

// unit collects the functions and the constants of one kernel.
type unit struct {
	symbol   string
	has      []string // features of the tier
	features map[string]bool
	asm      strings.Builder
	consts   []uint32
	words    map[[4]uint32]int // offset of a vector of constants
}

func newUnit(symbol string, has []string) *unit {
	return &unit{symbol: symbol, has: has, features: map[string]bool{}, words: map[[4]uint32]int{}}
}

// text returns the assembly of the unit and the features that it needs.
func (u *unit) text() (string, []string) {
	var b strings.Builder
	for i, w := range u.consts {
		fmt.Fprintf(&b, "DATA %sConst<>+%d(SB)/4, $0x%08x\n", u.symbol, 4*i, w)
	}
	if len(u.consts) > 0 {
		fmt.Fprintf(&b, "GLOBL %sConst<>(SB), RODATA|NOPTR, $%d\n\n", u.symbol, 4*len(u.consts))
	}
	b.WriteString(u.asm.String())
	var features []string
	for f := range u.features {
		features = append(features, f)
	}
	slices.Sort(features)
	return b.String(), features
}

// emitter writes one function. The first error stays in err; everything after it is ignored.
type emitter struct {
	u      *unit
	f      codegen.Func
	body   strings.Builder
	args   gpr
	consts gpr  // address of the unit's constants
	loads  bool // constants
	labels int
	err    error
	lines  int // instructions so far, for messages

	vecs, gprs pool
	written    uint32 // vector registers that have been written since they were taken
	held       uint32 // accumulators that only their own instruction may change
}

// pool hands out registers by name. Running out is an error: a tile that does not fit is a
// mistake of the plan, and nothing is ever spilled.
type pool struct {
	kind  string
	free  []uint8
	owner map[uint8]string
}

// Vector registers have no owner in Go's ABI0. Of the general ones, R16 and R17 belong to the
// linker, R18 to the platform, R27 to the assembler, R28 is g, R29 and R30 are frame and link.
func newPools() (vecs, gprs pool) {
	vecs, gprs = pool{kind: "vector", owner: map[uint8]string{}}, pool{kind: "general", owner: map[uint8]string{}}
	for r := range uint8(32) {
		vecs.free = append(vecs.free, r)
		if r < 16 || 19 <= r && r <= 26 {
			gprs.free = append(gprs.free, r)
		}
	}
	return vecs, gprs
}

func (p *pool) take(e *emitter, name string) uint8 {
	if len(p.free) == 0 {
		var live []string
		for r, n := range p.owner {
			live = append(live, fmt.Sprintf("%d=%s", r, n))
		}
		slices.Sort(live)
		e.fail("no %s register for %s, in use: %s", p.kind, name, strings.Join(live, " "))
		return 0
	}
	r := p.free[0]
	p.free = p.free[1:]
	p.owner[r] = name
	return r
}

func (u *unit) function(f codegen.Func) *emitter {
	e := &emitter{u: u, f: f}
	e.vecs, e.gprs = newPools()
	e.args, e.consts = e.gp("args"), e.gp("consts")
	return e
}

func (e *emitter) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("instruction %d: %s", e.lines, fmt.Sprintf(format, args...))
	}
}

func (r gpr) String() string { return fmt.Sprintf("R%d", uint8(r)) }

// line writes one instruction in the syntax of the Go assembler.
func (e *emitter) line(format string, args ...any) {
	e.lines++
	fmt.Fprintf(&e.body, "\t"+format+"\n", args...)
}

// op writes one vector instruction as a word, and watches over the registers.
func (e *emitter) op(name string, o operands) {
	row := instByName[name]
	w, err := row.encode(o)
	if err != nil {
		e.fail("%v", err)
		return
	}
	reads := uint32(0)
	if row.form == formDN || row.form == formDNM || row.form == formLane || row.form == formShl || row.form == formShr {
		reads |= 1 << o.n
	}
	if row.form == formDNM || row.form == formLane {
		reads |= 1 << o.m
	}
	if row.use != sets {
		reads |= 1 << o.d
	}
	if missing := reads &^ e.written; missing != 0 {
		e.fail("%s reads a register that was not written", row.gnu(o))
	}
	if row.use == sets {
		if e.held>>o.d&1 == 1 {
			e.fail("%s overwrites an accumulator", row.gnu(o))
		}
		e.written |= 1 << o.d
	}
	if row.feature != "" {
		e.u.features[row.feature] = true
	}
	e.line("WORD $0x%08x // %s", w, row.gnu(o))
}

// ret ends the function and appends it to the unit.
func (e *emitter) ret() {
	e.line("RET")
	fmt.Fprintf(&e.u.asm, "// func %s(a *%s)\nTEXT ·%s(SB), NOSPLIT, $0-8\n", e.f.Name, e.f.Args, e.f.Name)
	fmt.Fprintf(&e.u.asm, "\tMOVD a+0(FP), %s\n", e.args)
	if e.loads {
		fmt.Fprintf(&e.u.asm, "\tMOVD $%sConst<>(SB), %s\n", e.u.symbol, e.consts)
	}
	e.u.asm.WriteString(e.body.String() + "\n")
}

// scope gives back the registers that body takes.
func (e *emitter) scope(body func()) {
	vecs, gprs := e.vecs, e.gprs
	body()
	for r := range e.vecs.owner {
		if slices.Contains(vecs.free, r) {
			delete(e.vecs.owner, r)
			e.written &^= 1 << r
		}
	}
	for r := range e.gprs.owner {
		if slices.Contains(gprs.free, r) {
			delete(e.gprs.owner, r)
		}
	}
	e.vecs.free, e.gprs.free = vecs.free, gprs.free
}

func (e *emitter) gp(name string) gpr { return gpr(e.gprs.take(e, name)) }
func (e *emitter) v(name string) vec {
	v := e.vecs.take(e, name)
	e.written &^= 1 << v
	return vec(v)
}

// vs takes n vector registers.
func (e *emitter) vs(n int, name string) []vec {
	var out []vec
	for range n {
		out = append(out, e.v(name))
	}
	return out
}

// hold lets only accumulating instructions change the registers, until release.
func (e *emitter) hold(vs []vec) {
	for _, v := range vs {
		e.held |= 1 << v
	}
}

func (e *emitter) release() { e.held = 0 }

// General instructions, destination first.

func (e *emitter) mov(d, n gpr)                  { e.line("MOVD %s, %s", n, d) }
func (e *emitter) movi(d gpr, n int)             { e.line("MOVD $%d, %s", n, d) }
func (e *emitter) ld(d, base gpr, off int)       { e.line("MOVD %d(%s), %s", off, base, d) }
func (e *emitter) ldInt32(d, base gpr)           { e.line("MOVW (%s), %s", base, d) }
func (e *emitter) add(d, n, m gpr)               { e.line("ADD %s, %s, %s", m, n, d) }
func (e *emitter) addi(d, n gpr, i int)          { e.line("ADD $%d, %s, %s", i, n, d) }
func (e *emitter) sub(d, n, m gpr)               { e.line("SUB %s, %s, %s", m, n, d) }
func (e *emitter) subi(d, n gpr, i int)          { e.line("SUB $%d, %s, %s", i, n, d) }
func (e *emitter) tst(n gpr, bits int)           { e.line("TST $%d, %s", bits, n) }
func (e *emitter) andi(d, n gpr, i int)          { e.line("AND $%d, %s, %s", i, n, d) }
func (e *emitter) eori(d, n gpr, i int)          { e.line("EOR $%d, %s, %s", i, n, d) }
func (e *emitter) lsl(d, n gpr, i int)           { e.line("LSL $%d, %s, %s", i, n, d) }
func (e *emitter) lsr(d, n gpr, i int)           { e.line("LSR $%d, %s, %s", i, n, d) }
func (e *emitter) mul(d, n, m gpr)               { e.line("MUL %s, %s, %s", m, n, d) }
func (e *emitter) cmp(n, m gpr)                  { e.line("CMP %s, %s", m, n) }
func (e *emitter) cmpi(n gpr, i int)             { e.line("CMP $%d, %s", i, n) }
func (e *emitter) csel(cond string, d, n, m gpr) { e.line("CSEL %s, %s, %s, %s", cond, n, m, d) }

// branch jumps to label when cond (LT, GE, EQ …) holds of the last comparison.
func (e *emitter) branch(cond, label string) { e.line("B%s %s", cond, label) }
func (e *emitter) jump(label string)         { e.line("JMP %s", label) }

// countDown subtracts 1 from n and jumps to label until that gives 0.
func (e *emitter) countDown(n gpr, label string) {
	e.line("SUBS $1, %s, %s", n, n)
	e.branch("NE", label)
}

// label returns a label name that is new in the function.
func (e *emitter) label(name string) string {
	e.labels++
	return fmt.Sprintf("%s%d", name, e.labels)
}

func (e *emitter) bind(label string) { fmt.Fprintf(&e.body, "%s:\n", label) }

// align pads so that the loop that follows starts a fetch line.
func (e *emitter) align() { fmt.Fprint(&e.body, "\tPCALIGN $32\n") }

// arg loads a field of the argument block.
func (e *emitter) arg(name string, offset uintptr) gpr {
	r := e.gp(name)
	e.ld(r, e.args, int(offset))
	return r
}

// argTo loads a field of the argument block into d.
func (e *emitter) argTo(d gpr, offset uintptr) { e.ld(d, e.args, int(offset)) }

// mulImm sets d to n·i; d and n must differ.
func (e *emitter) mulImm(d, n gpr, i int) {
	if d == n {
		e.fail("product with a constant in place")
	}
	e.movi(d, i)
	e.mul(d, n, d)
}

// plusMul sets d to base + n·i, n and d different.
func (e *emitter) plusMul(d, base, n gpr, i int) {
	e.scope(func() {
		t := e.gp("product")
		e.mulImm(t, n, i)
		e.add(d, base, t)
	})
}

// minImm sets d to the smaller of n and i.
func (e *emitter) minImm(d, n gpr, i int) {
	e.movi(d, i)
	e.cmp(n, d)
	e.csel("LT", d, n, d)
}

// times emits body as often as the register n says, which is at least once and is used up.
func (e *emitter) times(n gpr, body func()) {
	top := e.label("loop")
	e.bind(top)
	body()
	e.countDown(n, top)
}

// words returns the offset of a vector of constants.
func (e *emitter) words(w [4]uint32) int {
	e.loads = true
	offset, ok := e.u.words[w]
	if !ok {
		offset = 4 * len(e.u.consts)
		e.u.consts = append(e.u.consts, w[:]...)
		e.u.words[w] = offset
	}
	return offset
}

// constBits sets all lanes of d to a constant.
func (e *emitter) constBits(d vec, w uint32) { e.ldrQ(d, e.consts, e.words([4]uint32{w, w, w, w})) }

// constF32 sets all lanes of d to a constant.
func (e *emitter) constF32(d vec, x float64) { e.constBits(d, math.Float32bits(float32(x))) }

// stream is an array that a loop walks through, with the size of its elements.
type stream struct {
	p    gpr
	size int
}

// vectors emits a loop over n elements, 4 at a time, unrolled. body gets the number of the
// current elements relative to where the streams point, which copy of the unrolled body it is,
// and how many of the 4 elements exist. The order of the vectors is the order of the calls. The
// streams end where they began.
func (e *emitter) vectors(n, unroll int, streams []stream, body func(at, copy, count int)) {
	e.scope(func() {
		move := func(elements int) {
			if elements != 0 {
				for _, s := range streams {
					e.addi(s.p, s.p, elements*s.size)
				}
			}
		}
		full := n / 4
		loops := full / unroll
		moved := 0
		if loops > 1 {
			i := e.gp("index")
			e.movi(i, loops)
			e.times(i, func() {
				for u := range unroll {
					body(4*u, u, 4)
				}
				move(4 * unroll)
			})
			moved = loops * unroll
		}
		for v := moved; v < full; v++ {
			body(4*(v-moved), v%unroll, 4)
		}
		if n%4 != 0 {
			body(4*(full-moved), full%unroll, n%4)
		}
		move(-4 * moved)
	})
}
