package program

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// Parse reads the text form of a program (see String) and checks its form; Verify checks its
// meaning. Errors begin with the line number.
func Parse(text string) (*Program, error) {
	p := &Program{}
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if err := p.parseHeader(lines[0]); err != nil {
		return nil, fmt.Errorf("1: %w", err)
	}
	for i, line := range lines[1:] {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if word == "}" && i == len(lines)-2 {
			return p, nil
		}
		parse, ok := statements[word]
		if !ok {
			return nil, fmt.Errorf("%d: unknown statement %q", i+2, word)
		}
		if err := parse(p, strings.TrimSpace(rest)); err != nil {
			return nil, fmt.Errorf("%d: %s: %w", i+2, word, err)
		}
	}
	return nil, fmt.Errorf("%d: the program is not closed by \"}\"", len(lines))
}

var statements = map[string]func(*Program, string) error{
	"kernel": (*Program).parseKernel,
	"plan":   (*Program).parsePlan,
	"weight": (*Program).parseWeight,
	"part":   (*Program).parsePart,
	"rope":   (*Program).parseRope,
	"blob":   (*Program).parseBlob,
	"buffer": (*Program).parseBuffer,
	"step":   (*Program).parseStep,
}

func (p *Program) parseHeader(line string) error {
	rest, ok := strings.CutPrefix(line, "program @")
	name, params, ok2 := strings.Cut(rest, "(")
	params, ok3 := strings.CutSuffix(params, ") {")
	if !ok || !ok2 || !ok3 || name == "" {
		return fmt.Errorf("expected \"program @name(symbols) {\", found %q", line)
	}
	p.Name = name
	if params == "" {
		return nil
	}
	for _, s := range strings.Split(params, ", ") {
		name, bounds, ok := strings.Cut(s, ": ")
		least, greatest, ok2 := strings.Cut(bounds, "..")
		lo, err := strconv.Atoi(least)
		hi, err2 := strconv.Atoi(greatest)
		if !ok || !ok2 || err != nil || err2 != nil {
			return fmt.Errorf("expected \"symbol: min..max\", found %q", s)
		}
		p.Symbols = append(p.Symbols, ir.Symbol{Name: name, Min: lo, Max: hi})
	}
	return nil
}

func assignment(rest string) (name, value string, err error) {
	name, value, ok := strings.Cut(rest, " = ")
	if !ok || name == "" || strings.ContainsAny(name, " \t") {
		return "", "", fmt.Errorf("expected \"name = value\", found %q", rest)
	}
	return name, value, nil
}

func (p *Program) parseKernel(rest string) error {
	name, text, err := assignment(rest)
	if err != nil {
		return err
	}
	spec, err := kernel.ParseSpec(text)
	p.Kernels = append(p.Kernels, Kernel{Name: name, Spec: spec})
	return err
}

func (p *Program) parsePlan(rest string) error {
	if len(p.Kernels) == 0 {
		return fmt.Errorf("no kernel precedes it")
	}
	text, from, _ := strings.Cut(rest, fromMark)
	plan, err := kernel.ParsePlan(text)
	k := &p.Kernels[len(p.Kernels)-1]
	k.Plans = append(k.Plans, plan)
	if from != "" && k.From == nil {
		k.From = make([]string, len(k.Plans)-1, len(k.Plans))
	}
	if k.From != nil {
		k.From = append(k.From, from)
	}
	return err
}

func parseShape(text string) ([]int, error) {
	t, err := ir.ParseType("i8" + text)
	if err != nil {
		return nil, fmt.Errorf("%q is not a shape", text)
	}
	var shape []int
	for _, d := range t.Dims {
		n, ok := d.IsConst()
		if !ok || n < 0 {
			return nil, fmt.Errorf("%q is not a shape of sizes", text)
		}
		shape = append(shape, n)
	}
	return shape, nil
}

func (p *Program) parseWeight(rest string) error {
	name, text, err := assignment(rest)
	if err != nil {
		return err
	}
	words := strings.Fields(text)
	if len(words) < 2 {
		return fmt.Errorf("expected \"type layout\", found %q", text)
	}
	w := Weight{Name: name, Layout: kernel.Layout(words[1])}
	dtype, _, _ := strings.Cut(words[0], "[")
	var ok bool
	if w.DType, ok = ir.ParseDType(dtype); !ok {
		return fmt.Errorf("unknown dtype %q", dtype)
	}
	if w.Shape, err = parseShape(words[0][len(dtype):]); err != nil {
		return err
	}
	options := words[2:]
	if len(options) > 0 {
		if n, ok := strings.CutPrefix(options[0], "interleave="); ok {
			if w.Interleave, err = strconv.Atoi(n); err != nil || w.Interleave < 1 {
				return fmt.Errorf("expected \"interleave=rows\", found %q", options[0])
			}
			options = options[1:]
		}
	}
	if w.Scales = len(options) > 0 && options[0] == scalesMark; w.Scales {
		options = options[1:]
	}
	if len(options) > 0 {
		return fmt.Errorf("expected \"interleave=rows\" and \"%s\", found %q", scalesMark, options[0])
	}
	p.Weights = append(p.Weights, w)
	return nil
}

