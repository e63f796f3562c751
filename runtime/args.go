package rt

import "unsafe"

// The argument blocks of kernels. Assembly reads them at fixed offsets (codegen takes the offsets
// from these types with unsafe.Offsetof), so every field is eight bytes. Kernels never write
// them. Strides are in bytes. Pointers are to the arena, to the scratch of the worker, or into
// the mapped weight file, all of which outlive the call.

// GemmArgs is for the two functions of a matmul.
//
// prologue: reads Rows rows of K elements at Src, applies the norm, rounds to the dtype of the
// multiplication, and writes rows of KPad elements (zero beyond K) at A, Impl.RowBytes apart. They
// are f32, or bf16 where block multiplies bf16: only these two functions read A. Where it multiplies
// codes of 8 bits, a row begins with its scale, and the codes follow after 64 bytes (codesAt).
//
// block: for Rows rows at A and Panels weight panels at B: accumulates each 32-column panel over
// K in order into Tile, then applies the epilogue and writes the output columns, Rows × (Panels ·
// panel output) minus what exceeds N, to Dst.
type GemmArgs struct {
	Rows      int
	Src       unsafe.Pointer // [Rows][K] of dtype In
	SrcStride int
	Gamma     unsafe.Pointer // f32 [K]
	Beta      unsafe.Pointer // f32 [K]
	A         unsafe.Pointer // [Rows][KPad], see prologue
	Panels    int            // a multiple of the epilogue group, except at the end of the matrix
	B         unsafe.Pointer // first panel of the call
	Col       int            // output column of the first panel
	Bias      unsafe.Pointer // f32, at the first panel (panel order, padded to whole panels)
	Tile      unsafe.Pointer // f32 [MicroM][Group·32], 64-byte aligned scratch
	Dst       unsafe.Pointer // [Rows] rows of dtype Out, at output column Col
	DstStride int
	Res       unsafe.Pointer // f32 [Rows], at output column Col; may be Dst
	ResStride int
	Pos       unsafe.Pointer // i32 [Rows]: position of each row
	Cos       unsafe.Pointer // f32 [positions][HeadDim/2]
	Sin       unsafe.Pointer // f32 [positions][HeadDim/2]
	WScale    unsafe.Pointer // f32, at the first panel as Bias: scales of rows of codes
}

// AttentionArgs is for the four functions of attention, for one group of query heads that share
// a key/value head. Row r is query r / G, head r % G of the group, G = Heads/KVHeads.
//
// The packed buffers are described for f32; tiers that multiply bf16 put pairs of them into the
// same space. Only the four functions of a tier read them.
//
// packQ: reads the queries, multiplies by the scale and writes f32 QPack [Rows][HeadDim].
// packKV: reads Keys keys and values and writes the panels KPack and VPack; key columns beyond
// Keys are zero.
// attend: one step of the online softmax (Milakov and Gimelshein, arXiv 1805.02867) over the
// block of keys: scores, running maximum and sum, and O = O·exp(old−new) + p·V. First tells that
// the block is the first of the sequence: Max, Sum and O are not read then.
// finish: writes O/Sum in dtype Out.
type AttentionArgs struct {
	Rows      int            // queries of the item × G
	Q         unsafe.Pointer // dtype In: first query, first head of the group
	QStride   int            // from one query to the next; heads are HeadDim elements apart
	K         unsafe.Pointer // dtype In: first key of the block
	V         unsafe.Pointer // dtype In: first value of the block
	KVStride  int
	Keys      int            // 1..BlockN
	First     int            // 1 for the first block of keys of a sequence, else 0
	QPack     unsafe.Pointer // f32 [Rows][HeadDim], in space for ceil(HeadDim/32)·32 columns
	KPack     unsafe.Pointer // f32 [BlockN/32][HeadDim][32]: transposed keys, in space likewise
	VPack     unsafe.Pointer // f32 [ceil(HeadDim/32)][BlockN][32]: values, columns zero-padded
	S         unsafe.Pointer // f32 [Rows][BlockN]: scores, then probabilities, or those of one tile of rows
	O         unsafe.Pointer // f32 [Rows][ceil(HeadDim/32)·32]
	Max       unsafe.Pointer // f32 [Rows]
	Sum       unsafe.Pointer // f32 [Rows]
	Dst       unsafe.Pointer // dtype Out: first query, first head of the group
	DstStride int
}

// RowArgs is for a norm of rows: f32 or bf16 [Rows][K] at Src to dtype Out at Dst.
type RowArgs struct {
	Rows      int
	Src       unsafe.Pointer
	SrcStride int
	Gamma     unsafe.Pointer // f32 [K]
	Beta      unsafe.Pointer // f32 [K]
	Dst       unsafe.Pointer
	DstStride int
}

// GatherArgs is for rows of a table by index: Dst[r] = Table[Index[r]] (+ PosTable[Pos[r]]).
type GatherArgs struct {
	Rows      int
	Index     unsafe.Pointer // i32 [Rows]
	Table     unsafe.Pointer // dtype Weight, layout of the Spec
	Pos       unsafe.Pointer // i32 [Rows]
	PosTable  unsafe.Pointer // f32 [positions][K], row-major
	Dst       unsafe.Pointer // dtype Out [Rows][K]
	DstStride int
	WScale    unsafe.Pointer // f32, scales of the rows of a table of codes
}
