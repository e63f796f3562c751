package main

import (
	"encoding/binary"
	"fmt"
	"math"
)

// This file owns what the instructions do (Intel SDM volume 1, chapter 18, and volume 2). A
// start_row other than zero comes from an interrupted instruction only and is refused.

// A tile of palette 1.
const (
	tileCount = 8
	maxRows   = 16
	maxBytes  = 64 // of a row
)

// tile is a tile register with its shape, zero rows when it is not configured.
type tile struct {
	rows, colsb int
	data        [maxRows][maxBytes]byte
}

// tiles is the tile state of a thread.
type tiles struct {
	configured bool
	config     [64]byte // as LDTILECFG read it
	tile       [tileCount]tile
}

// content returns the rows of the tile.
func (t *tile) content() [][]byte {
	var rows [][]byte
	for r := range t.rows {
		rows = append(rows, t.data[r][:t.colsb])
	}
	return rows
}

// memory is that of the program, read and written in rows that begin stride bytes apart. Both fail
// when a byte cannot be accessed.
type memory interface {
	read(address, stride uint64, rows [][]byte) error
	write(address, stride uint64, rows [][]byte) error
}

// execute does one instruction; address is that of its memory operand, stride what lies between
// rows. An error is a condition of the manual for #UD or #GP, or of the memory.
func (s *tiles) execute(i instruction, address, stride uint64, m memory) error {
	switch i.op {
	case ldtilecfg:
		var c [64]byte
		if err := m.read(address, 0, [][]byte{c[:]}); err != nil {
			return err
		}
		return s.configure(c)
	case sttilecfg:
		return m.write(address, 0, [][]byte{s.config[:]})
	case tilerelease:
		*s = tiles{}
		return nil
	}
	if !s.configured {
		return fmt.Errorf("#UD: no tiles are configured")
	}
	used := []int{i.r}
	if i.op.product() {
		used = []int{i.r, i.m, i.v}
	}
	for _, t := range used {
		if s.tile[t].rows == 0 {
			return fmt.Errorf("#UD: tmm%d is not configured", t)
		}
	}
	t := &s.tile[i.r]
	switch i.op {
	case tilezero:
		t.data = [maxRows][maxBytes]byte{}
	case tileloadd, tileloaddt1:
		t.data = [maxRows][maxBytes]byte{}
		return m.read(address, stride, t.content())
	case tilestored:
		return m.write(address, stride, t.content())
	default:
		return s.multiply(i)
	}
	return nil
}

// configure loads a configuration, which clears all tiles.
func (s *tiles) configure(c [64]byte) error {
	if c[0] == 0 {
		*s = tiles{}
		return nil
	}
	if c[0] != 1 {
		return fmt.Errorf("#GP: palette %d", c[0])
	}
	next := tiles{configured: true, config: c}
	for at, b := range c {
		reserved := at >= 1 && at < 16 || at >= 16+2*tileCount && at < 48 || at >= 48+tileCount
		if reserved && b != 0 {
			return fmt.Errorf("#GP: byte %d of the tile configuration is %d", at, b)
		}
	}
	for n := range next.tile {
		t := &next.tile[n]
		t.colsb, t.rows = int(binary.LittleEndian.Uint16(c[16+2*n:])), int(c[48+n])
		if t.colsb > maxBytes || t.rows > maxRows || (t.colsb == 0) != (t.rows == 0) {
			return fmt.Errorf("#GP: tmm%d has %d rows of %d bytes", n, t.rows, t.colsb)
		}
	}
	*s = next
	return nil
}

// multiply does the products: tmm(r) += tmm(m) · tmm(v).
func (s *tiles) multiply(i instruction) error {
	c, a, b := &s.tile[i.r], &s.tile[i.m], &s.tile[i.v]
	switch {
	case i.r == i.m || i.r == i.v || i.m == i.v:
		return fmt.Errorf("#UD: a tile is given twice")
	case c.colsb%4 != 0 || a.colsb%4 != 0 || b.colsb%4 != 0:
		return fmt.Errorf("#UD: rows of %d, %d and %d bytes are not whole dwords", c.colsb, a.colsb, b.colsb)
	case c.rows != a.rows || a.colsb/4 != b.rows || c.colsb != b.colsb:
		return fmt.Errorf("#UD: shapes %d×%d += %d×%d · %d×%d do not fit", c.rows, c.colsb, a.rows, a.colsb, b.rows, b.colsb)
	}
	if i.op == tdpbf16ps {
		multiplyBF16(c, a, b)
	} else {
		multiplyInt8(i.op, c, a, b)
	}
	for m := range c.rows {
		clear(c.data[m][c.colsb:])
	}
	clear(c.data[c.rows:])
	return nil
}

