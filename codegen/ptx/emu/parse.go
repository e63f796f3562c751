package emu

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// This file owns the syntax of PTX: text to modules, entries and statements with their lines.
// Grammar: PTX ISA, chapters "Syntax" and "State Spaces, Types, and Variables".

// SyntaxError is a text that is not PTX, or PTX that the emulator does not know.
type SyntaxError struct {
	Line int    // from 1
	Text string // of the line
	Msg  string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d: %s: %s", e.Line, e.Msg, strings.TrimSpace(e.Text))
}

type tokenKind uint8

const (
	tokEOF tokenKind = iota
	tokIdent
	tokInt
	tokFloat
	tokString
	tokPunct
)

type token struct {
	kind tokenKind
	text string
	val  uint64 // of numbers: two's complement, or the bits of a float64
	f32  bool   // a 0f literal: val holds the bits of a float32
	line int
}

func (t token) String() string {
	if t.kind == tokEOF {
		return "the end of the file"
	}
	return strconv.Quote(t.text)
}

// opKind is the form of an operand.
type opKind uint8

const (
	opReg    opKind = iota // a register or special register, by name
	opImm                  // a number
	opSymbol               // a variable, parameter or label, with an offset
	opVector               // {a, b, …}
	opAddr                 // [base+off] or [base, {coordinates}]
	opSink                 // _
)

type operand struct {
	kind  opKind
	name  string    // opReg, opSymbol; opAddr: the base, empty for a number
	val   uint64    // opImm: the value; opSymbol, opAddr: the offset
	float uint8     // opImm: 0 integer, 32 bits of a float32, 64 bits of a float64
	neg   bool      // opReg: !p
	pair  string    // opReg: the q of p|q
	list  []operand // opVector: the elements; opAddr: the coordinates
}

type statement struct {
	line  int
	guard string // predicate, empty: none
	neg   bool
	op    []string // the opcode, split at its dots
	args  []operand
	scope *scope
}

// scope is a { } block: registers and labels that are declared in it hide those outside.
type scope struct {
	parent *scope
	regs   map[string]int // index in entry.regs
	ranges []regRange
	labels map[string]int // index in entry.code
	vars   map[string]*variable
}

type regRange struct {
	prefix string
	n      int
	typ    string
	first  map[int]int // declared registers in use: number to index
}

type register struct {
	name, typ string
}

// variable is a parameter or a variable of the .shared, .global or .const space.
type variable struct {
	name   string
	space  string
	typ    string
	align  int
	size   int // bytes; 0 for extern shared
	extern bool
	init   []byte
	addr   uint64 // parameter: offset; shared: address in the window
	line   int
}

// entry is a kernel as written.
type entry struct {
	name    string
	line    int
	params  []*variable
	maxTid  [3]int
	reqTid  [3]int
	minCTAs int
	cluster [3]int
	code    []statement
	regs    []register
	shared  []*variable
	scope   *scope
}

// setText keeps the lines for messages.
func (p *parser) setText(text string) { p.lines = strings.Split(text, "\n") }

type parser struct {
	lines   []string
	toks    []token
	pos     int
	globals *scope
	entries []*entry
	vars    []*variable
	version string
	target  string
}

// fail is how the parser and the decoder give up: parse and decode turn it into an error.
func (p *parser) fail(line int, format string, args ...any) {
	panic(p.errorAt(line, fmt.Sprintf(format, args...)))
}

func (p *parser) errorAt(line int, msg string) *SyntaxError {
	text := ""
	if line >= 1 && line <= len(p.lines) {
		text = p.lines[line-1]
	}
	return &SyntaxError{Line: line, Text: text, Msg: msg}
}

func identStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '$' || c == '%' || c == '.'
}

func identPart(c byte) bool { return identStart(c) || c >= '0' && c <= '9' }

