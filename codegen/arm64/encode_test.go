package arm64

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/codegen"
)

// pinned has one encoding of every row, from GNU as 2.40: d is 3, n 17, m 30, and i the largest
// that there is.
var pinned = map[string]uint32{
	"FMLA":   0x4e3ece23, // fmla v3.4s, v17.4s, v30.4s
	"FMLS":   0x4ebece23, // fmls v3.4s, v17.4s, v30.4s
	"FMLAe":  0x4fbe1a23, // fmla v3.4s, v17.4s, v30.s[3]
	"FMULe":  0x4fbe9a23, // fmul v3.4s, v17.4s, v30.s[3]
	"FADD":   0x4e3ed623, // fadd v3.4s, v17.4s, v30.4s
	"FSUB":   0x4ebed623, // fsub v3.4s, v17.4s, v30.4s
	"FMUL":   0x6e3ede23, // fmul v3.4s, v17.4s, v30.4s
	"FDIV":   0x6e3efe23, // fdiv v3.4s, v17.4s, v30.4s
	"FMAX":   0x4e3ef623, // fmax v3.4s, v17.4s, v30.4s
	"FMIN":   0x4ebef623, // fmin v3.4s, v17.4s, v30.4s
	"FADDP":  0x6e3ed623, // faddp v3.4s, v17.4s, v30.4s
	"FMAXP":  0x6e3ef623, // fmaxp v3.4s, v17.4s, v30.4s
	"FCMEQ":  0x4e3ee623, // fcmeq v3.4s, v17.4s, v30.4s
	"FABS":   0x4ea0fa23, // fabs v3.4s, v17.4s
	"FNEG":   0x6ea0fa23, // fneg v3.4s, v17.4s
	"FSQRT":  0x6ea1fa23, // fsqrt v3.4s, v17.4s
	"FCVTNS": 0x4e21aa23, // fcvtns v3.4s, v17.4s
	"SCVTF":  0x4e21da23, // scvtf v3.4s, v17.4s
	"ADD":    0x4ebe8623, // add v3.4s, v17.4s, v30.4s
	"SUB":    0x6ebe8623, // sub v3.4s, v17.4s, v30.4s
	"UMAX":   0x6ebe6623, // umax v3.4s, v17.4s, v30.4s
	"UMAXP":  0x6ebea623, // umaxp v3.4s, v17.4s, v30.4s
	"AND":    0x4e3e1e23, // and v3.16b, v17.16b, v30.16b
	"ORR":    0x4ebe1e23, // orr v3.16b, v17.16b, v30.16b
	"BSL":    0x6e7e1e23, // bsl v3.16b, v17.16b, v30.16b
	"SHL":    0x4f3f5623, // shl v3.4s, v17.4s, #31
	"USHR":   0x6f200623, // ushr v3.4s, v17.4s, #32
	"SSHR":   0x4f200623, // sshr v3.4s, v17.4s, #32
	"SHLL":   0x2e613a23, // shll v3.4s, v17.4h, #16
	"SHRN":   0x0f108623, // shrn v3.4h, v17.4s, #16
	"SXTLb":  0x0f08a623, // sxtl v3.8h, v17.8b
	"SXTLh":  0x0f10a623, // sxtl v3.4s, v17.4h
	"XTNs":   0x0e612a23, // xtn v3.4h, v17.4s
	"XTNh":   0x0e212a23, // xtn v3.8b, v17.8h
	"SDOTe":  0x4fbeea23, // sdot v3.4s, v17.16b, v30.4b[3]
	"SMMLA":  0x4e9ea623, // smmla v3.4s, v17.16b, v30.16b
	"BFCVTN": 0x0ea16a23, // bfcvtn v3.4h, v17.4s
	"BFMMLA": 0x6e5eee23, // bfmmla v3.4s, v17.8h, v30.8h
	"ZERO":   0x6f00e403, // movi v3.2d, #0
	"DUPs1":  0x5e0c0623, // mov s3, v17.s[1]
	"DUPd1":  0x5e180623, // mov d3, v17.d[1]
	"ZIP1h":  0x4e5e3a23, // zip1 v3.8h, v17.8h, v30.8h
	"ZIP1s":  0x4e9e3a23, // zip1 v3.4s, v17.4s, v30.4s
	"ZIP2s":  0x4e9e7a23, // zip2 v3.4s, v17.4s, v30.4s
	"ZIP1d":  0x4ede3a23, // zip1 v3.2d, v17.2d, v30.2d
	"ZIP2d":  0x4ede7a23, // zip2 v3.2d, v17.2d, v30.2d
	"LDRq":   0x3dfffe23, // ldr q3, [x17, #65520]
	"LDRd":   0xfd7ffe23, // ldr d3, [x17, #32760]
	"LDRs":   0xbd7ffe23, // ldr s3, [x17, #16380]
	"LDRh":   0x7d7ffe23, // ldr h3, [x17, #8190]
	"LDRb":   0x3d7ffe23, // ldr b3, [x17, #4095]
	"LD1R":   0x4d40ca23, // ld1r {v3.4s}, [x17]
	"STRq":   0x3dbffe23, // str q3, [x17, #65520]
	"STRd":   0xfd3ffe23, // str d3, [x17, #32760]
	"STRs":   0xbd3ffe23, // str s3, [x17, #16380]
	"STRh":   0x7d3ffe23, // str h3, [x17, #8190]
}

func pinnedOperands(r *inst) operands {
	o := operands{d: 3, n: 17, m: 30}
	switch r.form {
	case formLane:
		o.i = 3
	case formShl:
		o.i = r.size - 1
	case formShr:
		o.i = r.size
	case formMem:
		o.i = 4095 * r.size
	}
	return o
}