// pair returns element n of a row of pairs of bf16. Subnormal numbers are zero.
func pair(row *[maxBytes]byte, n int) (even, odd float64) {
	bits := binary.LittleEndian.Uint32(row[4*n:])
	return float64(flush(math.Float32frombits(bits << 16))), float64(flush(math.Float32frombits(bits & 0xffff0000)))
}

// multiplyBF16 does TDPBF16PS: in each row the products of the even elements of all pairs are summed
// from zero by fused multiply-adds, those of the odd elements likewise; the two sums are added, and
// the result is added to the destination. Each operation rounds to nearest, takes a subnormal for
// zero and makes none.
func multiplyBF16(c, a, b *tile) {
	columns := c.colsb / 4
	var rightEven, rightOdd [maxRows][maxBytes / 4]float64
	for k := range b.rows {
		for n := range columns {
			rightEven[k][n], rightOdd[k][n] = pair(&b.data[k], n)
		}
	}
	for m := range c.rows {
		var even, odd [maxBytes / 4]float32
		for k := range b.rows {
			x, y := pair(&a.data[m], k)
			for n := range columns {
				even[n] = add(float64(even[n]), x*rightEven[k][n])
				odd[n] = add(float64(odd[n]), y*rightOdd[k][n])
			}
		}
		for n := range columns {
			at := c.data[m][4*n:]
			old := flush(math.Float32frombits(binary.LittleEndian.Uint32(at)))
			sum := add(float64(even[n]), float64(odd[n]))
			binary.LittleEndian.PutUint32(at, math.Float32bits(add(float64(old), float64(sum))))
		}
	}
}

const smallest = 0x1p-126 // normal f32

func flush(x float32) float32 {
	if x < smallest && x > -smallest {
		return float32(math.Copysign(0, float64(x)))
	}
	return x
}

// The bits that an f32 lacks, and their value halfway between two f32.
const below, half = 1<<29 - 1, 1 << 28

// add returns x + y rounded once, for an f32 and a product of two, which is exact in float64. The
// float64 sum is not, and its rounding matters only where it lies halfway between two f32, or is no
// normal number.
func add(x, y float64) float32 {
	sum := x + y
	if math.Float64bits(sum)&below == half || math.Abs(sum) < smallest {
		return addSlowly(x, y)
	}
	return float32(sum)
}

func addSlowly(x, y float64) float32 {
	sum := x + y
	// The error of the sum (Knuth) says on which side of a halfway point the exact one is.
	z := sum - x
	if e := (x - (sum - z)) + (y - z); e != 0 && math.Float64bits(sum)&below == half {
		bits := math.Float64bits(sum)
		if (e < 0) == (sum > 0) {
			bits--
		} else {
			bits++
		}
		sum = math.Float64frombits(bits)
	}
	// Rounded to 24 bits, whatever the exponent, numbers from here on are normal.
	if math.Abs(sum) < smallest*(1-0x1p-25) {
		return float32(math.Copysign(0, sum))
	}
	return float32(sum)
}

// multiplyInt8 does TDPBSSD and its siblings: sums of four products, modulo 2³².
func multiplyInt8(op operation, c, a, b *tile) {
	signedA, signedB := op == tdpbssd || op == tdpbsud, op == tdpbssd || op == tdpbusd
	value := func(x byte, signed bool) int32 {
		if signed {
			return int32(int8(x))
		}
		return int32(x)
	}
	for m := range c.rows {
		for n := range c.colsb / 4 {
			at := c.data[m][4*n:]
			sum := int32(binary.LittleEndian.Uint32(at))
			for k := range a.colsb {
				sum += value(a.data[m][k], signedA) * value(b.data[k/4][4*n+k%4], signedB)
			}
			binary.LittleEndian.PutUint32(at, uint32(sum))
		}
	}
}