func (p *Program) lastWeight() (*Weight, error) {
	if len(p.Weights) == 0 {
		return nil, fmt.Errorf("no weight precedes it")
	}
	return &p.Weights[len(p.Weights)-1], nil
}

func (p *Program) parsePart(rest string) error {
	w, err := p.lastWeight()
	if err != nil {
		return err
	}
	words := strings.Fields(rest)
	if len(words) < 2 {
		return fmt.Errorf("expected \"tensor shape\", found %q", rest)
	}
	name := words[0]
	if name == zeros {
		name = ""
	}
	part := Part{Tensor: name}
	if part.Shape, err = parseShape(words[1]); err != nil {
		return err
	}
	for _, word := range words[2:] {
		f, err := parseFactor(word)
		if err != nil {
			return err
		}
		part.Factors = append(part.Factors, f)
	}
	w.Parts = append(w.Parts, part)
	return nil
}

func parseFactor(word string) (Factor, error) {
	for f, mark := range factorMarks {
		name, ok := strings.CutPrefix(word, mark)
		if !ok || name == "" {
			continue
		}
		name, first, from := strings.Cut(name, "@")
		if from {
			n, err := strconv.Atoi(first)
			if err != nil || n < 1 {
				return f, fmt.Errorf("%q: %q is not the number of an element", word, first)
			}
			f.First = n
		}
		f.Vector = name
		return f, nil
	}
	return Factor{}, fmt.Errorf("%q is not a factor like columns*NAME or rows/NAME", word)
}

func (p *Program) parseRope(rest string) error {
	w, err := p.lastWeight()
	if err != nil {
		return err
	}
	r := &Rope{}
	words := strings.Fields(rest)
	if len(words) != 4 {
		return fmt.Errorf("expected \"cos|sin theta= headdim= positions=\", found %q", rest)
	}
	if r.Sin = words[0] == "sin"; !r.Sin && words[0] != "cos" {
		return fmt.Errorf("unknown table %q", words[0])
	}
	text, ok := strings.CutPrefix(words[1], "theta=")
	if r.Theta, err = strconv.ParseFloat(text, 64); !ok || err != nil {
		return fmt.Errorf("expected \"theta=number\", found %q", words[1])
	}
	for i, f := range []struct {
		key string
		to  *int
	}{{"headdim=", &r.HeadDim}, {"positions=", &r.Positions}} {
		text, ok := strings.CutPrefix(words[2+i], f.key)
		if *f.to, err = strconv.Atoi(text); !ok || err != nil {
			return fmt.Errorf("expected \"%snumber\", found %q", f.key, words[2+i])
		}
	}
	w.Rope = r
	return nil
}

func (p *Program) parseBlob(rest string) error {
	w, err := p.lastWeight()
	if err != nil {
		return err
	}
	if len(strings.Fields(rest)) != 1 {
		return fmt.Errorf("expected a name, found %q", rest)
	}
	w.Blob = rest
	return nil
}

func (p *Program) parseBuffer(rest string) error {
	name, text, err := assignment(rest)
	if err != nil {
		return err
	}
	words := strings.Fields(text)
	if len(words) < 2 || len(words) > 3 {
		return fmt.Errorf("expected \"role type @offset\", found %q", text)
	}
	b := Buffer{Name: name, Role: Role(words[0]), Offset: -1}
	if b.Type, err = ir.ParseType(words[1]); err != nil {
		return err
	}
	if len(words) == 3 {
		off, ok := strings.CutPrefix(words[2], "@")
		if b.Offset, err = strconv.Atoi(off); err != nil || !ok || b.Offset < 0 {
			return fmt.Errorf("%q is not an offset", words[2])
		}
	}
	p.Buffers = append(p.Buffers, b)
	return nil
}

func (p *Program) parseStep(rest string) error {
	name, text, err := assignment(rest)
	if err != nil {
		return err
	}
	words := strings.Fields(text)
	if len(words) == 0 {
		return fmt.Errorf("expected a kernel")
	}
	s := Step{Name: name, Kernel: words[0]}
	for _, w := range words[1:] {
		op, name, ok := strings.Cut(w, "=")
		if !ok {
			return fmt.Errorf("expected \"operand=name\", found %q", w)
		}
		s.Args = append(s.Args, Arg{Operand(op), name})
	}
	p.Steps = append(p.Steps, s)
	return nil
}
