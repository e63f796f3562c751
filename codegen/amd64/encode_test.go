package amd64

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	asm "github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

var (
	gprs = []reg.Register{reg.RAX, reg.RCX, reg.RDX, reg.RBX, reg.RSP, reg.RBP, reg.RSI, reg.RDI,
		reg.R8, reg.R9, reg.R10, reg.R11, reg.R12, reg.R13, reg.R14, reg.R15}
	masks = []reg.Register{reg.K1, reg.K2, reg.K3, reg.K4, reg.K5, reg.K6, reg.K7}
)

func vector(number int, spec reg.Spec) reg.Register {
	return reg.Vector.Lookup(reg.Index(number), spec)
}

func z(n int) reg.Register { return vector(n, reg.S512) }
func y(n int) reg.Register { return vector(n, reg.S256) }

func mem(base reg.Register, disp int) operand.Mem { return operand.Mem{Base: base, Disp: disp} }

// TestGolden pins encodings: those of the manuals, and one of each rule of the encoder. GNU as
// agrees with all of them (TestAgainstAssembler).
func TestGolden(t *testing.T) {
	stride := operand.Mem{Base: reg.R12, Index: reg.R9, Scale: 1}
	tests := []struct {
		want, name, suffixes string
		ops                  []operand.Op
	}{
		{"c4e2784901", "LDTILECFG", "", []operand.Op{mem(reg.RCX, 0)}},
		{"c4e2794901", "STTILECFG", "", []operand.Op{mem(reg.RCX, 0)}},
		{"c4e27849c0", "TILERELEASE", "", nil},
		{"c4e27b49c0", "TILEZERO", "", []operand.Op{tile{0}}},
		{"c4e27b49e8", "TILEZERO", "", []operand.Op{tile{5}}},
		{"c4827b4b340c", "TILELOADD", "", []operand.Op{stride, tile{6}}},
		{"c4827b4bbc0c00040000", "TILELOADD", "", []operand.Op{stride.Offset(1024), tile{7}}},
		{"c482794b340c", "TILELOADDT1", "", []operand.Op{stride, tile{6}}},
		{"c4e27b4b3421", "TILELOADD", "", []operand.Op{mem(reg.RCX, 0), tile{6}}},
		{"c4e27a4b043e", "TILESTORED", "", []operand.Op{tile{0}, operand.Mem{Base: reg.RSI, Index: reg.RDI, Scale: 1}}},
		{"c4e24a5cc4", "TDPBF16PS", "", []operand.Op{tile{6}, tile{4}, tile{0}}},
		{"c4e24b5cc4", "TDPFP16PS", "", []operand.Op{tile{6}, tile{4}, tile{0}}},
		{"c4e24b5ec4", "TDPBSSD", "", []operand.Op{tile{6}, tile{4}, tile{0}}},
		{"c4e24a5ec4", "TDPBSUD", "", []operand.Op{tile{6}, tile{4}, tile{0}}},
		{"c4e2495ec4", "TDPBUSD", "", []operand.Op{tile{6}, tile{4}, tile{0}}},
		{"c4e2485ec4", "TDPBUUD", "", []operand.Op{tile{6}, tile{4}, tile{0}}},
		{"62f2764852c2", "VDPBF16PS", "", []operand.Op{z(2), z(1), z(0)}},
		{"6202164052f8", "VDPBF16PS", "", []operand.Op{z(24), z(29), z(31)}},
		{"62f27648524001", "VDPBF16PS", "", []operand.Op{mem(reg.RAX, 64), z(1), z(0)}},
		{"62f27648528041000000", "VDPBF16PS", "", []operand.Op{mem(reg.RAX, 65), z(1), z(0)}},
		{"62f27658524001", "VDPBF16PS", "BCST", []operand.Op{mem(reg.RAX, 4), z(1), z(0)}},
		{"62d27648524500", "VDPBF16PS", "", []operand.Op{mem(reg.R13, 0), z(1), z(0)}},
		{"62d27648520424", "VDPBF16PS", "", []operand.Op{mem(reg.R12, 0), z(1), z(0)}},
		{"62f2764b52c2", "VDPBF16PS", "", []operand.Op{z(2), z(1), reg.K3, z(0)}},
		{"62f276cb52c2", "VDPBF16PS", "Z", []operand.Op{z(2), z(1), reg.K3, z(0)}},
		{"62f2774872c2", "VCVTNE2PS2BF16", "", []operand.Op{z(2), z(1), z(0)}},
		{"62f27e4872c2", "VCVTNEPS2BF16", "", []operand.Op{z(2), y(0)}},
		{"62f2754850c2", "VPDPBUSD", "", []operand.Op{z(2), z(1), z(0)}},
		{"62f5744858c2", "VADDPH", "", []operand.Op{z(2), z(1), z(0)}},
		{"62f5744859c2", "VMULPH", "", []operand.Op{z(2), z(1), z(0)}},
		{"62f67548b8c2", "VFMADD231PH", "", []operand.Op{z(2), z(1), z(0)}},
		{"62f67d48134001", "VCVTPH2PSX", "", []operand.Op{mem(reg.RAX, 32), z(0)}},
		{"62f57d481dc2", "VCVTPS2PHX", "", []operand.Op{z(2), y(0)}},
	}
	seen := map[string]bool{}
	for _, tt := range tests {
		seen[tt.name] = true
		n := &asm.Instruction{Opcode: tt.name, Operands: tt.ops}
		if tt.suffixes != "" {
			n.Suffixes = []string{tt.suffixes}
		}
		row, _ := lookup(tt.name)
		got, err := row.encode(n)
		if err != nil || hex.EncodeToString(got) != tt.want {
			t.Errorf("%s: %x, want %s (%v)", gnuText(n), got, tt.want, err)
		}
	}
	for _, row := range insts {
		if !seen[row.name] {
			t.Errorf("%s has no pinned encoding", row.name)
		}
	}
}

