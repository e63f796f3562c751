package rt

// A Module is everything the compiler knows about a model, as tables. A generated package has
// one, written out in program.go; it is never changed.
type Module struct {
	// Name is the package's name, for messages.
	Name string
	// ID is the hash of program and plans. The weight file carries the same one.
	ID [32]byte

	Kernels []Kernel
	Weights []Weight // in the order of the weight file
	Buffers []Buffer
	Steps   []Step
	// EncodeSteps is how many of Steps make the hidden states. Those after it are the head: they
	// run on rows that the caller selects. The last one is the matmul that makes the logits.
	EncodeSteps int
	// Hidden and Logits are the buffers of the results, f32 without gaps between rows; Logits is
	// 0 without a head.
	Hidden, Logits BufferID
	// IDs, Positions (i32, one a token) and Rows (i32, one a selected row) are the buffers of
	// the inputs; Positions and Rows are 0 when the program does not read them.
	IDs, Positions, Rows BufferID

	// Tiers are the kernel sets, best first. The portable kernels need no entry: Open adds them.
	Tiers []Tier

	VocabSize    int // ids are 0..VocabSize−1
	MaxPositions int // longest sequence
	MaxTokens    int // most tokens of one batch
	HiddenSize   int // columns of Hidden
	LogitsSize   int // columns of Logits
}

// BufferID is an index of Module.Buffers plus one; 0 is no buffer.
type BufferID int

// WeightID is an index of Module.Weights plus one; 0 is no weight.
type WeightID int

// Extent says what a buffer has one row for.
type Extent uint8

const (
	Tokens Extent = iota // one row a token of the batch
	Picked               // one row a selected row of the head
)

// Buffer is a part of the arena: Rows(extent) rows of RowBytes. It begins at Offset bytes times
// the session's row capacity of its extent; tokens and picked rows have areas of their own.
// Capacities are multiples of 16 and offsets multiples of 4, so buffers begin on a cache line.
type Buffer struct {
	Name     string
	Extent   Extent
	RowBytes int // at least Cols elements
	Offset   int // per row of capacity, a multiple of 4
	DType    DType
	Cols     int
}

// Weight is an entry of the weight file.
type Weight struct {
	Name  string
	Bytes int
}

// Step is one kernel call of the program. Fields that a kernel does not read are 0.
type Step struct {
	Name   string
	Kernel int // index of Module.Kernels

	Src, Dst, Res, Index, Pos BufferID

	W, WScale, Bias, Gamma, Beta, Cos, Sin, PosTable WeightID
}

// DType is an element type of buffers and weights.
type DType uint8

const (
	F32 DType = iota
	BF16
	I32
	I8
)

// Size returns the bytes of one element.
func (d DType) Size() int { return [...]int{4, 2, 4, 1}[d] }

// Norm is the norm of a prologue or of a rowwise kernel.
type Norm uint8

const (
	NoNorm Norm = iota
	RMSNorm
	LayerNorm
)

// Kind is the kind of a kernel.
type Kind uint8

const (
	Gemm Kind = iota
	Attention
	Rowwise
	Gather
)

// Kernel is the mathematics of a kernel, as the portable kernels and the loops around the
// assembly need it. The names are those of the compiler's kernel.Spec.
type Kernel struct {
	Name string
	Kind Kind
	// In, Out: activations; Math: what factors are rounded to, I8: codes of 8 bits with a scale for
	// each row; WeightType: panels or table.
	In, Out, Math, WeightType DType

	N, K       int // output columns, inner dimension
	KPad       int // K as the panels hold it
	Panels     int // 32-column weight panels
	PanelBytes int
	PanelOut   int // output columns of a panel: 32, or 16 under GLU
	Group      int // panels that the epilogue needs at once

	Norm Norm
	Beta bool
	Eps  float32

	Bias, Rope, SiLU, Tanh, GLU, Residual bool

	Heads, KVHeads, HeadDim int
	Scale                   float32

	AddPositions bool // gather: add rows of PosTable
	PanelTable   bool // gather: the table has the panel layout of a matmul's weights
	Activations  bool // gather: the table is the buffer Src, dense rows of K elements of dtype In
}

// A Tier is one kernel set: the functions of every kernel for one instruction-set level.
type Tier struct {
	Name string
	// Features must all be present on the CPU and enabled by the operating system.
	Features []string
	// Avoid are traits of CPUs on which the tier is slower than the next one: there it runs only
	// when it is asked for.
	Avoid []string
	Impls []Impl // by index of Module.Kernels
}

// Impl is how a tier does one kernel. The functions that belong to other kinds are nil.
type Impl struct {
	MicroM int // rows of a register tile
	BlockM int // rows of a work item
	BlockN int // panels of a work item, or keys of a block
	// RowBytes is the distance of the packed rows of a matmul.
	RowBytes int
	// CallMACs bounds the multiply-accumulates of a call, 0 as for a core without tiles.
	CallMACs int

	Prologue, Block               func(*GemmArgs)
	PackQ, PackKV, Attend, Finish func(*AttentionArgs)
	Row                           func(*RowArgs)
	Gather                        func(*GatherArgs)
}
