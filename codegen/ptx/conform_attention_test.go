package ptx

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/bertc/bertc/codegen/codegentest"
	"github.com/bertc/bertc/codegen/ptx/emu"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// items lists the work of attention for sequences one after another, blocks of rows packed rows.
func items(s kernel.Spec, lengths []int, rows int) []int32 {
	var out []int32
	start := 0
	for _, n := range lengths {
		for kv := range s.KVHeads {
			for row := 0; row < n*s.Heads/s.KVHeads; row += rows {
				out = append(out, int32(start), int32(n), int32(kv), int32(row))
			}
		}
		start += n
	}
	return out
}

// TestAttention: sequences of many lengths in one batch; three blocks of keys, so that a buffer is
// used again.
func TestAttention(t *testing.T) {
	eachKernel(t, kernel.Attention, func(t *testing.T, k kernel.Kernel) {
		checkAttention(t, k, rand.New(rand.NewPCG(4, 0)), []int{1, 33, 2*k.Plan.BlockN + 1, 2, k.Plan.BlockN}, 1)
	})
}

// runAttention runs sequences one after another by a variant.
func runAttention(t *testing.T, u Unit, m *emu.Module, s kernel.Spec, qkv []float32, lengths []int, variant int, seed uint64) []float32 {
	t.Helper()
	tokens := len(qkv) / s.QKVCols()
	b := newBench(t, seed, 4)
	src := b.buffer(s.In, qkv, tokens, s.QKVCols())
	b.bind(cuda.ParamPointer, cuda.OperandSrc, src.addr)
	b.bind(cuda.ParamMap, cuda.OperandSrc, src)
	list := items(s, lengths, u.Kernel.Variants[variant].Launches[0].Grid.TileM)
	b.bind(cuda.ParamItems, 0, b.alloc(4*len(list), i32Bytes(list)))
	dst, shadow, _ := b.output(s.Out, tokens, s.Heads*s.HeadDim)
	b.launch(u, m, tokens, len(list)/4, variant)
	got := dst.values()
	if s.Out == ir.F32 {
		checkShadow(t, got, shadow)
	}
	return got
}

// checkAttention compares a batch with float64, and one of its sequences, with -long each, with the
// same alone by the first variant.
func checkAttention(t *testing.T, k kernel.Kernel, r *rand.Rand, lengths []int, alone int) {
	t.Helper()
	s := k.Spec
	u, m := compile(t, k)
	tokens := 0
	for _, n := range lengths {
		tokens += n
	}
	// Large scores: with most of them the probability is far below one.
	qkv := normal(r, s.In, tokens*s.QKVCols(), 2)
	got := runAttention(t, u, m, s, qkv, lengths, len(u.Kernel.Variants)-1, r.Uint64())
	start := 0
	for i, n := range lengths {
		part := qkv[start*s.QKVCols():][:n*s.QKVCols()]
		mine := got[start*s.Heads*s.HeadDim:][:n*s.Heads*s.HeadDim]
		compareAttention(t, s, attend(s, part), mine)
		if i == alone || codegentest.Long() {
			same(t, fmt.Sprintf("%d tokens alone", n), runAttention(t, u, m, s, part, []int{n}, 0, r.Uint64()), mine)
		}
		start += n
	}
}

func compareAttention(t *testing.T, s kernel.Spec, want []float64, got []float32) {
	t.Helper()
	cols := s.Heads * s.HeadDim
	for i, w := range want {
		largest := 0.0
		for _, v := range want[i/s.HeadDim*s.HeadDim:][:s.HeadDim] {
			largest = max(largest, math.Abs(v))
		}
		// Probabilities rounded to bf16, 2^-9 each at most, weigh values of the row's size; exponents that
		// were rounded to f32.
		bound := 0x1p-8*(2+largest) + step(s.Out)*math.Abs(w)
		if !(math.Abs(float64(got[i])-w) <= bound) {
			t.Fatalf("%d tokens: token %d column %d: %v, want %v ± %.2g", len(want)/cols, i/cols, i%cols, got[i], w, bound)
		}
	}
}

// attend is attention of one sequence in float64, on factors rounded to bf16.
func attend(s kernel.Spec, qkv []float32) []float64 {
	cols, d, group := s.QKVCols(), s.HeadDim, s.Heads/s.KVHeads
	n := len(qkv) / cols
	x := func(token, head, i int) float64 { return round(ir.BF16, float64(qkv[token*cols+head*d+i])) }
	var out []float64
	for query := range n {
		for h := range s.Heads {
			key := s.Heads + h/group
			o, p, largest, sum := make([]float64, d), make([]float64, n), math.Inf(-1), 0.0
			for j := range p {
				for i := range d {
					p[j] += x(query, h, i) * x(j, key, i) * s.Scale
				}
				largest = max(largest, p[j])
			}
			for j := range p {
				p[j] = math.Exp(p[j] - largest)
				sum += p[j]
			}
			for i := range o {
				for j := range p {
					o[i] += p[j] / sum * x(j, key+s.KVHeads, i)
				}
			}
			out = append(out, o...)
		}
	}
	return out
}
