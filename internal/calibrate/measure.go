package calibrate

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// This file owns what 8 bits do to a matmul: the error of its result, and the share of the error
// of the last hidden states that follows.

const (
	// sampleOutputs is how many rows of a weight are looked at; see sampleRows.
	sampleOutputs = 192
	// gain is how much smaller smoothing or a shift must make an error: less is not worth its line.
	gain = 0.95
)

// item is one choice: a matmul, or the embedding table.
type item struct {
	name string
	// error is ‖a−b‖/‖b‖ of the result with 8 bits, smoothed where smooth is not nil.
	error  float64
	smooth []float32
	// part is the square of what the error becomes in the residual stream, relative to the stream,
	// 0 behind the last hidden states. bytes is what bf16 costs more than int8.
	part  float64
	bytes int64
	// decoder is the matmul that shares the table, nil for none and for a matmul.
	decoder *item
	head    bool // behind the last hidden states
	small   bool // one of the matmuls of a head that are bf16 by default
}

// measure returns the choices in the order of the program.
func measure(ctx context.Context, r *recording, src checkpoint.Source) ([]*item, error) {
	items := make([]*item, len(r.matmuls))
	errs := make([]error, len(r.matmuls))
	var wait sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, m := range r.matmuls {
		wait.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if errs[i] = ctx.Err(); errs[i] == nil {
				items[i], errs[i] = r.item(m, src)
			}
			m.rows = nil
		})
	}
	wait.Wait()
	for i, err := range errs {
		if err != nil {
			return nil, fmt.Errorf("step %s: %w", r.matmuls[i].step.Name, err)
		}
	}
	// An error of a matmul that has no residual stays as large, relative to its result, up to the
	// next that has one.
	for i := len(items) - 1; i >= 0; i-- {
		j := i
		for j < len(items) && r.matmuls[j].result == 0 {
			j++
		}
		if items[i].head = j == len(items); !items[i].head {
			items[i].part = items[i].error * items[i].error * r.matmuls[j].change / r.matmuls[j].result
		}
	}
	return append([]*item{r.table(items)}, items...), nil
}

// vector returns a weight that is one tensor of the checkpoint, nil for no name.
func vector(p *program.Program, weight string, src checkpoint.Source) ([]float32, error) {
	if weight == "" {
		return nil, nil
	}
	t, err := src.Tensor(p.Weight(weight).Parts[0].Tensor)
	return t.Float32s(), err
}

func (r *recording) item(m *matmul, src checkpoint.Source) (*item, error) {
	rows, total, err := weightRows(r.program.Weight(m.step.Arg(program.W)), m.spec.K, src)
	if err != nil {
		return nil, err
	}
	it := &item{name: m.step.Name, bytes: int64(total) * int64(m.spec.K)}
	// The matmuls that assign-precision leaves in bf16 have neither a layer nor the vocabulary.
	it.small = !strings.HasPrefix(it.name, "layer.") && total != r.vocabulary()
	it.error = errorOf(m.rows, rows, m.spec.K, nil, nil)
	if m.smoothable() {
		s := smoothing(m.most, rows)
		if e := errorOf(m.rows, rows, m.spec.K, s, nil); e < gain*it.error {
			it.error, it.smooth = e, s
		}
	}
	if m.shiftable() {
		if e := errorOf(m.rows, rows, m.spec.K, it.smooth, m.mean()); e < gain*it.error {
			it.error, m.shifted = e, true
		}
	}
	return it, nil
}

// vocabulary returns the rows of the embedding table.
func (r *recording) vocabulary() int {
	return r.program.Weight(r.program.Steps[0].Arg(program.W)).Shape[0]
}

// smoothable reports whether the graph can smooth the matmul: what makes its left factor is a norm
// or a gated unit (package passes). The weight of the decoder has other readers.
func (m *matmul) smoothable() bool {
	_, layer, _ := strings.Cut(m.step.Name, "layer.")
	return layer != "" && (m.spec.Prologue != kernel.NoPrologue || strings.HasSuffix(layer, ".down"))
}

