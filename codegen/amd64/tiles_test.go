package amd64

import (
	"os"
	"strings"
	"testing"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// TestRuntimeTiles: the tile product in package rt, whose assembly is written by hand, has the bytes of
// this encoder.
func TestRuntimeTiles(t *testing.T) {
	text, err := os.ReadFile("../../runtime/tiles_amd64.s")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "LONG") {
			got = append(got, line)
		}
	}
	rows := func(base reg.Register) operand.Mem { return operand.Mem{Base: base, Index: reg.RSI, Scale: 1} }
	var want []string
	for _, i := range []struct {
		name string
		ops  []operand.Op
	}{
		{"LDTILECFG", []operand.Op{mem(reg.RAX, 0)}},
		{"TILEZERO", []operand.Op{tile{0}}},
		{"TILELOADD", []operand.Op{rows(reg.RCX), tile{1}}},
		{"TILELOADD", []operand.Op{rows(reg.RDX), tile{2}}},
		{"TDPBF16PS", []operand.Op{tile{2}, tile{1}, tile{0}}},
		{"TILESTORED", []operand.Op{tile{0}, rows(reg.RBX)}},
		{"TILERELEASE", nil},
	} {
		n, err := node(i.name, nil, i.ops...)
		if err != nil {
			t.Fatal(err)
		}
		row, _ := lookup(i.name)
		code, err := row.encode(n)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, directives(code)+" // "+gnuText(n))
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("runtime/tiles_amd64.s has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
