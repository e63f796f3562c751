package kernel_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

func TestLayouts(t *testing.T) {
	tests := []struct {
		layout kernel.Layout
		n, k   int
		len    int
		at     [2]int // an element
		offset int    // and where it lies
	}{
		{kernel.RowMajor, 3, 5, 15, [2]int{1, 2}, 7},
		{kernel.PanelF32, 33, 5, 2 * 32 * 5, [2]int{32, 4}, 32*5 + 4*32},
		{kernel.PanelBF16, 40, 33, 64 * 64, [2]int{17, 35 - 32}, 512 + 1*32 + 1*2 + 1},
		{kernel.PanelI8, 40, 65, 64 * 128, [2]int{39, 63}, 32*128 + 15*64 + 7*4 + 3},
		{kernel.PanelBF16, 40, 64, 64 * 64, [2]int{39, 63}, 2*1024 + 1024 + 15*32 + 7*2 + 1},
	}
	for _, tt := range tests {
		if got := tt.layout.Len(tt.n, tt.k); got != tt.len {
			t.Errorf("%s: %d elements, want %d", tt.layout, got, tt.len)
		}
		if got := tt.layout.Offsets(0, tt.n, tt.k)[tt.at[0]] + tt.layout.Offsets(1, tt.n, tt.k)[tt.at[1]]; got != tt.offset {
			t.Errorf("%s: element %v lies at %d, want %d", tt.layout, tt.at, got, tt.offset)
		}
		src := make([]int, tt.n*tt.k)
		for i := range src {
			src[i] = i + 1
		}
		packed := kernel.Pack(tt.layout, src, tt.n, tt.k)
		if got := kernel.Unpack(tt.layout, packed, tt.n, tt.k); !slices.Equal(got, src) {
			t.Errorf("%s: Unpack(Pack(x)) differs from x", tt.layout)
		}
		padding := 0
		for _, v := range packed {
			if v == 0 {
				padding++
			}
		}
		if padding != tt.len-len(src) {
			t.Errorf("%s: %d zeros, want %d", tt.layout, padding, tt.len-len(src))
		}
	}
}

func TestLayoutErrors(t *testing.T) {
	for _, l := range []kernel.Layout{"", "[", "[]", "n", "[n", "[N]", "[n16]", "[n][n]", "[n/32][k]", "[n/32][n16]",
		"[n16][n/16]", "[n/0]", "[n/99999999999]", "[n/-4][n4]", "[n4][k]"} {
		if dims, err := l.Dims(); err == nil {
			t.Errorf("layout %q: dimensions %q, want an error", l, dims)
		}
	}
}

func exampleSpecs() []kernel.Spec {
	return []kernel.Spec{
		{Kind: kernel.Gemm, In: ir.F32, Out: ir.BF16, Math: ir.BF16, Weight: ir.BF16, N: 2560, K: 768,
			Prologue: kernel.RMSNorm, Eps: 1e-6, Epilogue: "bias+rope+residual", Heads: 24, KVHeads: 8, HeadDim: 80},
		{Kind: kernel.Gemm, In: ir.F32, Out: ir.F32, Math: ir.F32, Weight: ir.F32, N: 51, K: 7, Epilogue: "glu"},
		{Kind: kernel.Gemm, In: ir.BF16, Out: ir.F32, Math: ir.I8, Weight: ir.I8, N: 51, K: 70, Epilogue: "bias+residual"},
		{Kind: kernel.Attention, In: ir.F32, Out: ir.F32, Math: ir.F32, Heads: 4, KVHeads: 2, HeadDim: 8, Scale: 0.25},
		{Kind: kernel.Rowwise, In: ir.F32, Out: ir.F32, K: 9, Prologue: kernel.LayerNorm, Beta: true, Eps: 1e-12},
		{Kind: kernel.Gather, Weight: ir.BF16, Out: ir.F32, K: 9, Table: kernel.PanelBF16, Positions: true},
	}
}

