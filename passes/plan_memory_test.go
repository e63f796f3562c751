package passes

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/program"
)

// This file owns the test of plan-memory on random programs. The oracle runs a program on symbols
// instead of numbers: the result of a step is its name with the values that it read, and a buffer
// is the cells of memory that it covers. It knows nothing of lifetimes.

// randomProgram returns a program as choose-plans makes it: every step writes a buffer of its own.
func randomProgram(r *rand.Rand) *program.Program {
	p := &program.Program{Name: "random"}
	buffer := func(name string, role program.Role, symbol string) program.Buffer {
		t := ir.MakeType([]ir.DType{ir.F32, ir.BF16}[r.IntN(2)], ir.Sym(symbol), ir.Const(1+r.IntN(3)))
		b := program.Buffer{Name: name, Role: role, Type: t, Offset: -1}
		p.Buffers = append(p.Buffers, b)
		return b
	}
	bySymbol := map[string][]program.Buffer{}
	for _, symbol := range []string{"T", "M"} {
		for i := range 1 + r.IntN(2) {
			bySymbol[symbol] = append(bySymbol[symbol], buffer(fmt.Sprintf("in.%s%d", symbol, i), program.Input, symbol))
		}
	}
	for n := range 2 + r.IntN(20) {
		symbol := []string{"T", "T", "M"}[r.IntN(3)]
		have := bySymbol[symbol]
		pick := func() string { return have[len(have)-1-r.IntN(min(len(have), 4))].Name }
		role := program.Temp
		if r.IntN(8) == 0 {
			role = program.Output
		}
		kernel := fmt.Sprintf("k%d", r.IntN(4))
		s := program.Step{Name: fmt.Sprintf("layer.%d.%s", n, kernel), Kernel: kernel, Args: []program.Arg{{Operand: program.Src, Name: pick()}}}
		if r.IntN(2) == 0 {
			s.Args = append(s.Args, program.Arg{Operand: program.Res, Name: pick()})
		}
		bySymbol[symbol] = append(have, buffer(s.Name, role, symbol))
		s.Args = append(s.Args, program.Arg{Operand: program.Dst, Name: s.Name})
		p.Steps = append(p.Steps, s)
	}
	return p
}

// trace returns what each step reads, and what the outputs hold at the end. Before memory is
// planned every buffer has cells of its own.
func trace(p *program.Program) []string {
	memory := map[string]string{}
	cells := func(b program.Buffer) []string {
		if b.Offset < 0 {
			return []string{b.Name}
		}
		var out []string
		for i := range b.RowBytes() {
			out = append(out, fmt.Sprint(b.Symbol(), b.Offset+i))
		}
		return out
	}
	write := func(b program.Buffer, value string) {
		for _, c := range cells(b) {
			memory[c] = value
		}
	}
	read := func(b program.Buffer) string {
		cs := cells(b)
		for _, c := range cs {
			if memory[c] != memory[cs[0]] {
				return "a mixture of " + memory[c] + " and " + memory[cs[0]]
			}
		}
		return memory[cs[0]]
	}
	for _, b := range p.Buffers {
		if b.Role == program.Input {
			write(b, b.Name)
		}
	}
	var log []string
	for _, s := range p.Steps {
		line := s.Name
		for _, a := range s.Args {
			if a.Operand != program.Dst {
				line += fmt.Sprintf(" %s=%s", a.Operand, read(*p.Buffer(a.Name)))
			}
		}
		log = append(log, line)
		write(*p.Buffer(s.Arg(program.Dst)), s.Name)
	}
	for _, b := range p.Buffers {
		if b.Role == program.Output {
			log = append(log, read(b))
		}
	}
	return log
}

func TestPlanMemoryRandom(t *testing.T) {
	reused, inPlace := 0, 0
	for seed := range uint64(2000) {
		p := randomProgram(rand.New(rand.NewPCG(seed, 1)))
		want, buffers, text := trace(p), len(p.Buffers), p.String()
		if err := planMemory(&State{Program: p}); err != nil {
			t.Fatal(err)
		}
		if got := trace(p); !slices.Equal(got, want) {
			t.Fatalf("seed %d: the steps and outputs read\n%q\nnot\n%q\nin\n%s\nplanned as\n%s", seed, got, want, text, p)
		}
		reused += buffers - len(p.Buffers)
		for _, s := range p.Steps {
			dst := p.Buffer(s.Arg(program.Dst))
			for _, a := range s.Args {
				b := p.Buffer(a.Name)
				switch {
				case a.Operand == program.Res && b == dst:
					inPlace++
				case a.Operand != program.Dst && b.Symbol() == dst.Symbol() && b.Offset < dst.Offset+dst.RowBytes() && dst.Offset < b.Offset+b.RowBytes():
					t.Fatalf("seed %d: step %s writes where it reads %s", seed, s.Name, a.Name)
				}
			}
		}
		for _, b := range p.Buffers {
			if b.Offset < 0 || b.Offset%4 != 0 {
				t.Fatalf("seed %d: buffer %s has offset %d", seed, b.Name, b.Offset)
			}
		}
	}
	if reused < 1000 || inPlace < 200 {
		t.Errorf("buffers were shared %d times and residuals written in place %d times", reused, inPlace)
	}
}

// TestEnsurePlanned: no pass leaves a buffer without a place, so the promise is broken by hand.
func TestEnsurePlanned(t *testing.T) {
	p := randomProgram(rand.New(rand.NewPCG(1, 1)))
	want := fmt.Sprintf("buffer %s has no offset", p.Buffers[0].Name)
	if err := ensurePlanned(&State{Program: p}); err == nil || err.Error() != want {
		t.Errorf("the error is %v, want %s", err, want)
	}
}
