package tokenizer

// This file owns the cutting of added tokens out of the raw text: the
// leftmost match wins, and among those that start there the longest.

import (
	"sort"
	"strings"
	"unicode"
)

// A cut is the place of an added token in a text, in bytes.
type cut struct {
	start, end int
	id         int32
}

// nextAdded returns the first added token in text[from:] with the white space
// that it takes. from must be the end of the token before it or 0.
func (t *Tokenizer) nextAdded(text string, from int) (cut, bool) {
	for i := from; i < len(text); i++ {
		if t.first >= 0 {
			skip := strings.IndexByte(text[i:], byte(t.first))
			if skip < 0 {
				break
			}
			i += skip
		} else if !t.isFirst[text[i]] {
			continue
		}
		index, n := t.longestAdded(text[i:])
		if n == 0 {
			continue
		}
		a, start, end := t.im.Added[index], i, i+n
		if a.Flags&AddedLStrip != 0 {
			start = from + len(strings.TrimRightFunc(text[from:start], unicode.IsSpace))
		}
		if a.Flags&AddedRStrip != 0 {
			end = len(text) - len(strings.TrimLeftFunc(text[end:], unicode.IsSpace))
		}
		return cut{start, end, a.ID}, true
	}
	return cut{}, false
}

// longestAdded returns the index and the length of the longest added token
// that text starts with, or the length 0. It narrows the sorted table byte by
// byte to the tokens that share the text's first bytes.
func (t *Tokenizer) longestAdded(text string) (index, length int) {
	lo, hi := 0, len(t.im.Added)
	content := func(i int) []byte { return t.im.token(t.im.Added[i].ID) }
	for n := 0; lo < hi; n++ {
		if len(content(lo)) == n {
			index, length = lo, n
			lo++
		}
		if n == len(text) {
			break
		}
		b := text[n]
		hi = lo + sort.Search(hi-lo, func(i int) bool { return content(lo + i)[n] > b })
		lo += sort.Search(hi-lo, func(i int) bool { return content(lo + i)[n] >= b })
	}
	return index, length
}
