package rt

import (
	"encoding/binary"
	"math"
	"slices"
)

// This file tries AMX before a model relies on it: CPUID and the permission say that there are
// tiles, not that whatever runs this process keeps and multiplies them rightly.

// tileBF16 and tileInt8 multiply the tiles at a and b, rows of 64 bytes, by TDPBF16PS and by TDPBSSD, and
// write the product to c.
//
//go:noescape
func tileBF16(config *[64]byte, a, b, c *[1024]byte)

//go:noescape
func tileInt8(config *[64]byte, a, b, c *[1024]byte)

// selfTest returns what is wrong with the features that a tier needs and the CPU has, or "".
func selfTest(features []string) (fault string) {
	const wrong = "a product of tiles came out wrong on this CPU: "
	if slices.Contains(features, "AMX_BF16") && !tilesWork(2, tileBF16) {
		return wrong + "AMX_BF16"
	}
	if slices.Contains(features, "AMX_INT8") && !tilesWork(1, tileInt8) {
		return wrong + "AMX_INT8"
	}
	return ""
}

// tilesWork multiplies two full tiles of small integers, of as many bytes each, whose sums are exact
// in any order.
func tilesWork(size int, product func(config *[64]byte, a, b, c *[1024]byte)) bool {
	config := [64]byte{0: 1} // palette 1, tiles 0 to 2 of 16 rows of 64 bytes
	for t := range 3 {
		config[16+2*t], config[48+t] = 64, 16
	}
	left := func(row, k int) int { return (row+3*k)%7 - 3 }
	right := func(k, column int) int { return (5*k+column)%9 - 4 }
	var a, b, c [1024]byte
	put := func(tile *[1024]byte, at, x int) {
		if size == 1 {
			tile[at] = byte(x)
		} else {
			binary.LittleEndian.PutUint16(tile[2*at:], uint16(math.Float32bits(float32(x))>>16))
		}
	}
	together := 4 / size // elements of a dword
	steps := 16 * together
	for i := range 16 {
		for k := range steps {
			put(&a, steps*i+k, left(i, k))
			put(&b, steps*(k/together)+together*i+k%together, right(k, i))
		}
	}
	product(&config, &a, &b, &c)
	for row := range 16 {
		for column := range 16 {
			sum := 0
			for k := range steps {
				sum += left(row, k) * right(k, column)
			}
			want := uint32(sum)
			if size == 2 {
				want = math.Float32bits(float32(sum))
			}
			if binary.LittleEndian.Uint32(c[64*row+4*column:]) != want {
				return false
			}
		}
	}
	return true
}
