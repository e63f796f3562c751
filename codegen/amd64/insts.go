package amd64

import (
	"fmt"
	"slices"

	asm "github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// This file owns the instructions that avo has no constructors for, and most of which the Go
// assembler does not know: one row each, the only place with an encoding. A node made by inst
// takes part in avo's register allocation like any other; the pass lower (encode.go) then
// replaces it by its bytes.

// inst is a row of the table. Encodings are from the Intel 64 and IA-32 Architectures Software
// Developer's Manual, volume 2, and the Intel Architecture Instruction Set Extensions
// Programming Reference.
type inst struct {
	name string
	isa  string
	evex bool // else VEX
	pp   byte // mandatory prefix: 0 none, 1 = 66, 2 = F3, 3 = F2
	mm   byte // opcode map: 2 = 0F38, 5 = MAP5, 6 = MAP6
	op   byte
	// roles has a letter for each operand, in Go's order, destination last: r is ModRM.reg, v is
	// VEX.vvvv, m is ModRM.rm.
	roles string
	// class has a letter for each operand: z ZMM, y YMM, t tile, m memory; upper case Z and Y
	// may be memory too.
	class string
	// width is the size of the memory operand, by which EVEX displacements are scaled, and
	// element that of a broadcast element (0: none).
	width, element int
	accumulates    bool // reads its destination
	sib            bool // the memory operand always has an index byte
	store          bool // the last operand is memory that is written
}

var insts = []inst{
	{name: "LDTILECFG", isa: "AMX_TILE", pp: 0, mm: 2, op: 0x49, roles: "m", class: "m"},
	{name: "STTILECFG", isa: "AMX_TILE", pp: 1, mm: 2, op: 0x49, roles: "m", class: "m", store: true},
	{name: "TILERELEASE", isa: "AMX_TILE", pp: 0, mm: 2, op: 0x49},
	{name: "TILEZERO", isa: "AMX_TILE", pp: 3, mm: 2, op: 0x49, roles: "r", class: "t"},
	{name: "TILELOADD", isa: "AMX_TILE", pp: 3, mm: 2, op: 0x4b, roles: "mr", class: "mt", sib: true},
	{name: "TILELOADDT1", isa: "AMX_TILE", pp: 1, mm: 2, op: 0x4b, roles: "mr", class: "mt", sib: true},
	{name: "TILESTORED", isa: "AMX_TILE", pp: 2, mm: 2, op: 0x4b, roles: "rm", class: "tm", sib: true, store: true},
	{name: "TDPBF16PS", isa: "AMX_BF16", pp: 2, mm: 2, op: 0x5c, roles: "vmr", class: "ttt"},
	{name: "TDPFP16PS", isa: "AMX_FP16", pp: 3, mm: 2, op: 0x5c, roles: "vmr", class: "ttt"},
	{name: "TDPBSSD", isa: "AMX_INT8", pp: 3, mm: 2, op: 0x5e, roles: "vmr", class: "ttt"},
	{name: "TDPBSUD", isa: "AMX_INT8", pp: 2, mm: 2, op: 0x5e, roles: "vmr", class: "ttt"},
	{name: "TDPBUSD", isa: "AMX_INT8", pp: 1, mm: 2, op: 0x5e, roles: "vmr", class: "ttt"},
	{name: "TDPBUUD", isa: "AMX_INT8", pp: 0, mm: 2, op: 0x5e, roles: "vmr", class: "ttt"},

	{name: "VDPBF16PS", isa: "AVX512_BF16", evex: true, pp: 2, mm: 2, op: 0x52, roles: "mvr", class: "Zzz", width: 64, element: 4, accumulates: true},
	{name: "VCVTNE2PS2BF16", isa: "AVX512_BF16", evex: true, pp: 3, mm: 2, op: 0x72, roles: "mvr", class: "Zzz", width: 64, element: 4},
	{name: "VCVTNEPS2BF16", isa: "AVX512_BF16", evex: true, pp: 2, mm: 2, op: 0x72, roles: "mr", class: "Zy", width: 64, element: 4},
	{name: "VPDPBUSD", isa: "AVX512VNNI", evex: true, pp: 1, mm: 2, op: 0x50, roles: "mvr", class: "Zzz", width: 64, element: 4, accumulates: true},

	{name: "VADDPH", isa: "AVX512_FP16", evex: true, pp: 0, mm: 5, op: 0x58, roles: "mvr", class: "Zzz", width: 64, element: 2},
	{name: "VMULPH", isa: "AVX512_FP16", evex: true, pp: 0, mm: 5, op: 0x59, roles: "mvr", class: "Zzz", width: 64, element: 2},
	{name: "VFMADD231PH", isa: "AVX512_FP16", evex: true, pp: 1, mm: 6, op: 0xb8, roles: "mvr", class: "Zzz", width: 64, element: 2, accumulates: true},
	{name: "VCVTPH2PSX", isa: "AVX512_FP16", evex: true, pp: 1, mm: 6, op: 0x13, roles: "mr", class: "Yz", width: 32, element: 2},
	{name: "VCVTPS2PHX", isa: "AVX512_FP16", evex: true, pp: 1, mm: 5, op: 0x1d, roles: "mr", class: "Zy", width: 64, element: 4},
}

func lookup(name string) (inst, bool) {
	i := slices.IndexFunc(insts, func(i inst) bool { return i.name == name })
	if i < 0 {
		return inst{}, false
	}
	return insts[i], true
}

// tile is a tile register. avo has no class for it, and lets only its own types be operands; a
// constant passes through its passes untouched. A plan numbers its tiles.
type tile struct{ operand.U8 }

func (t tile) Asm() string { return fmt.Sprintf("TMM%d", t.U8) }

// The suffixes of an instruction, as the Go assembler writes them.
const (
	broadcast = "BCST" // the memory operand is one element for all lanes
	zeroing   = "Z"    // lanes outside the mask become zero instead of staying
)

// node returns an instruction of the table. A mask register goes before the destination.
func node(name string, suffixes []string, ops ...operand.Op) (*asm.Instruction, error) {
	row, ok := lookup(name)
	if !ok {
		return nil, fmt.Errorf("unknown instruction %s", name)
	}
	n := &asm.Instruction{Opcode: name, Suffixes: suffixes, Operands: ops, ISA: []string{row.isa}}
	f, err := row.form(n)
	if err != nil {
		return nil, err
	}
	if len(ops) == 0 {
		return n, nil
	}
	last := len(ops) - 1
	if len(row.roles) > 1 {
		n.Inputs = append(n.Inputs, ops[:last]...)
	}
	if row.class == "m" && !row.store {
		n.Inputs = ops
		return n, nil
	}
	n.Outputs = ops[last:]
	if row.accumulates || f.mask != nil && !f.zero {
		n.Inputs = append(n.Inputs, ops[last])
	}
	return n, nil
}

// form is the operands of a node by role.
type form struct {
	r, v      byte // register numbers
	rm        byte
	mem       *operand.Mem
	mask      reg.Register
	zero, one bool // zeroing, broadcast
}

// form checks the operands of a node against the row. Virtual registers count as number 0.
func (row inst) form(n *asm.Instruction) (form, error) {
	var f form
	bad := func(format string, args ...any) (form, error) {
		return f, fmt.Errorf("%s: %s", n.Opcode, fmt.Sprintf(format, args...))
	}
	for _, s := range n.Suffixes {
		switch s {
		case broadcast:
			f.one = true
		case zeroing:
			f.zero = true
		default:
			return bad("unknown suffix %s", s)
		}
	}
	ops := n.Operands
	if row.evex && len(ops) == len(row.roles)+1 {
		at := len(ops) - 2
		k, ok := ops[at].(reg.Register)
		if !ok || k.Kind() != reg.KindOpmask {
			return bad("operand %d is not a mask", at)
		}
		f.mask = k
		ops = append(slices.Clone(ops[:at]), ops[at+1:]...)
	}
	if len(ops) != len(row.roles) {
		return bad("%d operands, want %d", len(ops), len(row.roles))
	}
	for i, op := range ops {
		class := row.class[i]
		var number byte
		switch x := op.(type) {
		case tile:
			if class != 't' || x.U8 > 7 {
				return bad("operand %d cannot be %s", i, x.Asm())
			}
			number = byte(x.U8)
		case operand.Mem:
			if class != 'm' && class != 'Z' && class != 'Y' {
				return bad("operand %d cannot be memory", i)
			}
			if x.Symbol.Name != "" || x.Base == nil || x.Base.Kind() != reg.KindGP {
				return bad("operand %d: memory needs a base register and no symbol", i)
			}
			f.mem = &x
		case reg.Register:
			size, ok := map[byte]uint{'z': 64, 'Z': 64, 'y': 32, 'Y': 32}[class]
			if !ok || x.Kind() != reg.KindVector || x.Size() != size {
				return bad("operand %d cannot be %s", i, x.Asm())
			}
			number = registerNumber(x)
		default:
			return bad("operand %d cannot be %s", i, op.Asm())
		}
		switch row.roles[i] {
		case 'r':
			f.r = number
		case 'v':
			f.v = number
		case 'm':
			f.rm = number
		}
	}
	switch {
	case f.one && (row.element == 0 || f.mem == nil):
		return bad("broadcasts only memory")
	case f.zero && f.mask == nil:
		return bad("zeroing needs a mask")
	case row.class == "ttt" && (f.r == f.v || f.r == f.rm || f.v == f.rm):
		return bad("tiles must differ") // else the processor faults
	}
	return f, nil
}

func registerNumber(r reg.Register) byte {
	if p := reg.ToPhysical(r); p != nil {
		return byte(p.PhysicalIndex())
	}
	return 0
}