// lex splits the text into tokens.
func (p *parser) lex(text string) {
	line := 1
	for i, c := range []byte(text) {
		if c >= 0x80 {
			p.fail(1+strings.Count(text[:i], "\n"), "a character that is not ASCII, which ptxas refuses even in comments")
		}
	}
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '\n':
			line++
			i++
		case c == ' ' || c == '\t' || c == '\r':
			i++
		case strings.HasPrefix(text[i:], "//"):
			for i < len(text) && text[i] != '\n' {
				i++
			}
		case strings.HasPrefix(text[i:], "/*"):
			end := strings.Index(text[i+2:], "*/")
			if end < 0 {
				p.fail(line, "a comment without an end")
			}
			line += strings.Count(text[i:i+2+end], "\n")
			i += end + 4
		case c == '"':
			end := strings.IndexByte(text[i+1:], '"')
			if end < 0 || strings.Contains(text[i+1:i+1+end], "\n") {
				p.fail(line, "a string without an end")
			}
			p.toks = append(p.toks, token{kind: tokString, text: text[i+1 : i+1+end], line: line})
			i += end + 2
		case identStart(c):
			j := i + 1
			for j < len(text) {
				if identPart(text[j]) {
					j++
				} else if strings.HasPrefix(text[j:], "::") && j+2 < len(text) && identStart(text[j+2]) {
					j += 3
				} else {
					break
				}
			}
			p.toks = append(p.toks, token{kind: tokIdent, text: text[i:j], line: line})
			i = j
		case c >= '0' && c <= '9':
			j := i + 1
			for j < len(text) && (identPart(text[j]) && text[j] != '%' || (text[j] == '-' || text[j] == '+') && (text[j-1] == 'e' || text[j-1] == 'E') && !strings.HasPrefix(text[i:j], "0x") && !strings.HasPrefix(text[i:j], "0f") && !strings.HasPrefix(text[i:j], "0F")) {
				j++
			}
			p.toks = append(p.toks, p.number(text[i:j], line))
			i = j
		case strings.HasPrefix(text[i:], "<<") || strings.HasPrefix(text[i:], ">>"):
			p.toks = append(p.toks, token{kind: tokPunct, text: text[i : i+2], line: line})
			i += 2
		case strings.IndexByte("[]{}(),;:+-*/!@|<>=~", c) >= 0:
			p.toks = append(p.toks, token{kind: tokPunct, text: text[i : i+1], line: line})
			i++
		default:
			p.fail(line, "the character %q is not part of PTX", c)
		}
	}
	p.toks = append(p.toks, token{kind: tokEOF, line: line})
}

func (p *parser) number(s string, line int) token {
	t := token{kind: tokInt, text: s, line: line}
	var err error
	switch low := strings.ToLower(s); {
	case strings.HasPrefix(low, "0f") && len(s) == 10:
		t.kind, t.f32 = tokFloat, true
		t.val, err = strconv.ParseUint(s[2:], 16, 32)
	case strings.HasPrefix(low, "0d") && len(s) == 18:
		t.kind = tokFloat
		t.val, err = strconv.ParseUint(s[2:], 16, 64)
	case !strings.HasPrefix(low, "0x") && strings.ContainsAny(low, ".e"):
		t.kind = tokFloat
		var f float64
		f, err = strconv.ParseFloat(s, 64)
		t.val = math.Float64bits(f)
	default:
		t.val, err = strconv.ParseUint(strings.TrimSuffix(low, "u"), 0, 64)
	}
	if err != nil || strings.Contains(s, "__") {
		p.fail(line, "%q is not a number", s)
	}
	return t
}

func (p *parser) peek() token { return p.toks[p.pos] }

func (p *parser) next() token {
	t := p.toks[p.pos]
	if t.kind != tokEOF {
		p.pos++
	}
	return t
}

func (p *parser) is(text string) bool {
	t := p.peek()
	return t.kind != tokEOF && t.kind != tokString && t.text == text
}

func (p *parser) accept(text string) bool {
	if p.is(text) {
		p.pos++
		return true
	}
	return false
}

func (p *parser) expect(text string) token {
	t := p.next()
	if t.kind == tokString || t.text != text {
		p.fail(t.line, "%s where %q is expected", t, text)
	}
	return t
}