// TestSpace: every plan of the space is legal and comes back from its text.
func TestSpace(t *testing.T) {
	for _, s := range exampleSpecs() {
		for _, target := range kernel.Targets() {
			if tt, _ := kernel.LookupTarget(target); s.Kind == kernel.Gemm && !tt.Multiplies(s.Math) {
				if p, ok := kernel.Choose(s, target); ok {
					t.Errorf("%s does not multiply %s and has plan %s", target, s.Math, p)
				}
				continue
			}
			n := 0
			for p := range kernel.Space(s, target) {
				n++
				if err := kernel.Check(s, p); err != nil {
					t.Fatalf("%s: %v", s, err)
				}
				if got, err := kernel.ParsePlan(p.String()); err != nil || got != p {
					t.Fatalf("%q came back as %q (%v)", p, got, err)
				}
			}
			best, ok := kernel.Choose(s, target)
			if onDevice := strings.HasPrefix(target, "ptx/"); onDevice && (s.Kind == kernel.Gemm || s.Kind == kernel.Attention) && s.Math != ir.BF16 {
				if n != 0 {
					t.Errorf("%s: %s multiplies %s", s, target, s.Math)
				}
				continue
			}
			if n == 0 || !ok {
				t.Fatalf("%s has no plan for %s", s, target)
			}
			for p := range kernel.Space(s, target) {
				if kernel.Cost(s, p) < kernel.Cost(s, best) {
					t.Errorf("%s: chose %s, %s costs less", s, best, p)
				}
			}
		}
	}
}

// TestCostOfConflicts: rows 16 KiB apart share a set of the first-level cache, rows 6 KiB apart
// take turns with two.
func TestCostOfConflicts(t *testing.T) {
	s := kernel.Spec{Kind: kernel.Gemm, In: ir.F32, Out: ir.F32, Math: ir.BF16, Weight: ir.BF16, N: 1536}
	p := kernel.Plan{Kind: kernel.Gemm, Target: "amd64/avx512f", Inst: "vfmadd231ps", MicroM: 12, MicroN: 32, BlockM: 48, BlockN: 16}
	costs := map[int]float64{}
	for _, k := range []int{1536, 4096} {
		s.K = k
		costs[k] = kernel.Cost(s, p)
		if best, _ := kernel.Choose(s, p.Target); best.MicroM != 8 {
			t.Errorf("k=%d: %s, want a tile of 8 rows", k, best)
		}
	}
	if costs[4096] < costs[1536]+0.2 {
		t.Errorf("cost %v with rows in one set, %v with rows in two", costs[4096], costs[1536])
	}
}

// TestTiles: what the prototype found for tiles (docs/amx.md): 2×2 of them, as many rows as the cache
// keeps, many panels; and what is no plan for them.
func TestTiles(t *testing.T) {
	for _, tt := range []struct {
		k    int
		math ir.DType
		want string
	}{
		{1536, ir.BF16, "gemm amd64/amx inst=tdpbf16ps micro=32x32 block=256x32"},
		{4096, ir.BF16, "gemm amd64/amx inst=tdpbf16ps micro=32x32 block=96x32"},
		{1536, ir.I8, "gemm amd64/amx inst=tdpbssd micro=32x32 block=384x32"},
	} {
		s := kernel.Spec{Kind: kernel.Gemm, In: ir.F32, Out: ir.F32, Math: tt.math, Weight: tt.math, N: 1536, K: tt.k}
		p, _ := kernel.Choose(s, "amd64/amx")
		if p.String() != tt.want {
			t.Errorf("k=%d in %s: %s, want %s", tt.k, tt.math, p, tt.want)
		}
		p.MicroM, p.BlockM = 8, 64
		if err := kernel.Check(s, p); err == nil || !strings.Contains(err.Error(), "allows 16 and 32") {
			t.Errorf("%s: error %v", p, err)
		}
		s.Math, s.Weight = ir.BF16, ir.F32
		p.MicroM, p.Inst = 32, "tdpbf16ps"
		if err := kernel.Check(s, p); err == nil || !strings.Contains(err.Error(), "needs bf16 weights") {
			t.Errorf("%s: error %v", p, err)
		}
	}
}

func TestCheck(t *testing.T) {
	s := exampleSpecs()[0]
	good, ok := kernel.Choose(s, "amd64/avx512f")
	if !ok {
		t.Fatal("no plan")
	}
	tests := []struct {
		change func(*kernel.Plan)
		want   string
	}{
		{func(p *kernel.Plan) { p.Kind = kernel.Rowwise }, "the spec is a gemm"},
		{func(p *kernel.Plan) { p.Target = "amd64/none" }, "unknown target"},
		{func(p *kernel.Plan) { p.Inst = "vaddps" }, "no instruction"},
		{func(p *kernel.Plan) { p.MicroN = 16 }, "columns"},
		{func(p *kernel.Plan) { p.MicroM = 13 }, "allows 1..12"},
		{func(p *kernel.Plan) { p.BlockM++ }, "multiple of micro"},
		{func(p *kernel.Plan) { p.BlockM = 0 }, "not in 1..4096"},
		{func(p *kernel.Plan) { p.BlockN = 7 }, "epilogue group"},
		{func(p *kernel.Plan) { p.BlockM = p.MicroM * 100 }, "cache"},
	}
	for _, tt := range tests {
		p := good
		tt.change(&p)
		if err := kernel.Check(s, p); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("plan %s: error %v, want one with %q", p, err, tt.want)
		}
	}
}

