package amd64

import (
	"bytes"
	"fmt"
	"go/token"
	"go/types"
	"math"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/gotypes"
	asm "github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/pass"
	"github.com/mmcloughlin/avo/printer"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/codegen"
)

// This file owns the vocabulary of the emitters: units, functions, constants, loops.

// unit collects the functions and the constants of one kernel.
type unit struct {
	symbol string
	file   *asm.File
	consts *asm.Global
	words  map[string]int // offset of a sequence of constants in consts
}

func newUnit(symbol string) *unit {
	c := asm.NewStaticGlobal(symbol + "Const")
	c.Attributes = attr.RODATA | attr.NOPTR
	return &unit{symbol: symbol, file: asm.NewFile(), consts: c, words: map[string]int{}}
}

// implied are the feature names of avo that every processor with AVX512F has.
var implied = []string{"SSE", "SSE2", "SSE4.1", "AVX", "AVX2", "FMA3", "F16C", "CMOV", "MMX+"}

// text compiles the unit and returns its assembly text and the features that it needs.
func (u *unit) text() (string, []string, error) {
	if len(u.consts.Data) > 0 {
		u.file.AddSection(u.consts)
	}
	if err := pass.Concat(pass.Compile, pass.FunctionPass(lower)).Execute(u.file); err != nil {
		return "", nil, err
	}
	var features []string
	for _, fn := range u.file.Functions() {
		for _, f := range fn.ISA {
			if !slices.Contains(implied, f) && !slices.Contains(features, f) {
				features = append(features, f)
			}
		}
	}
	slices.Sort(features)
	u.file.Includes = nil
	out, err := printer.NewGoAsm(printer.Config{Name: "bertc"}).Print(u.file)
	if err != nil {
		return "", nil, err
	}
	// The file that joins the units has its own first line.
	_, body, _ := bytes.Cut(out, []byte("\n"))
	return strings.TrimLeft(string(body), "\n"), features, nil
}

// emitter writes one function. The first error stays in err; everything after it is ignored.
type emitter struct {
	*reg.Collection
	u      *unit
	fn     *asm.Function
	args   reg.GPVirtual
	labels int
	err    error
}

func (u *unit) function(f codegen.Func) *emitter {
	fn := asm.NewFunction(f.Name)
	fn.Attributes = attr.NOSPLIT
	pkg := types.NewPackage("rt", "rt")
	args := types.NewNamed(types.NewTypeName(token.NoPos, pkg, f.Args, nil), types.NewStruct(nil, nil), nil)
	param := types.NewVar(token.NoPos, nil, "a", types.NewPointer(args))
	fn.SetSignature(gotypes.NewSignature(nil, types.NewSignatureType(nil, nil, nil, types.NewTuple(param), nil, false)))
	u.file.AddSection(fn)
	e := &emitter{Collection: reg.NewCollection(), u: u, fn: fn}
	e.args = e.GP64()
	e.do(x86.MOVQ(operand.NewParamAddr("a", 0), e.args))
	return e
}

// do appends an instruction, as in e.do(x86.RET()).
func (e *emitter) do(i *asm.Instruction, err error) {
	if err != nil && e.err == nil {
		e.err = fmt.Errorf("instruction %d: %w", len(e.fn.Nodes), err)
	}
	if e.err == nil {
		e.fn.AddInstruction(i)
	}
}

func (e *emitter) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf(format, args...)
	}
}

func (e *emitter) ret() {
	e.do(x86.VZEROUPPER())
	e.do(x86.RET())
}

// label returns a label name that is new in the function.
func (e *emitter) label(name string) string {
	e.labels++
	return fmt.Sprintf("%s%d", name, e.labels)
}

func (e *emitter) bind(label string) { e.fn.AddLabel(asm.Label(label)) }

// align pads so that the loop that follows starts a fetch line.
func (e *emitter) align() { e.fn.AddInstruction(&asm.Instruction{Opcode: "PCALIGN $32"}) }

func ref(label string) operand.LabelRef { return operand.LabelRef(label) }

