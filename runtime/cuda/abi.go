package cuda

import rt "github.com/bertc/bertc/runtime"

// This file owns the launch table: what codegen/ptx says of its kernels, and what their entries
// find in memory.
//
// Memory of a step. Every buffer of the module has rows of its own on the device, one a token or
// one a selected row: f32 and i32 rows without gaps, bf16 rows of a multiple of 16 bytes, which a
// tensor map needs (Pitch). A row that the batch does not have holds what an earlier batch left.
// Buffers begin at multiples of 256 bytes.
//
// Weights. A matrix of a matmul lies row-major, bf16 [WeightRows][KPad]: its rows in the order of
// the panels of the weight file (under GLU 16 of the gate, then 16 of up), padded with zeros to a
// multiple of 8 rows, K to a multiple of 32. Where the kernel has a norm, gamma is multiplied in:
// W'[n][k] = bf16(gamma[k] · W[n][k]). The table of a gather is [V][KPad] of the same layout,
// without gamma; a matmul without a norm shares it. A table of activations is the buffer Src.
//
// Norms. A matmul that reads an f32 buffer reads its shadow, a bf16 copy of the raw rows, and
// scales the sums by what the statistics of the row say, since gamma is in the weights:
//
//	rmsnorm    y[n] = r · Σ x[k]·W'[n][k] + bias[n],             r = rsqrt(mean(x²) + eps)
//	layernorm  y[n] = r · (Σ x[k]·W'[n][k] − mean·ColSum[n]) + bias[n],  r = rsqrt(var + eps)
//
// The kernel that writes the f32 buffer writes shadow and statistics beside it, where the buffer
// has them: the pointers are 0 where it has not, and the kernel then leaves them out. Statistics
// are f32 pairs [rows][slots][2], the sum and the sum of squares of the columns of a slot, of the
// f32 values; a slot is Kernel.StatsCols columns of the kernel that wrote them. The reader adds
// the slots in order.

// Program is the launch table of a module and of the PTX text that goes with it.
type Program struct {
	// Kernels are by index of rt.Module.Kernels.
	Kernels []Kernel
	// TopK reduces the rows of the logits, which are its Src. Without variants, as where the
	// module has no head, the host does it.
	TopK Kernel
}

// Kernel is how the device does one kernel. Results must not depend on the variant, bit for bit.
type Kernel struct {
	// Variants are in the order of MaxRows: the first one that is large enough runs.
	Variants []Variant
	// StatsCols is how many columns of Dst a slot of its statistics covers; 0: the kernel writes
	// none.
	StatsCols int
}

// Variant is the launches of a kernel for batches of so many rows, in order.
type Variant struct {
	MaxRows  int // 0: no limit; the last variant has none
	Launches []Launch
	// Scratch and ScratchRow are the bytes that ParamScratch points at: Scratch, and ScratchRow
	// more for each row that the session has room for. They are the kernel's own, begin as zeros,
	// and a launch finds there what the one before it left.
	Scratch, ScratchRow int
}

// Launch is one call of an entry of the PTX text.
type Launch struct {
	Entry   string
	Threads int // of a CTA
	Shared  int // bytes of dynamic shared memory of a CTA
	Cluster int // CTAs of a cluster, of GridTiles: tiles of the same columns, one below the other; 0 or 1: no clusters
	Grid    Grid
	// Params are the parameters of the entry in order, each aligned to its size, tensor maps to
	// 64 bytes.
	Params []Param
	// Dependent: the launch may begin before the one ahead of it has ended (programmatic
	// dependent launch); the entry waits by griddepcontrol.wait.
	Dependent bool
}

// Grid says how many CTAs a launch has. They are in one dimension, a multiple of Cluster. The
// count is that of the largest batch of the graph, so that a CTA must compare with ParamRows or
// ParamItemCount whether there is work for it.
type Grid struct {
	Kind GridKind
	// TileM is the rows of a CTA. TileN is its columns and N how many there are, of GridTiles.
	TileM, TileN, N int
	// Persistent: as many CTAs as the device has multiprocessors at most; each takes the tiles
	// ctaid, ctaid + nctaid and so on.
	Persistent bool
}

