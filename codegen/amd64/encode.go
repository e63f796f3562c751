package amd64

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	asm "github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// This file owns the encoding of the instructions of insts.go as bytes, and the pass that puts
// the bytes into the assembly text.

// lower replaces the nodes of the table by data directives, with the text that GNU as would
// encode alike as a comment. It runs when all registers are physical. What the Go assembler
// itself knows goes through it as well.
func lower(fn *asm.Function) error {
	for i, n := range fn.Nodes {
		node, ok := n.(*asm.Instruction)
		if !ok {
			continue
		}
		row, ok := lookup(node.Opcode)
		if !ok {
			continue
		}
		code, err := row.encode(node)
		if err != nil {
			return err
		}
		fn.Nodes[i] = &asm.Instruction{Opcode: directives(code) + " // " + gnuText(node)}
	}
	return nil
}

// directives writes bytes as data directives, which are little-endian.
func directives(code []byte) string {
	var out []string
	for len(code) >= 4 {
		out = append(out, fmt.Sprintf("LONG $%#08x", binary.LittleEndian.Uint32(code)))
		code = code[4:]
	}
	if len(code) >= 2 {
		out = append(out, fmt.Sprintf("WORD $%#04x", binary.LittleEndian.Uint16(code)))
		code = code[2:]
	}
	if len(code) > 0 {
		out = append(out, fmt.Sprintf("BYTE $%#02x", code[0]))
	}
	return strings.Join(out, "; ")
}

// gnuText is the instruction in the syntax of GNU as, whose operand order is Go's.
func gnuText(n *asm.Instruction) string {
	var ops []string
	for i, op := range n.Operands {
		var s string
		switch x := op.(type) {
		case operand.Mem:
			if x.Disp != 0 {
				s = fmt.Sprint(x.Disp)
			}
			s += "(" + gnuRegister(x.Base)
			if x.Index != nil {
				s += fmt.Sprintf(",%s,%d", gnuRegister(x.Index), x.Scale)
			}
			s += ")"
			if slices.Contains(n.Suffixes, broadcast) {
				row, _ := lookup(n.Opcode)
				s += fmt.Sprintf("{1to%d}", row.width/row.element)
			}
		case reg.Register:
			if x.Kind() == reg.KindOpmask {
				continue
			}
			s = gnuRegister(x)
		default:
			s = "%" + strings.ToLower(op.Asm())
		}
		if i == len(n.Operands)-1 && i > 0 {
			if k, ok := n.Operands[i-1].(reg.Register); ok && k.Kind() == reg.KindOpmask {
				s += "{" + gnuRegister(k) + "}"
				if slices.Contains(n.Suffixes, zeroing) {
					s += "{z}"
				}
			}
		}
		ops = append(ops, s)
	}
	return strings.TrimSpace(strings.ToLower(n.Opcode) + " " + strings.Join(ops, ", "))
}

func gnuRegister(r reg.Register) string {
	number := registerNumber(r)
	switch r.Kind() {
	case reg.KindOpmask:
		return fmt.Sprintf("%%k%d", number)
	case reg.KindVector:
		letter := map[uint]string{16: "x", 32: "y", 64: "z"}[r.Size()]
		return fmt.Sprintf("%%%smm%d", letter, number)
	}
	if number < 8 {
		return "%" + [...]string{"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi"}[number]
	}
	return fmt.Sprintf("%%r%d", number)
}

// encode returns the bytes of a node whose registers are physical.
func (row inst) encode(n *asm.Instruction) ([]byte, error) {
	f, err := row.form(n)
	if err != nil {
		return nil, err
	}
	// The extensions of ModRM.rm: a register of up to five bits, or base and index.
	b, x := f.rm>>3&1, f.rm>>4&1
	if f.mem != nil {
		b, x = registerNumber(f.mem.Base)>>3, 0
		if f.mem.Index != nil {
			x = registerNumber(f.mem.Index) >> 3
		}
	}
	r := f.r >> 3 & 1
	var code []byte
	scale := 1
	if row.evex {
		// 62 | R̄ X̄ B̄ R̄' 0 map | W v̄v̄v̄v̄ 1 pp | z L'L b V̄' aaa
		p2 := byte(2<<5) | (f.v>>4&1^1)<<3
		if f.mask != nil {
			p2 |= registerNumber(f.mask)
		}
		if f.zero {
			p2 |= 0x80
		}
		scale = row.width
		if f.one {
			p2 |= 0x10
			scale = row.element
		}
		code = []byte{0x62,
			(r^1)<<7 | (x^1)<<6 | (b^1)<<5 | (f.r>>4&1^1)<<4 | row.mm,
			(^f.v&15)<<3 | 4 | row.pp,
			p2}
	} else {
		// C4 | R̄ X̄ B̄ map | W v̄v̄v̄v̄ L pp
		code = []byte{0xc4, (r^1)<<7 | (x^1)<<6 | (b^1)<<5 | row.mm, (^f.v&15)<<3 | row.pp}
	}
	code = append(code, row.op)
	if f.mem == nil {
		return append(code, 0xc0|f.r&7<<3|f.rm&7), nil
	}
	return row.address(code, f, scale)
}

// address appends ModRM, SIB and displacement of a memory operand. A displacement of one byte
// counts units of scale.
func (row inst) address(code []byte, f form, scale int) ([]byte, error) {
	m := f.mem
	if m.Disp != int(int32(m.Disp)) {
		return nil, fmt.Errorf("%s: displacement %d does not fit 32 bits", row.name, m.Disp)
	}
	base := registerNumber(m.Base) & 7
	mod, disp := byte(2), binary.LittleEndian.AppendUint32(nil, uint32(m.Disp))
	switch unit := m.Disp / scale; {
	case m.Disp == 0 && base != 5: // RBP and R13 have no form without displacement
		mod, disp = 0, nil
	case m.Disp%scale == 0 && unit == int(int8(unit)):
		mod, disp = 1, []byte{byte(unit)}
	}
	if m.Index == nil && base != 4 && !row.sib { // RSP and R12 need an index byte
		return append(append(code, mod<<6|f.r&7<<3|base), disp...), nil
	}
	index, shift := byte(4), byte(0) // no index
	if m.Index != nil {
		index = registerNumber(m.Index)
		s := slices.Index([]uint8{1, 2, 4, 8}, m.Scale)
		if index == 4 || s < 0 {
			return nil, fmt.Errorf("%s: index %s×%d has no encoding", row.name, m.Index.Asm(), m.Scale)
		}
		shift = byte(s)
	}
	return append(append(code, mod<<6|f.r&7<<3|4, shift<<6|index&7<<3|base), disp...), nil
}