// field is a field of the argument block.
func (e *emitter) field(offset uintptr) operand.Mem {
	return operand.Mem{Base: e.args, Disp: int(offset)}
}

// arg loads a field of the argument block.
func (e *emitter) arg(offset uintptr) reg.GPVirtual {
	r := e.GP64()
	e.do(x86.MOVQ(e.field(offset), r))
	return r
}

// slot is eight bytes of the stack, for the state of outer loops.
func (e *emitter) slot() operand.Mem { return e.fn.AllocLocal(8) }

// argSlot is a slot that starts as a field of the argument block.
func (e *emitter) argSlot(offset uintptr) operand.Mem {
	m := e.slot()
	e.do(x86.MOVQ(e.arg(offset), m))
	return m
}

// load copies a slot to a register.
func (e *emitter) load(m operand.Mem) reg.GPVirtual {
	r := e.GP64()
	e.do(x86.MOVQ(m, r))
	return r
}

// addImm adds a constant to a register or a slot.
func (e *emitter) addImm(n int, dst operand.Op) {
	if n != int(int32(n)) {
		e.fail("offset %d does not fit 32 bits", n)
	}
	e.do(x86.ADDQ(operand.I32(n), dst))
}

// mulImm sets dst to src times a constant.
func (e *emitter) mulImm(n int, src, dst operand.Op) {
	if n != int(int32(n)) {
		e.fail("stride %d does not fit 32 bits", n)
	}
	e.do(x86.IMUL3Q(operand.I32(n), src, dst))
}

// words returns the address of constants, one after another in memory.
func (e *emitter) words(ws ...uint32) operand.Mem {
	key := fmt.Sprint(ws)
	offset, ok := e.u.words[key]
	if !ok {
		offset = e.u.consts.Size
		for _, w := range ws {
			e.u.consts.Append(operand.U32(w))
		}
		e.u.words[key] = offset
	}
	return operand.NewDataAddr(e.u.consts.Symbol, offset)
}

// f32 returns the address of a constant, for a broadcast operand.
func (e *emitter) f32(x float64) operand.Mem { return e.words(math.Float32bits(float32(x))) }

// mask returns a mask register with the low n bits set, or nil for 16, the whole vector.
func (e *emitter) mask(n int) reg.Register {
	if n == 16 {
		return nil
	}
	r, k := e.GP32(), e.K()
	e.do(x86.MOVL(operand.U32(1<<n-1), r))
	e.do(x86.KMOVW(r, k))
	return k
}

// tail returns the mask of the last vector of n elements; nil when it is whole.
func (e *emitter) tail(n int) reg.Register { return e.mask((n-1)%16 + 1) }

// at returns element index+offset of the array of elements of the given size at base.
func at(base, index reg.Register, offset, size int) operand.Mem {
	return operand.Mem{Base: base, Disp: offset * size, Index: index, Scale: uint8(size)}
}

// vectors emits a loop over n elements, 16 at a time, unrolled: body gets the register that
// counts elements, a constant to add to it, which copy of the unrolled body it is, and the mask
// of the vector, nil when it is whole. The order of the vectors is the order of the calls.
func (e *emitter) vectors(n, unroll int, tail reg.Register, body func(index reg.Register, offset, copy int, mask reg.Register)) {
	i := e.GP64()
	e.do(x86.XORQ(i, i))
	full := n / 16
	if loops := full / unroll; loops > 0 {
		top := e.label("vectors")
		e.bind(top)
		for u := range unroll {
			body(i, 16*u, u, nil)
		}
		e.addImm(16*unroll, i)
		e.do(x86.CMPQ(i, operand.I32(loops*unroll*16)))
		e.do(x86.JLT(ref(top)))
	}
	for u := range full % unroll {
		body(i, 16*u, u, nil)
	}
	if n%16 != 0 {
		u := full % unroll
		body(i, 16*u, u, tail)
	}
}

// times emits body as often as the slot or register n says, which is at least once and is used
// up.
func (e *emitter) times(n operand.Op, body func()) {
	top := e.label("loop")
	e.bind(top)
	body()
	e.do(x86.DECQ(n))
	e.do(x86.JNE(ref(top)))
}
