package pipeline

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
)

// This file runs packages for arm64 under qemu-user, on models of processors with and without
// the features of each tier. An instruction above the model's features ends the program.

// long adds processors and variants to what runs under emulation, and calls to the tests under load.
var long = flag.Bool("long", false, "run more processors and variants under emulation, and more calls under load")

// armRun is a processor model and the tier to ask for, "" for the package's own choice, with the
// tier that must run.
type armRun struct{ cpu, tier, want string }

func armRuns() []armRun {
	runs := []armRun{{"neoverse-n1", "", "neon"}, {"max,sve=off", "", "bf16"}}
	if *long {
		runs = append(runs, armRun{"cortex-a53", "", "neon"}, armRun{"cortex-a76", "", "neon"}, armRun{"max,sve=off", "portable", "portable"})
	}
	return runs
}

// int8Runs are the runs of packages in int8, which the tier neon does not serve.
func int8Runs() []armRun {
	runs := []armRun{{"neoverse-n1", "", "dotprod"}, {"max,sve=off", "", "bf16"}}
	if *long {
		runs = append(runs, armRun{"cortex-a53", "", "portable"}, armRun{"cortex-a76", "", "dotprod"}, armRun{"max,sve=off", "dotprod", "dotprod"})
	}
	return runs
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

// startArm starts a package that was built for arm64 on a processor model and checks the tier.
func startArm(t *testing.T, b *Binary, r armRun, threads int) *Driver {
	d, err := b.Start(context.Background(), DriverOptions{Kernels: r.tier, Threads: threads, MaxTokens: bert.MaxTokens, Emulator: forArm(t, r.cpu)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	if d.Hello.Kernels != r.want {
		t.Fatalf("the kernels are %s, want %s: %s", d.Hello.Kernels, r.want, d.Hello.Info)
	}
	return d
}

func buildArm(t *testing.T, dir string) *Binary {
	forArm(t, "max")
	b, err := Build(context.Background(), dir, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// eachArmRun builds the package in dir once and starts it for every processor and tier.
func eachArmRun(t *testing.T, dir string, runs []armRun, body func(t *testing.T, d *Driver)) {
	b := buildArm(t, dir)
	for _, r := range runs {
		t.Run(r.cpu+" "+r.want, func(t *testing.T) { body(t, startArm(t, b, r, 1)) })
	}
}

// TestArm64Variants holds the variants against the stored outputs, within the budgets of
// TestVariantsF32, TestVariantsBF16 and TestVariantsInt8.
func TestArm64Variants(t *testing.T) {
	f32, bf16, int8 := []string{"rms_rope_mqa_bias", "ln_abs_mha_bias"}, []string{"ln_abs_mha_bias"}, []string{"rms_rope_mqa_bias"}
	if *long {
		f32, bf16, int8 = variants, f32, variants
	}
	for _, v := range f32 {
		t.Run(v+" f32", func(t *testing.T) {
			cases := goldenCases(t, filepath.Join(root, "testdata/variants", v, "golden.safetensors"))
			eachArmRun(t, compileArm(t, modelDir(t, v, "model.safetensors"), ir.F32), armRuns(), func(t *testing.T, d *Driver) {
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
	for _, v := range bf16 {
		t.Run(v+" bf16", func(t *testing.T) {
			cases := goldenCases(t, filepath.Join(root, "testdata/variants", v, "golden.bf16.safetensors"))
			eachArmRun(t, compileArm(t, modelDir(t, v, "model.bf16.safetensors"), 0), armRuns(), func(t *testing.T, d *Driver) {
				checkHidden(t, d, cases, bf16Error)
			})
		})
	}
	for _, v := range int8 {
		t.Run(v+" int8", func(t *testing.T) {
			cases := goldenCases(t, filepath.Join(root, "testdata/variants", v, "golden.safetensors"))
			eachArmRun(t, compileArm(t, modelDir(t, v, "model.safetensors"), ir.I8), int8Runs(), func(t *testing.T, d *Driver) {
				checkHidden(t, d, cases, int8Error)
			})
		})
	}
}

func maxAbs(got, want []float64) float64 {
	e, _ := num.MaxAbs(got, want)
	return e
}

// armTexts is the number of texts to fill masks in.
func armTexts() int {
	if *long {
		return 1000
	}
	return 5
}

// TestArm64FillMask: the program and the weight file, alone in a directory, give the candidates
// of the tiny model.
func TestArm64FillMask(t *testing.T) {
	b := buildArm(t, compileArm(t, filepath.Join(root, "models/tiny"), ir.F32))
	scratch := &Binary{dir: t.TempDir()}
	scratch.exe = filepath.Join(scratch.dir, "program")
	for from, to := range map[string]string{b.exe: scratch.exe, filepath.Join(b.dir, WeightFile): filepath.Join(scratch.dir, WeightFile)} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range armRuns() {
		t.Run(r.cpu+" "+r.want, func(t *testing.T) { checkFillMask(t, startArm(t, scratch, r, 2), armTexts()) })
	}
}

// TestArm64Bits holds the promise of TestBits on arm64.
func TestArm64Bits(t *testing.T) {
	for _, tt := range []struct {
		math ir.DType
		runs []armRun
	}{{ir.BF16, armRuns()}, {ir.I8, int8Runs()}} {
		b := buildArm(t, compileArm(t, filepath.Join(root, "models/tiny"), tt.math))
		for _, r := range tt.runs {
			if r.tier == "" {
				t.Run(fmt.Sprint(tt.math, " ", r.cpu, " ", r.want), func(t *testing.T) {
					checkBits(t, startArm(t, b, r, 1), startArm(t, b, r, 2), 5, 1, 2, 3, 9, 4, 2)
				})
			}
		}
	}
}

// TestArm64Refuses: kernels above the processor's features are refused, and not tried.
func TestArm64Refuses(t *testing.T) {
	b := buildArm(t, compileArm(t, filepath.Join(root, "models/tiny"), 0))
	d, err := b.Start(context.Background(), DriverOptions{Kernels: "bf16", Threads: 1, MaxTokens: 16, Emulator: forArm(t, "neoverse-n1")})
	if err == nil {
		d.Close()
		t.Fatal("no error")
	}
	if want := "lacks FEAT_BF16"; !strings.Contains(err.Error(), want) {
		t.Errorf("error %q, want one with %q", err, want)
	}
}
