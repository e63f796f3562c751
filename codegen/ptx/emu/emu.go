// Package emu owns an emulator of PTX for sm_90a: it parses the text of kernels and runs all threads
// on the CPU, in one goroutine, deterministically for a seed. It is made to find faults: it schedules
// adversarially, lets asynchronous operations complete late, and reports deadlock, races, reads of
// what was never written, accesses out of bounds, misuse of barriers, and what a dependent launch does
// before it has waited for those ahead, with the line of the PTX.
//
// Parse reads a module, New makes a device, Device.Launch runs a kernel. The names of the device's
// methods follow the CUDA driver. docs/ptx-emulator.md has the model and its limits.
//
// Start reading at Parse, then sim.run.
package emu

import (
	"fmt"
	"sync/atomic"
)

// Module is a parsed PTX text. It is immutable and may be used by several devices.
type Module struct {
	Kernels []*Kernel // in the order of the text

	lines []string
	vars  []*variable // of the global and const spaces, with their addresses
}

// moduleWindow is where variables of modules lie; each module has its own part of the window.
const moduleWindow = 0x08_0000_0000_0000

var modules atomic.Uint64

// Parse parses and decodes a module. Errors are of type *SyntaxError.
func Parse(text string) (m *Module, err error) {
	p := &parser{}
	p.setText(text)
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(*SyntaxError)
			if !ok {
				panic(r)
			}
			m, err = nil, e
		}
	}()
	p.lex(text)
	p.module()
	m = &Module{lines: p.lines}
	at := moduleWindow + modules.Add(1)<<32
	for _, v := range p.vars {
		if v.space == "shared" {
			continue
		}
		align := uint64(max(v.align, 16))
		at = (at + align - 1) &^ (align - 1)
		v.addr = at
		at += uint64(v.size)
		m.vars = append(m.vars, v)
	}
	for _, e := range p.entries {
		m.Kernels = append(m.Kernels, decode(p, m, e))
	}
	if len(m.Kernels) == 0 {
		p.fail(1, "the module has no entry")
	}
	return m, nil
}

// Kernel returns the entry with a name, or nil.
func (m *Module) Kernel(name string) *Kernel {
	for _, k := range m.Kernels {
		if k.Name == name {
			return k
		}
	}
	return nil
}

// Kind is what a Report is about.
type Kind string

const (
	Deadlock      Kind = "deadlock"
	Livelock      Kind = "livelock"
	Race          Kind = "data race"
	Uninitialised Kind = "uninitialised read"
	OutOfBounds   Kind = "out of bounds"
	Misaligned    Kind = "misaligned address"
	WgmmaOrder    Kind = "wgmma order"     // a missing fence, commit or wait
	InFlight      Kind = "in flight"       // a register or byte of an operation that is not complete
	Barrier       Kind = "barrier misuse"  // bar.sync and mbarrier
	TxCount       Kind = "tx-count"        // of an mbarrier
	Registers     Kind = "register pool"   // setmaxnreg
	Convergence   Kind = "convergence"     // .aligned instructions of diverged warps
	Operand       Kind = "invalid operand" // descriptors, tensor maps and the like
	Dependency    Kind = "grid dependency" // griddepcontrol.wait
)

// Report is a fault of a kernel, found while it ran.
type Report struct {
	Kind   Kind
	Kernel string
	Line   int    // in the text of the module; 0 where no instruction is at fault
	Text   string // of the line
	CTA    [3]int
	Warp   int
	Lanes  uint32 // the lanes at fault, or those that executed the instruction
	Msg    string
}

func (r *Report) Error() string {
	s := fmt.Sprintf("%s: %s: %s", r.Kernel, r.Kind, r.Msg)
	if r.Line == 0 {
		return s
	}
	return fmt.Sprintf("%s\n  line %d: %s\n  CTA (%d,%d,%d), warp %d, lanes %#08x", s, r.Line, r.Text, r.CTA[0], r.CTA[1], r.CTA[2], r.Warp, r.Lanes)
}