func (p *parser) ident() token {
	t := p.next()
	if t.kind != tokIdent {
		p.fail(t.line, "%s where a name is expected", t)
	}
	return t
}

// constant parses an integer constant expression.
func (p *parser) constant() uint64 {
	v := p.term()
	for {
		switch {
		case p.accept("+"):
			v += p.term()
		case p.accept("-"):
			v -= p.term()
		default:
			return v
		}
	}
}

func (p *parser) term() uint64 {
	v := p.unary()
	for {
		switch {
		case p.accept("*"):
			v *= p.unary()
		case p.accept("<<"):
			v <<= p.unary()
		case p.accept(">>"):
			v >>= p.unary()
		default:
			return v
		}
	}
}

func (p *parser) unary() uint64 {
	switch {
	case p.accept("-"):
		return -p.unary()
	case p.accept("~"):
		return ^p.unary()
	case p.accept("("):
		v := p.constant()
		p.expect(")")
		return v
	}
	t := p.next()
	if t.kind != tokInt {
		p.fail(t.line, "%s where an integer is expected", t)
	}
	return t.val
}

// small parses a constant between 0 and limit.
func (p *parser) small(limit int, what string) int {
	line := p.peek().line
	v := p.constant()
	if v > uint64(limit) {
		p.fail(line, "%s %d is not between 0 and %d", what, int64(v), limit)
	}
	return int(v)
}

func newScope(parent *scope) *scope {
	return &scope{parent: parent, regs: map[string]int{}, labels: map[string]int{}, vars: map[string]*variable{}}
}

// typeBytes is the size of each fundamental type; .pred has none.
var typeBytes = map[string]int{
	"b8": 1, "u8": 1, "s8": 1, "b16": 2, "u16": 2, "s16": 2, "f16": 2, "bf16": 2,
	"b32": 4, "u32": 4, "s32": 4, "f32": 4, "f16x2": 4, "bf16x2": 4,
	"b64": 8, "u64": 8, "s64": 8, "f64": 8, "b128": 16,
}

// module parses a whole file.
func (p *parser) module() {
	p.globals = newScope(nil)
	for p.peek().kind != tokEOF {
		t := p.ident()
		switch t.text {
		case ".version":
			v := p.next()
			p.version = v.text
		case ".target":
			p.target = p.ident().text
			for p.accept(",") {
				p.ident()
			}
		case ".address_size":
			if n := p.small(64, "the address size"); n != 64 {
				p.fail(t.line, "the address size is %d, the emulator knows 64", n)
			}
		case ".visible", ".weak", ".extern", ".common":
			if p.is(".entry") {
				break
			}
			p.variable(p.ident(), t.text == ".extern", p.globals, nil)
		case ".entry":
			p.entry()
		case ".global", ".const", ".shared":
			p.variable(t, false, p.globals, nil)
		case ".file", ".loc":
			p.skipLine(t.line)
		default:
			p.fail(t.line, "%q is not a module directive that the emulator knows", t.text)
		}
	}
	if p.target == "" {
		p.fail(1, "no .target")
	}
}

func (p *parser) skipLine(line int) {
	for p.peek().kind != tokEOF && p.peek().line == line {
		p.pos++
	}
}

// maxStatic bounds declared arrays, so that a text cannot ask for more memory than it is long.
const maxStatic = 1 << 26

// variable parses a declaration behind its state space.
func (p *parser) variable(space token, extern bool, s *scope, e *entry) {
	name := strings.TrimPrefix(space.text, ".")
	if !slices.Contains([]string{"global", "const", "shared"}, name) {
		p.fail(space.line, "%q is not a state space for variables", space.text)
	}
	for {
		v := p.declarator(name, true)
		v.extern = extern
		if extern && name != "shared" {
			p.fail(v.line, "external variables of space .%s need a linker, which the emulator is not", name)
		}
		if v.size == 0 && !extern {
			p.fail(v.line, "%s has no size", v.name)
		}
		p.declare(s, v)
		if e != nil && name == "shared" {
			e.shared = append(e.shared, v)
		} else {
			p.vars = append(p.vars, v)
		}
		if !p.accept(",") {
			break
		}
	}
	p.expect(";")
}

