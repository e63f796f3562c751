package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

func TestParseShapes(t *testing.T) {
	shapes, err := ParseShapes("2x3, 16+32+7")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(shapes[0].Lengths, []int{3, 3}) || !slices.Equal(shapes[1].Lengths, []int{16, 32, 7}) || shapes[1].Tokens() != 55 {
		t.Errorf("shapes %v", shapes)
	}
	for _, bad := range []string{"", "x", "0x4", "4x0", "-1x2", "2x", "8+", "1x99999999", "1048576x2", "1048576+1", "a+b", "1x2x3"} {
		if _, err := ParseShapes(bad); err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("ParseShapes(%q): error %v", bad, err)
		}
	}
}

func TestRequest(t *testing.T) {
	s, _ := ParseShapes("3+5")
	r := s[0].Request(10)
	if !slices.Equal(r.Offsets, []int32{0, 3, 8}) || len(r.IDs) != 8 || slices.Max(r.IDs) > 9 || slices.Min(r.IDs) < 0 {
		t.Errorf("request %+v", r)
	}
}

const text = `program @p(T: 1..8192, B: 1..8192) {
  kernel norm = rowwise in=f32 out=f32 k=64 prologue=rmsnorm eps=1e-05
  kernel mm = gemm in=f32 out=f32 math=f32 weight=f32 n=32 k=64
  kernel att = attention in=f32 out=f32 math=f32 heads=2 kvheads=1 headdim=8 scale=0.5
  buffer x = input f32[T,64]
  buffer qkv = temp f32[T,32]
  buffer hidden = output f32[T,16]
  step a = mm src=x dst=qkv w=w
  step b = att src=qkv dst=hidden
}
`

// TestWork counts by hand: 2·T·32·64 for the matmul, 4·L²·2·8 for each sequence of attention, and
// the weights once.
func TestWork(t *testing.T) {
	p, err := program.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	lengths := []int{3, 5}
	mm, att := 2.0*8*32*64, 4.0*(9+25)*2*8
	if w := Of(p, "", lengths); w.Flops != mm+att || w.WeightBytes != 32*64*4 {
		t.Errorf("work %+v, want %v operations and %v bytes", w, mm+att, 32*64*4)
	}
	if w := Of(p, "att", lengths); w.Flops != att || w.WeightBytes != 0 {
		t.Errorf("work of attention %+v", w)
	}
}

// TestFloor: products at the rate of each kernel's instruction, or weights at the rate of the memory.
func TestFloor(t *testing.T) {
	const text = `program @p(T: 1..8192, B: 1..8192) {
  kernel wide = gemm in=f32 out=f32 math=bf16 weight=bf16 n=1000 k=1000
    plan gemm amd64/avx512bf16 inst=vdpbf16ps micro=4x32 block=4x1
  kernel exact = gemm in=f32 out=f32 math=f32 weight=bf16 n=1000 k=1000
    plan gemm amd64/avx512bf16 inst=vfmadd231ps micro=4x32 block=4x1
  buffer x = input f32[T,1000]
  buffer y = temp f32[T,1000]
  buffer hidden = output f32[T,1000]
  step a = wide src=x dst=y w=v
  step b = exact src=y dst=hidden w=w
}
`
	p, err := program.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	m := Machine{Ceilings: []Ceiling{
		{Name: "fma", Threads: 2, Value: 100}, {Name: "dpbf16", Threads: 2, Value: 200}, {Name: "stream", Threads: 2, Value: 1}}}
	const target = "amd64/avx512bf16"
	weights := time.Duration(1e9 * Of(p, "wide", nil).WeightBytes / 1e9)
	for _, c := range []struct {
		name    string
		tokens  int
		threads int
		want    time.Duration
	}{
		{"wide", 1000, 2, 10 * time.Millisecond}, // 2e9 operations
		{"exact", 1000, 2, 20 * time.Millisecond},
		{"", 1000, 2, 30 * time.Millisecond},
		{"wide", 1, 2, weights},
		{"", 1, 2, 2 * weights},
		{"", 1000, 1, 0}, // nothing was measured for one thread
	} {
		if got := m.Floor(p, target, c.name, []int{c.tokens}, c.threads); got != c.want {
			t.Errorf("%q, %d tokens, %d threads: %v, want %v", c.name, c.tokens, c.threads, got, c.want)
		}
	}
}

// TestInstructionsHaveCeilings: every instruction of a target with assembly has a measured rate, of
// as many lanes.
func TestInstructionsHaveCeilings(t *testing.T) {
	lanes := map[string]int{}
	for _, name := range kernel.Targets() {
		target, _ := kernel.LookupTarget(name)
		if target.GOARCH != "amd64" {
			continue
		}
		for _, inst := range target.Insts {
			c := ceilingOf(inst)
			if n, ok := lanes[c]; c == "" || ok && n != inst.Lanes {
				t.Errorf("%s: the ceiling of %s of %d lanes is %q, which is of %d", name, inst.Name, inst.Lanes, c, n)
			}
			lanes[c] = inst.Lanes
		}
	}
}

func TestWriteBench(t *testing.T) {
	r := Result{Shape: "1x8", GFLOP: 2, MedianMS: 20, ShareOfCeiling: 0.5, samples: []time.Duration{20 * time.Millisecond, 40 * time.Millisecond}, bytes: 1e9}
	var b bytes.Buffer
	if err := WriteBench(&b, "Model", "tier", []Result{r}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"kernels: tier\n",
		"BenchmarkModel/1x8\t1\t20000000 ns/op\t100.0 GFLOP/s\t50.00 GB/s\t50.0 %ceiling\t0 allocs/op\n",
		"BenchmarkModel/1x8\t1\t40000000 ns/op\t50.0 GFLOP/s\t25.00 GB/s\t25.0 %ceiling\t0 allocs/op\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no %q in\n%s", want, b.String())
		}
	}
}

func TestMedian(t *testing.T) {
	if m := medianOf([]time.Duration{5, 1, 3}); m != 3 {
		t.Errorf("median %d, want 3", m)
	}
	if m := medianOf([]time.Duration{4, 1, 3, 2}); m != 2 {
		t.Errorf("median %d, want the lower of the two in the middle", m)
	}
}

// TestRoofline: the plot is well-formed, names are escaped, and a point on a ceiling lies on it.
func TestRoofline(t *testing.T) {
	var b bytes.Buffer
	err := WriteRoofline(&b, "a <title>", 10, 100, []Point{{"k<1>", 2, 20}, {"k2", 50, 90}})
	if err != nil {
		t.Fatal(err)
	}
	d := xml.NewDecoder(&b)
	circles := 0
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := tok.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	if circles != 4 {
		t.Errorf("%d circles, want a point and a legend entry for each kernel", circles)
	}
}