// CTAs returns how many CTAs the launch has for so many rows, or work items of GridItems, on a device of sms
// multiprocessors, 0 where that is not known.
func (l *Launch) CTAs(rows, items, sms int) int {
	g, cluster, n := &l.Grid, max(l.Cluster, 1), 0
	switch g.Kind {
	case GridTiles:
		n = cluster * rt.CeilDiv(rows, cluster*g.TileM) * rt.CeilDiv(g.N, g.TileN)
	case GridRows:
		n = rt.CeilDiv(rows, g.TileM)
	case GridItems:
		n = items
	}
	if g.Persistent && sms > 0 {
		n = min(n, sms/cluster*cluster)
	}
	return n
}

// GridKind is what the CTAs of a launch share out.
type GridKind uint8

const (
	// GridTiles: ceil(rows/TileM) · ceil(N/TileN) tiles, the first factor rounded up to whole clusters.
	GridTiles GridKind = iota
	// GridRows: ceil(rows/TileM) blocks of rows.
	GridRows
	// GridItems: the work items of attention, see Item.
	GridItems
)

// Item is a piece of attention, as ParamItems lists them: TileM rows of a sequence and a key/value
// head. The G = Heads/KVHeads query heads that share the key/value head are packed: row r is
// query r/G and head KVHead·G + r%G, of Len·G rows.
type Item struct {
	Start  int32 // first token of the sequence
	Len    int32 // its tokens
	KVHead int32
	Row    int32 // first packed row, a multiple of TileM
}

// Param is one parameter of an entry.
type Param struct {
	Kind    ParamKind
	Operand Operand
	// Box is the box of a tensor map in elements, innermost first. With two sizes the tensor is
	// [rows][columns]. With three the columns are groups of Box[0], and the tensor is
	// [rows][groups][Box[0]]: heads.
	Box []int
	// Swizzle is that of the shared memory: 0, 32, 64 or 128 bytes.
	Swizzle int
	// Order is the order of the rows of the weight matrix, OperandW. Bias and ColSum stay in that
	// of the panels.
	Order Order
}

// ParamKind is what a parameter is.
type ParamKind uint8

const (
	// ParamPointer is the address of the operand, u64. That of the bias is f32 of as many as the
	// matrix has rows padded to 32, and has W·beta added where the norm has a beta: such a kernel
	// has a bias in any case.
	ParamPointer ParamKind = iota
	// ParamMap is a tensor map of the operand, 128 bytes: a buffer or the weight matrix.
	ParamMap
	// ParamShadow and ParamShadowMap are the bf16 copy of an f32 buffer: its address, 0 when there
	// is none, and its tensor map.
	ParamShadow
	ParamShadowMap
	// ParamStats is the address of the row statistics of an f32 buffer, 0 when there are none.
	ParamStats
	// ParamSlots is how many slots the statistics of the operand have, u32.
	ParamSlots
	// ParamColSum is the address of f32 sums of the rows of W', of as many as the matrix has rows
	// padded to 32.
	ParamColSum
	// ParamRows is the address of the number of rows of the batch that the step runs on, u32.
	ParamRows
	// ParamItems and ParamItemCount are the addresses of the work items of attention and of their
	// number, u32.
	ParamItems
	ParamItemCount
	// ParamScratch is the address of the bytes that Variant.Scratch asks for.
	ParamScratch
	// ParamTopK, of Program.TopK, is the address of the number of entries that are wanted, u32 of
	// 1..MaxTopK.
	ParamTopK
	// ParamTopIDs and ParamTopLogits are the addresses of the best entries, i32 and f32
	// [rows][MaxTopK], the higher logit first, then the lower id.
	ParamTopIDs
	ParamTopLogits
	// ParamTopSums is the address of f32 pairs [rows][2]: the largest logit of a row, and the sum
	// of exp(logit − largest).
	ParamTopSums
)

// MaxTopK is the most entries that Program.TopK finds.
const MaxTopK = 64

// Operand is a field of rt.Step.
type Operand uint8

const (
	OperandSrc Operand = iota
	OperandDst
	OperandRes
	OperandIndex
	OperandPos
	OperandW
	OperandBias
	OperandGamma
	OperandBeta
	OperandCos
	OperandSin
	OperandPosTable
)

// Pitch returns the bytes from one row of a buffer, or of a shadow, to the next.
func Pitch(cols int, bf16 bool) int {
	if bf16 {
		return (2*cols + 15) / 16 * 16
	}
	return 4 * cols
}
