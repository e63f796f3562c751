package pipeline

import (
	"context"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/codegen/amd64"
	"github.com/bertc/bertc/emit"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/amxtest"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// This file runs packages on the AMX tier under internal/amxemu, which executes their tile
// instructions. A processor with AMX runs the tier in the tests of all tiers as well.

// emulated is the AMX backend for packages that run under the emulator: the CPU does not have what
// they use.
type emulated struct {
	codegen.Backend
	target kernel.Target
}

func (e emulated) Target() *kernel.Target { return &e.target }

// compileAMX compiles the model in dir with the AMX tier and others, and returns the built package and
// the emulator.
func compileAMX(t *testing.T, dir string, math ir.DType, others ...codegen.Backend) (b *Binary, emulator []string) {
	t.Helper()
	backend := amd64.NewAMX()
	emulator = []string{amxtest.Emulator(t, backend.Target().Features)}
	e := emulated{backend, *backend.Target()}
	e.target.Features = amxtest.Others(e.target.Features)
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	out := filepath.Join(t.TempDir(), "model")
	_, err = Compile(context.Background(), m, Options{Out: out, Math: math, Architectures: []string{"amd64"},
		Tiers: func(p *program.Program) ([]emit.Tier, error) { return emit.Tiers(p, append(others, e)) }})
	if err != nil {
		t.Fatal(err)
	}
	return built(t, out), emulator
}

func startAMX(t *testing.T, b *Binary, emulator []string, threads int) *Driver {
	t.Helper()
	d, err := b.Start(context.Background(), DriverOptions{Kernels: "amx", Threads: threads, MaxTokens: bert.MaxTokens, Emulator: emulator})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestAMXVariants holds the tier against the stored outputs, within the budget of TestVariantsBF16.
func TestAMXVariants(t *testing.T) {
	for _, v := range []string{"rms_rope_mqa_bias", "ln_abs_mha_bias"} {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			b, emulator := compileAMX(t, modelDir(t, v, "model.bf16.safetensors"), 0)
			d := startAMX(t, b, emulator, 2)
			checkHidden(t, d, goldenCases(t, filepath.Join(root, "testdata/variants", v, "golden.bf16.safetensors")), bf16Error)
		})
	}
}

// TestAMXTiny holds the tiny model in bf16 against its stored outputs, those of up to 64 tokens, within
// the budget of TestVariantsBF16, and holds the promise of TestBits: lengths on both sides of a tile of
// 16 rows, and batches of more than two tiles.
func TestAMXTiny(t *testing.T) {
	b, emulator := compileAMX(t, filepath.Join(root, "models/tiny"), ir.BF16)
	one, two := startAMX(t, b, emulator, 1), startAMX(t, b, emulator, 2)
	for _, c := range goldenCases(t, filepath.Join(root, "models/tiny/golden/outputs.safetensors")) {
		if c.hidden == nil || len(c.mask) > 64 {
			continue
		}
		c.logits = nil
		checkHidden(t, two, []goldenCase{c}, bf16Error)
	}
	checkBits(t, one, two, 17, 1, 2, 9, 5, 3, 1)
}

// TestAMXInt8 holds the tier against the one that differs least: sums of codes are the same integers, so
// that only roundings of f32 differ, and those of sums in attention. On this input no number lies so close
// to the middle of two codes, or of two bf16, that it becomes the other.
func TestAMXInt8(t *testing.T) {
	b, emulator := compileAMX(t, filepath.Join(root, "models/tiny"), ir.I8, amd64.NewBF16())
	req := Request{Offsets: []int32{0}}
	for _, n := range []int32{3, 17} {
		for i := range n {
			req.IDs, req.Positions = append(req.IDs, 97*i+n), append(req.Positions, i)
		}
		req.Offsets = append(req.Offsets, int32(len(req.IDs)))
	}
	var hidden [2][]float64
	for i, d := range []*Driver{startAMX(t, b, emulator, 2), start(t, b, "avx512bf16", 2)} {
		err := d.Do(req, func(r Response) error {
			for _, x := range r.Hidden {
				hidden[i] = append(hidden[i], float64(x))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	e := num.RelL2(hidden[0], hidden[1])
	if t.Logf("relative error %.2g", e); !(e <= 1e-6) {
		t.Errorf("relative error %.2g", e)
	}
}

// TestAMXRefused: without AMX, the tier is refused with what is missing, and not tried.
func TestAMXRefused(t *testing.T) {
	target, _ := kernel.LookupTarget("amd64/amx")
	if runtime.GOARCH != "amd64" || Supported(target) {
		t.Skip("SKIP: needs an amd64 processor without AMX")
	}
	_, dir := compile(t, filepath.Join(root, "models/tiny"), 0)
	d, err := built(t, dir).Start(context.Background(), DriverOptions{Kernels: "amx", Threads: 1, MaxTokens: 16})
	if err == nil {
		d.Close()
		t.Fatal("no error")
	}
	if want := "lacks AMX_TILE"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want one with %q", err, want)
	}
}