// randomNode returns a node of row with random physical operands, all forms of memory included.
func randomNode(r *rand.Rand, row inst) *asm.Instruction {
	n := &asm.Instruction{Opcode: row.name}
	memory := false
	tiles := r.Perm(8)
	for i := range len(row.class) {
		switch class := row.class[i]; {
		case class == 't':
			n.Operands = append(n.Operands, tile{operand.U8(tiles[i])})
		case class == 'm' || class != 'z' && class != 'y' && r.IntN(2) == 0:
			m := operand.Mem{Base: gprs[r.IntN(16)]}
			if r.IntN(2) == 0 {
				m.Index, m.Scale = gprs[r.IntN(16)], 1<<r.IntN(4)
				for m.Index == reg.RSP {
					m.Index = gprs[r.IntN(16)]
				}
			}
			switch r.IntN(4) {
			case 0:
				m.Disp = r.IntN(1<<17) - 1<<16
			case 1:
				m.Disp = max(row.width, 1) * (r.IntN(300) - 150)
			case 2:
				m.Disp = max(row.element, 1) * (r.IntN(300) - 150)
			}
			memory = true
			n.Operands = append(n.Operands, m)
		case class == 'z' || class == 'Z':
			n.Operands = append(n.Operands, z(r.IntN(32)))
		default:
			n.Operands = append(n.Operands, y(r.IntN(32)))
		}
	}
	if memory && row.element > 0 && r.IntN(2) == 0 {
		n.Suffixes = append(n.Suffixes, broadcast)
	}
	if row.evex && r.IntN(2) == 0 {
		last := len(n.Operands) - 1
		n.Operands = append(n.Operands[:last:last], masks[r.IntN(len(masks))], n.Operands[last])
		if r.IntN(2) == 0 {
			n.Suffixes = append(n.Suffixes, zeroing)
		}
	}
	return n
}

// TestAgainstAssembler encodes random operands and compares with GNU as.
func TestAgainstAssembler(t *testing.T) {
	for _, tool := range []string{"as", "objcopy"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("SKIP: %s of GNU binutils is not installed; only the pinned encodings are checked", tool)
		}
	}
	r := rand.New(rand.NewPCG(1, 2))
	var text strings.Builder
	var want []byte
	var lines []string
	for _, row := range insts {
		for range 200 {
			n := randomNode(r, row)
			code, err := row.encode(n)
			if err != nil {
				t.Fatalf("%s: %v", gnuText(n), err)
			}
			fmt.Fprintln(&text, gnuText(n))
			lines = append(lines, gnuText(n))
			want = append(want, code...)
			// A separator, so that a difference in length shows where it is.
			fmt.Fprintln(&text, ".byte 0x90, 0x90, 0x90")
			want = append(want, 0x90, 0x90, 0x90)
		}
	}
	dir := t.TempDir()
	source, object, raw := filepath.Join(dir, "a.s"), filepath.Join(dir, "a.o"), filepath.Join(dir, "a.bin")
	if err := os.WriteFile(source, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("as", "--64", "-o", object, source).CombinedOutput(); err != nil {
		t.Skipf("SKIP: GNU as is too old for these instructions: %s", bytes.SplitN(out, []byte("\n"), 3)[1])
	}
	if out, err := exec.Command("objcopy", "-O", "binary", "-j", ".text", object, raw).CombinedOutput(); err != nil {
		t.Fatalf("objcopy: %v\n%s", err, out)
	}
	got, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	separator := []byte{0x90, 0x90, 0x90}
	theirs, ours := bytes.Split(got, separator), bytes.Split(want, separator)
	for i, line := range lines {
		if i >= len(theirs) || !bytes.Equal(theirs[i], ours[i]) {
			t.Fatalf("%s: encoded as %x, GNU as has %x", line, ours[i], theirs[min(i, len(theirs)-1)])
		}
	}
	t.Logf("%d encodings agree", len(lines))
}

