package kernel

import "github.com/bertc/bertc/ir"

// This file owns what is known of processors that plans are chosen for without a measurement.
// None of them was at hand: the numbers are those of the sources, the model is that of a core
// which is limited by one of its resources at a time.

// Machine describes a core and its first-level data cache.
type Machine struct {
	Name string
	// Vector, Loads and Issue are operations per cycle: 128-bit multiply-accumulates, 128-bit
	// loads, and operations in all.
	Vector, Loads, Issue int
	// Chain is the cycles from one accumulation to the next into the same register, of FMLA and
	// SDOT, MatrixChain of BFMMLA and SMMLA.
	Chain, MatrixChain int
	// Line is the cycles of a cache line from the second level: twice what the guides give, since
	// the other factor and the prefetcher want some.
	Line int
	// SetBytes is the distance of addresses that share a set of the cache, Ways how many of them
	// it holds.
	SetBytes, Ways int
	Source         string
}

var allMachines = []Machine{
	{"Cortex-A76", 2, 2, 4, 2, 0, 4, 16 << 10, 4, "Arm Cortex-A76 Software Optimization Guide; Technical Reference Manual"},
	{"Neoverse N1", 2, 2, 4, 2, 0, 4, 16 << 10, 4, "Arm Neoverse N1 Software Optimization Guide; Technical Reference Manual"},
	{"Neoverse V1", 4, 3, 8, 2, 3, 2, 16 << 10, 4, "Arm Neoverse V1 Software Optimization Guide; Technical Reference Manual"},
	{"Neoverse V2", 4, 3, 8, 2, 3, 2, 16 << 10, 4, "Arm Neoverse V2 Software Optimization Guide; Technical Reference Manual"},
	{"Apple M1", 4, 3, 8, 4, 0, 2, 16 << 10, 8, "Dougall Johnson, Apple M1 Firestorm overview"},
	{"Apple M2", 4, 3, 8, 4, 4, 2, 16 << 10, 8, "as Apple M1; BFMMLA is assumed to run like FMLA"},
}

// machines returns the machines of those names.
func machines(names ...string) []Machine {
	var out []Machine
	for _, n := range names {
		for _, m := range allMachines {
			if m.Name == n {
				out = append(out, m)
			}
		}
	}
	return out
}

// Tile is the work of a few steps of K of a register tile.
type Tile struct {
	Steps int
	// MACs are multiply-accumulate instructions, Vector the others of the vector unit, Loads
	// vector loads, Lines cache lines of the panel.
	MACs, Vector, Loads, Lines int
	// Chained is how many of the MACs go into the same register.
	Chained int
}

// TileOf returns the tile that the instruction works with for so many rows, on targets whose
// vectors have 4 lanes.
func (i Inst) TileOf(weight ir.DType, rows int) Tile {
	w, steps := i.TileVectors(weight, rows), 4
	lines := (w + 3) / 4 // of one row of the panel
	if weight == ir.I8 {
		steps = 16 / max(1, i.Rows) // a vector of the left factor
	}
	switch {
	case i.Rows > 1:
		pairs := (rows + 1) / 2
		if weight == 0 {
			return Tile{Steps: steps, MACs: 2 * pairs * w, Loads: pairs + 2*w, Lines: w / 2, Chained: 1}
		}
		return Tile{Steps: steps, MACs: 2 * pairs * w, Vector: 2 * w, Loads: pairs + 2*w, Lines: 2 * lines, Chained: 1}
	case weight == ir.BF16:
		return Tile{Steps: steps, MACs: 4 * rows * w, Vector: 4 * w, Loads: rows + 2*w, Lines: 2 * lines, Chained: 4}
	}
	return Tile{Steps: steps, MACs: 4 * rows * w, Loads: rows + 4*w, Lines: 4 * lines, Chained: 4}
}

// Cycles returns what the machine takes for a tile: as long as its most loaded resource, and a
// little of the others, which get in each other's way.
func (m Machine) Cycles(t Tile, chain int) float64 {
	longest, sum := 0.0, 0.0
	for _, c := range [...]float64{
		float64(t.MACs+t.Vector) / float64(m.Vector),
		float64(t.Loads) / float64(m.Loads),
		float64(t.MACs+t.Vector+t.Loads) / float64(m.Issue),
		float64(t.Chained * chain),
		float64(t.Lines * m.Line),
	} {
		longest, sum = max(longest, c), sum+c
	}
	return longest + interference*(sum-longest)
}

// interference is the part of the time of the resources that are not the most loaded one which
// adds to it, and smallTile are cycles for the instructions around a tile. Both are guesses that
// only tell apart tiles that the model would call equal.
const (
	interference = 0.05
	smallTile    = 0.5
)

// tileCost returns the cycles of a tile relative to those of its products in FMLA.
func (m Machine) tileCost(s Spec, i Inst, rows int) float64 {
	chain, units := m.Chain, rows
	if i.Rows > 1 {
		chain, units = m.MatrixChain, (rows+1)/2
	}
	t, w := i.TileOf(s.Weight, rows), i.TileVectors(s.Weight, rows)
	cycles := m.Cycles(t, chain) + smallTile
	if s.Kind == Gemm && sharing(units, i.rowBytes(s)*max(1, i.Rows), m.SetBytes) > m.Ways {
		cycles *= 1.3
	}
	return cycles * float64(m.Vector) / float64(t.Steps*rows*w)
}
