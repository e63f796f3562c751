package calibrate

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/internal/verify"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/models"
	"github.com/bertc/bertc/program"
	"github.com/bertc/bertc/quant"
)

// TestRun calibrates the tiny model with portable kernels, so closely that some matmuls need bf16,
// and closer than bf16 comes.
func TestRun(t *testing.T) {
	m, err := pipeline.OpenFS(models.Tiny, "tiny")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	file := filepath.Join(t.TempDir(), "texts")
	if err := os.WriteFile(file, []byte("私は学校に行きます。\n机の上に本があります。\n彼女は歌が上手だ。\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	texts, err := verify.ReadTexts(m, file, 3)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	o := Options{Model: m, Texts: texts, MaxError: 0.012,
		Progress: func(what string, done, of int) { seen[what] = 100*of + done },
		Compile: func(ctx context.Context, math ir.DType, dir string) error {
			_, err := pipeline.Compile(ctx, m, pipeline.Options{Out: dir, Math: math, Architectures: []string{}})
			return err
		},
	}
	c, r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if e := r.Error(); !(e > 0 && e <= o.MaxError) || seen["f32"] != 303 || seen["int8, choice 1"] != 101 || r.Texts != 1 {
		t.Errorf("error %g, progress %v", e, seen)
	}
	text := c.String()
	back, err := quant.Parse(strings.NewReader(text))
	if err != nil || back.String() != text {
		t.Errorf("the text is not read back as the same: %v", err)
	}
	n := map[quant.Precision]int{}
	for name, l := range c.Linears {
		n[l.Precision]++
		// Rows of normal numbers of 192 and more have errors of 0.005 and more in 8 bits.
		if l.Error < 0.003 || l.Error > 0.04 {
			t.Errorf("%s has error %g", name, l.Error)
		}
	}
	if len(c.Linears) != 19 || n[quant.Int8] < 4 || n[quant.BF16] < 2 {
		t.Errorf("%d int8 and %d bf16 in\n%s", n[quant.Int8], n[quant.BF16], text)
	}
	if g, err := m.GraphAfter("assign-precision", ir.I8); err != nil || !strings.Contains(g.String(), "quantize") {
		t.Errorf("the graph of the choice: %v", err)
	}
	o.MaxError = 1e-4
	if _, _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "with every matmul in bf16, more than 0.0001") {
		t.Errorf("an error that bf16 does not keep gives %v", err)
	}
}

// TestChoose: what is worth most for its bytes comes first, and no more than is needed.
func TestChoose(t *testing.T) {
	items := []*item{
		{name: "a", error: 0.03, part: 9e-4, bytes: 100, smooth: []float32{2}},
		{name: "b", error: 0.02, part: 4e-4, bytes: 10},
		{name: "c", error: 0.01, part: 1e-4, bytes: 100, smooth: []float32{1}},
		{name: "pooler", error: 0.5, head: true, small: true},
		{name: "logits", error: 0.05, head: true},
	}
	table := &item{name: "embed", error: 0.03, part: 9e-4, bytes: 1, decoder: items[4]}
	for most, want := range map[float64]quant.Precision{0.06: quant.Int8, 0.04: quant.BF16} {
		if q, _ := choose(append(items[:5:5], table), 1, most); q.Linears["embed"].Precision != want || q.Linears["logits"].Precision != want {
			t.Errorf("most %g: table and decoder are %+v", most, q.Linears)
		}
	}
	for _, c := range []struct {
		bound, most float64
		want        string
		share       float64
	}{
		{0.04, 0.06, "int8 int8 int8 bf16 int8", 0},
		{0.0375, 0.04, "int8 int8 int8 bf16 bf16", 0}, // √14e-4 = 0.0374
		{0.037, 0.06, "int8 bf16 int8 bf16 int8", 1. / 3},
		{0.0101, 0.06, "bf16 bf16 int8 bf16 int8", 2. / 3},
		{0.009, 0.06, "bf16 bf16 bf16 bf16 int8", 1},
	} {
		q, share := choose(items, c.bound, c.most)
		var got []string
		for _, it := range items {
			l := q.Linears[it.name]
			got = append(got, string(l.Precision))
			if (l.Smooth != nil) != (l.Precision == quant.Int8 && it.smooth != nil) {
				t.Errorf("bound %g: %s in %s has smoothing factors %v", c.bound, it.name, l.Precision, l.Smooth)
			}
		}
		if s := strings.Join(got, " "); s != c.want || share != c.share {
			t.Errorf("bound %g, most %g: %s, share %v; want %s, %v", c.bound, c.most, s, share, c.want, c.share)
		}
	}
}

// TestSmoothing: of a channel 20 times as large as others, smoothing takes most of the error.
func TestSmoothing(t *testing.T) {
	const k = 256
	r := rand.New(rand.NewPCG(1, 2))
	x, w, most := make([]float32, 20*k), make([]float32, 30*k), make([]float32, k)
	for i := range x {
		if x[i] = float32(r.NormFloat64()); i%k == 7 {
			x[i] *= 20
		}
		most[i%k] = max(most[i%k], float32(math.Abs(float64(x[i]))))
	}
	for i := range w {
		if w[i] = float32(r.NormFloat64()); i%k == 7 {
			w[i] /= 20 // so that the channel counts as much as others
		}
		if i%k == 9 {
			w[i] = 0
		}
	}
	s := smoothing(most, w)
	plain, smoothed := errorOf(x, w, k, nil, nil), errorOf(x, w, k, s, nil)
	if s[9] != 1 || s[7] < 10*s[6] || plain < 0.03 || smoothed > plain/3 {
		t.Errorf("factors %v and %v of channels 7 and 9, error %g, smoothed %g", s[7], s[9], plain, smoothed)
	}
}

// TestShift: for the mean left factor, the result with a rounded weight and the shift is that of the
// weight; a shift has three digits.
func TestShift(t *testing.T) {
	m, err := pipeline.OpenFS(models.Tiny, "tiny")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	const n, k = 192, 512
	name := "encoder.layer.2.mlp.down_proj.weight"
	w := &program.Weight{Parts: []program.Part{{Tensor: name, Shape: []int{n, k}}}}
	r := rand.New(rand.NewPCG(3, 4))
	mean, smooth, divide := make([]float32, k), make([]float32, k), make([]float32, n)
	for i := range mean {
		mean[i], smooth[i] = float32(r.NormFloat64()), 0.5+r.Float32()
	}
	for i := range divide {
		divide[i] = 0.5 + r.Float32()
	}
	shift, err := shiftOf(w, mean, smooth, divide, m.Checkpoint)
	if err != nil {
		t.Fatal(err)
	}
	tensor, err := m.Checkpoint.Tensor(name)
	if err != nil {
		t.Fatal(err)
	}
	values, lost, left := tensor.Float32s(), 0.0, 0.0
	for i, s := range shift {
		row := values[i*k : (i+1)*k]
		exact, coded, codes := 0.0, 0.0, make([]float32, k)
		for c := range row {
			row[c] = row[c] / divide[i] * smooth[c]
		}
		scale := kernel.QuantizeWeights(codes, row)
		for c := range row {
			x := float64(mean[c] / smooth[c])
			exact += float64(row[c]) * x
			coded += float64(codes[c]*scale) * x
		}
		lost += math.Abs(exact - coded)
		left += math.Abs(exact - coded - float64(s))
	}
	if !(left < 0.005*lost) {
		t.Errorf("rounding takes %g in all, %g are left with the shift", lost, left)
	}
}
