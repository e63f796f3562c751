package amd64

import (
	"fmt"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/codegen"
)

// This file owns the loops that measure what a machine can do at best: arithmetic from registers
// or from the first-level cache, and reading memory. They are not kernels; the benchmark harness
// builds them into a program of its own.

// Ceiling is one such loop: func(a *Args), with the argument block of CeilingArgs.
type Ceiling struct {
	codegen.Func
	Unit codegen.Unit
	// Work is what one turn does: floating-point (or integer) operations, or 0 for a loop that
	// reads Bytes bytes a turn.
	Work int
	// Features are what the processor must have.
	Features []string
	// Buffer is how many bytes of random data the loop wants at Data; 0 for any number.
	Buffer int
}

// CeilingArgs is the argument block, as Go source for the program around the loops.
const CeilingArgs = `type Args struct {
	Turns int            // at least 1
	Data  unsafe.Pointer // random data, 64-byte aligned
	Bytes int            // a multiple of 512
	Tiles unsafe.Pointer // 64 bytes: the tile configuration of the AMX loops
	C     unsafe.Pointer // 4096 bytes: what the AMX loops store
}`

const (
	argTurns = 8 * iota
	argData
	argBytes
	argTiles
	argC
)

// ceilings are the loops: name, lanes of a vector, operations of a turn, features, bytes of data,
// body.
var ceilings = []struct {
	name, doc string
	lanes     int
	work      int
	features  []string
	buffer    int
	emit      func(*emitter)
}{
	{"fma", "f32 multiply-adds of ZMM registers", 16, 2 * 16 * chains * 4, []string{"AVX512F"}, 64 * (chains + 2), fmaLoop},
	{"fma256", "f32 multiply-adds of YMM registers", 8, 2 * 8 * chains256 * 4, []string{"AVX2", "FMA3"}, 32 * (chains256 + 2), fmaLoop},
	{"dpbf16", "bf16 pair products of ZMM registers", 16, 4 * 16 * chains * 4, []string{"AVX512F", "AVX512_BF16"}, 64 * (chains + 2), dotLoop("VDPBF16PS")},
	{"dpint8", "int8 quad products of ZMM registers", 16, 8 * 16 * chains * 4, []string{"AVX512F", "AVX512VNNI"}, 64 * (chains + 2), dotLoop("VPDPBUSD")},
	{"maddint16", "int16 pair products of ZMM registers, and their sums", 16, 4 * 16 * chains * 4, []string{"AVX512F", "AVX512BW"}, 64 * (chains + 2), pairLoop},
	{"maddint16256", "int16 pair products of YMM registers, and their sums", 8, 4 * 8 * chains256 * 4, []string{"AVX2"}, 32 * (chains256 + 2), pairLoop},
	{"read", "loads of whole ZMM registers", 16, 0, []string{"AVX512F"}, 0, readLoop},
	{"read256", "loads of whole YMM registers", 8, 0, []string{"AVX2"}, 0, readLoop},
	{"tdpbf16", "bf16 tile products, 2×2 tiles with operands from the first-level cache", 16, 2 * 32 * 32 * 32 * tileSteps, []string{"AVX512F", "AMX_TILE", "AMX_BF16"}, tileBuffer, tileLoop("TDPBF16PS")},
	{"tdpint8", "int8 tile products, 2×2 tiles with operands from the first-level cache", 16, 2 * 32 * 32 * 64 * tileSteps, []string{"AVX512F", "AMX_TILE", "AMX_INT8"}, tileBuffer, tileLoop("TDPBSSD")},
}

// chains is the number of independent accumulators: enough for the latency of a multiply-add
// (4 cycles) on two ports, within 32 registers, or 16.
const (
	chains    = 24
	chains256 = 12
)

// tileSteps × 4 KiB are the operands of the AMX loops: 32 KiB, which the first-level cache holds.
const (
	tileSteps  = 8
	tileBuffer = tileSteps * 4096
)

// Ceilings returns the loops.
func Ceilings() ([]Ceiling, error) {
	var all []Ceiling
	for _, c := range ceilings {
		f := codegen.Func{Name: "ceiling" + c.name, Role: c.name, Args: "Args", Doc: "measures " + c.doc}
		u := newUnit(f.Name, c.lanes)
		e := u.function(f)
		c.emit(e)
		e.ret()
		if e.err != nil {
			return nil, fmt.Errorf("ceiling %s: %w", c.name, e.err)
		}
		text, _, err := u.text()
		if err != nil {
			return nil, fmt.Errorf("ceiling %s: %w", c.name, err)
		}
		all = append(all, Ceiling{Func: f, Unit: codegen.Unit{Asm: text}, Work: c.work, Features: c.features, Buffer: c.buffer})
	}
	return all, nil
}

