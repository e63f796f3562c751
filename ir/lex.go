package ir

import (
	"fmt"
	"strings"
)

// This file owns the tokens of the text form.

func isNameStart(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isNameByte(c byte) bool { return isNameStart(c) || isDigit(c) || c == '.' }

// isName reports whether s can be the name of a value or graph.
func isName(s string) bool {
	if s == "" || !isNameStart(s[0]) {
		return false
	}
	for i := range len(s) {
		if !isNameByte(s[i]) {
			return false
		}
	}
	return true
}

// isWord reports whether s is a name without dots, as symbols and kinds are.
func isWord(s string) bool { return isName(s) && !strings.Contains(s, ".") }

type tokenKind uint8

const (
	tokEOF    tokenKind = iota
	tokName             // rmsnorm
	tokValue            // %x, text without the sign
	tokLabel            // @encoder, text without the sign
	tokNumber           // 1e-05, without a sign
	tokString           // "hidden", text with the quotes
	tokPunct            // one of { } ( ) [ ] = , : + - * or ..
	tokBad              // anything else
)

type token struct {
	kind tokenKind
	text string
	pos  int // byte offset
}

// lexer splits text into tokens.
type lexer struct {
	text string
	pos  int
}

func (l *lexer) next() token {
	l.skipSpace()
	start := l.pos
	if start == len(l.text) {
		return token{tokEOF, "", start}
	}
	c := l.text[start]
	switch {
	case isNameStart(c):
		return token{tokName, l.take(isNameByte), start}
	case c == '%' || c == '@':
		l.pos++
		kind := tokValue
		if c == '@' {
			kind = tokLabel
		}
		name := l.take(isNameByte)
		if !isName(name) {
			return token{tokBad, l.text[start:l.pos], start}
		}
		return token{kind, name, start}
	case isDigit(c):
		l.number()
		return token{tokNumber, l.text[start:l.pos], start}
	case c == '"':
		return l.quoted()
	case strings.HasPrefix(l.text[start:], ".."):
		l.pos += 2
		return token{tokPunct, "..", start}
	case strings.IndexByte("{}()[]=,:+-*", c) >= 0:
		l.pos++
		return token{tokPunct, l.text[start:l.pos], start}
	}
	l.pos++
	return token{tokBad, l.text[start:l.pos], start}
}

func (l *lexer) skipSpace() {
	for ; l.pos < len(l.text); l.pos++ {
		switch l.text[l.pos] {
		case ' ', '\t', '\n', '\r':
		case ';':
			for l.pos+1 < len(l.text) && l.text[l.pos+1] != '\n' {
				l.pos++
			}
		default:
			return
		}
	}
}

// take consumes bytes as long as ok holds and returns them.
func (l *lexer) take(ok func(byte) bool) string {
	start := l.pos
	for l.pos < len(l.text) && ok(l.text[l.pos]) {
		l.pos++
	}
	return l.text[start:l.pos]
}

// number consumes digits, a fraction and an exponent. A dot needs a digit
// after it, so that 1..8 is three tokens.
func (l *lexer) number() {
	l.take(isDigit)
	if l.digitAfter(".") {
		l.pos++
		l.take(isDigit)
	}
	for _, e := range []string{"e+", "e-", "e"} {
		if l.digitAfter(e) {
			l.pos += len(e)
			l.take(isDigit)
			return
		}
	}
}

func (l *lexer) digitAfter(prefix string) bool {
	rest, ok := strings.CutPrefix(l.text[l.pos:], prefix)
	return ok && rest != "" && isDigit(rest[0])
}

func (l *lexer) quoted() token {
	start := l.pos
	for l.pos++; l.pos < len(l.text) && l.text[l.pos] != '\n'; l.pos++ {
		switch l.text[l.pos] {
		case '\\':
			l.pos++
		case '"':
			l.pos++
			return token{tokString, l.text[start:l.pos], start}
		}
	}
	l.pos = min(l.pos, len(l.text))
	return token{tokBad, l.text[start:l.pos], start}
}

// SyntaxError is an error at a place in the text form.
type SyntaxError struct {
	Line, Col int // from 1; Col counts bytes
	Msg       string
}

func (e *SyntaxError) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Col, e.Msg) }

// errorAt makes an error at a byte offset of text.
func errorAt(text string, pos int, msg string) *SyntaxError {
	before := text[:pos]
	return &SyntaxError{
		Line: strings.Count(before, "\n") + 1,
		Col:  pos - strings.LastIndexByte(before, '\n'),
		Msg:  msg,
	}
}