func TestSpecText(t *testing.T) {
	for _, s := range exampleSpecs() {
		if got, err := kernel.ParseSpec(s.String()); err != nil || got != s {
			t.Errorf("%q came back as %q (%v)", s, got, err)
		}
	}
	for _, text := range []string{"", "gemm", "gemm n=0", "gemm n=1 n=1", "gemm color=red", "attention heads=3 kvheads=2",
		"gather k=4 table=[n", "rowwise k=4 prologue=batchnorm eps=1"} {
		if s, err := kernel.ParseSpec(text); err == nil {
			t.Errorf("%q was read as %q, want an error", text, s)
		}
	}
}

// FuzzParse: the parsers and Check do not panic, and what they read comes back from its text.
func FuzzParse(f *testing.F) {
	for _, s := range exampleSpecs() {
		p, _ := kernel.Choose(s, "amd64/avx512f")
		f.Add(s.String(), p.String())
	}
	f.Fuzz(func(t *testing.T, spec, plan string) {
		s, specErr := kernel.ParseSpec(spec)
		if specErr == nil {
			if again, err := kernel.ParseSpec(s.String()); err != nil || again != s {
				t.Errorf("%q came back as %q (%v)", s, again, err)
			}
		}
		p, planErr := kernel.ParsePlan(plan)
		if planErr == nil {
			if again, err := kernel.ParsePlan(p.String()); err != nil || again != p {
				t.Errorf("%q came back as %q (%v)", p, again, err)
			}
		}
		if specErr == nil && planErr == nil {
			_ = kernel.Check(s, p)
		}
	})
}

// TestAdopt: a plan goes over to a target that has its instruction.
func TestAdopt(t *testing.T) {
	for _, tt := range []struct {
		plan, target string
		ok           bool
	}{
		{"gemm amd64/avx512bf16 inst=vpdpbusd micro=8x32 block=64x16", "amd64/avx512vnni", true},
		{"gemm amd64/avx512bf16 inst=vdpbf16ps micro=8x32 block=64x16", "amd64/avx512vnni", false},
		{"attention amd64/avx512f inst=vfmadd231ps micro=8x32 block=128x128", "amd64/avx512vnni", true},
		{"attention amd64/avx512f inst=vfmadd231ps micro=6x32 block=60x128", "amd64/avx2", false},
		{"gemm arm64/bf16 inst=sdot micro=6x32 block=48x16", "arm64/dotprod", true},
		{"rowwise amd64/avx512bf16 block=64x0", "amd64/avx512f", true},
		{"rowwise amd64/avx512bf16 block=64x0", "amd64/avx2", false},
		{"rowwise amd64/avx512bf16 block=64x0", "arm64/neon", false},
	} {
		p, err := kernel.ParsePlan(tt.plan)
		if err != nil {
			t.Fatal(err)
		}
		target, _ := kernel.LookupTarget(tt.target)
		got, ok := target.Adopt(p)
		p.Target = tt.target
		if ok != tt.ok || ok && got != p {
			t.Errorf("%s for %s: %s, %v", tt.plan, tt.target, got, ok)
		}
	}
}

// TestInstructionsAgree: an instruction of one name and width means the same in all targets.
func TestInstructionsAgree(t *testing.T) {
	type width struct {
		name  string
		lanes int
	}
	seen := map[width]string{}
	for _, name := range kernel.Targets() {
		target, _ := kernel.LookupTarget(name)
		for _, inst := range target.Insts {
			// Functions print as addresses.
			at, text := width{inst.Name, inst.Lanes}, fmt.Sprintf("%+v", inst)
			if want, ok := seen[at]; ok && text != want {
				t.Errorf("%s: %s, elsewhere %s", name, text, want)
			}
			seen[at] = text
		}
	}
}