func (p *parser) declare(s *scope, v *variable) {
	if s.vars[v.name] != nil {
		p.fail(v.line, "%s is declared twice", v.name)
	}
	s.vars[v.name] = v
}

// declarator parses [.align n] .type name[n]… [= init].
func (p *parser) declarator(space string, inits bool) *variable {
	v := &variable{space: space, line: p.peek().line}
	for {
		t := p.ident()
		word := strings.TrimPrefix(t.text, ".")
		if t.text == ".align" {
			v.align = p.small(1<<20, "the alignment")
			if v.align == 0 || v.align&(v.align-1) != 0 {
				p.fail(t.line, "the alignment %d is not a power of two", v.align)
			}
			continue
		}
		if t.text == ".ptr" { // .param .u64 .ptr .global .align n name
			for p.is(".global") || p.is(".shared") || p.is(".const") || p.is(".local") {
				p.pos++
			}
			continue
		}
		if typeBytes[word] == 0 || t.text[0] != '.' {
			p.fail(t.line, "%q is not a type", t.text)
		}
		v.typ = word
		break
	}
	if p.is(".ptr") {
		p.pos++
		for p.is(".global") || p.is(".shared") || p.is(".const") || p.is(".local") {
			p.pos++
		}
		if p.accept(".align") {
			p.small(1<<20, "the alignment")
		}
	}
	elem := typeBytes[v.typ]
	v.align = max(v.align, elem)
	t := p.ident()
	v.name = t.text
	n := 1
	open := false
	for p.accept("[") {
		if p.accept("]") {
			open = true
			n = 0
			continue
		}
		m := p.small(maxStatic, "the length")
		if m == 0 || n*m > maxStatic {
			p.fail(t.line, "%s has no sensible length", v.name)
		}
		n *= m
		p.expect("]")
	}
	if inits && p.accept("=") {
		v.init = p.initialiser(v.typ)
		if open {
			n = len(v.init) / elem
		}
	}
	v.size = n * elem
	if len(v.init) > v.size {
		p.fail(t.line, "%s has %d bytes and an initialiser of %d", v.name, v.size, len(v.init))
	}
	return v
}

func (p *parser) initialiser(typ string) []byte {
	var out []byte
	if p.accept("{") {
		for {
			out = append(out, p.initialiser(typ)...)
			if len(out) > maxStatic {
				p.fail(p.peek().line, "an initialiser of more than %d bytes", maxStatic)
			}
			if !p.accept(",") {
				break
			}
		}
		p.expect("}")
		return out
	}
	var v uint64
	t := p.peek()
	if neg := p.is("-"); t.kind == tokFloat || neg && p.toks[p.pos+1].kind == tokFloat {
		if neg {
			p.pos++
		}
		t = p.next()
		v = floatImm(t, neg).bits(typ)
	} else {
		v = p.constant()
		if typ == "f32" || typ == "f64" {
			v = operand{kind: opImm, val: math.Float64bits(float64(int64(v))), float: 64}.bits(typ)
		}
	}
	for range typeBytes[typ] {
		out = append(out, byte(v))
		v >>= 8
	}
	return out
}

func floatImm(t token, neg bool) operand {
	o := operand{kind: opImm, val: t.val, float: 64}
	if t.f32 {
		o.float = 32
		if neg {
			o.val ^= 1 << 31
		}
	} else if neg {
		o.val ^= 1 << 63
	}
	return o
}

// bits returns the register value of an immediate in the given type.
func (o operand) bits(typ string) uint64 {
	switch {
	case typ == "f64" && o.float == 32:
		return math.Float64bits(float64(math.Float32frombits(uint32(o.val))))
	case o.float == 64 && typ != "f64" && typ != "b64" && typ != "u64":
		return uint64(math.Float32bits(float32(math.Float64frombits(o.val))))
	}
	return o.val
}

