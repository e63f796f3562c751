package main

import "encoding/binary"

// This file owns the encodings: those of AMX, which are VEX with three bytes, and PREFETCHh, which
// stands between tile instructions and does nothing here.

type operation string

const (
	ldtilecfg   operation = "LDTILECFG"
	sttilecfg   operation = "STTILECFG"
	tilerelease operation = "TILERELEASE"
	tilezero    operation = "TILEZERO"
	tileloadd   operation = "TILELOADD"
	tileloaddt1 operation = "TILELOADDT1"
	tilestored  operation = "TILESTORED"
	tdpbf16ps   operation = "TDPBF16PS"
	tdpbssd     operation = "TDPBSSD"
	tdpbsud     operation = "TDPBSUD"
	tdpbusd     operation = "TDPBUSD"
	tdpbuud     operation = "TDPBUUD"
	prefetch    operation = "PREFETCH"
)

func (o operation) product() bool { return len(o) > 3 && o[:3] == "TDP" }

// instruction is a decoded instruction.
type instruction struct {
	op   operation
	size int
	// r is ModRM.reg, v is VEX.vvvv, m is ModRM.rm when that is a register.
	r, v, m int
	// base and index are numbers of general registers, −1 for none; the address is base + index ·
	// scale + disp. Tile loads and stores have base + disp for the first row, and index · scale
	// from a row to the next.
	base, index int
	scale       uint64
	disp        uint64
}

// forms are the instructions of opcode map 0F38 with W = 0 and L = 0, by opcode and mandatory prefix
// (0 none, 1 = 66, 2 = F3, 3 = F2).
var memoryForms = map[[2]byte]operation{
	{0x49, 0}: ldtilecfg, {0x49, 1}: sttilecfg,
	{0x4b, 1}: tileloaddt1, {0x4b, 2}: tilestored, {0x4b, 3}: tileloadd,
}

var registerForms = map[[2]byte]operation{
	{0x49, 0}: tilerelease, {0x49, 3}: tilezero,
	{0x5c, 2}: tdpbf16ps,
	{0x5e, 0}: tdpbuud, {0x5e, 1}: tdpbusd, {0x5e, 2}: tdpbsud, {0x5e, 3}: tdpbssd,
}

// decode returns the instruction that code begins with; false for one that is not of this file.
func decode(code []byte) (instruction, bool) {
	if i, ok := decodePrefetch(code); ok {
		return i, true
	}
	if len(code) < 5 || code[0] != 0xc4 || code[1]&0x1f != 2 || code[2]&0x84 != 0 {
		return instruction{}, false
	}
	i := instruction{size: 4, v: int(^code[2] >> 3 & 15)}
	opcode := [2]byte{code[3], code[2] & 3}
	rex := ^code[1] >> 5 // B, X, R from the lowest bit
	if !i.modRM(code[4:], rex) {
		return instruction{}, false
	}
	sib := code[4]&7 == 4
	if i.base < 0 {
		i.op = registerForms[opcode]
		switch i.op {
		case tilerelease:
			return i, code[4] == 0xc0 && i.v == 0
		case tilezero:
			return i, i.m == 0 && i.v == 0 && i.r < tileCount
		}
		return i, i.op != "" && max(i.r, i.m, i.v) < tileCount
	}
	i.op = memoryForms[opcode]
	if i.op == ldtilecfg || i.op == sttilecfg {
		return i, i.v == 0 && i.r == 0
	}
	return i, i.op != "" && i.v == 0 && sib && i.r < tileCount
}

// decodePrefetch decodes PREFETCHh: an optional REX, 0F 18, ModRM with memory.
func decodePrefetch(code []byte) (instruction, bool) {
	i, rex := instruction{op: prefetch, size: 2}, byte(0)
	if len(code) > 0 && code[0]&0xf0 == 0x40 {
		rex, i.size, code = code[0]&7, 3, code[1:]
	}
	if len(code) < 3 || code[0] != 0x0f || code[1] != 0x18 {
		return instruction{}, false
	}
	return i, i.modRM(code[2:], rex) && i.base >= 0
}

// modRM decodes ModRM, SIB and displacement. rex has the extensions of rm or base, index and reg
// from its lowest bit on. base is −1 for a register.
func (i *instruction) modRM(code []byte, rex byte) bool {
	ext := func(bit int) int { return int(rex>>bit&1) << 3 }
	mod, rm := code[0]>>6, int(code[0]&7)
	i.r, i.base, i.index, i.scale = int(code[0]>>3&7)|ext(2), -1, -1, 1
	size := 1
	switch {
	case mod == 3:
		i.m = rm | ext(0)
		i.size += size
		return true
	case rm == 4:
		if len(code) < 2 {
			return false
		}
		size++
		if i.index = int(code[1]>>3&7) | ext(1); i.index == 4 {
			i.index = -1
		}
		i.scale = 1 << (code[1] >> 6)
		rm = int(code[1] & 7)
	}
	if mod == 0 && rm == 5 {
		return false // relative to RIP, or without a base: the emitters use neither
	}
	i.base = rm | ext(0)
	length := [...]int{0, 1, 4}[mod]
	if len(code) < size+length {
		return false
	}
	switch length {
	case 1:
		i.disp = uint64(int8(code[size]))
	case 4:
		i.disp = uint64(int32(binary.LittleEndian.Uint32(code[size:])))
	}
	i.size += size + length
	return true
}
