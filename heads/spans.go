package heads

// This file owns extractive question answering: from the logits of being the first and the last
// token of the answer to spans of the context.

import (
	"cmp"
	"math"
	"slices"
)

// Span is a candidate for the answer: tokens First to Last of a window, both included, and its
// score, the product of two softmax values.
type Span struct {
	First, Last int
	Score       float64
}

// Spans returns the best k spans of one window, best first, the one that begins and ends earlier
// first among equals, and the score of there being no answer. The window has the context at
// tokens lo to hi, hi not included; none is the token, outside of the context, whose span says
// that there is no answer, or -1. The softmax is over the context and that token. Spans have at
// most longest tokens.
func Spans(start, end []float32, lo, hi, none, longest, k int) (spans []Span, null float64) {
	first, last := spanSoftmax(start, lo, hi, none), spanSoftmax(end, lo, hi, none)
	for i := lo; i < hi; i++ {
		for j := i; j < min(hi, i+longest); j++ {
			spans = insertSpan(spans, Span{i, j, first[i-lo] * last[j-lo]}, k)
		}
	}
	if none >= 0 {
		null = first[hi-lo] * last[hi-lo]
	}
	return spans, null
}

// spanSoftmax returns the softmax over the context and, behind it, the token none.
func spanSoftmax(logits []float32, lo, hi, none int) []float64 {
	in := slices.Clone(logits[lo:hi])
	if none >= 0 {
		in = append(in, logits[none])
	}
	return Softmax(in)
}

func insertSpan(spans []Span, s Span, k int) []Span {
	if len(spans) == k && spans[k-1].Score >= s.Score {
		return spans
	}
	at := len(spans)
	for at > 0 && spans[at-1].Score < s.Score {
		at--
	}
	spans = slices.Insert(spans, at, s)
	return spans[:min(len(spans), k)]
}

// Answer is an answer: Text is what stands in the context from Start to End. An answer without
// text says that the context has none.
type Answer struct {
	Text  string
	Score float64
	Start int
	End   int
}

// Answers collects the spans of the windows of one context.
type Answers struct {
	list []Answer
	null float64
}

// Add takes the spans of a window. place returns where a token is in the context, in bytes.
func (a *Answers) Add(context string, spans []Span, null float64, place func(token int) (start, end int)) {
	if a.list == nil {
		a.null = math.Inf(1)
	}
	a.null = min(a.null, null)
	for _, s := range spans {
		start, _ := place(s.First)
		_, end := place(s.Last)
		if start > end {
			continue
		}
		if start, end = trim(context, start, end); start == end {
			continue
		}
		answer := Answer{context[start:end], s.Score, start, end}
		at := slices.IndexFunc(a.list, func(b Answer) bool { return b.Start == start && b.End == end })
		if at < 0 {
			a.list = append(a.list, answer)
		} else if a.list[at].Score < s.Score {
			a.list[at] = answer
		}
	}
}

// Best returns the k best answers, best first; with orNone the one without text is among them,
// with the lowest score that a window gives it. null is that score.
func (a *Answers) Best(k int, orNone bool) (answers []Answer, null float64) {
	all := slices.Clone(a.list)
	if orNone {
		all = append(all, Answer{Score: a.null})
	}
	slices.SortStableFunc(all, func(x, y Answer) int {
		return cmp.Or(cmp.Compare(y.Score, x.Score), cmp.Compare(x.Start, y.Start), cmp.Compare(x.End, y.End))
	})
	return all[:min(k, len(all))], a.null
}
