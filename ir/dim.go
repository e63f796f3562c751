package ir

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// This file owns symbolic dims: integer polynomials over named symbols.

// Dim is an integer polynomial over symbols, such as 64, T, B+1 or 2*T+1.
// It is immutable and kept in a normal form, so that two dims are equal
// exactly when they have the same terms. The zero Dim is 0.
//
// A Dim whose arithmetic leaves the bounds below becomes invalid: it prints
// as "overflow", equals nothing, cannot be evaluated, and makes every dim
// computed from it invalid.
type Dim struct {
	terms []term // degree descending, then syms ascending; no zero coefficient
	bad   bool
}

// term is coef times the product of the symbols in syms.
type term struct {
	coef int
	syms string // symbol names, sorted, joined by '*'; empty for the constant
}

// Bounds that keep hostile text from growing without limit.
const (
	maxDimTerms  = 64
	maxDimDegree = 16
	maxDimValue  = 1 << 60
)

// Const returns the dim n.
func Const(n int) Dim { return norm([]term{{n, ""}}) }

// Sym returns the dim that is the symbol with the given name.
func Sym(name string) Dim { return Dim{terms: []term{{1, name}}} }

// Add returns d+e.
func (d Dim) Add(e Dim) Dim {
	if d.bad || e.bad {
		return Dim{bad: true}
	}
	return norm(slices.Concat(d.terms, e.terms))
}

// Sub returns d-e.
func (d Dim) Sub(e Dim) Dim { return d.Add(e.Mul(Const(-1))) }

// Mul returns d·e.
func (d Dim) Mul(e Dim) Dim {
	if d.bad || e.bad || len(d.terms)*len(e.terms) > maxDimTerms*maxDimTerms {
		return Dim{bad: true}
	}
	terms := make([]term, 0, len(d.terms)*len(e.terms))
	for _, a := range d.terms {
		for _, b := range e.terms {
			c, ok := mulBounded(a.coef, b.coef)
			if !ok {
				return Dim{bad: true}
			}
			syms := append(splitSyms(a.syms), splitSyms(b.syms)...)
			slices.Sort(syms)
			terms = append(terms, term{c, strings.Join(syms, "*")})
		}
	}
	return norm(terms)
}

// norm brings terms, which it may reorder, into normal form.
func norm(terms []term) Dim {
	slices.SortFunc(terms, func(a, b term) int {
		return cmp.Or(cmp.Compare(degree(b.syms), degree(a.syms)), cmp.Compare(a.syms, b.syms))
	})
	out := terms[:0]
	for _, t := range terms {
		if n := len(out); n > 0 && out[n-1].syms == t.syms {
			out[n-1].coef += t.coef
		} else {
			out = append(out, t)
		}
		if c := out[len(out)-1]; c.coef > maxDimValue || c.coef < -maxDimValue || degree(c.syms) > maxDimDegree {
			return Dim{bad: true}
		}
	}
	out = slices.DeleteFunc(out, func(t term) bool { return t.coef == 0 })
	if len(out) > maxDimTerms {
		return Dim{bad: true}
	}
	if len(out) == 0 {
		return Dim{}
	}
	return Dim{terms: out}
}

func splitSyms(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "*")
}

func degree(s string) int {
	if s == "" {
		return 0
	}
	return strings.Count(s, "*") + 1
}

// mulBounded returns a·b and whether it is within ±maxDimValue.
func mulBounded(a, b int) (int, bool) {
	if math.Abs(float64(a))*math.Abs(float64(b)) > maxDimValue {
		return 0, false
	}
	return a * b, true
}

// Equal reports whether d and e are the same polynomial.
func (d Dim) Equal(e Dim) bool {
	return !d.bad && !e.bad && slices.Equal(d.terms, e.terms)
}

// Valid reports whether d is within the bounds of dim arithmetic.
func (d Dim) Valid() bool { return !d.bad }

// IsConst returns the value of d when it contains no symbol.
func (d Dim) IsConst() (int, bool) {
	switch {
	case d.bad:
		return 0, false
	case len(d.terms) == 0:
		return 0, true
	case len(d.terms) == 1 && d.terms[0].syms == "":
		return d.terms[0].coef, true
	}
	return 0, false
}

// Symbols returns the names of the symbols in d, sorted, each once.
func (d Dim) Symbols() []string {
	var names []string
	for _, t := range d.terms {
		names = append(names, splitSyms(t.syms)...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Eval returns the value of d with the symbols bound by env.
func (d Dim) Eval(env map[string]int) (int, error) {
	if d.bad {
		return 0, fmt.Errorf("dim overflows")
	}
	sum := 0
	for _, t := range d.terms {
		p := t.coef
		for _, s := range splitSyms(t.syms) {
			n, ok := env[s]
			if !ok {
				return 0, fmt.Errorf("symbol %s has no value", s)
			}
			if p, ok = mulBounded(p, n); !ok {
				return 0, fmt.Errorf("dim %s overflows at %s=%d", d, s, n)
			}
		}
		if sum += p; sum > maxDimValue || sum < -maxDimValue {
			return 0, fmt.Errorf("dim %s overflows", d)
		}
	}
	return sum, nil
}

// String returns the text form, such as "2*T+1".
func (d Dim) String() string {
	if d.bad {
		return "overflow"
	}
	if len(d.terms) == 0 {
		return "0"
	}
	var b strings.Builder
	for i, t := range d.terms {
		c := t.coef
		if c < 0 {
			b.WriteByte('-')
			c = -c
		} else if i > 0 {
			b.WriteByte('+')
		}
		switch {
		case t.syms == "":
			b.WriteString(strconv.Itoa(c))
		case c == 1:
			b.WriteString(t.syms)
		default:
			b.WriteString(strconv.Itoa(c) + "*" + t.syms)
		}
	}
	return b.String()
}
