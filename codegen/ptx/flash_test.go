package ptx

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the tests of attention on wgmma.

func flashSpec(heads, kv int) kernel.Spec {
	return kernel.Spec{Kind: kernel.Attention, In: ir.BF16, Out: ir.BF16, Math: ir.BF16,
		Heads: heads, KVHeads: kv, HeadDim: flashHead, Scale: 0.125}
}

// runFlash runs sequences of those lengths, which are followed by a row of NaN, by the first variant or by
// the last one.
func runFlash(t *testing.T, s kernel.Spec, qkv []float32, lengths []int, few bool, seed uint64) []float32 {
	t.Helper()
	plan, _ := kernel.Choose(s, TargetName)
	u, m := compile(t, kernel.Kernel{Spec: s, Plan: plan})
	launch := u.Kernel.Variants[len(u.Kernel.Variants)-1].Launches[0]
	if few {
		launch = u.Kernel.Variants[0].Launches[0]
	}
	rows, cols := 0, s.QKVCols()
	for _, n := range lengths {
		rows += n
	}
	padded := slices.Clone(qkv[:rows*cols])
	for range cols {
		padded = append(padded, float32(math.NaN()))
	}
	b := newBench(t, seed, 4)
	b.bind(cuda.ParamMap, cuda.OperandSrc, b.bf16Matrix(padded, rows+1, cols))
	out := matrix{rows: rows, cols: s.Heads * flashHead, pitch: cuda.Pitch(s.Heads*flashHead, true)}
	out.addr = b.alloc(rows*out.pitch, nil)
	b.bind(cuda.ParamPointer, cuda.OperandDst, out.addr)
	list := items(s, lengths, launch.Grid.TileM)
	b.bind(cuda.ParamItems, 0, b.alloc(4*len(list), i32Bytes(list)))
	count := len(list) / 4
	b.bind(cuda.ParamItemCount, 0, b.alloc(4, i32Bytes([]int32{int32(count)})))
	if err := b.run(m, launch, rows, count); err != nil {
		t.Fatalf("sequences of %d tokens, seed %d: %v", lengths, seed, err)
	}
	return b.readBF16(out)
}

// Errors of an f32 and of a bf16 that is rounded, relative.
const (
	unitF32  = 0x1p-24
	unitBF16 = 0x1p-8
)

// attentionReference computes one sequence in float64, and bounds the error of each element: that of
// a probability is a unit of bf16 and what the score is off by.
func attentionReference(s kernel.Spec, qkv []float32) (want, bound []float64) {
	cols, group := s.QKVCols(), s.Heads/s.KVHeads
	tokens := len(qkv) / cols
	for q := range tokens {
		for head := range s.Heads {
			row := qkv[q*cols+head*flashHead:][:flashHead]
			scores, sizes, largest := make([]float64, tokens), make([]float64, tokens), math.Inf(-1)
			for k := range scores {
				for i, v := range qkv[k*cols+(s.Heads+head/group)*flashHead:][:flashHead] {
					scores[k] += s.Scale * float64(row[i]) * float64(v)
					sizes[k] += s.Scale * math.Abs(float64(row[i])*float64(v))
				}
				largest = max(largest, scores[k])
			}
			total := 0.0
			for k := range scores {
				total += math.Exp(scores[k] - largest)
			}
			for i := range flashHead {
				sum, off := 0.0, 0.0
				for k := range scores {
					p := math.Exp(scores[k]-largest) / total
					v := float64(qkv[k*cols+(s.Heads+s.KVHeads+head/group)*flashHead+i])
					sum += p * v
					// Rounded to bf16; the exponent is off by a few units of its terms; sums of
					// probabilities and of values by one each for every term.
					off += p * math.Abs(v) * (unitBF16 + unitF32*(2*flashHead*sizes[k]+4*math.Abs(scores[k]-largest)+float64(4*tokens)+16))
				}
				want = append(want, sum)
				bound = append(bound, off+unitBF16*(math.Abs(sum)+off))
			}
		}
	}
	return want, bound
}

// TestFlash checks packed sequences of several lengths and groups of heads, so that the last block has
// every part of its keys, as the first block and as a later one, and that a sequence has the same bits
// alone, where small items do it.
func TestFlash(t *testing.T) {
	for _, c := range []struct {
		heads, kv int
		lengths   []int
	}{
		{24, 1, []int{5, 140, 60}},
		{4, 2, []int{129, 90, 256}},
		{2, 2, []int{190, 3, 200}},
		{1, 1, []int{225, 100}},
	} {
		s := flashSpec(c.heads, c.kv)
		t.Run(fmt.Sprintf("%d heads of %d", c.heads, c.kv), func(t *testing.T) {
			r := rand.New(rand.NewPCG(2, uint64(c.heads)))
			rows := 0
			for _, n := range c.lengths {
				rows += n
			}
			qkv := make([]float32, rows*s.QKVCols())
			for i := range qkv {
				qkv[i] = num.FromBF16(num.BF16(float32(2 * r.NormFloat64())))
			}
			got := runFlash(t, s, qkv, c.lengths, false, 1)
			start, width := 0, s.Heads*flashHead
			worst := 0.0
			for i, n := range c.lengths {
				own := qkv[start*s.QKVCols():][:n*s.QKVCols()]
				want, bound := attentionReference(s, own)
				part := got[start*width:][:n*width]
				for j, v := range part {
					off := math.Abs(float64(v) - want[j])
					if !(off <= bound[j]) {
						t.Fatalf("sequence %d of %d tokens, query %d, column %d: %v, want %v ± %.2g", i, n, j/width, j%width, v, want[j], bound[j])
					}
					worst = max(worst, off/bound[j])
				}
				if alone := runFlash(t, s, own, []int{n}, true, uint64(i)); !slices.Equal(alone, part) {
					t.Errorf("a sequence of %d tokens has other bits alone", n)
				}
				start += n
			}
			t.Logf("largest error: %.2f of its bound", worst)
		})
	}
}