func TestEncodeErrors(t *testing.T) {
	far := mem(reg.RAX, 1<<40)
	tests := []struct {
		name     string
		suffixes []string
		ops      []operand.Op
	}{
		{"VDPBF16PS", nil, []operand.Op{z(1), z(2)}},
		{"VDPBF16PS", nil, []operand.Op{y(1), z(2), z(3)}},
		{"VDPBF16PS", nil, []operand.Op{z(1), mem(reg.RAX, 0), z(3)}},
		{"VDPBF16PS", nil, []operand.Op{far, z(2), z(3)}},
		{"VDPBF16PS", []string{broadcast}, []operand.Op{z(1), z(2), z(3)}},
		{"VDPBF16PS", []string{zeroing}, []operand.Op{z(1), z(2), z(3)}},
		{"VDPBF16PS", []string{"RN_SAE"}, []operand.Op{z(1), z(2), z(3)}},
		{"VDPBF16PS", nil, []operand.Op{operand.NewDataAddr(operand.NewStaticSymbol("x"), 0), z(2), z(3)}},
		{"TILEZERO", nil, []operand.Op{tile{8}}},
		{"TILEZERO", nil, []operand.Op{z(0)}},
		{"TDPBSSD", nil, []operand.Op{tile{1}, tile{2}, tile{1}}},
		{"TILELOADD", nil, []operand.Op{operand.Mem{Base: reg.RAX, Index: reg.RSP, Scale: 1}, tile{0}}},
		{"TILELOADD", nil, []operand.Op{operand.Mem{Base: reg.RAX, Index: reg.RCX, Scale: 3}, tile{0}}},
	}
	for _, tt := range tests {
		row, _ := lookup(tt.name)
		if code, err := row.encode(&asm.Instruction{Opcode: tt.name, Suffixes: tt.suffixes, Operands: tt.ops}); err == nil {
			t.Errorf("%s %v: encoded as %x, want an error", tt.name, tt.ops, code)
		}
	}
}

// TestNodes runs nodes with virtual registers through avo's passes: more values than fit are
// alive only if liveness counts the operands right.
func TestNodes(t *testing.T) {
	u := newUnit("t", 16)
	e := u.function(testFunc)
	acc, a, b, ymm, k := e.ZMM(), e.ZMM(), e.ZMM(), e.YMM(), e.K()
	for _, n := range []struct {
		name     string
		suffixes []string
		ops      []operand.Op
	}{
		{"TILELOADD", nil, []operand.Op{operand.Mem{Base: e.args, Index: e.args, Scale: 1}, tile{0}}},
		{"TDPBF16PS", nil, []operand.Op{tile{2}, tile{1}, tile{0}}},
		{"TILERELEASE", nil, nil},
		{"VDPBF16PS", []string{broadcast}, []operand.Op{mem(e.args, 4), a, acc}},
		{"VCVTNE2PS2BF16", []string{zeroing}, []operand.Op{acc, b, k, a}},
		{"VCVTNEPS2BF16", nil, []operand.Op{a, ymm}},
		{"LDTILECFG", nil, []operand.Op{mem(e.args, 0)}},
		{"STTILECFG", nil, []operand.Op{mem(e.args, 64)}},
	} {
		e.do(node(n.name, n.suffixes, n.ops...))
	}
	e.ret()
	if e.err != nil {
		t.Fatal(e.err)
	}
	text, features, err := u.text()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"LONG $0x", "// tdpbf16ps %tmm2, %tmm1, %tmm0", "{1to16}", "{z}", "// tilerelease"} {
		if !strings.Contains(text, want) {
			t.Errorf("text has no %q:\n%s", want, text)
		}
	}
	if want := "[AMX_BF16 AMX_TILE AVX512_BF16]"; fmt.Sprint(features) != want {
		t.Errorf("features %v, want %s", features, want)
	}
	if _, err := node("VPDPWSSD", nil); err == nil {
		t.Error("unknown instruction: no error")
	}
}
