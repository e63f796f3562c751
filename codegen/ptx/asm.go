package ptx

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the text of an entry: virtual registers, parameters, labels and instructions. It
// knows the form of PTX and none of its instructions.

// reg is the name of a virtual register.
type reg string

// classes are the kinds of registers: the prefix of their names and their type.
var classes = []struct{ prefix, typ string }{
	{"%p", ".pred"}, {"%h", ".b16"}, {"%r", ".b32"}, {"%rd", ".b64"}, {"%f", ".f32"},
}

// entry writes one kernel. Every register is declared once, at the top.
type entry struct {
	name     string
	threads  int // of a CTA
	minCTAs  int // on a multiprocessor; 0 leaves it to the assembler
	counts   map[string]int
	labels   int
	params   []cuda.Param
	declared []string
	body     strings.Builder
	err      error
}

// newEntry begins an entry for CTAs of so many threads.
func newEntry(name string, threads int) *entry {
	return &entry{name: name, threads: threads, counts: map[string]int{}}
}

// new returns a register of the class with that prefix.
func (e *entry) new(prefix string) reg {
	n := e.counts[prefix]
	e.counts[prefix]++
	return reg(fmt.Sprintf("%s%d", prefix, n))
}

func (e *entry) pred() reg { return e.new("%p") }
func (e *entry) b16() reg  { return e.new("%h") }
func (e *entry) b32() reg  { return e.new("%r") }
func (e *entry) b64() reg  { return e.new("%rd") }
func (e *entry) f32() reg  { return e.new("%f") }

// many returns n registers from make.
func many(n int, make func() reg) []reg {
	out := []reg{}
	for range n {
		out = append(out, make())
	}
	return out
}

// operand returns the text of an operand: a register, an integer, a float as its bits, or text.
func (e *entry) operand(x any) string {
	switch x := x.(type) {
	case reg:
		return string(x)
	case string:
		return x
	case int:
		return fmt.Sprint(x)
	case float64:
		return fmt.Sprintf("0f%08X", math.Float32bits(float32(x)))
	}
	if e.err == nil {
		e.err = fmt.Errorf("%s: an operand of type %T", e.name, x)
	}
	return ""
}

// do appends an instruction.
func (e *entry) do(op string, operands ...any) { e.line("", op, operands) }

// doIf appends an instruction that runs where p is true, doUnless one that runs where it is false.
func (e *entry) doIf(p reg, op string, operands ...any) { e.line("@"+string(p)+" ", op, operands) }

func (e *entry) doUnless(p reg, op string, operands ...any) {
	e.line("@!"+string(p)+" ", op, operands)
}

func (e *entry) line(guard, op string, operands []any) {
	var texts []string
	for _, x := range operands {
		texts = append(texts, e.operand(x))
	}
	text := guard + op
	if len(texts) > 0 {
		text += " " + strings.Join(texts, ", ")
	}
	e.body.WriteString("\t" + text + ";\n")
}

// p, r, rd and f append an instruction whose result is a new register of the class, and return it.
func (e *entry) p(op string, operands ...any) reg  { return e.into(e.pred(), op, operands) }
func (e *entry) r(op string, operands ...any) reg  { return e.into(e.b32(), op, operands) }
func (e *entry) rd(op string, operands ...any) reg { return e.into(e.b64(), op, operands) }
func (e *entry) f(op string, operands ...any) reg  { return e.into(e.f32(), op, operands) }

func (e *entry) into(d reg, op string, operands []any) reg {
	e.line("", op, append([]any{d}, operands...))
	return d
}

// label returns a label that is new in the entry; bind puts it here.
func (e *entry) label(name string) string {
	e.labels++
	return fmt.Sprintf("%s_%d", name, e.labels)
}

func (e *entry) bind(label string) { e.body.WriteString(label + ":\n") }

// at is the memory offset bytes after the address in base.
func at(base reg, offset int) string {
	if offset == 0 {
		return "[" + string(base) + "]"
	}
	return fmt.Sprintf("[%s+%d]", base, offset)
}

