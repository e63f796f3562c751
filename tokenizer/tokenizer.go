package tokenizer

// This file owns the Tokenizer type, its look-ups and the errors.

import (
	"errors"
	"fmt"
	"sync"
	"unicode/utf8"
)

// ErrTextTooLong is returned for a text of 2 GiB or more, whose offsets would
// not fit an Offset.
var ErrTextTooLong = errors.New("the text is longer than 2 GiB")

// An InvalidUTF8Error is returned for a text that is not valid UTF-8.
type InvalidUTF8Error struct {
	Offset int // of the first invalid byte in the text, in bytes
}

func (e *InvalidUTF8Error) Error() string {
	return fmt.Sprintf("the text is not valid UTF-8 at byte %d", e.Offset)
}

// metaspace is the character that stands for a space inside pieces.
const (
	metaspace     = '▁'
	metaspaceText = "▁"
)

// A Tokenizer encodes and decodes text. It never changes, holds no caches
// that grow with the text, and is safe for concurrent use.
type Tokenizer struct {
	im      Image
	ascii   [utf8.RuneSelf]uint16 // codes of ASCII after normalization
	isFirst [256]bool             // bytes that start an added token
	first   int                   // the only such byte, or -1
	scratch sync.Pool             // of *scratch
}

// init fills in what does not depend on the size of the vocabulary.
func (t *Tokenizer) init() {
	for r := range rune(utf8.RuneSelf) {
		t.ascii[r] = t.code(r)
	}
	if t.im.MapSpaces == 1 {
		t.ascii[' '] = t.code(metaspace)
	}
	t.first = -1
	for i, a := range t.im.Added {
		b := t.im.token(a.ID)[0]
		if i == 0 {
			t.first = int(b)
		} else if t.first != int(b) {
			t.first = -1
		}
		t.isFirst[b] = true
	}
	t.scratch.New = func() any { return new(scratch) }
}

// code returns the character code of r, which must be at most U+10FFFF.
func (t *Tokenizer) code(r rune) uint16 {
	return t.im.Codes[int(t.im.Pages[r>>8])<<8|int(r&0xff)]
}

// VocabSize returns the number of token ids, which run from 0 to one less.
// A model's embedding may have more rows than that.
func (t *Tokenizer) VocabSize() int { return len(t.im.TokenEnds) }

// Token returns the text of the token id as it stands in the vocabulary, for
// example "▁The" or "<0xE3>". It returns "" if there is no such id.
func (t *Tokenizer) Token(id int32) string {
	if id < 0 || int(id) >= len(t.im.TokenEnds) {
		return ""
	}
	return string(t.im.token(id))
}

// ID returns the id of the token whose text is token, an added token or a
// piece of the vocabulary, and whether there is one.
func (t *Tokenizer) ID(token string) (int32, bool) {
	if index, n := t.longestAdded(token); n == len(token) && n > 0 {
		return t.im.Added[index].ID, true
	}
	// Ranging over an invalid byte gives U+FFFD, which a piece may hold.
	if !utf8.ValidString(token) {
		return 0, false
	}
	at := root
	for _, r := range token {
		var ok bool
		if at, ok = t.im.child(at, t.code(r)); !ok {
			return 0, false
		}
	}
	id := t.im.UnitIDs[at]
	return max(id, 0), id != noID
}

// role returns the id that plays role r.
func (t *Tokenizer) role(r Role) (int32, bool) {
	id := t.im.Roles[r]
	return max(id, 0), id != noID
}

// MaskID returns the id of the mask token and whether there is one.
func (t *Tokenizer) MaskID() (int32, bool) { return t.role(RoleMask) }

// CLSID returns the id of the CLS token and whether there is one.
func (t *Tokenizer) CLSID() (int32, bool) { return t.role(RoleCLS) }

// SEPID returns the id of the SEP token and whether there is one.
func (t *Tokenizer) SEPID() (int32, bool) { return t.role(RoleSEP) }

// PADID returns the id of the padding token and whether there is one.
func (t *Tokenizer) PADID() (int32, bool) { return t.role(RolePAD) }

// UNKID returns the id of the unknown token. Every vocabulary has one.
func (t *Tokenizer) UNKID() (int32, bool) { return t.im.UnkID, true }