// weightRows returns rows of a weight, evenly spread, and how many it has.
func weightRows(w *program.Weight, k int, src checkpoint.Source) (rows []float32, total int, err error) {
	for _, p := range w.Parts {
		total += p.Shape[0]
	}
	first := 0
	for _, p := range w.Parts {
		t, err := src.Tensor(p.Tensor)
		if err != nil {
			return nil, 0, err
		}
		size := len(t.Data) / p.Shape[0]
		for n := range p.Shape[0] {
			if at := first + n; at == 0 || at*sampleOutputs/total != (at-1)*sampleOutputs/total {
				row := t
				row.Data = t.Data[n*size : (n+1)*size]
				rows = append(rows, row.Float32s()...)
			}
		}
		src.Release(p.Tensor)
		first += p.Shape[0]
	}
	if len(rows)%k != 0 {
		return nil, 0, fmt.Errorf("weight %s: rows are not of %d columns", w.Name, k)
	}
	return rows, total, nil
}

// smoothing returns a factor for each channel, the root of the largest activation over the largest
// weight (SmoothQuant with α = ½), of geometric mean 1 and three digits.
func smoothing(most, weights []float32) []float32 {
	k := len(most)
	largest := make([]float32, k)
	for i, w := range weights {
		largest[i%k] = max(largest[i%k], float32(math.Abs(float64(w))))
	}
	s, sum, n := make([]float64, k), 0.0, 0
	for c := range s {
		if most[c] > 0 && largest[c] > 0 {
			s[c] = math.Sqrt(float64(most[c]) / float64(largest[c]))
			sum, n = sum+math.Log(s[c]), n+1
		}
	}
	mean := math.Exp(sum / max(1, float64(n)))
	out := make([]float32, k)
	for c, x := range s {
		if x == 0 {
			x = mean // a channel that is never used
		}
		out[c] = float32(threeDigits(x / mean))
	}
	return out
}

// errorOf returns ‖a−b‖/‖b‖ of the products b of rows of x and w, both [·][k], and the products a
// of their codes. x is divided by s, and w multiplied by it, where s is not nil; and what rounding w
// takes from the product of mean is added to a (shift.go), where mean is not nil.
func errorOf(x, w []float32, k int, s, mean []float32) float64 {
	codes := func(rows []float32, quantize func(codes, row []float32) float32, change func(x, s float32) float32) ([]float32, []float32) {
		out, scales := slices.Clone(rows), make([]float32, len(rows)/k)
		for i := range scales {
			row := out[i*k : (i+1)*k]
			for c := range s {
				row[c] = change(row[c], s[c])
			}
			scales[i] = quantize(row, row)
		}
		return out, scales
	}
	a, as := codes(x, kernel.Quantize, func(x, s float32) float32 { return x / s })
	b, bs := codes(w, kernel.QuantizeWeights, func(x, s float32) float32 { return x * s })
	shift := make([]float64, len(bs))
	for j := range shift {
		for c, x := range mean {
			f := float32(1)
			if s != nil {
				f = s[c]
			}
			shift[j] += (float64(w[j*k+c]*f) - float64(b[j*k+c]*bs[j])) * float64(x/f)
		}
	}
	dd, yy := 0.0, 0.0
	for i := range as {
		for j := range bs {
			exact, coded := 0.0, float32(0)
			p, q := x[i*k:(i+1)*k], w[j*k:(j+1)*k]
			for c, v := range p {
				exact += float64(v) * float64(q[c])
			}
			p, q = a[i*k:(i+1)*k], b[j*k:(j+1)*k]
			for c, v := range p {
				coded += v * q[c]
			}
			d := float64(coded)*float64(as[i])*float64(bs[j]) + shift[j] - exact
			dd += d * d
			yy += exact * exact
		}
	}
	if dd == 0 {
		return 0
	}
	return math.Sqrt(dd / yy)
}

// table is the choice of the embedding table: its error is that of the embedded tokens when its rows
// have 8 bits, and is part of the residual stream as it is.
func (r *recording) table(matmuls []*item) *item {
	step := r.program.Steps[0]
	w := r.program.Weight(step.Arg(program.W))
	k := w.Shape[1]
	it := &item{name: step.Name, bytes: int64(w.Shape[0]) * int64(k)}
	for i, m := range r.matmuls {
		if m.step.Arg(program.W) == w.Name {
			it.decoder = matmuls[i]
			it.bytes *= 2 // the decoder keeps a copy in int8
		}
	}
	dd, xx := 0.0, 0.0
	codes := make([]float32, k)
	for i := 0; i < len(r.embed); i += k {
		row := r.embed[i : i+k]
		scale := kernel.QuantizeWeights(codes, row)
		for c, x := range row {
			d := float64(codes[c]*scale) - float64(x)
			dd += d * d
			xx += float64(x) * float64(x)
		}
	}
	if dd > 0 {
		it.part, it.error = dd/xx, math.Sqrt(dd/xx)
	}
	return it
}
