package tokenizer

// This file owns the encoding methods, their options and their result, and
// the template that puts special tokens around the texts.

import (
	"fmt"
	"math"
	"unicode/utf8"
)

// Options say how a text is encoded. The zero value gives the tokens of the
// text alone, all of them, with offsets in code points.
type Options struct {
	AddSpecial bool       // add the special tokens of the template
	MaxLength  int        // truncate to this many tokens, the added ones included; 0: do not truncate
	Strategy   Strategy   // which text of a pair is truncated
	Side       Side       // which end of a text is truncated
	OffsetUnit OffsetUnit // what offsets count
}

// InTemplate is the Sequence of a token that belongs to neither text.
const InTemplate = -1

// An Encoding is the result of encoding, one element per token in each slice.
type Encoding struct {
	IDs       []int32
	TypeIDs   []int32  // segment ids of the template
	Sequences []int8   // 0: from the first text, 1: from the second, InTemplate: added
	Offsets   []Offset // place in the text that the token is from; {0, 0} for added ones
}

// Len returns the number of tokens.
func (e *Encoding) Len() int { return len(e.IDs) }

// Reset empties e and keeps its memory.
func (e *Encoding) Reset() {
	*e = Encoding{e.IDs[:0], e.TypeIDs[:0], e.Sequences[:0], e.Offsets[:0]}
}

// Encode returns the tokens of text. The error is an InvalidUTF8Error,
// ErrTextTooLong or one of the truncation errors.
func (t *Tokenizer) Encode(text string, o Options) (Encoding, error) {
	var e Encoding
	err := t.AppendEncode(&e, text, o)
	return e, err
}

// EncodePair returns the tokens of a pair of texts. Its errors are those of
// Encode, wrapped so that they name the text.
func (t *Tokenizer) EncodePair(first, second string, o Options) (Encoding, error) {
	var e Encoding
	err := t.AppendEncodePair(&e, first, second, o)
	return e, err
}

// AppendEncode appends the tokens of text to dst, as Encode would return them.
// It allocates no memory when dst has room and leaves dst as it is on error.
func (t *Tokenizer) AppendEncode(dst *Encoding, text string, o Options) error {
	s := t.acquire()
	defer t.release(s)
	if err := t.encodeOne(s, text, o, true); err != nil {
		return err
	}
	t.apply(dst, t.im.Single, s, o.AddSpecial)
	return nil
}

// AppendEncodePair is AppendEncode for a pair of texts.
func (t *Tokenizer) AppendEncodePair(dst *Encoding, first, second string, o Options) error {
	s := t.acquire()
	defer t.release(s)
	room, err := t.roomFor(t.im.Pair, o)
	if err != nil {
		return err
	}
	s.first.reset(math.MaxInt, true)
	if err := t.encodeText(s, first, &s.first); err != nil {
		return fmt.Errorf("first text: %w", err)
	}
	s.second.reset(math.MaxInt, true)
	if err := t.encodeText(s, second, &s.second); err != nil {
		return fmt.Errorf("second text: %w", err)
	}
	if err := truncatePair(&s.first, &s.second, room, o); err != nil {
		return err
	}
	convert(first, s.first.places, o.OffsetUnit)
	convert(second, s.second.places, o.OffsetUnit)
	t.apply(dst, t.im.Pair, s, o.AddSpecial)
	return nil
}

// AppendIDs appends the token ids of text to dst and returns it, like append.
// They are the IDs that Encode would return. It is the fastest way to them and
// allocates no memory when dst has room. On error it returns dst as it was.
func (t *Tokenizer) AppendIDs(dst []int32, text string, o Options) ([]int32, error) {
	s := t.acquire()
	defer t.release(s)
	if err := t.encodeOne(s, text, o, false); err != nil {
		return dst, err
	}
	for _, item := range t.im.Single {
		if item.Kind == ItemA {
			dst = append(dst, s.first.ids...)
		} else if o.AddSpecial {
			dst = append(dst, item.ID)
		}
	}
	return dst, nil
}

func (t *Tokenizer) acquire() *scratch { return t.scratch.Get().(*scratch) }

func (t *Tokenizer) release(s *scratch) {
	if !s.large() {
		t.scratch.Put(s)
	}
}

// A sequence is the tokens of one text before the template.
type sequence struct {
	ids     []int32
	places  []Offset
	limit   int  // number of tokens after which no more are needed
	offsets bool // places are wanted
}

func (q *sequence) reset(limit int, offsets bool) {
	*q = sequence{q.ids[:0], q.places[:0], limit, offsets}
}

func (q *sequence) full() bool { return len(q.ids) >= q.limit }

// encodeOne puts the tokens of a single text into s.first, truncated.
func (t *Tokenizer) encodeOne(s *scratch, text string, o Options, offsets bool) error {
	room, err := t.roomFor(t.im.Single, o)
	if err != nil {
		return err
	}
	limit := math.MaxInt
	if o.Side == Right && room < limit {
		limit = room + 1 // one more shows that there is something to truncate
	}
	s.first.reset(limit, offsets)
	if err := t.encodeText(s, text, &s.first); err != nil {
		return err
	}
	if err := truncateOne(&s.first, room, o); err != nil {
		return err
	}
	convert(text, s.first.places, o.OffsetUnit)
	return nil
}

// encodeText appends the tokens of text to q, at least q.limit of them if
// there are as many.
func (t *Tokenizer) encodeText(s *scratch, text string, q *sequence) error {
	if len(text) > math.MaxInt32 {
		return ErrTextTooLong
	}
	points := int32(0)
	for from := 0; from < len(text); {
		c, found := t.nextAdded(text, from)
		if !found {
			c.start, c.end = len(text), len(text)
		}
		g, err := t.newSegment(s, text[from:c.start], points, q)
		if err != nil {
			err.Offset += from
			return err
		}
		g.run(s)
		points += int32(len(g.codes) - g.prefix)
		if found {
			start := points
			points += int32(utf8.RuneCountInString(text[c.start:c.end]))
			q.ids = append(q.ids, c.id)
			if q.offsets {
				q.places = append(q.places, Offset{start, points})
			}
		}
		from = c.end
		if q.full() {
			return validate(text, from)
		}
	}
	return nil
}

// validate checks the part of text that an early stop leaves unread.
func validate(text string, from int) error {
	if utf8.ValidString(text[from:]) {
		return nil
	}
	for {
		r, size := utf8.DecodeRuneInString(text[from:])
		if r == utf8.RuneError && size <= 1 {
			return &InvalidUTF8Error{from}
		}
		from += size
	}
}

// apply appends the sequences in s and the special tokens to dst, in the order
// of the template.
func (t *Tokenizer) apply(dst *Encoding, template []Item, s *scratch, addSpecial bool) {
	for _, item := range template {
		before := len(dst.IDs)
		source := int8(InTemplate)
		switch {
		case item.Kind == ItemA:
			source = 0
			dst.IDs = append(dst.IDs, s.first.ids...)
			dst.Offsets = append(dst.Offsets, s.first.places...)
		case item.Kind == ItemB:
			source = 1
			dst.IDs = append(dst.IDs, s.second.ids...)
			dst.Offsets = append(dst.Offsets, s.second.places...)
		case addSpecial:
			dst.IDs = append(dst.IDs, item.ID)
			dst.Offsets = append(dst.Offsets, Offset{})
		}
		for range len(dst.IDs) - before {
			dst.TypeIDs = append(dst.TypeIDs, item.TypeID)
			dst.Sequences = append(dst.Sequences, source)
		}
	}
}
