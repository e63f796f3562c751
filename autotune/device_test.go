package autotune

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emulator"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/runtime/cuda"
)

// faulty is a device that subtracts where a kernel adds, in all its tiles but that for the fewest rows;
// without a kernel, a device that uploads nothing but zeros.
type faulty struct {
	cuda.Driver
	kernel string
}

func (f faulty) Load(ptx string) error {
	if f.kernel == "" {
		return f.Driver.Load(ptx)
	}
	entries := strings.Split(ptx, ".entry ")
	for i, e := range entries {
		if strings.HasPrefix(e, f.kernel+"_") && !strings.HasPrefix(e, f.kernel+"_0") {
			entries[i] = strings.ReplaceAll(e, "add.rn.f32", "sub.rn.f32")
		}
	}
	return f.Driver.Load(strings.Join(entries, ".entry "))
}

func (f faulty) Upload(dst cuda.Pointer, src []byte) error {
	if f.kernel == "" {
		src = make([]byte, len(src))
	}
	return f.Driver.Upload(dst, src)
}

// TestTuneDevice tunes one matmul on the emulator. The first candidate is wrong in the tile that the
// batch runs and not in that of a sequence alone, the second is wrong everywhere: their records say so,
// and compiling takes the third.
func TestTuneDevice(t *testing.T) {
	data, err := os.ReadFile("../testdata/variants/rms_rope_mqa_bias/config.json")
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	// Sequences are of 32 tokens, the largest batch of the first tile, and a matmul of 1024 columns has
	// another tile for more.
	for name, n := range map[string]int{"num_hidden_layers": 1, "max_position_embeddings": 32, "hidden_size": 64, "num_attention_heads": 1, "intermediate_size": 512, "vocab_size": 64} {
		fields[name] = n
	}
	if data, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	cfg, err := bert.ParseConfig("config.json", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	const name = "gate_up"
	devices := []cuda.Driver{emulator.Open(1, 4), faulty{emulator.Open(1, 4), name}, faulty{emulator.Open(1, 4), ""}, emulator.Open(1, 4)}
	open := func() (d cuda.Driver, err error) { // the first is asked for the fingerprint
		d, devices = devices[0], devices[1:]
		return d, nil
	}
	var out bytes.Buffer
	tu := tuner{w: &out, repeats: 1, Options: Options{
		Target: pipeline.GPUTarget, Math: ir.BF16, Spec: name, Candidates: 3, Tokens: []int{96}, Rounds: 1, Open: open,
	}}
	if err := tu.tune(context.Background(), data, cfg); err != nil {
		t.Fatal(err)
	}
	r := &Records{}
	if err := r.add("test", out.Bytes()); err != nil {
		t.Fatal(err)
	}
	if len(r.list) != 3 || r.list[0].Verified || r.list[1].Verified || !r.list[2].Verified {
		t.Fatalf("want two candidates that are wrong and one that is right:\n%s", &out)
	}
	machine := r.list[0].Machine
	if want := "NVIDIA sm_90-emulated GPU-4-0.0"; machine != want {
		t.Errorf("the machine is %q, want %q", machine, want)
	}
	none := Fingerprint(func() (cuda.Driver, error) { return nil, os.ErrNotExist })
	for fingerprint, want := range map[string]string{machine: "this machine class", none: "same family"} {
		model, err := smallModel(context.Background(), t.TempDir(), data, cfg, ir.BF16)
		if err != nil {
			t.Fatal(err)
		}
		defer model.Close()
		p, err := model.Program(passes.Options{Math: ir.BF16, Targets: []string{pipeline.GPUTarget}, Plans: func(s kernel.Spec, target string) (kernel.Plan, string, bool) {
			return r.Lookup(s, target, fingerprint)
		}})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range p.Kernels {
			i := 0
			if k.Name == name {
				i = 2
			}
			if plan := Candidates(k.Spec, pipeline.GPUTarget, 3)[i]; k.Plans[0] != plan || strings.Contains(k.PlanFrom(0), want) != (i == 2) {
				t.Errorf("%s: %s has %s (%s), want %s (%s)", fingerprint, k.Name, k.Plans[0], k.PlanFrom(0), plan, want)
			}
		}
	}
}

// TestDeviceTokens: batches of the GPU are of whole sequences.
func TestDeviceTokens(t *testing.T) {
	for n, ok := range map[int]bool{0: false, 1: true, 511: true, 512: true, 513: false, 1024: true, deviceBatch: true, deviceBatch + 512: false} {
		if err := checkDevice([]int{n}, 2048); (err == nil) != ok {
			t.Errorf("%d tokens: %v", n, err)
		}
	}
	if err := checkDevice(append([]int{192}, DeviceTokens...), 100); err != nil {
		t.Error(err)
	}
}