// vec is a list of registers as one operand.
func vec(rs ...reg) string {
	var names []string
	for _, r := range rs {
		names = append(names, string(r))
	}
	return "{" + strings.Join(names, ", ") + "}"
}

// param declares a parameter and returns it: the address as a global pointer, or that of a tensor
// map in the space of parameters.
func (e *entry) param(p cuda.Param) reg {
	name, before := paramName(p), 1
	for _, q := range e.params {
		if paramName(q) == name {
			before++
		}
	}
	if before > 1 {
		name = fmt.Sprintf("%s_%d", name, before) // a second map of one operand
	}
	e.params = append(e.params, p)
	if p.Kind == cuda.ParamMap || p.Kind == cuda.ParamShadowMap {
		e.declared = append(e.declared, fmt.Sprintf(".param .align 64 .b8 %s[128]", name))
		return e.rd("cvta.param.u64", e.rd("mov.b64", name))
	}
	e.declared = append(e.declared, ".param .u64 "+name)
	return e.rd("cvta.to.global.u64", e.rd("ld.param.u64", "["+name+"]"))
}

// operandNames and kindNames are the parts of the name of a parameter.
var (
	operandNames = [...]string{cuda.OperandSrc: "src", cuda.OperandDst: "dst", cuda.OperandRes: "res", cuda.OperandIndex: "index",
		cuda.OperandPos: "pos", cuda.OperandW: "w", cuda.OperandBias: "bias", cuda.OperandGamma: "gamma", cuda.OperandBeta: "beta",
		cuda.OperandCos: "cos", cuda.OperandSin: "sin", cuda.OperandPosTable: "postable"}
	kindNames = [...]string{cuda.ParamMap: "map", cuda.ParamShadow: "shadow", cuda.ParamShadowMap: "shadowmap", cuda.ParamStats: "stats",
		cuda.ParamSlots: "slots", cuda.ParamColSum: "colsum", cuda.ParamRows: "rows", cuda.ParamItems: "items",
		cuda.ParamItemCount: "itemcount", cuda.ParamScratch: "scratch", cuda.ParamTopK: "k", cuda.ParamTopIDs: "ids",
		cuda.ParamTopLogits: "logits", cuda.ParamTopSums: "sums"}
)

// paramName names a parameter: p_dst, p_dst_shadow, p_rows.
func paramName(p cuda.Param) string {
	switch p.Kind {
	case cuda.ParamPointer:
		return "p_" + operandNames[p.Operand]
	case cuda.ParamMap, cuda.ParamShadow, cuda.ParamShadowMap, cuda.ParamStats, cuda.ParamSlots:
		return "p_" + operandNames[p.Operand] + "_" + kindNames[p.Kind]
	}
	return "p_" + kindNames[p.Kind]
}

// pointer declares a parameter that is the address of an operand.
func (e *entry) pointer(o cuda.Operand) reg { return e.param(cuda.Param{Operand: o}) }

// text returns the entry.
func (e *entry) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".visible .entry %s(\n\t%s\n)\n", e.name, strings.Join(e.declared, ",\n\t"))
	fmt.Fprintf(&b, ".maxntid %d, 1, 1\n", e.threads)
	if e.minCTAs > 0 {
		fmt.Fprintf(&b, ".minnctapersm %d\n", e.minCTAs)
	}
	b.WriteString("{\n")
	for _, c := range classes {
		if n := e.counts[c.prefix]; n > 0 {
			fmt.Fprintf(&b, "\t.reg %s %s<%d>;\n", c.typ, c.prefix, n)
		}
	}
	b.WriteString(e.body.String() + "}\n")
	return b.String()
}

// launch returns the entry of the launch table.
func (e *entry) launch(shared, cluster int, g cuda.Grid) cuda.Launch {
	return cuda.Launch{Entry: e.name, Threads: e.threads, Shared: shared, Cluster: cluster, Grid: g, Params: slices.Clone(e.params)}
}
