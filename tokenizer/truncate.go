package tokenizer

// This file owns truncation, with the rules of Hugging Face tokenizers.

import (
	"errors"
	"fmt"
	"math"
)

// A Strategy says which text of a pair is truncated.
type Strategy uint8

// The strategies.
const (
	LongestFirst Strategy = iota // the longer text down to the length of the other, then both
	OnlyFirst                    // the first text
	OnlySecond                   // the second text
)

// A Side is the end of a text at which tokens are dropped.
type Side uint8

// The sides.
const (
	Right Side = iota
	Left
)

// The truncation errors.
var (
	// ErrTooShort is returned when the text that the strategy names would
	// have to lose all its tokens or more.
	ErrTooShort = errors.New("truncation: the text to truncate is too short to reach the maximum length")
	// ErrNoSecond is returned when the second text is to be truncated and
	// there is none.
	ErrNoSecond = errors.New("truncation: there is no second text to truncate")
	// ErrMaxLength is returned when the maximum length is negative or leaves
	// no room for the special tokens.
	ErrMaxLength = errors.New("truncation: the maximum length is too small")
)

// roomFor returns how many tokens the texts in a template may have.
func (t *Tokenizer) roomFor(template []Item, o Options) (int, error) {
	if o.MaxLength == 0 {
		return math.MaxInt, nil
	}
	added := 0
	for _, item := range template {
		if item.Kind == ItemSpecial && o.AddSpecial {
			added++
		}
	}
	if o.MaxLength < added {
		return 0, fmt.Errorf("%w: %d, with %d special tokens to add", ErrMaxLength, o.MaxLength, added)
	}
	return o.MaxLength - added, nil
}

// truncateOne shortens the tokens of a single text to room.
func truncateOne(q *sequence, room int, o Options) error {
	if len(q.ids) > room && room > 0 && o.Strategy == OnlySecond {
		return ErrNoSecond
	}
	q.truncate(room, o.Side)
	return nil
}

// truncatePair shortens the tokens of a pair of texts to room together.
func truncatePair(first, second *sequence, room int, o Options) error {
	n, m := len(first.ids), len(second.ids)
	excess := n + m - room
	if excess <= 0 {
		return nil
	}
	switch {
	case room == 0:
		n, m = 0, 0
	case o.Strategy == LongestFirst:
		n, m = longestFirst(n, m, room)
	case o.Strategy == OnlyFirst && n > excess:
		n -= excess
	case o.Strategy == OnlySecond && m > excess:
		m -= excess
	default:
		return ErrTooShort
	}
	first.truncate(n, o.Side)
	second.truncate(m, o.Side)
	return nil
}

// longestFirst returns the lengths to which texts of n and m tokens are cut
// when both together have more than room.
func longestFirst(n, m, room int) (int, int) {
	short := min(n, m)
	long := max(short, room-short)
	if short+long > room {
		short = room / 2
		long = room - short
	}
	if n > m {
		return long, short
	}
	return short, long
}

// truncate drops tokens at side until at most n are left.
func (q *sequence) truncate(n int, side Side) {
	drop := len(q.ids) - n
	if drop <= 0 {
		return
	}
	if side == Left {
		copy(q.ids, q.ids[drop:])
		if q.offsets {
			copy(q.places, q.places[drop:])
		}
	}
	q.ids = q.ids[:n]
	if q.offsets {
		q.places = q.places[:n]
	}
}
