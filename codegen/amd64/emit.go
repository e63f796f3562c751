package amd64

import (
	"bytes"
	"fmt"
	"go/token"
	"go/types"
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
	lanes  int // of its vectors
	file   *asm.File
	consts *asm.Global
	words  map[string]int // offset of a sequence of constants in consts
}

// newUnit returns a unit of functions on vectors of so many f32.
func newUnit(symbol string, lanes int) *unit {
	c := asm.NewStaticGlobal(symbol + "Const")
	c.Attributes = attr.RODATA | attr.NOPTR
	return &unit{symbol: symbol, lanes: lanes, file: asm.NewFile(), consts: c, words: map[string]int{}}
}

// implied are the feature names of avo that every processor has with AVX2, and with AVX512F.
var (
	implied256 = []string{"SSE", "SSE2", "SSE4.1", "AVX", "CMOV", "MMX+"}
	implied512 = append([]string{"AVX2", "FMA3", "F16C"}, implied256...)
)

// text compiles the unit and returns its assembly text and the features that it needs.
func (u *unit) text() (string, []string, error) {
	if len(u.consts.Data) > 0 {
		u.file.AddSection(u.consts)
	}
	implied, check := implied512, pass.FunctionPass(lower)
	if u.lanes == 8 {
		implied, check = implied256, pass.FunctionPass(vexOnly)
	}
	if err := pass.Concat(pass.Compile, check).Execute(u.file); err != nil {
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
	lanes  int // of a vector: 16 or 8
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
	e := &emitter{Collection: reg.NewCollection(), u: u, lanes: u.lanes, fn: fn}
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

// atMost lowers r to limit where it is greater.
func (e *emitter) atMost(limit, r reg.Register) {
	fits := e.label("fits")
	e.do(x86.CMPQ(r, limit))
	e.do(x86.JLE(ref(fits)))
	e.do(x86.MOVQ(limit, r))
	e.bind(fits)
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
func (e *emitter) f32(x float64) operand.Mem { return e.words(bits(x)) }

// at returns element index+offset of the array of elements of the given size at base.
func at(base, index reg.Register, offset, size int) operand.Mem {
	return operand.Mem{Base: base, Disp: offset * size, Index: index, Scale: uint8(size)}
}

// vectors emits a loop over n elements, a vector at a time, unrolled: body gets the register that
// counts elements, a constant to add to it, which copy of the unrolled body it is, and the mask
// of the vector. The order of the vectors is the order of the calls.
func (e *emitter) vectors(n, unroll int, tail mask, body func(index reg.Register, offset, copy int, m mask)) {
	i := e.GP64()
	e.do(x86.XORQ(i, i))
	full := n / e.lanes
	if loops := full / unroll; loops > 0 {
		top := e.label("vectors")
		e.bind(top)
		for u := range unroll {
			body(i, e.lanes*u, u, mask{})
		}
		e.addImm(e.lanes*unroll, i)
		e.do(x86.CMPQ(i, operand.I32(loops*unroll*e.lanes)))
		e.do(x86.JLT(ref(top)))
	}
	for u := range full % unroll {
		body(i, e.lanes*u, u, mask{})
	}
	if n%e.lanes != 0 {
		u := full % unroll
		body(i, e.lanes*u, u, tail)
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
