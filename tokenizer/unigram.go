package tokenizer

// This file owns the segmentation of one stretch of text into the pieces with
// the highest sum of scores.
//
// The lattice is walked forward, character by character. Whenever no piece
// spans a place, the best way to it cannot change any more, so the pieces up
// to it are handed out and the lattice starts anew there; it stays as small as
// the longest stretch without such a place. Sums are not started anew: the
// result depends on how float64 rounds them from the start of the stretch, as
// in Hugging Face tokenizers, where a later way to a place replaces an earlier
// one only if its sum is strictly larger.

import (
	"math"
	"unicode/utf8"
)

// root is the index of the root unit, whose Base is 0 by definition.
const root = uint32(0)

// A node is a place in the lattice with the best way to it.
type node struct {
	score float64
	unit  uint32 // unit where the last piece ends; the root for an unknown character
	from  uint32 // node where the last piece starts
}

// An arc is one piece of the best way, from and to a character.
type arc struct {
	unit       uint32
	start, end int
}

// scratch is the memory that one call of an encoding method needs.
type scratch struct {
	codes   []uint16
	lattice []node
	arcs    []arc
	first   sequence
	second  sequence
}

// maxKept is the size of scratch memory, in characters, above which it is
// left to the garbage collector instead of being kept for the next text.
const maxKept = 1 << 20

func (s *scratch) large() bool {
	return cap(s.codes) > maxKept || cap(s.lattice) > maxKept ||
		cap(s.first.ids) > maxKept || cap(s.second.ids) > maxKept
}

// child returns the child of the unit at for the character code c.
func (im *Image) child(at uint32, c uint16) (uint32, bool) {
	next := uint32(c)
	if at != root {
		next += im.Units[at].Base
	}
	if next == root || uint64(next) >= uint64(len(im.Units)) || im.Units[next].Check != at {
		return root, false
	}
	return next, true
}

// A segment is a stretch of text between added tokens on its way to tokens.
type segment struct {
	t      *Tokenizer
	text   string
	origin int32    // code points of the whole text before the segment
	prefix int      // number of characters put before text: 0 or 1
	codes  []uint16 // of the normalized text: prefix, then one per code point
	out    *sequence

	unknown, unknownEnd int    // characters of the unknown run not handed out yet
	passed              cursor // place in text up to which unknown runs were read
}

// newSegment normalizes text into character codes in s.
func (t *Tokenizer) newSegment(s *scratch, text string, origin int32, out *sequence) (segment, *InvalidUTF8Error) {
	if cap(s.codes) < len(text)+1 {
		s.codes = make([]uint16, len(text)+1+len(text)/4)
	}
	codes := s.codes[:len(text)+1]
	n := 0
	if t.hasPrefix(text) {
		codes[0] = t.code(metaspace)
		n = 1
	}
	prefix := n
	for i := 0; i < len(text); n++ {
		b := text[i]
		if b < utf8.RuneSelf {
			codes[n] = t.ascii[b]
			i++
			continue
		}
		// Three bytes, the case of Japanese text, are read in place.
		if b&0xf0 == 0xe0 && i+2 < len(text) {
			b1, b2 := text[i+1], text[i+2]
			r := rune(b&0x0f)<<12 | rune(b1&0x3f)<<6 | rune(b2&0x3f)
			if b1&0xc0 == 0x80 && b2&0xc0 == 0x80 && r >= 0x800 && (r < 0xd800 || r > 0xdfff) {
				codes[n] = t.code(r)
				i += 3
				continue
			}
		}
		r, size := utf8.DecodeRuneInString(text[i:])
		if r == utf8.RuneError && size <= 1 {
			return segment{}, &InvalidUTF8Error{i}
		}
		codes[n] = t.code(r)
		i += size
	}
	return segment{t: t, text: text, origin: origin, prefix: prefix, codes: codes[:n], out: out}, nil
}

// hasPrefix reports whether ▁ is put before text.
func (t *Tokenizer) hasPrefix(text string) bool {
	if text == "" || t.im.Prefix == PrefixNone {
		return false
	}
	if t.im.Prefix != PrefixPrependMissing {
		return true
	}
	r, _ := utf8.DecodeRuneInString(text)
	return r != metaspace && r != ' '
}

