package checkpoint

import (
	"bytes"
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/num"
	"github.com/google/go-cmp/cmp"
)

var initWants = []Want{
	{Name: "embeddings.word_embeddings.weight", Shape: []int{1000, 300}}, // several blocks
	{Name: "encoder.ln.weight", Shape: []int{4000}},
	{Name: "encoder.ln.bias", Shape: []int{4000}},
	{Name: "cls.predictions.bias", Shape: []int{4000}},
	{Name: "cls.predictions.decoder.weight", Shape: []int{1000, 300}, Optional: true},
}

func initialise(t *testing.T, o InitOptions) map[string][]float32 {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "new", "model")
	var last, total int64
	o.Std, o.Progress = 0.02, func(d, n int64) { last, total = d, n }
	if err := Init(context.Background(), dir, []byte("{}\n"), initWants, o); err != nil {
		t.Fatal(err)
	}
	if last != total || total == 0 {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Check(initWants); err != nil {
		t.Error(err)
	}
	if _, config, err := c.Config(); err != nil || string(config) != "{}\n" {
		t.Errorf("config %q, %v", config, err)
	}
	out := map[string][]float32{}
	for _, name := range c.Names() {
		tensor, err := c.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		out[tensor.Name] = tensor.Float32s()
	}
	return out
}

func TestInit(t *testing.T) {
	a := initialise(t, InitOptions{Seed: 7, DType: F32})
	for _, tt := range []struct {
		name      string
		mean, std float64
	}{
		{"bert.embeddings.word_embeddings.weight", 0, 0.02},
		{"bert.encoder.ln.weight", 1, 0.1},
		{"bert.encoder.ln.bias", 0, 0.1},
		{"cls.predictions.bias", 0, 0.05},
	} {
		x := a[tt.name]
		var sum, squares float64
		for _, v := range x {
			sum += float64(v)
			squares += (float64(v) - tt.mean) * (float64(v) - tt.mean)
		}
		n := float64(len(x))
		if mean, std := sum/n, math.Sqrt(squares/n); math.Abs(mean-tt.mean) > 5*tt.std/math.Sqrt(n) || math.Abs(std/tt.std-1) > 0.05 {
			t.Errorf("%s: mean %g, std %g", tt.name, mean, std)
		}
	}
	if diff := cmp.Diff(a, initialise(t, InitOptions{Seed: 7, DType: F32, ShardBytes: 20000})); diff != "" {
		t.Errorf("shards change the numbers: %.200s", diff)
	}
	b := initialise(t, InitOptions{Seed: 8, DType: F32})
	if a["cls.predictions.bias"][0] == b["cls.predictions.bias"][0] {
		t.Error("the seed changes nothing")
	}
	for name, x := range initialise(t, InitOptions{Seed: 7, DType: BF16}) {
		for i := range x {
			if x[i] != num.FromBF16(num.BF16(a[name][i])) {
				t.Fatalf("%s[%d]: %g is not %g in bf16", name, i, x[i], a[name][i])
			}
		}
	}
}

// TestInitOutliers: the same channels of each norm's weight are larger, and nothing else changes.
func TestInitOutliers(t *testing.T) {
	a, b := initialise(t, InitOptions{Seed: 7, DType: F32}), initialise(t, InitOptions{Seed: 7, DType: F32, Outliers: 6})
	larger := 0
	for name, x := range a {
		for i, y := range b[name] {
			if y == outlierFactor*x[i] && name == "bert.encoder.ln.weight" {
				larger++
			} else if y != x[i] {
				t.Errorf("%s: element %d is %v, without outliers %v", name, i, y, x[i])
			}
		}
	}
	if larger != 6 {
		t.Errorf("%d channels are larger, want 6", larger)
	}
}

func TestInitErrors(t *testing.T) {
	parent := t.TempDir()
	full := filepath.Join(parent, "full")
	if err := os.MkdirAll(filepath.Join(full, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	o := InitOptions{DType: BF16, Std: 0.02}
	wantError(t, Init(context.Background(), full, nil, initWants, o), parent, "DIR/full: the directory exists and is not empty")
	wantError(t, Init(context.Background(), filepath.Join(parent, "a"), nil, initWants, InitOptions{DType: "I8"}), parent, `DIR/a: dtype "I8" is not supported (supported: F32, BF16, F16)`)

	ctx, cancel := context.WithCancel(context.Background())
	o.Progress = func(done, total int64) { cancel() }
	if err := Init(ctx, filepath.Join(parent, "b"), nil, initWants, o); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	o.Progress = nil
	huge := []Want{{Name: "encoder.ln.weight", Shape: []int{1 << 40, 1 << 40}}}
	if err := Init(context.Background(), filepath.Join(parent, "c"), nil, huge, o); err == nil || !strings.Contains(err.Error(), "is too large") {
		t.Errorf("got %v", err)
	}
	left, err := os.ReadDir(parent)
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	empty := filepath.Join(parent, "empty")
	if err := os.Mkdir(empty, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Init(context.Background(), empty, []byte("{}"), initWants, o); err != nil {
		t.Error(err)
	}
}

// TestInitPinned pins the first numbers of a seed: recorded results of random models stay
// comparable.
func TestInitPinned(t *testing.T) {
	var out bytes.Buffer
	o := InitOptions{Seed: 1, DType: F32, Std: 0.02}
	if err := writeRandom(context.Background(), &out, Want{Name: "x.weight", Shape: []int{2, 2}}, o, func(int64) {}); err != nil {
		t.Fatal(err)
	}
	got := Tensor{Info: Info{DType: F32}, Data: out.Bytes()}.Float32s()
	if diff := cmp.Diff([]float32{-0.03447799, -0.00433409, -0.015000761, 0.024681263}, got); diff != "" {
		t.Error(diff)
	}
}