// registers loads random data into the accumulators and two factors.
func (e *emitter) registers() (acc []reg.VecVirtual, x, y reg.VecVirtual) {
	data := e.arg(argData)
	n := chains
	if !e.wide() {
		n = chains256
	}
	for i := range n + 2 {
		v := e.vec()
		e.do(x86.VMOVUPS(operand.Mem{Base: data, Disp: e.vecBytes() * i}, v))
		acc = append(acc, v)
	}
	return acc[:n], acc[n], acc[n+1]
}

func fmaLoop(e *emitter) {
	acc, x, y := e.registers()
	e.times(e.arg(argTurns), func() {
		for range 4 {
			for _, v := range acc {
				e.do(x86.VFMADD231PS(x, y, v))
			}
		}
	})
}

// dotLoop is for an instruction that adds the products of a few steps.
func dotLoop(name string) func(*emitter) {
	return func(e *emitter) {
		acc, x, y := e.registers()
		e.times(e.arg(argTurns), func() {
			for range 4 {
				for _, v := range acc {
					e.do(node(name, nil, x, y, v))
				}
			}
		})
	}
}

func pairLoop(e *emitter) {
	acc, x, y := e.registers()
	products := e.vec()
	e.times(e.arg(argTurns), func() {
		for range 4 {
			for _, v := range acc {
				e.do(x86.VPMADDWD(x, y, products))
				e.do(x86.VPADDD(products, v, v))
			}
		}
	})
}

// readLoop reads Bytes bytes, Turns times.
func readLoop(e *emitter) {
	v := []reg.VecVirtual{e.vec(), e.vec(), e.vec(), e.vec()}
	turns, data, bytes := e.arg(argTurns), e.arg(argData), e.arg(argBytes)
	end, at := e.GP64(), e.GP64()
	e.do(x86.MOVQ(data, end))
	e.do(x86.ADDQ(bytes, end))
	e.times(turns, func() {
		top := e.label("read")
		e.do(x86.MOVQ(data, at))
		e.bind(top)
		for i := range 512 / e.vecBytes() {
			e.do(x86.VMOVUPS(operand.Mem{Base: at, Disp: e.vecBytes() * i}, v[i%len(v)]))
		}
		e.addImm(512, at)
		e.do(x86.CMPQ(at, end))
		e.do(x86.JLT(ref(top)))
	})
}

// tileLoop multiplies 2×2 tiles over tileSteps steps of K a turn. The life of the tiles is inside
// the function: the Go runtime does not keep them across a switch of threads.
func tileLoop(product string) func(*emitter) {
	return func(e *emitter) {
		t := func(n int) operand.Op { return tile{operand.U8(n)} }
		turns, data, c, stride := e.arg(argTurns), e.arg(argData), e.arg(argC), e.GP64()
		e.do(x86.MOVQ(operand.I32(64), stride))
		e.do(node("LDTILECFG", nil, operand.Mem{Base: e.arg(argTiles)}))
		for i := range 4 {
			e.do(node("TILEZERO", nil, t(i)))
		}
		load := func(step, part, to int) {
			e.do(node("TILELOADD", nil, operand.Mem{Base: data, Disp: 4096*step + 1024*part, Index: stride, Scale: 1}, t(to)))
		}
		e.times(turns, func() {
			for k := range tileSteps {
				load(k, 2, 6)
				load(k, 0, 4)
				e.do(node(product, nil, t(6), t(4), t(0)))
				load(k, 1, 5)
				e.do(node(product, nil, t(6), t(5), t(2)))
				load(k, 3, 7)
				e.do(node(product, nil, t(7), t(4), t(1)))
				e.do(node(product, nil, t(7), t(5), t(3)))
			}
		})
		for i := range 4 {
			e.do(node("TILESTORED", nil, t(i), operand.Mem{Base: c, Disp: 1024 * i, Index: stride, Scale: 1}))
		}
		e.do(node("TILERELEASE", nil))
	}
}
