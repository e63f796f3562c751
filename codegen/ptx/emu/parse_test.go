package emu

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
)

// TestSyntaxErrors: each error names its line and says what is wrong.
func TestSyntaxErrors(t *testing.T) {
	kernel := func(body string) string { return header + ".entry k(.param .u64 p) {\n" + body + "\n}\n" }
	for _, c := range []struct {
		text string
		line int
		want string
	}{
		{"", 1, "no .target"},
		{header, 1, "no entry"},
		{".version 8.0\n.target sm_90a\n.address_size 32\n", 3, "address size"},
		{header + ".func f() {}", 4, ".func"},
		{header + ".entry k() {\n", 4, "{ without"},
		{header + ".entry k() { }\n", 4, "no instruction"},
		{header + ".entry k() { ret; }\n.entry k() { ret; }", 5, "twice"},
		{header + "/* open", 4, "comment"},
		{header + "// 64\u00b2\n", 4, "ASCII"},
		{header + "\x01", 4, "not part of PTX"},
		{header + ".global .u32 x = ;", 4, "integer"},
		{header + ".global .u32 x[2] = {1, 2, 3};", 4, "initialiser"},
		{header + ".global .u32 x[99999999999];", 4, "length"},
		{header + ".global .align 3 .u32 x;", 4, "power of two"},
		{header + ".extern .global .u32 x;", 4, "linker"},
		{kernel("frob.u32;"), 5, "frob"},
		{kernel("add.u32 %r0, %r1, %r2;"), 5, "%r0 is not declared"},
		{kernel(".reg .b32 %r<2>;\nadd.u32 %r0, %r1, %r2;"), 6, "%r2 is not declared"},
		{kernel(".reg .b32 %r<2>;\nadd.u32 %r0, %r1;"), 6, "2 operands, want 3"},
		{kernel(".reg .b32 %r<2>;\nadd.u64 %r0, %r1, %r1;"), 6, ".b32 register"},
		{kernel(".reg .b32 %r<2>;\nadd.frob.u32 %r0, %r1, %r1;"), 6, ".frob"},
		{kernel(".reg .b32 %r<2>;\nadd %r0, %r1, %r1;"), 6, "no type"},
		{kernel(".reg .b32 %r<2>;\nmul.u32 %r0, %r1, %r1;"), 6, ".lo"},
		{kernel(".reg .b32 %r<2>;\n.reg .b32 %r0;\n.reg .b32 %r0;"), 7, "twice"},
		{kernel(".reg .f32 %f<2>;\nadd.f32 %f0, %f1, 1;"), 6, "integer where"},
		{kernel(".reg .pred %p;\n.reg .b32 %r;\n@%r mov.u32 %r, 1;"), 7, "predicate"},
		{kernel(".reg .pred %p;\n.reg .b32 %r;\nmov.u32 %r, %p;"), 7, "predicate"},
		{kernel(".reg .b32 %r;\nmov.u32 %r, %nope;"), 6, "%nope"},
		{kernel("bra NOWHERE;"), 5, "not a label"},
		{kernel("L:\nL: ret;"), 6, "twice"},
		{kernel("{ L: ret; }\nbra L;"), 6, "not a label"},
		{kernel("mov.u32 5, 5"), 6, "where"},
		{kernel(".reg .b32 %r;\nmov.u32 5, %r;"), 6, "not a register"},
		{kernel(".reg .b32 %r;\nld.global.u32 %r, %r;"), 6, "not an address"},
		{kernel(".reg .b32 %r;\n.reg .b64 %d;\nld.global.v4.u32 %r, [%d];"), 7, "vector of 4"},
		{kernel("setmaxnreg.inc.sync.aligned.u32 40;"), 5, ".maxntid"},
		{strings.Replace(kernel("setmaxnreg.inc.sync.aligned.u32 41;"), ") {", ") .maxntid 32 .minnctapersm 1 {", 1), 5, "multiple of 8"},
		{kernel(".reg .f32 %f<6>;\n.reg .b64 %d;\nwgmma.mma_async.sync.aligned.m64n12k16.f32.bf16.bf16 {%f0}, %d, %d, 1, 1, 1, 0, 0;"), 7, "does not know wgmma"},
		{kernel(".reg .f32 %f<6>;\n.reg .b64 %d;\nwgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0}, %d, %d, 1, 1, 1, 0, 0;"), 7, "vector of 4"},
		{kernel(".reg .f32 %f<6>;\n.reg .b64 %d;\nwgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f0, %f1, %f2, %f3}, %d, %d, 2, 1, 1, 0, 0;"), 7, "scale-d"},
		{kernel(".reg .b32 %r;\n.reg .b64 %d;\ncp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r], [%d, {0}], [%r];"), 7, "1 coordinates"},
		{kernel(".reg .b32 %r;\n.reg .b64 %d;\ncp.async.cg.shared.global [%r], [%d], 8;"), 7, "8 bytes"},
		{kernel(".shared .b8 x[300000];\nret;"), 5, "shared variables"},
	} {
		_, err := Parse(c.text)
		var s *SyntaxError
		if !errors.As(err, &s) || s.Line != c.line || !strings.Contains(s.Msg, c.want) {
			t.Errorf("%q\n  got  %v\n  want line %d: …%s…", c.text, err, c.line, c.want)
		}
	}
}

