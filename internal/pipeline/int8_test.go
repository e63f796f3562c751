package pipeline

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/passes"
)

// int8Error bounds the error of the variants. A row of 64 to 192 normal numbers is off by 0.006 of its
// norm when it is rounded to 8 bits (2.8 standard deviations over 127·√12), in each of both factors:
// that is the error of bf16 (2⁻⁹/√3, of one factor) times 7. These checkpoints, whose weights are
// large, make 0.0090 of bf16 (docs/numerics.md).
const int8Error = 7 * 0.0090

// TestVariantsInt8 compares int8 runs with the float64 outputs of the unrounded weights.
func TestVariantsInt8(t *testing.T) {
	for _, v := range []string{"rms_rope_mqa_bias", "ln_abs_mqa_mlpbias"} {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			_, dir := compile(t, modelDir(t, v, "model.safetensors"), ir.I8)
			cases := goldenCases(t, filepath.Join(root, "testdata/variants", v, "golden.safetensors"))
			b := built(t, dir)
			for _, tier := range tiers(ir.I8) {
				t.Run(tier, func(t *testing.T) {
					d := start(t, b, tier, 0)
					checkHidden(t, d, cases, int8Error)
				})
			}
		})
	}
}

// TestBitsInt8 is TestBits for int8. Between avx512f and avx512vnni the bits are the same too: sums of codes
// are exact, and all the rest is the same instructions in the same order.
func TestBitsInt8(t *testing.T) {
	_, dir := compile(t, filepath.Join(root, "models/tiny"), ir.I8)
	b := built(t, dir)
	for _, tier := range tiers(ir.I8) {
		t.Run(tier, func(t *testing.T) {
			checkBits(t, start(t, b, tier, 1), start(t, b, tier, 2), 33, 1, 2, 7, 130, 19, 64)
		})
	}
	t.Run("avx512vnni as avx512f", func(t *testing.T) {
		var hidden, logits [2][]float32
		for i, tier := range []string{"avx512f", "avx512vnni"} {
			d := start(t, b, tier, 0)
			for _, q := range masked(t, 20) {
				err := d.Do(q, func(r Response) error {
					hidden[i], logits[i] = append(hidden[i], r.Hidden...), append(logits[i], r.Logits...)
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(hidden[0]) == 0 || !slices.Equal(hidden[0], hidden[1]) {
			t.Error("other hidden states")
		}
		if len(logits[0]) == 0 || !slices.Equal(logits[0], logits[1]) {
			t.Error("other logits")
		}
	})
}

// masked returns requests for sequences of the tiny model's tokenizer tests, in each of which one
// token is the mask, whose row the head is applied to.
func masked(t *testing.T, n int) []Request {
	data, err := os.ReadFile(filepath.Join(root, "models/tiny/conformance.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Cases []struct {
			IDs []int32 `json:"ids_special"`
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	const mask = 3
	r := rand.New(rand.NewPCG(1, 8))
	var out []Request
	for i := 0; len(out) < n; i++ {
		ids := slices.Clone(file.Cases[i%len(file.Cases)].IDs)
		if len(ids) < 8 || len(ids) > 100 {
			continue
		}
		at := 1 + r.IntN(len(ids)-2)
		ids[at] = mask
		q := Request{IDs: ids, Offsets: []int32{0, int32(len(ids))}, Rows: []int32{int32(at)}}
		for p := range ids {
			q.Positions = append(q.Positions, int32(p))
		}
		out = append(out, q)
	}
	return out
}

// TestInt8TopOne: of 500 masked tokens, int8 finds the one that f32 finds at least 485 times.
func TestInt8TopOne(t *testing.T) {
	requests := masked(t, 500)
	best := func(math ir.DType) []int {
		_, dir := compile(t, filepath.Join(root, "models/tiny"), math)
		d := driver(t, dir, "", 0)
		var out []int
		for _, q := range requests {
			err := d.Do(q, func(r Response) error {
				if len(r.Logits) > 0 {
					out = append(out, slices.Index(r.Logits, slices.Max(r.Logits)))
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	f32, int8 := best(ir.F32), best(ir.I8)
	if len(f32) != len(requests) || len(int8) != len(requests) {
		t.Fatalf("%d and %d results for %d requests", len(f32), len(int8), len(requests))
	}
	same := 0
	for i := range f32 {
		if f32[i] == int8[i] {
			same++
		}
	}
	if t.Logf("%d of %d", same, len(f32)); same < 485 {
		t.Errorf("%d of %d tokens are the same", same, len(f32))
	}
}

// TestInt8FileSize: a weight is a byte, a table is there once. Scales are 4 bytes a row.
func TestInt8FileSize(t *testing.T) {
	m, dir := compile(t, filepath.Join(root, "models/tiny"), ir.I8)
	info, err := os.Stat(filepath.Join(dir, WeightFile))
	if err != nil {
		t.Fatal(err)
	}
	p, err := m.Program(passes.Options{Math: ir.I8, Targets: Targets(ir.I8)})
	if err != nil {
		t.Fatal(err)
	}
	codes := 0
	for _, w := range p.Weights {
		if w.DType == ir.I8 && w.Blob == "" {
			codes += w.Shape[0] * w.Shape[1]
		}
	}
	// Besides the codes there are the first of four layers and the dense layer of the head in bf16,
	// 2 bytes each for less than a quarter of the parameters, rotary tables and the tokenizer's image.
	other := m.Parameters() - int64(codes)
	if other < 0 || other > m.Parameters()/4 || info.Size() > int64(codes)+2*other+1<<20 {
		t.Errorf("%d codes in a file of %d bytes, of %d parameters", codes, info.Size(), m.Parameters())
	}
}
