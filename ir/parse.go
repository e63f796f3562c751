package ir

import (
	"fmt"
	"slices"
	"strconv"
)

// This file owns the parser of graphs. It resolves names, ops and attribute
// names; what a graph must satisfy beyond that is for Verify.

// Parse reads the text form of a graph. Errors are of type *SyntaxError.
func Parse(text string) (*Graph, error) {
	return parseAll(text, (*parser).graph)
}

// ParseType reads a type, such as "bf16[T,1536]".
func ParseType(text string) (Type, error) {
	return parseAll(text, (*parser).typ)
}

// ParseDim reads a dim, such as "2*T+1".
func ParseDim(text string) (Dim, error) {
	return parseAll(text, (*parser).dim)
}

// parseAll applies rule to the whole text.
func parseAll[T any](text string, rule func(*parser) T) (r T, err error) {
	p := &parser{lex: lexer{text: text}}
	defer func() {
		switch e := recover().(type) {
		case nil:
		case *SyntaxError:
			var zero T
			r, err = zero, e
		default:
			panic(e)
		}
	}()
	p.advance()
	r = rule(p)
	if p.tok.kind != tokEOF {
		p.fail("found %s, want the end", p.found())
	}
	return r, nil
}

// parser reads one token ahead. Its methods panic with a *SyntaxError, which
// parseAll returns.
type parser struct {
	lex lexer
	tok token
}

func (p *parser) advance() { p.tok = p.lex.next() }

func (p *parser) fail(format string, args ...any) {
	p.failAt(p.tok.pos, format, args...)
}

func (p *parser) failAt(pos int, format string, args ...any) {
	panic(errorAt(p.lex.text, pos, fmt.Sprintf(format, args...)))
}

// found describes the current token for an error.
func (p *parser) found() string {
	switch p.tok.kind {
	case tokEOF:
		return "the end"
	case tokValue:
		return "%" + p.tok.text
	case tokLabel:
		return "@" + p.tok.text
	}
	return strconv.QuoteToASCII(p.tok.text)
}

func (p *parser) isPunct(s string) bool { return p.tok.kind == tokPunct && p.tok.text == s }

func (p *parser) isKeyword(s string) bool { return p.tok.kind == tokName && p.tok.text == s }

// skip consumes the punctuation s if it is next.
func (p *parser) skip(s string) bool {
	if !p.isPunct(s) {
		return false
	}
	p.advance()
	return true
}

func (p *parser) want(s string) {
	if !p.skip(s) {
		p.fail("found %s, want %q", p.found(), s)
	}
}

// wantKind consumes a token of the given kind and returns its text.
func (p *parser) wantKind(kind tokenKind, what string) string {
	if p.tok.kind != kind {
		p.fail("found %s, want %s", p.found(), what)
	}
	text := p.tok.text
	p.advance()
	return text
}

func (p *parser) wantKeyword(s string) {
	if !p.isKeyword(s) {
		p.fail("found %s, want %s", p.found(), s)
	}
	p.advance()
}

// list reads items separated by commas up to the punctuation end.
func (p *parser) list(end string, item func()) {
	for first := true; !p.skip(end); first = false {
		if !first {
			p.want(",")
		}
		item()
	}
}

func (p *parser) graph() *Graph {
	g := &Graph{}
	p.wantKeyword("graph")
	g.Name = p.wantKind(tokLabel, "a graph name such as @encoder")
	if p.skip("(") {
		p.list(")", func() { g.Symbols = append(g.Symbols, p.symbol()) })
	}
	p.want("{")
	scope := map[string]*Value{}
	p.values(g, scope, false)
	p.wantKeyword("return")
	g.Outputs = p.args(scope)
	p.want("}")
	return g
}

func (p *parser) symbol() Symbol {
	s := Symbol{Name: p.wantKind(tokName, "a symbol")}
	p.want(":")
	s.Min = p.int()
	p.want("..")
	s.Max = p.int()
	return s
}

// values reads definitions into g as long as there are any.
func (p *parser) values(g *Graph, scope map[string]*Value, inGroup bool) {
	for p.tok.kind == tokValue {
		v := &Value{Name: p.tok.text}
		if scope[v.Name] != nil {
			p.fail("%%%s is defined twice", v.Name)
		}
		p.advance()
		p.want("=")
		p.definition(v, scope, inGroup)
		p.want(":")
		v.Type = p.typ()
		g.Values = append(g.Values, v)
		scope[v.Name] = v
	}
}

