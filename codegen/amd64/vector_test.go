package amd64

import (
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
	"github.com/mmcloughlin/avo/x86"

	"github.com/bertc/bertc/codegen/codegentest"
	"github.com/bertc/bertc/kernel"
)

// TestVexOnly: the narrow tier refuses what takes EVEX, whose encoding the Go assembler would
// choose in silence.
func TestVexOnly(t *testing.T) {
	// live holds n values of 256 bits at a time.
	live := func(n int) func(e *emitter) {
		return func(e *emitter) {
			var v []reg.VecVirtual
			for i := range n {
				v = append(v, e.vec())
				e.do(x86.VMOVUPS(operand.Mem{Base: e.args, Disp: 32 * i}, v[i]))
			}
			for i := range v {
				e.do(x86.VMOVUPS(v[i], operand.Mem{Base: e.args, Disp: 32 * i}))
			}
		}
	}
	for _, tt := range []struct {
		name string
		emit func(e *emitter)
		ok   bool
	}{
		{"16 registers", live(16), true},
		{"17 registers", live(17), false},
		{"512 bits", func(e *emitter) { z := e.ZMM(); e.do(x86.VADDPS(z, z, z)) }, false},
		{"a mask register", func(e *emitter) { k := e.K(); e.do(x86.KXNORW(k, k, k)) }, false},
		{"a broadcast operand", func(e *emitter) { y := e.vec(); e.do(x86.VADDPS_BCST(operand.Mem{Base: e.args}, y, y)) }, false},
	} {
		u := newUnit("t", 8)
		e := u.function(testFunc)
		tt.emit(e)
		e.ret()
		if e.err != nil {
			t.Fatalf("%s: %v", tt.name, e.err)
		}
		if _, _, err := u.text(); (err == nil) != tt.ok {
			t.Errorf("%s: error %v", tt.name, err)
		}
	}
}

var (
	function = regexp.MustCompile(`^[0-9a-f]+ <main\.k[0-9]+[A-Z].*>:$`)
	avx512   = regexp.MustCompile(`%zmm|%k[0-7]|%[xy]mm(1[6-9]|[23][0-9])`)
)

// disassembled is a check of the linked program: it fails if any kernel of a tier of 256 bits has an
// instruction in EVEX encoding, or for a wide tier if none has, as a check of the check; if a kernel
// has an instruction of the table whose feature the tier lacks; and if the disassembler does not know
// an instruction, or sees none of what a tier is there for.
func disassembled(target *kernel.Target) func(t *testing.T, path string) {
	first := target.Insts[0]
	wide := first.Lanes == 16
	above := map[string]string{} // mnemonic to feature
	for _, row := range insts {
		if !slices.Contains(target.Features, row.isa) {
			above[strings.ToLower(row.name)] = row.isa
		}
	}
	return func(t *testing.T, path string) {
		tool := ""
		for _, name := range []string{"objdump", "llvm-objdump"} {
			if _, err := exec.LookPath(name); err == nil && tool == "" {
				tool = name
			}
		}
		if tool == "" {
			t.Log("SKIP: neither objdump nor llvm-objdump is installed; the code is not disassembled")
			return
		}
		listing, err := exec.Command(tool, "-d", path).Output()
		if err != nil {
			t.Fatalf("%s: %v", tool, err)
		}
		functions, instructions, evex, firsts := 0, 0, 0, 0
		inside := false
		for line := range strings.Lines(string(listing)) {
			line = strings.TrimRight(line, "\n")
			if strings.HasSuffix(line, ">:") {
				if inside = function.MatchString(line); inside {
					functions++
				}
			}
			if !inside {
				continue
			}
			// address: bytes, tab, instruction; without one, the line has the rest of the bytes
			_, rest, _ := strings.Cut(line, ":")
			code, text, ok := strings.Cut(strings.TrimSpace(rest), "\t")
			if !ok {
				continue
			}
			instructions++
			mnemonic, _, _ := strings.Cut(text, " ")
			if mnemonic == first.Name {
				firsts++
			}
			if isa, ok := above[mnemonic]; ok {
				t.Errorf("%s has no %s: %s", target.Name, isa, line)
				delete(above, mnemonic) // one is enough
			}
			if strings.Contains(text, "(bad)") {
				t.Errorf("no instruction: %s", line)
			}
			// 0x62 has no other meaning in 64-bit code.
			if strings.HasPrefix(code, "62 ") || !wide && avx512.MatchString(text) {
				if evex++; !wide && evex <= 5 {
					t.Errorf("EVEX in an AVX2 kernel: %s", line)
				}
			}
		}
		t.Logf("%d functions, %d instructions, %d in EVEX encoding, %d %s", functions, instructions, evex, firsts, first.Name)
		if firsts == 0 {
			t.Errorf("no %s", first.Name)
		}
		if functions < 100 || instructions < 100*functions {
			t.Error("too few for all kernels")
		}
		if wide && evex == 0 {
			t.Error("no EVEX in AVX-512 kernels: the test does not see it")
		}
	}
}

// TestEqual: the AVX2 and the AVX-512 VNNI tier give the bits of the AVX-512F tier. They round the same
// sums in the same order, those of codes are exact; exponentials, roots and quotients are of the same
// operations.
func TestEqual(t *testing.T) {
	for _, b := range []*Backend{NewAVX2(), NewVNNI()} {
		t.Run(b.Target().Name, func(t *testing.T) {
			t.Parallel()
			codegentest.Equal(t, New(), b, codegentest.Native(t, New().Target()), codegentest.Native(t, b.Target()))
		})
	}
}
