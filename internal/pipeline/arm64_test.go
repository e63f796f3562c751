package pipeline

import (
	"context"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
)

// This file runs packages for arm64 under qemu-user, on models of processors with and without
// the features of each tier. An instruction above the model's features ends the program.

// armRun is a processor model and the tier to ask for, "" for the package's own choice, with the
// tier that must run.
type armRun struct{ cpu, tier, want string }

var armRuns = []armRun{
	{"cortex-a53", "", "neon"},
	{"neoverse-n1", "", "neon"},
	{"max,sve=off", "", "bf16"},
	{"max,sve=off", "portable", "portable"},
}

// forArm makes the go command build for arm64 and returns the emulator of a processor model.
func forArm(t *testing.T, cpu string) []string {
	t.Helper()
	qemu, err := exec.LookPath("qemu-aarch64")
	if err != nil {
		t.Skip("SKIP: qemu-aarch64 (Debian: qemu-user) is not installed")
	}
	t.Setenv("GOARCH", "arm64")
	// An emulated signal cannot interrupt assembly, and costs much.
	t.Setenv("GODEBUG", "asyncpreemptoff=1")
	return []string{qemu, "-cpu", cpu}
}

func compileArm(t *testing.T, dir string, math ir.DType) string {
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	out := filepath.Join(t.TempDir(), "model")
	if _, err := Compile(context.Background(), m, Options{Out: out, Math: math, Architectures: []string{"arm64"}}); err != nil {
		t.Fatal(err)
	}
	return out
}

// eachArmRun builds the package in dir once and starts it for every processor and tier.
func eachArmRun(t *testing.T, dir string, body func(t *testing.T, d *Driver)) {
	forArm(t, "max")
	b, err := Build(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, r := range armRuns {
		t.Run(r.cpu+" "+r.want, func(t *testing.T) {
			d, err := b.Start(context.Background(), DriverOptions{Kernels: r.tier, Threads: 1, MaxTokens: bert.MaxTokens, Emulator: forArm(t, r.cpu)})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if d.Hello.Kernels != r.want {
				t.Fatalf("the kernels are %s, want %s: %s", d.Hello.Kernels, r.want, d.Hello.Info)
			}
			body(t, d)
		})
	}
}

// TestArm64Variants holds the variants against the stored outputs, within the budgets of
// TestVariantsF32 and TestVariantsBF16.
func TestArm64Variants(t *testing.T) {
	for _, v := range variants {
		t.Run(v+" f32", func(t *testing.T) {
			cases := goldenCases(t, filepath.Join(root, "testdata/variants", v, "golden.safetensors"))
			eachArmRun(t, compileArm(t, modelDir(t, v, "model.safetensors"), ir.F32), func(t *testing.T, d *Driver) {
				for _, c := range cases {
					hidden, logits := run(t, d.Encoder(bert.MaxTokens), c)
					for what, e := range map[string]float64{
						"hidden states": maxAbs(visible(hidden, c.mask), visible(c.hidden, c.mask)),
						"logits":        maxAbs(visible(logits, c.mask), visible(c.logits, c.mask)),
					} {
						if t.Logf("%s: %s differ by %.3g", c.name, what, e); !(e <= tolerance32) {
							t.Errorf("%s: %s differ by %.3g", c.name, what, e)
						}
					}
				}
			})
		})
	}
	for _, v := range []string{"rms_rope_mqa_bias", "ln_abs_mha_bias"} {
		t.Run(v+" bf16", func(t *testing.T) {
			cases := goldenCases(t, filepath.Join(root, "testdata/variants", v, "golden.bf16.safetensors"))
			eachArmRun(t, compileArm(t, modelDir(t, v, "model.bf16.safetensors"), 0), func(t *testing.T, d *Driver) {
				for _, c := range cases {
					hidden, _ := run(t, d.Encoder(bert.MaxTokens), c)
					e := num.RelL2(visible(hidden, c.mask), visible(c.hidden, c.mask))
					if t.Logf("%s: relative error %.4f", c.name, e); !(e <= 1.5*0.0164) {
						t.Errorf("%s: relative error %.4f", c.name, e)
					}
				}
			})
		})
	}
}

func maxAbs(got, want []float64) float64 {
	e, _ := num.MaxAbs(got, want)
	return e
}
