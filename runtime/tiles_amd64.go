package rt

import (
	"encoding/binary"
	"math"
	"slices"
)

// This file tries AMX before a model relies on it: CPUID and the permission say that there are
// tiles, not that whatever runs this process keeps and multiplies them rightly.

// tileProduct multiplies the tiles at a and b, rows of 64 bytes, and writes the product to c.
//
//go:noescape
func tileProduct(config *[64]byte, a, b, c *[1024]byte)

// selfTest returns what is wrong with the features that a tier needs and the CPU has, or "".
func selfTest(features []string) (fault string) {
	if slices.Contains(features, "AMX_BF16") && !tilesWork() {
		return "a product of tiles came out wrong on this CPU"
	}
	return ""
}

// tilesWork multiplies two full tiles of small integers, whose sums are exact in any order.
func tilesWork() bool {
	config := [64]byte{0: 1} // palette 1, tiles 0 to 2 of 16 rows of 64 bytes
	for t := range 3 {
		config[16+2*t], config[48+t] = 64, 16
	}
	left := func(row, k int) int { return (row+3*k)%7 - 3 }
	right := func(k, column int) int { return (5*k+column)%9 - 4 }
	var a, b, c [1024]byte
	put := func(tile *[1024]byte, at, x int) {
		binary.LittleEndian.PutUint16(tile[2*at:], uint16(math.Float32bits(float32(x))>>16))
	}
	for i := range 16 {
		for k := range 32 {
			put(&a, 32*i+k, left(i, k))
			put(&b, 32*(k/2)+2*i+k%2, right(k, i))
		}
	}
	tileProduct(&config, &a, &b, &c)
	for row := range 16 {
		for column := range 16 {
			sum := 0
			for k := range 32 {
				sum += left(row, k) * right(k, column)
			}
			if got := binary.LittleEndian.Uint32(c[64*row+4*column:]); got != math.Float32bits(float32(sum)) {
				return false
			}
		}
	}
	return true
}
