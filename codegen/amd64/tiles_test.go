package amd64

import (
	"os"
	"strings"
	"testing"

	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// TestRuntimeTiles: the tile products in package rt, whose assembly is written by hand, have the bytes
// of this encoder.
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
	add := func(name string, ops ...operand.Op) {
		n, err := node(name, nil, ops...)
		if err != nil {
			t.Fatal(err)
		}
		row, _ := lookup(name)
		code, err := row.encode(n)
		if err != nil {
			t.Fatal(err)
		}
		want = append(want, directives(code)+" // "+gnuText(n))
	}
	for _, product := range []string{"TDPBF16PS", "TDPBSSD"} {
		add("LDTILECFG", mem(reg.RAX, 0))
		add("TILEZERO", tile{0})
		add("TILELOADD", rows(reg.RCX), tile{1})
		add("TILELOADD", rows(reg.RDX), tile{2})
		add(product, tile{2}, tile{1}, tile{0})
		add("TILESTORED", tile{0}, rows(reg.RBX))
		add("TILERELEASE")
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("runtime/tiles_amd64.s has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