// TestModule reads the directives of a module.
func TestModule(t *testing.T) {
	m := mustParse(t, `.version 8.0
.target sm_90a, texmode_independent
.address_size 64
.visible .global .align 16 .b32 table[2][2] = {1, -1, 0x10, 7};
.const .f32 half = 0.5;
.global .u64 counter;
.visible .entry k(
	.param .u32 a, .param .u64 .ptr .global .align 16 b,
	.param .align 64 .b8 m[128], /* a
	comment */ .param .f32 c)
.reqntid 64, 2
.reqnctapercluster 2
{ ret; }`)
	k := m.Kernel("k")
	if k == nil || m.Kernel("j") != nil {
		t.Fatal("the entries are not k")
	}
	want := []Param{{"a", "u32", 0, 4}, {"b", "u64", 8, 8}, {"m", "b8", 64, 128}, {"c", "f32", 192, 4}}
	for i, p := range k.Params {
		if p != want[i] {
			t.Errorf("parameter %d is %+v, want %+v", i, p, want[i])
		}
	}
	if k.Block() != [3]int{64, 2, 1} || k.e.cluster != [3]int{2, 1, 1} {
		t.Errorf("block %v, cluster %v", k.Block(), k.e.cluster)
	}
	h := newHost(t, 0)
	p, err := h.Symbol(m, "table")
	h.must(err)
	table := make([]int32, 4)
	h.download(p, table)
	if table[0] != 1 || table[1] != -1 || table[2] != 16 || table[3] != 7 {
		t.Errorf("table is %v", table)
	}
	if _, err := h.Symbol(m, "nope"); err == nil {
		t.Error("a symbol that is not there has an address")
	}
}

var errEnough = errors.New("enough")

// FuzzParse: no text makes the parser panic, and what it accepts runs or fails with an error.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.ptx")
	if err != nil || len(files) == 0 {
		f.Fatal("no testdata")
	}
	for _, name := range files {
		f.Add(read(f, filepath.Base(name)))
	}
	f.Add(header + ".entry k(.param .u64 p) { .reg .b32 %r<4>; { .reg .pred %p; @!%p bra L; } L: mov.b64 {%r0, %r1}, p; }")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := Parse(text)
		if err != nil {
			var s *SyntaxError
			if !errors.As(err, &s) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		for _, k := range m.Kernels {
			turns := 0
			d := New(Options{MaxSteps: 1000, Stop: func() error {
				if turns++; turns > 2 {
					return errEnough
				}
				return nil
			}})
			block := k.Block()
			if block[0] == 0 {
				block = [3]int{32}
			}
			err := d.Launch(k, Config{Block: block}, make([]byte, k.size))
			var r *Report
			if err != nil && err != errEnough && !errors.As(err, &r) && !strings.HasPrefix(err.Error(), "launch of ") {
				t.Fatal(err)
			}
		}
	})
}
