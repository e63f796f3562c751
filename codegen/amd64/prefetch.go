package amd64

import (
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"
)

// This file owns the prefetch of the panels that come next, which the products of product.go and amx.go make
// step by step.

// prefetch walks through the panels that come next while the tiles of rows go through those of now, so many
// lines at a time.
type prefetch struct {
	at, end operand.Mem
	lines   int
}

// The next panel is there after four tiles of rows. A whole panel at once would wait for the memory, and
// processors fetch a panel of few rows themselves.
const (
	stepLines = 8              // of a step of tiles, which has 32
	halfLines = blockPairs / 4 // of half a block
)

func (e *emitter) newPrefetch(lines int) *prefetch { return &prefetch{e.slot(), e.slot(), lines} }

// start sets the walk to size bytes from an address on. It stays at the last lines.
func (p *prefetch) start(e *emitter, from reg.Register, size int) {
	e.do(x86.MOVQ(from, p.at))
	e.addImm(size-64*p.lines, from)
	e.do(x86.MOVQ(from, p.end))
}

// step moves the walk on, which is at the address in the register.
func (p *prefetch) step(e *emitter, at reg.Register) {
	e.addImm(64*p.lines, at)
	e.do(x86.CMPQ(at, p.end))
	e.do(x86.CMOVQHI(p.end, at))
}