// definition reads what is between = and the type.
func (p *parser) definition(v *Value, scope map[string]*Value, inGroup bool) {
	if p.tok.kind != tokName {
		p.fail("found %s, want an op", p.found())
	}
	if v.Op = Lookup(p.tok.text); v.Op == nil {
		p.fail("no op is called %q", p.tok.text)
	}
	if v.Op.Kind == Group {
		if inGroup {
			p.fail("a group is inside of a group")
		}
		p.advance()
		p.group(v, scope)
		return
	}
	p.advance()
	if v.Op.NewAttrs != nil {
		v.Attrs = v.Op.NewAttrs()
		p.posAttr(v.Attrs)
	}
	v.Args = p.args(scope)
	if p.isPunct("{") {
		p.namedAttrs(v)
	}
}

// args reads names of defined values separated by commas; there may be none.
func (p *parser) args(scope map[string]*Value) []*Value {
	var vs []*Value
	for p.tok.kind == tokValue {
		v := scope[p.tok.text]
		if v == nil {
			p.fail("%%%s is not defined before its use", p.tok.text)
		}
		vs = append(vs, v)
		p.advance()
		if !p.isPunct(",") {
			break
		}
		p.advance()
		if p.tok.kind != tokValue {
			p.fail("found %s, want a value", p.found())
		}
	}
	return vs
}

func (p *parser) group(v *Value, scope map[string]*Value) {
	a := &GroupAttrs{Kind: p.wantKind(tokName, "a group kind")}
	a.Label = p.wantKind(tokLabel, "a group label such as @ffn")
	v.Attrs = a
	p.want("(")
	v.Args = p.args(scope)
	p.want(")")
	p.want("{")
	inner := map[string]*Value{}
	v.Body = &Graph{Name: a.Label}
	for i, arg := range v.Args {
		param := &Value{Name: paramName(i), Op: Lookup("input"), Attrs: &SourceAttrs{Name: paramName(i)}, Type: arg.Type}
		v.Body.Values = append(v.Body.Values, param)
		inner[param.Name] = param
	}
	p.values(v.Body, inner, true)
	p.wantKeyword("yield")
	v.Body.Outputs = p.args(inner)
	p.want("}")
}

func (p *parser) typ() Type {
	d := p.dtype()
	t := Type{DType: d}
	if !p.isPunct("[") {
		p.fail("found %s, want %q", p.found(), "[")
	}
	t.Dims = p.dims()
	return t
}

func (p *parser) dtype() DType {
	d, ok := ParseDType(p.tok.text)
	if !ok || p.tok.kind != tokName {
		p.fail("found %s, want an element type", p.found())
	}
	p.advance()
	return d
}

// dims reads dims in brackets.
func (p *parser) dims() []Dim {
	var dims []Dim
	p.want("[")
	p.list("]", func() {
		if len(dims) == maxRank {
			p.fail("rank is more than %d", maxRank)
		}
		dims = append(dims, p.dim())
	})
	return dims
}

// dim reads a sum of products of numbers and symbols.
func (p *parser) dim() Dim {
	start := p.tok.pos
	sum := Dim{}
	for first := true; first || p.isPunct("+") || p.isPunct("-"); first = false {
		sign := Const(1)
		if p.skip("-") {
			sign = Const(-1)
		} else if !first {
			p.want("+")
		}
		sum = sum.Add(sign.Mul(p.product()))
	}
	if !sum.Valid() {
		p.failAt(start, "dim is too large")
	}
	return sum
}

func (p *parser) product() Dim {
	d := p.factor()
	for p.skip("*") {
		d = d.Mul(p.factor())
	}
	return d
}

func (p *parser) factor() Dim {
	if p.tok.kind == tokNumber {
		return Const(p.int())
	}
	if !isWord(p.tok.text) {
		p.fail("found %s, want a dim", p.found())
	}
	return Sym(p.wantKind(tokName, "a dim"))
}

// int reads an integer that may be negative.
func (p *parser) int() int {
	pos, text := p.tok.pos, ""
	if p.skip("-") {
		text = "-"
	}
	text += p.wantKind(tokNumber, "an integer")
	n, err := strconv.Atoi(text)
	if err != nil {
		p.failAt(pos, "%s is not an integer", text)
	}
	return n
}

// float reads a number, inf or nan, with an optional minus.
func (p *parser) float() float64 {
	pos, text := p.tok.pos, ""
	if p.skip("-") {
		text = "-"
	}
	if p.tok.kind != tokNumber && !(p.tok.kind == tokName && slices.Contains([]string{"inf", "nan"}, p.tok.text)) {
		p.fail("found %s, want a number", p.found())
	}
	text += p.tok.text
	p.advance()
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		p.failAt(pos, "%s is not a number", text)
	}
	return x
}
