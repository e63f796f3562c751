package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/bertc/bertc/kernel"
)

// ram is memory from address 0 on.
type ram []byte

func (m ram) each(address, stride uint64, rows [][]byte, do func(row, at []byte)) error {
	for i, r := range rows {
		at := address + uint64(i)*stride
		if at+uint64(len(r)) > uint64(len(m)) {
			return errors.New("outside of the memory")
		}
		do(r, m[at:])
	}
	return nil
}

func (m ram) read(address, stride uint64, rows [][]byte) error {
	return m.each(address, stride, rows, func(row, at []byte) { copy(row, at) })
}

func (m ram) write(address, stride uint64, rows [][]byte) error {
	return m.each(address, stride, rows, func(row, at []byte) { copy(at, row) })
}

// config returns a configuration of tiles by rows and bytes of a row.
func config(shapes ...[2]int) []byte {
	c := make([]byte, 64)
	c[0] = 1
	for t, s := range shapes {
		c[48+t] = byte(s[0])
		binary.LittleEndian.PutUint16(c[16+2*t:], uint16(s[1]))
	}
	return c
}

// must returns tiles with that configuration.
func must(t *testing.T, shapes ...[2]int) *tiles {
	t.Helper()
	s := &tiles{}
	if err := s.execute(instruction{op: ldtilecfg}, 0, 0, ram(config(shapes...))); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestBF16 compares with the interpreter of package kernel, which has another implementation:
// random bits, so with infinities, NaN, subnormal numbers and all exponents, and numbers of about
// one size, whose sums cancel.
func TestBF16(t *testing.T) {
	target, _ := kernel.LookupTarget("amd64/amx")
	inst, _ := target.Inst("tdpbf16ps")
	r := rand.New(rand.NewPCG(1, 1))
	for round := range 60 {
		rows, columns := 1+r.IntN(16), 1+r.IntN(16)
		s := must(t, [2]int{rows, 4 * columns}, [2]int{rows, 64}, [2]int{16, 4 * columns})
		bf16 := func() uint16 {
			x := uint16(r.Uint32())
			if round%3 > 0 { // exponents near 1, or near the smallest
				x = x&0x807f | uint16([...]int{0, 120, 62}[round%3]+r.IntN(8))<<7
			}
			return x
		}
		for n := 1; n <= 2; n++ {
			for i := range s.tile[n].rows {
				for j := 0; j < s.tile[n].colsb; j += 2 {
					binary.LittleEndian.PutUint16(s.tile[n].data[i][j:], bf16())
				}
			}
		}
		for i := range rows {
			for j := range columns {
				binary.LittleEndian.PutUint32(s.tile[0].data[i][4*j:], uint32(bf16())<<16|r.Uint32()&0xffff)
			}
		}
		before := s.tile
		if err := s.execute(instruction{op: tdpbf16ps, r: 0, m: 1, v: 2}, 0, 0, nil); err != nil {
			t.Fatal(err)
		}
		wide := func(row []byte, i int) float32 {
			return math.Float32frombits(uint32(binary.LittleEndian.Uint16(row[2*i:])) << 16)
		}
		for i := range rows {
			for j := range columns {
				var a, b []float32
				for k := range 32 {
					a = append(a, wide(before[1].data[i][:], k))
					b = append(b, wide(before[2].data[k/2][:], 2*j+k%2))
				}
				old := math.Float32frombits(binary.LittleEndian.Uint32(before[0].data[i][4*j:]))
				want := inst.Sum(old, a, b)
				got := math.Float32frombits(binary.LittleEndian.Uint32(s.tile[0].data[i][4*j:]))
				if math.Float32bits(got) != math.Float32bits(want) && (got == got || want == want) {
					t.Fatalf("round %d: row %d column %d: %v (%08x), want %v (%08x)", round, i, j, got, math.Float32bits(got), want, math.Float32bits(want))
				}
			}
		}
	}
}

func TestInt8(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	signed := func(b byte) int64 { return int64(int8(b)) }
	unsigned := func(b byte) int64 { return int64(b) }
	for op, of := range map[operation][2]func(byte) int64{
		tdpbssd: {signed, signed}, tdpbsud: {signed, unsigned}, tdpbusd: {unsigned, signed}, tdpbuud: {unsigned, unsigned},
	} {
		const rows, columns, quads = 5, 7, 9
		s := must(t, [2]int{rows, 4 * columns}, [2]int{rows, 4 * quads}, [2]int{quads, 4 * columns})
		for n := range 3 {
			for i := range s.tile[n].rows {
				for j := range s.tile[n].colsb {
					s.tile[n].data[i][j] = byte(r.Uint32())
				}
			}
		}
		before := s.tile
		if err := s.execute(instruction{op: op, r: 0, m: 1, v: 2}, 0, 0, nil); err != nil {
			t.Fatal(err)
		}
		for i := range rows {
			for j := range columns {
				want := int64(int32(binary.LittleEndian.Uint32(before[0].data[i][4*j:])))
				for k := range 4 * quads {
					want += of[0](before[1].data[i][k]) * of[1](before[2].data[k/4][4*j+k%4])
				}
				if got := binary.LittleEndian.Uint32(s.tile[0].data[i][4*j:]); got != uint32(want) {
					t.Fatalf("%s: row %d column %d: %d, want %d", op, i, j, int32(got), int32(want))
				}
			}
		}
	}
}

// TestMoves: loads clear what the shape leaves out, stores write the shape and nothing else.
func TestMoves(t *testing.T) {
	s := must(t, [2]int{3, 8}, [2]int{1, 4})
	m := make(ram, 64)
	for i := range m {
		m[i] = byte(i)
	}
	s.tile[0].data[15][63] = 1
	if err := s.execute(instruction{op: tileloadd}, 2, 16, m); err != nil {
		t.Fatal(err)
	}
	if d := s.tile[0].data; d[2][7] != 2+2*16+7 || d[2][8] != 0 || d[3][0] != 0 || d[15][63] != 0 {
		t.Errorf("loaded %v", d)
	}
	out := make(ram, 64)
	if err := s.execute(instruction{op: tilestored}, 1, 20, out); err != nil {
		t.Fatal(err)
	}
	for i, b := range out {
		want := byte(0)
		if row, at := (i-1)/20, (i-1)%20; i >= 1 && row < 3 && at < 8 {
			want = byte(2 + 16*row + at)
		}
		if b != want {
			t.Errorf("byte %d is %d, want %d", i, b, want)
		}
	}
	if err := s.execute(instruction{op: tilezero}, 0, 0, nil); err != nil || s.tile[0].data[0][0] != 0 {
		t.Errorf("zeroed: %v, %v", s.tile[0].data[0], err)
	}
}

// TestErrors: the conditions of the manual for #GP and #UD.
func TestErrors(t *testing.T) {
	with := func(at int, b byte) []byte { c := config([2]int{16, 64}); c[at] = b; return c }
	for name, tt := range map[string]struct {
		config []byte
		want   string
	}{
		"palette":      {with(0, 2), "#GP: palette 2"},
		"start row":    {with(1, 1), "byte 1 "},
		"reserved":     {with(15, 1), "byte 15 "},
		"ninth tile":   {with(32, 1), "byte 32 "},
		"its rows":     {with(56, 1), "byte 56 "},
		"rows":         {config([2]int{17, 64}), "17 rows"},
		"bytes":        {config([2]int{16, 65}), "65 bytes"},
		"rows alone":   {config([2]int{16, 0}), "16 rows of 0"},
		"bytes alone":  {config([2]int{0, 64}), "0 rows of 64"},
		"out of reach": {make([]byte, 63), "outside"},
	} {
		err := (&tiles{}).execute(instruction{op: ldtilecfg}, 0, 0, ram(tt.config))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
	product := instruction{op: tdpbf16ps, r: 0, m: 1, v: 2}
	full := [2]int{16, 64}
	for name, tt := range map[string]struct {
		shapes [][2]int
		i      instruction
		want   string
	}{
		"no tile":      {[][2]int{full, full}, product, "tmm2 is not configured"},
		"twice":        {[][2]int{full, full, full}, instruction{op: tdpbf16ps, r: 0, m: 1, v: 1}, "twice"},
		"rows":         {[][2]int{{8, 64}, full, full}, product, "do not fit"},
		"depth":        {[][2]int{full, {16, 60}, full}, product, "do not fit"},
		"columns":      {[][2]int{full, full, {16, 60}}, product, "do not fit"},
		"half a dword": {[][2]int{{16, 62}, full, {16, 62}}, product, "dwords"},
		"load":         {[][2]int{full}, instruction{op: tileloadd}, "outside"},
	} {
		err := must(t, tt.shapes...).execute(tt.i, 0, 64, ram(make([]byte, 1023)))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
	}
	s := must(t, full)
	if err := s.execute(instruction{op: tilerelease}, 0, 0, nil); err != nil {
		t.Fatal(err)
	}
	for _, op := range []operation{tilezero, tileloadd, tilestored, tdpbf16ps} {
		if err := s.execute(instruction{op: op}, 0, 0, nil); err == nil || !strings.Contains(err.Error(), "#UD: no tiles") {
			t.Errorf("%s after TILERELEASE: error %v", op, err)
		}
	}
}

func TestConfigRoundTrip(t *testing.T) {
	s, c := must(t, [2]int{3, 8}), make(ram, 64)
	if err := s.execute(instruction{op: sttilecfg}, 0, 0, c); err != nil {
		t.Fatal(err)
	}
	if want := config([2]int{3, 8}); fmt.Sprint([]byte(c)) != fmt.Sprint(want) {
		t.Errorf("stored %v, want %v", c, want)
	}
}
