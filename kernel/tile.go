package kernel

import "github.com/bertc/bertc/ir"

// This file owns the shapes of register tiles on targets whose vectors have 4 lanes. The emitter
// takes its tile from here, so that Cost (machine.go) knows the tile that runs.

// vectors128 is the number of 128-bit vector registers of such a target, and addresses that of the
// general registers which can hold the address of a row, or of as many as the instruction takes.
const (
	vectors128 = 32
	addresses  = 8
)

// TileVectors returns how many vectors of 4 columns, 2, 4 or 8, the register tile has for so many
// rows: as many as there are registers for, or 0 when there are too many rows. weight is the type
// of panels in the weight file; attention packs its panels itself and has none.
func (i Inst) TileVectors(weight ir.DType, rows int) int {
	if rows > addresses*max(1, i.Rows) {
		return 0
	}
	for _, w := range []int{8, 4, 2} {
		if i.tileRegisters(weight, rows, w) <= vectors128 {
			return w
		}
	}
	return 0
}

// tileRegisters returns the registers of a tile: accumulators, left factors, right factors, and
// what widening or pairing these takes.
func (i Inst) tileRegisters(weight ir.DType, rows, vectors int) int {
	if i.Rows > 1 {
		pairs := (rows + 1) / 2
		if weight == 0 {
			return 2*pairs*vectors + pairs + 2
		}
		left := pairs
		if vectors == 2 {
			left = 1 // each is used once, so they take turns
		}
		return 2*pairs*vectors + left + 5
	}
	right := 2
	if weight == ir.BF16 {
		right = 3
	}
	return rows*vectors + rows + right
}
