package ptx

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/runtime/cuda"
)

// TestTopK: rows with many equal logits, against a sort.
func TestTopK(t *testing.T) {
	for _, c := range []struct{ n, rows, k int }{{1, 1, 1}, {51, 3, 7}, {5000, 2, cuda.MaxTopK}} {
		u := TopK("top", c.n)
		m := parse(t, u)
		r := rand.New(rand.NewPCG(8, uint64(c.n)))
		logits := normal(r, ir.F32, c.rows*c.n, 3)
		for i := range logits {
			if i%3 > 0 {
				logits[i] = float32(math.Round(float64(logits[i])))
			}
		}
		b := newBench(t, uint64(c.n), 4)
		b.floats(cuda.OperandSrc, logits)
		b.bind(cuda.ParamTopK, 0, b.alloc(4, i32Bytes([]int32{int32(c.k)})))
		size := 4 * c.rows * cuda.MaxTopK
		ids, best, sums := b.alloc(size, nil), b.alloc(size, nil), b.alloc(8*c.rows, nil)
		b.bind(cuda.ParamTopIDs, 0, ids)
		b.bind(cuda.ParamTopLogits, 0, best)
		b.bind(cuda.ParamTopSums, 0, sums)
		b.launch(u, m, c.rows, 0, 0)
		for row := range c.rows {
			x := logits[row*c.n:][:c.n]
			order := make([]int, c.n)
			sum := 0.0
			for i := range order {
				order[i] = i
				sum += math.Exp(float64(x[i]) - float64(slices.Max(x)))
			}
			slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(x[b], x[a]) })
			at := uint64(4 * row * cuda.MaxTopK)
			rawIDs, values := b.read(ids+at, 4*c.k), b.readF32(best+at, c.k)
			for i := range c.k {
				if id := int(binary.LittleEndian.Uint32(rawIDs[4*i:])); id != order[i] || values[i] != x[order[i]] {
					t.Errorf("%s: row %d, entry %d: column %d, %v; want column %d, %v", fmt.Sprint(c), row, i, id, values[i], order[i], x[order[i]])
				}
			}
			// Sums of f32 of exponentials that are 2 ulp off.
			if got := b.readF32(sums+uint64(8*row), 2); got[0] != slices.Max(x) || math.Abs(float64(got[1])-sum) > 2e-6*sum {
				t.Errorf("%s: row %d: largest %v and sum %v, want %v and %v", fmt.Sprint(c), row, got[0], got[1], slices.Max(x), sum)
			}
		}
	}
}