func (p *parser) triple() [3]int {
	v := [3]int{1, 1, 1}
	for i := range v {
		v[i] = p.small(1<<20, "the extent")
		if i == 2 || !p.accept(",") {
			break
		}
	}
	return v
}

// entry parses a kernel behind ".entry".
func (p *parser) entry() {
	t := p.ident()
	e := &entry{name: t.text, line: t.line, scope: newScope(p.globals)}
	for _, other := range p.entries {
		if other.name == e.name {
			p.fail(t.line, "entry %s is declared twice", e.name)
		}
	}
	if p.accept("(") && !p.accept(")") {
		offset := 0
		for {
			p.expect(".param")
			v := p.declarator("param", false)
			offset = (offset + v.align - 1) &^ (v.align - 1)
			v.addr = uint64(offset)
			offset += v.size
			if v.size == 0 || offset > maxParams {
				p.fail(v.line, "the parameters of %s take more than %d bytes", e.name, maxParams)
			}
			p.declare(e.scope, v)
			e.params = append(e.params, v)
			if !p.accept(",") {
				break
			}
		}
		p.expect(")")
	}
	for !p.is("{") {
		t := p.ident()
		switch t.text {
		case ".maxntid":
			e.maxTid = p.triple()
		case ".reqntid":
			e.reqTid = p.triple()
		case ".minnctapersm":
			e.minCTAs = p.small(32, "the number of CTAs")
		case ".maxnreg", ".maxclusterrank":
			p.small(1<<20, "the number")
		case ".reqnctapercluster":
			e.cluster = p.triple()
		case ".explicitcluster":
		case ".pragma":
			p.pragma()
		default:
			p.fail(t.line, "%q is not a directive of entries that the emulator knows", t.text)
		}
	}
	p.block(e, e.scope)
	if p.entries = append(p.entries, e); len(e.code) == 0 {
		p.fail(e.line, "entry %s has no instruction", e.name)
	}
}

// maxParams is the limit of PTX ISA for kernel parameters up to version 8.0.
const maxParams = 4352

func (p *parser) pragma() {
	for p.peek().kind == tokString {
		p.pos++
		if !p.accept(",") {
			break
		}
	}
	p.expect(";")
}

func (p *parser) block(e *entry, s *scope) {
	open := p.expect("{")
	for !p.accept("}") {
		t := p.peek()
		switch {
		case t.kind == tokEOF:
			p.fail(open.line, "a { without its }")
		case p.is("{"):
			p.block(e, newScope(s))
		case p.is(".reg"):
			p.pos++
			p.regs(e, s)
		case p.is(".shared"), p.is(".global"), p.is(".const"):
			p.pos++
			p.variable(t, false, s, e)
		case p.is(".pragma"):
			p.pos++
			p.pragma()
		case p.is(".loc"):
			p.skipLine(t.line)
		case t.kind == tokIdent && p.toks[p.pos+1].kind == tokPunct && p.toks[p.pos+1].text == ":":
			if _, twice := s.labels[t.text]; twice {
				p.fail(t.line, "label %s is there twice", t.text)
			}
			s.labels[t.text] = len(e.code)
			p.pos += 2
		default:
			e.code = append(e.code, p.statement(s))
		}
	}
}

// maxRegs bounds the registers of an entry; ptxas allocates at most 255 hardware registers, but
// virtual registers are many more.
const maxRegs = 1 << 16

func (p *parser) regs(e *entry, s *scope) {
	t := p.ident()
	typ := strings.TrimPrefix(t.text, ".")
	if typeBytes[typ] == 0 && typ != "pred" || t.text[0] != '.' {
		p.fail(t.line, "%q is not a register type", t.text)
	}
	for {
		n := p.ident()
		if p.accept("<") {
			count := p.small(maxRegs, "the number of registers")
			p.expect(">")
			s.ranges = append(s.ranges, regRange{n.text, count, typ, map[int]int{}})
		} else {
			if _, twice := s.regs[n.text]; twice {
				p.fail(n.line, "register %s is declared twice", n.text)
			}
			s.regs[n.text] = e.addReg(n.text, typ)
		}
		if !p.accept(",") {
			break
		}
	}
	p.expect(";")
}

