package heads

// This file owns places in a text: their units, and white space around them.

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Ruler converts places in a text from bytes to another unit. Places that do not go backwards
// are found in one pass over the text.
type Ruler struct {
	text  string
	unit  Unit
	bytes int
	units int
}

// NewRuler returns a Ruler of text, which must be valid UTF-8.
func NewRuler(text string, unit Unit) *Ruler { return &Ruler{text: text, unit: unit} }

// At returns the place of a byte in the unit.
func (r *Ruler) At(at int) int {
	if r.unit == Bytes {
		return at
	}
	if at < r.bytes {
		r.bytes, r.units = 0, 0
	}
	for r.bytes < at {
		c, n := utf8.DecodeRuneInString(r.text[r.bytes:])
		r.bytes += n
		r.units++
		if r.unit == UTF16 && c > 0xffff {
			r.units++
		}
	}
	return r.units
}

// trim moves the ends of a part of text inwards over white space: pieces of a vocabulary carry
// the space before a word.
func trim(text string, start, end int) (int, int) {
	part := text[start:end]
	end -= len(part) - len(strings.TrimRightFunc(part, unicode.IsSpace))
	start += len(part) - len(strings.TrimLeftFunc(part, unicode.IsSpace))
	return min(start, end), end
}

// spaceless are the scripts that are written without spaces between words.
var spaceless = []*unicode.RangeTable{
	unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Bopomofo,
	unicode.Thai, unicode.Lao, unicode.Khmer, unicode.Myanmar, unicode.Tibetan,
	{R16: []unicode.Range16{
		{Lo: 0x3000, Hi: 0x303f, Stride: 1}, // CJK symbols and punctuation
		{Lo: 0x30fb, Hi: 0x30fc, Stride: 1}, // ・ and ー, which belong to no script
		{Lo: 0xff00, Hi: 0xffef, Stride: 1}, // full-width and half-width forms
	}},
}

// insideWord reports whether the character at start continues the word of the one before it:
// neither is a space nor of a script without spaces. For the other scripts it is the rule of
// Hugging Face's token-classification pipeline for vocabularies that do not mark words.
func insideWord(text string, start int) bool {
	if start == 0 || start >= len(text) {
		return false
	}
	before, _ := utf8.DecodeLastRuneInString(text[:start])
	after, _ := utf8.DecodeRuneInString(text[start:])
	return before != ' ' && after != ' ' && !unicode.In(before, spaceless...) && !unicode.In(after, spaceless...)
}