func TestPinned(t *testing.T) {
	for i := range insts {
		r := &insts[i]
		w, err := r.encode(pinnedOperands(r))
		if want, ok := pinned[r.name]; err != nil || !ok || w != want {
			t.Errorf("%s: %#08x, want %#08x (%v)", r.gnu(pinnedOperands(r)), w, want, err)
		}
	}
	if len(pinned) != len(insts) || len(instByName) != len(insts) {
		t.Errorf("%d rows with %d names, %d are pinned", len(insts), len(instByName), len(pinned))
	}
}

// samples returns operands of a row: every register with a single bit set in every place, every
// index and shift, and random ones.
func samples(row *inst, r *rand.Rand) []operands {
	indices := []int{0}
	switch row.form {
	case formLane:
		indices = []int{0, 1, 2, 3}
	case formShl, formShr:
		for i := range row.size {
			if row.form == formShr {
				i++
			}
			indices = append(indices[:len(indices):len(indices)], i)
		}
		indices = indices[1:]
	case formMem:
		for i := 1; i < 4096; i *= 2 {
			indices = append(indices, i*row.size)
		}
	}
	var out []operands
	for _, i := range indices {
		for bit := uint8(1); bit < 32; bit *= 2 {
			out = append(out, operands{d: bit, i: i}, operands{n: bit, i: i}, operands{m: bit, i: i})
		}
		for range 40 {
			out = append(out, operands{uint8(r.IntN(32)), uint8(r.IntN(31)), uint8(r.IntN(32)), i})
		}
	}
	return out
}

// TestAgainstAssembler compares every form with GNU as, or with llvm-mc where that is not
// installed.
func TestAgainstAssembler(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	var want []uint32
	var lines []string
	for i := range insts {
		for _, o := range samples(&insts[i], r) {
			w, err := insts[i].encode(o)
			if err != nil {
				t.Fatal(err)
			}
			want, lines = append(want, w), append(lines, insts[i].gnu(o))
			fmt.Fprintln(&text, insts[i].gnu(o))
		}
	}
	got := assemble(t, text.String())
	for i, line := range lines {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("%s: encoded as %#08x, the assembler has %#08x", line, want[i], got[min(i, len(got)-1)])
		}
	}
	t.Logf("%d encodings of %d instructions agree", len(lines), len(insts))
}

// assemble returns the words of a text.
func assemble(t *testing.T, text string) []uint32 {
	t.Helper()
	dir := t.TempDir()
	source, object, raw := filepath.Join(dir, "a.s"), filepath.Join(dir, "a.o"), filepath.Join(dir, "a.bin")
	if err := os.WriteFile(source, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tools := range [][2][]string{
		{{"aarch64-linux-gnu-as", "-march=armv8.2-a+bf16+i8mm+dotprod", "-o", object, source}, {"aarch64-linux-gnu-objcopy", "-O", "binary", "-j", ".text", object, raw}},
		{{"llvm-mc", "-triple=aarch64", "-mattr=+bf16,+i8mm,+dotprod", "-filetype=obj", "-o", object, source}, {"llvm-objcopy", "-O", "binary", "-j", ".text", object, raw}},
	} {
		if _, err := exec.LookPath(tools[0][0]); err != nil {
			continue
		}
		if _, err := exec.LookPath(tools[1][0]); err != nil {
			continue
		}
		for _, command := range tools {
			if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", command[0], err, out)
			}
		}
		data, err := os.ReadFile(raw)
		if err != nil {
			t.Fatal(err)
		}
		words := make([]uint32, len(data)/4)
		for i := range words {
			words[i] = binary.LittleEndian.Uint32(data[4*i:])
		}
		return words
	}
	t.Skip("SKIP: neither aarch64-linux-gnu-as (Debian: binutils-aarch64-linux-gnu) nor llvm-mc is installed; only the pinned encodings are checked")
	return nil
}

func TestEncodeErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		o    operands
	}{
		{"FMLA", operands{d: 32}},
		{"FMLAe", operands{i: 4}},
		{"SHL", operands{i: 32}},
		{"SHRN", operands{i: 0}},
		{"LDRq", operands{i: 8}},
		{"LDRq", operands{i: -16}},
		{"STRh", operands{i: 8192}},
	} {
		if w, err := instByName[tt.name].encode(tt.o); err == nil {
			t.Errorf("%s %+v: encoded as %#08x, want an error", tt.name, tt.o, w)
		}
	}
}

// TestRegisters: the emitter refuses what an allocator would repair.
func TestRegisters(t *testing.T) {
	for name, body := range map[string]func(e *emitter){
		"too many vectors": func(e *emitter) { e.vs(33, "x") },
		"too many general": func(e *emitter) {
			e.gp("1")
			e.gp("2")
			for range 21 {
				e.gp("x")
			}
		},
		"read before written":   func(e *emitter) { x := e.v("x"); e.fadd(x, x, x) },
		"stored before written": func(e *emitter) { e.strQ(e.v("x"), e.args, 0) },
		"read after its scope": func(e *emitter) {
			var x vec
			e.scope(func() { x = e.v("x"); e.zero(x) })
			e.fadd(x, x, x)
		},
		"accumulator overwritten": func(e *emitter) {
			x := e.vs(2, "acc")
			e.zero(x[0])
			e.hold(x)
			e.ldrQ(x[0], e.args, 0)
		},
	} {
		e := newUnit("t", nil).function(codegen.Func{Name: "t", Args: "GemmArgs"})
		if body(e); e.err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
