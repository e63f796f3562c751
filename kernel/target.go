package kernel

import (
	"math"
	"slices"

	"github.com/bertc/bertc/ir"
)

// Inst is a multiply-accumulate instruction of a target, with its meaning. A plan names one; the
// interpreter runs Mul, the emitter writes the instruction.
type Inst struct {
	// Name is the vendor's mnemonic in lower case.
	Name string
	// Lanes is the number of f32 accumulators of one instruction.
	Lanes int
	// Math lists the dtypes to which the factors may have been rounded.
	Math []ir.DType
	// Pairs: the instruction does two steps of K at once, the odd one first, on factors that are
	// packed as bf16.
	Pairs bool
	// Rows is the number of rows that the instruction multiplies, 0 for one. Packed rows of such an
	// instruction lie interleaved, 8 bytes at a time: 4 steps of K as bf16, or 8 codes.
	Rows int
	// Mul returns acc + a·b as the instruction rounds it. All values are f32.
	Mul func(acc, a, b float32) float32
	// Tile is the number of rows of a tile register, 0 without such. A register tile has one or two
	// of them by two; packed rows lie as bf16 or codes (Kernel.RowBytes).
	Tile int
	// Sum returns acc plus the products of Steps steps of K; nil does them one by one with Mul. The
	// epilogue has Mul in both cases.
	Sum   func(acc float32, a, b []float32) float32
	Steps int
	// CodeBytes is the size of a packed code, of an instruction that multiplies i8.
	CodeBytes int
	// Unsigned: the instruction takes the codes of weights as unsigned, so that packed rows have an
	// offset (quantize.go).
	Unsigned bool
	// RowGap is what packed rows are further apart than their elements take, in bytes. It keeps the
	// rows of a tile from lying in few sets of the first-level cache.
	RowGap int
	// CallMACs bounds the multiply-accumulates of one call to 100 µs, 0 as package rt does.
	CallMACs int
}

// Target is an instruction-set tier that kernels are emitted for.
type Target struct {
	// Name is "ARCH/TIER", or "generic" for the portable Go kernels.
	Name string
	// GOARCH is the architecture, "" for all processors.
	GOARCH string
	// Features are the CPU features that the tier may use.
	Features []string
	// Avoid are traits of CPUs, by the names of package rt, on which the tier is not chosen by
	// itself because the next one is faster.
	Avoid []string
	// Only is the arithmetic of the packages that have the tier, 0 for all: in others its code would
	// be that of the next tier.
	Only ir.DType
	// Registers is the number of vector registers; a register tile, the operands it is
	// multiplied with and the constants must fit.
	Registers int
	Insts     []Inst
	// MaxMicroM bounds the rows of a register tile, L2 the bytes of packed activations that a
	// work item may keep.
	MaxMicroM int
	L2        int
	// Machines are the processors that plans are made for where none has been measured.
	Machines []Machine
}

// tileMACs is 70 µs at 1,000 GFLOP/s of one core, the least that a matmul on tiles reached with data
// in the second-level cache or from memory (Granite Rapids, two threads).
const tileMACs = 32 << 20

// avx2MACs is 90 µs at 70 GFLOP/s, the peak of a core with two 256-bit pipes at 2.2 GHz.
const avx2MACs = 3 << 20

var (
	both  = []ir.DType{ir.F32, ir.BF16}
	codes = []ir.DType{ir.I8} // products and sums are integers; the epilogue has Mul
)