func (e *entry) addReg(name, typ string) int {
	e.regs = append(e.regs, register{name, typ})
	return len(e.regs) - 1
}

// reg returns the index of a declared register, or -1.
func (e *entry) reg(s *scope, name string) int {
	for ; s != nil; s = s.parent {
		if i, ok := s.regs[name]; ok {
			return i
		}
		for _, r := range s.ranges {
			digits, ok := strings.CutPrefix(name, r.prefix)
			if !ok || digits == "" || len(digits) > 1 && digits[0] == '0' {
				continue
			}
			n, err := strconv.Atoi(digits)
			if err != nil || n < 0 || n >= r.n {
				continue
			}
			i, ok := r.first[n]
			if !ok {
				i = e.addReg(name, r.typ)
				r.first[n] = i
			}
			return i
		}
	}
	return -1
}

func (s *scope) label(name string) (int, bool) {
	for ; s != nil; s = s.parent {
		if i, ok := s.labels[name]; ok {
			return i, true
		}
	}
	return 0, false
}

func (s *scope) variable(name string) *variable {
	for ; s != nil; s = s.parent {
		if v := s.vars[name]; v != nil {
			return v
		}
	}
	return nil
}

func (p *parser) statement(s *scope) statement {
	st := statement{scope: s, line: p.peek().line}
	if p.accept("@") {
		st.neg = p.accept("!")
		st.guard = p.ident().text
	}
	t := p.ident()
	if t.text[0] == '.' || t.text[0] == '%' {
		p.fail(t.line, "%q is not an instruction", t.text)
	}
	st.line = t.line
	st.op = strings.Split(t.text, ".")
	if p.accept(";") {
		return st
	}
	for {
		st.args = append(st.args, p.operand(0))
		if p.accept("|") {
			last := &st.args[len(st.args)-1]
			if q := p.ident(); last.kind == opReg || last.kind == opSymbol || last.kind == opSink {
				last.pair = q.text
			} else {
				p.fail(q.line, "| behind something that is not a register")
			}
		}
		if !p.accept(",") {
			break
		}
	}
	p.expect(";")
	return st
}

// maxElements bounds vector operands: wgmma with N = 256 has 128 registers.
const maxElements = 128

func (p *parser) operand(depth int) operand {
	t := p.peek()
	switch {
	case p.accept("{"):
		o := operand{kind: opVector}
		if depth > 0 {
			p.fail(t.line, "a vector inside a vector")
		}
		for {
			o.list = append(o.list, p.operand(depth+1))
			if len(o.list) > maxElements {
				p.fail(t.line, "a vector of more than %d elements", maxElements)
			}
			if !p.accept(",") {
				break
			}
		}
		p.expect("}")
		return o
	case p.accept("["):
		o := operand{kind: opAddr}
		if p.peek().kind == tokIdent {
			o.name = p.next().text
			if p.accept("+") {
				o.val = p.constant()
			} else if p.accept("-") {
				o.val = -p.constant()
			}
		} else {
			o.val = p.constant()
		}
		if p.accept(",") {
			if !p.is("{") {
				p.fail(p.peek().line, "%s where the coordinates {…} are expected", p.peek())
			}
			o.list = p.operand(0).list
		}
		p.expect("]")
		return o
	case p.accept("!"):
		return operand{kind: opReg, name: p.ident().text, neg: true}
	case t.kind == tokFloat:
		return floatImm(p.next(), false)
	case p.is("-") && p.toks[p.pos+1].kind == tokFloat:
		p.pos++
		return floatImm(p.next(), true)
	case t.kind == tokIdent:
		p.pos++
		if t.text == "_" {
			return operand{kind: opSink}
		}
		o := operand{kind: opSymbol, name: t.text}
		if t.text[0] == '%' {
			o.kind = opReg
		}
		if p.accept("+") {
			o.val = p.constant()
		}
		return o
	}
	return operand{kind: opImm, val: p.constant()}
}
