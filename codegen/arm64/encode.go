package arm64

import (
	"fmt"
	"strconv"
	"strings"
)

// This file owns the forms of instructions: where the operands of a row of the table go in its
// word. The fields are those of the Arm Architecture Reference Manual (DDI 0487), section C4.1.

// form is a shape of operands.
type form uint8

const (
	formNone form = iota // d
	formDN               // d, n
	formDNM              // d, n, m
	formLane             // d, n, m.s[i] or m.2h[i], i in 0..3
	formShl              // d, n, #i of a left shift, i below size bits
	formShr              // d, n, #i of a right shift, i in 1..size bits
	formMem              // d, [n, #i], i a multiple of size bytes, below 4096 of them
	formBase             // d, [n]
)

// operands are the operands of one instruction, by the names that the table uses: registers by
// number, of vectors or (n of a memory form) general, and an index, shift or offset.
type operands struct {
	d, n, m uint8
	i       int
}

// encode returns the word of the instruction.
func (r *inst) encode(o operands) (uint32, error) {
	if o.d > 31 || o.n > 31 || o.m > 31 {
		return 0, fmt.Errorf("%s: no such register", r.gnu(o))
	}
	w := r.base | uint32(o.d)
	if r.form != formNone {
		w |= uint32(o.n) << 5
	}
	bad := func() (uint32, error) { return 0, fmt.Errorf("%s: %d is out of range", r.gnu(o), o.i) }
	switch r.form {
	case formDNM:
		w |= uint32(o.m) << 16
	case formLane:
		if o.i < 0 || o.i > 3 {
			return bad()
		}
		w |= uint32(o.m)<<16 | uint32(o.i>>1)<<11 | uint32(o.i&1)<<21
	case formShl:
		if o.i < 0 || o.i >= r.size {
			return bad()
		}
		w |= uint32(r.size+o.i) << 16
	case formShr:
		if o.i < 1 || o.i > r.size {
			return bad()
		}
		w |= uint32(2*r.size-o.i) << 16
	case formMem:
		if o.i < 0 || o.i%r.size != 0 || o.i/r.size > 4095 {
			return bad()
		}
		w |= uint32(o.i/r.size) << 10
	}
	return w, nil
}

// gnu returns the instruction as GNU as and llvm-mc read it.
func (r *inst) gnu(o operands) string {
	num := func(n uint8) string { return strconv.Itoa(int(n)) }
	return strings.NewReplacer("{d}", num(o.d), "{n}", num(o.n), "{m}", num(o.m), "{i}", strconv.Itoa(o.i)).Replace(r.syntax)
}