// targets is the table of what can be compiled for. The f32 accumulator of every instruction
// here rounds once per step of K (fused) or twice (product, then sum).
var targets = []Target{
	{
		Name:      "amd64/amx",
		GOARCH:    "amd64",
		Features:  []string{"AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX512_BF16", "AVX512VNNI", "AMX_TILE", "AMX_BF16", "AMX_INT8"},
		Registers: 32,
		Insts: []Inst{
			{Name: "tdpbf16ps", Lanes: 16, Math: []ir.DType{ir.BF16}, Tile: 16, Mul: fused, Sum: tileSum, Steps: 32, RowGap: cacheLine, CallMACs: tileMACs},
			{Name: "tdpbssd", Lanes: 16, Math: codes, CodeBytes: 1, Tile: 16, Mul: fused, CallMACs: tileMACs},
			{Name: "vpdpbusd", Lanes: 16, Math: codes, CodeBytes: 1, Unsigned: true, Mul: fused},
			{Name: "vfmadd231ps", Lanes: 16, Math: both, Mul: fused},
		},
		MaxMicroM: 12,
		L2:        1 << 20,
	},
	{
		Name:      "amd64/avx512bf16",
		GOARCH:    "amd64",
		Features:  []string{"AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX512_BF16", "AVX512VNNI"},
		Avoid:     []string{"half-rate VDPBF16PS"},
		Registers: 32,
		Insts: []Inst{
			{Name: "vdpbf16ps", Lanes: 16, Math: []ir.DType{ir.BF16}, Pairs: true, Mul: fused},
			{Name: "vpdpbusd", Lanes: 16, Math: codes, CodeBytes: 1, Unsigned: true, Mul: fused},
			{Name: "vfmadd231ps", Lanes: 16, Math: both, Mul: fused},
		},
		MaxMicroM: 12,
		L2:        1 << 20,
	},
	{
		Name:      "amd64/avx512vnni",
		GOARCH:    "amd64",
		Features:  []string{"AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX512VNNI"},
		Only:      ir.I8,
		Registers: 32,
		Insts: []Inst{
			{Name: "vpdpbusd", Lanes: 16, Math: codes, CodeBytes: 1, Unsigned: true, Mul: fused},
			{Name: "vfmadd231ps", Lanes: 16, Math: both, Mul: fused},
		},
		MaxMicroM: 12,
		L2:        1 << 20,
	},
	{
		Name:      "amd64/avx512f",
		GOARCH:    "amd64",
		Features:  []string{"AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL"},
		Registers: 32,
		Insts: []Inst{
			{Name: "vfmadd231ps", Lanes: 16, Math: both, Mul: fused},
			{Name: "vpmaddwd", Lanes: 16, Math: codes, CodeBytes: 2, Mul: fused},
		},
		MaxMicroM: 12,
		L2:        1 << 20,
	},
	{
		Name:      "amd64/avx2",
		GOARCH:    "amd64",
		Features:  []string{"AVX2", "FMA3"},
		Registers: 16,
		Insts: []Inst{
			{Name: "vfmadd231ps", Lanes: 8, Math: both, Mul: fused, RowGap: cacheLine, CallMACs: avx2MACs},
			{Name: "vpmaddwd", Lanes: 8, Math: codes, CodeBytes: 2, Mul: fused},
		},
		MaxMicroM: 6,
		L2:        1 << 19,
	},
	{
		Name:      "arm64/bf16",
		GOARCH:    "arm64",
		Features:  []string{"FEAT_BF16", "FEAT_I8MM", "FEAT_DotProd"},
		Registers: vectors128,
		Insts: []Inst{
			{Name: "bfmmla", Lanes: 4, Math: []ir.DType{ir.BF16}, Rows: 2, Mul: fused, Sum: bfQuad, Steps: 4},
			{Name: "smmla", Lanes: 4, Math: codes, Rows: 2, CodeBytes: 1, Mul: fused},
			{Name: "sdot", Lanes: 4, Math: codes, CodeBytes: 1, Mul: fused},
			{Name: "fmla", Lanes: 4, Math: both, Mul: fused},
		},
		MaxMicroM: 12,
		L2:        1 << 19,
		Machines:  machines("Neoverse V1", "Neoverse V2", "Apple M2"),
	},
	{
		Name:      "arm64/dotprod",
		GOARCH:    "arm64",
		Features:  []string{"FEAT_DotProd"},
		Only:      ir.I8,
		Registers: vectors128,
		Insts: []Inst{
			{Name: "sdot", Lanes: 4, Math: codes, CodeBytes: 1, Mul: fused},
			{Name: "fmla", Lanes: 4, Math: both, Mul: fused},
		},
		MaxMicroM: 8,
		L2:        1 << 19,
		Machines:  machines("Cortex-A76", "Neoverse N1", "Apple M1"),
	},
	{
		Name:      "arm64/neon",
		GOARCH:    "arm64",
		Registers: vectors128,
		Insts:     []Inst{{Name: "fmla", Lanes: 4, Math: both, Mul: fused}},
		MaxMicroM: 8,
		L2:        1 << 19,
		Machines:  machines("Cortex-A76", "Neoverse N1", "Apple M1"),
	},
	deviceTarget,
	{
		Name:      "generic",
		Registers: 16,
		Insts:     []Inst{{Name: "mul+add", Lanes: 1, Math: []ir.DType{ir.F32, ir.BF16, ir.I8}, CodeBytes: 1, Mul: separate}},
		MaxMicroM: 4,
		L2:        1 << 18,
	},
}

// fused rounds the exact sum once. The product of two f32 is exact in float64; the float64 sum
// is rounded to f32 a second time, which differs from the instruction by one ulp at most in
// rare ties.
func fused(acc, a, b float32) float32 { return float32(math.FMA(float64(a), float64(b), float64(acc))) }

func separate(acc, a, b float32) float32 {
	p := a * b
	return acc + p
}

// LookupTarget returns the target of that name.
func LookupTarget(name string) (*Target, bool) {
	for i := range targets {
		if targets[i].Name == name {
			return &targets[i], true
		}
	}
	return nil, false
}

// Targets returns the names of all targets, best first.
func Targets() []string {
	var names []string
	for _, t := range targets {
		names = append(names, t.Name)
	}
	return names
}

// Multiplies reports whether an instruction of t takes factors of type d.
func (t *Target) Multiplies(d ir.DType) bool {
	return slices.ContainsFunc(t.Insts, func(i Inst) bool { return slices.Contains(i.Math, d) })
}

// Serves reports whether packages whose arithmetic is d have the tier.
func (t *Target) Serves(d ir.DType) bool { return t.Multiplies(d) && (t.Only == 0 || t.Only == d) }

// Inst returns the instruction of that name.
func (t *Target) Inst(name string) (Inst, bool) {
	for _, i := range t.Insts {
		if i.Name == name {
			return i, true
		}
	}
	return Inst{}, false
}

// Adopt returns a plan of another target as one of t, where the code of both is the same: they have its
// instruction, or for a kernel without one, vectors of as many lanes on one architecture. An
// instruction of one name and width means the same in all targets.
func (t *Target) Adopt(p Plan) (Plan, bool) {
	from, ok := LookupTarget(p.Target)
	if !ok || from.GOARCH != t.GOARCH {
		return Plan{}, false
	}
	mine, theirs := t.Insts[0], from.Insts[0]
	if p.Inst != "" {
		mine, ok = t.Inst(p.Inst)
		theirs, _ = from.Inst(p.Inst)
	}
	p.Target = t.Name
	return p, ok && mine.Lanes == theirs.Lanes
}