// run appends the tokens of the segment to its sequence and stops early once
// that is full.
func (g *segment) run(s *scratch) {
	units, codes := g.t.im.Units, g.codes
	maxPiece, unkScore := int(g.t.im.MaxPiece), g.t.im.UnkScore
	begin, reach := 0, 0 // character of the node 0, last node in use
	lattice := room(s.lattice, 1)
	lattice[0] = node{}
	for i := range codes {
		at := i - begin
		if at == reach { // no piece spans this place
			s.lattice = lattice
			g.handOut(s, lattice[:at+1], begin)
			if g.out.full() {
				return
			}
			lattice[0] = node{score: lattice[at].score}
			begin, at, reach = i, 0, 0
		}
		end := i + min(maxPiece, len(codes)-i)
		lattice = room(lattice, end-begin+1)
		here := lattice[at].score

		// The first character is the only one that may be unknown. Its unit
		// is its code, because the root has base 0.
		unit, score, piece := root, unkScore, false
		if c := uint32(codes[i]); c != 0 && uint64(c) < uint64(len(units)) && units[c].Check == root {
			piece = true
			if units[c].Score > math.Inf(-1) {
				unit, score = c, units[c].Score
			}
		}
		to := at + 1
		if to > reach {
			reach = to
			lattice[to] = node{math.Inf(-1), root, uint32(at)}
		}
		if sum := here + score; sum > lattice[to].score {
			lattice[to] = node{sum, unit, uint32(at)}
		}
		if !piece {
			continue
		}
		parent := uint32(codes[i])
		for _, c := range codes[i+1 : end] {
			next := units[parent].Base + uint32(c)
			if uint64(next) >= uint64(len(units)) || units[next].Check != parent {
				break
			}
			to++
			if to > reach {
				reach = to
				lattice[to] = node{math.Inf(-1), root, uint32(to - 1)}
			}
			// Where no piece ends the score is -Inf and so is the sum.
			if sum := here + units[next].Score; sum > lattice[to].score {
				lattice[to] = node{sum, next, uint32(at)}
			}
			parent = next
		}
	}
	s.lattice = lattice
	g.handOut(s, lattice[:reach+1], begin)
	if !g.out.full() {
		g.endUnknown()
	}
}

// room returns lattice with at least n nodes.
func room(lattice []node, n int) []node {
	if n <= len(lattice) {
		return lattice
	}
	grown := make([]node, n+n/2)
	copy(grown, lattice)
	return grown
}

// handOut appends the tokens of the best way through lattice, whose first
// node is at the character begin.
func (g *segment) handOut(s *scratch, lattice []node, begin int) {
	arcs := s.arcs[:0]
	for end := uint32(len(lattice) - 1); end > 0; end = lattice[end].from {
		n := lattice[end]
		arcs = append(arcs, arc{n.unit, begin + int(n.from), begin + int(end)})
	}
	s.arcs = arcs
	im := &g.t.im
	for i := len(arcs) - 1; i >= 0; i-- {
		a := arcs[i]
		id := im.UnitIDs[a.unit]
		if id == noID || id == im.UnkID {
			if g.unknownEnd == 0 {
				g.unknown = a.start
			}
			g.unknownEnd = a.end
			continue
		}
		g.endUnknown()
		g.emit(id, a.start, a.end)
	}
}

// emit appends a token for the characters [start, end).
func (g *segment) emit(id int32, start, end int) {
	g.out.ids = append(g.out.ids, id)
	if !g.out.offsets {
		return
	}
	first, last := max(start-g.prefix, 0), end-g.prefix
	if last == 0 && g.t.im.Prefix != PrefixInsert {
		last = 1
	}
	g.out.places = append(g.out.places, Offset{g.origin + int32(first), g.origin + int32(last)})
}

// endUnknown appends the tokens of the pending run of unknown characters, if
// any: a piece that covers the whole run, a token for each of its bytes if all
// of them have one, or the unknown token.
func (g *segment) endUnknown() {
	start, end := g.unknown, g.unknownEnd
	if end == 0 {
		return
	}
	g.unknownEnd = 0
	im := &g.t.im
	if id, ok := im.piece(g.codes[start:end]); ok {
		g.emit(id, start, end)
		return
	}
	before := len(g.out.ids)
	if im.ByteFallback == 1 && g.eachByte(start, end, func(b byte) bool { return im.ByteIDs[b] != noID }) {
		g.eachByte(start, end, func(b byte) bool {
			g.emit(im.ByteIDs[b], start, end)
			return true
		})
	}
	if len(g.out.ids) == before {
		g.emit(im.UnkID, start, end)
	}
}

// piece returns the id of the piece that codes spell.
func (im *Image) piece(codes []uint16) (int32, bool) {
	at := root
	for _, c := range codes {
		var ok bool
		if at, ok = im.child(at, c); !ok {
			return 0, false
		}
	}
	return im.UnitIDs[at], im.UnitIDs[at] != noID
}

// eachByte calls f for each byte of the normalized characters [start, end)
// for as long as f returns true, and reports whether it always did.
func (g *segment) eachByte(start, end int, f func(byte) bool) bool {
	g.passed.advance(g.text, int32(max(start-g.prefix, 0)), &widths[CodePoints])
	from := g.passed
	to := from
	to.advance(g.text, int32(end-g.prefix), &widths[CodePoints])
	each := func(text string) bool {
		for i := range len(text) {
			if !f(text[i]) {
				return false
			}
		}
		return true
	}
	if start < g.prefix && !each(metaspaceText) {
		return false
	}
	for i := from.bytes; i < to.bytes; i++ {
		if g.text[i] == ' ' && g.t.im.MapSpaces == 1 {
			if !each(metaspaceText) {
				return false
			}
		} else if !f(g.text[i]) {
			return false
		}
	}
	return true
}
