package tokenizer

// This file owns the units of offsets.

import "unicode/utf8"

// An Offset is the place of a token in the original text: the half-open range
// [Start, End), counted in the unit that the options ask for.
type Offset struct{ Start, End int32 }

// An OffsetUnit is a unit in which offsets are counted.
type OffsetUnit uint8

// The units of offsets.
const (
	CodePoints OffsetUnit = iota // Unicode code points
	Bytes                        // bytes of UTF-8
	UTF16                        // 16-bit units of UTF-16
	offsetUnits
)

// widths is how many units a code point takes, by the unit and by the length
// of the code point in UTF-8.
var widths = [offsetUnits][utf8.UTFMax + 1]int32{
	CodePoints: {1: 1, 2: 1, 3: 1, 4: 1},
	Bytes:      {1: 1, 2: 2, 3: 3, 4: 4},
	UTF16:      {1: 1, 2: 1, 3: 1, 4: 2},
}

// sizeOf returns the length of the code point that starts with lead in valid
// UTF-8.
func sizeOf(lead byte) int {
	switch {
	case lead < 0x80:
		return 1
	case lead < 0xe0:
		return 2
	case lead < 0xf0:
		return 3
	}
	return 4
}

// A cursor walks over valid UTF-8.
type cursor struct {
	points int32 // code points passed
	bytes  int   // bytes passed
	units  int32 // units passed
}

// advance moves c on to the code point with the number to.
func (c *cursor) advance(text string, to int32, width *[utf8.UTFMax + 1]int32) {
	for c.points < to {
		n := sizeOf(text[c.bytes])
		c.bytes += n
		c.units += width[n]
		c.points++
	}
}

// convert changes offsets in text from code points to unit. Their starts must
// not go backwards.
func convert(text string, offsets []Offset, unit OffsetUnit) {
	if unit == CodePoints {
		return
	}
	width := &widths[unit]
	var start cursor
	for i, o := range offsets {
		start.advance(text, o.Start, width)
		end := start
		end.advance(text, o.End, width)
		offsets[i] = Offset{start.units, end.units}
	}
}
