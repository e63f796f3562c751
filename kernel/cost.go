package kernel

// Cost predicts the cycles per row and K step, relative to a perfect kernel, that plan p loses
// on Spec s; smaller is better. It ranks the plans of one Spec on one target.
//
// The terms, per multiply-accumulate of one vector:
//   - loads: a step of K loads MicroN/lanes vectors of weights, widens them when they are bf16
//     (two operations for a pair of steps), and broadcasts MicroM activations, against
//     MicroM·MicroN/lanes multiply-accumulates;
//   - conflicts: rows of the tile whose distance is a multiple of 4 KiB lie in one set of the
//     first-level cache, and more of them than it has ways evict each other at every step;
//   - streams: each row of the tile is a stream of memory, and the processor prefetches about
//     eight of them;
//   - on targets with a table of machines, these three are what a tile takes on each (machine.go);
//   - repacking: each work item packs its rows again, 1/(columns of the item) of its products;
//   - streaming: the weights are read once per BlockM rows;
//   - tails: blocks that are much larger than a typical batch leave workers idle, so plans of
//     equal merit are ordered by size;
//   - tiles do tileRate times as much in the same time: what surrounds the products weighs as much
//     more.
func Cost(s Spec, p Plan) float64 {
	t, ok := LookupTarget(p.Target)
	if !ok {
		return 0
	}
	if t.Device() {
		return deviceCost(s, p)
	}
	if s.Kind == Rowwise || s.Kind == Gather {
		return 1 / float64(p.BlockM) * (1 + float64(p.BlockM)/16)
	}
	inst, ok := t.Inst(p.Inst)
	if !ok {
		return 0
	}
	cost := 0.0
	if len(t.Machines) > 0 {
		for _, m := range t.Machines {
			cost += m.tileCost(s, inst, p.MicroM) / float64(len(t.Machines))
		}
	} else {
		cost = tileCost(s, inst, p)
	}
	size := float64(p.BlockM)/2048 + float64(p.BlockN)/1024
	stream := 2.0
	if inst.Tile > 0 {
		cost, size, stream = cost/tileRate, size/tileRate, tileStream
	}
	if s.Kind == Attention {
		cost += 8/float64(p.BlockM) + 32/float64(p.BlockN)*0.1 + float64(p.BlockN)/4096
		return cost + float64(p.BlockM)/4096
	}
	cost += 16 / float64(p.BlockN*PanelN)
	cost += stream / float64(p.BlockM)
	return cost + size
}

// tileRate is TDPBF16PS against f32 multiply-adds of a core, and tileStream the time of reading
// the weights once against that of the multiply-adds of a row. Granite Rapids, two cores with random
// data: 5,100 and 480 GFLOP/s, 31 GB/s of weights of two bytes.
const (
	tileRate   = 10
	tileStream = 8
)

// tileCost is the part of Cost that a register tile makes, on targets without a table of machines.
func tileCost(s Spec, inst Inst, p Plan) float64 {
	if inst.Tile > 0 {
		// Tiles of rows and of columns are loaded for rows × columns products.
		rows, columns := float64(p.MicroM/inst.Tile), 2.0
		return 1 + 0.5*(rows+columns)/(rows*columns)
	}
	vecs := float64(p.MicroN) / float64(inst.Lanes)
	fma := float64(p.MicroM) * vecs
	loads := vecs + float64(p.MicroM)
	cost := 1 + 0.5*loads/fma
	cost += 0.01 * float64(max(0, p.MicroM-streams))
	if sameSet(p.MicroM, Kernel{s, p}) > cacheWays {
		cost += 0.3
	}
	if inst.Pairs {
		cost /= 2
	}
	return cost
}

// The first-level cache that plans are made for: 64 sets of 64-byte lines, so that addresses
// setBytes apart share a set, and the associativity that is common to the processors in use.
const (
	setBytes  = 4096
	cacheWays = 8
	cacheLine = 64
)

// streams is the number of streams of memory that a processor keeps prefetching at full speed.
const streams = 8

// sameSet returns how many of the rows of a register tile lie in the same set.
func sameSet(rows int, k Kernel) int {
	if k.Spec.Kind != Gemm {
		return 0
	}
	return sharing(rows, k.RowBytes(), setBytes)
}

// sharing returns how many of so many lines, stride bytes apart, lie in one set of a cache whose
// sets repeat after setBytes.
func sharing(lines, stride, setBytes int) int {
	return (lines*gcd(stride, setBytes) + setBytes - 1) / setBytes
}

// Choose returns the legal plan of s on a target with the lowest Cost; the first of equals.
func Choose(s Spec, target string) (Plan, bool) {
	var best Plan
	cost, found := 0.0, false
	for p := range Space(s, target) {
		if c := Cost(s, p); !found || c < cost {
			best, cost, found = p, c, true
		}
	}
	return best, found
}
