package rt

import (
	"fmt"
	"sync"
	"testing"
	"unsafe"
)

// This file tests the loop around the functions of attention.

// TestAttentionCalls: the bits are the same however many calls share packed keys, and a call may use whole
// tiles of rows of its scratch. There are items of as many calls as there may be over several blocks of keys,
// and, where there are many workers, of fewer queries than a call takes.
func TestAttentionCalls(t *testing.T) {
	const micro, queries = 4, 5
	m := newTestModel(shapes["bf16/rmsnorm"], 6)
	seqs := m.sequences(6, 200, 1, 66)
	hidden, logits := alone(t, m, seqs)
	for _, tt := range []struct{ threads, calls, queries int }{{1, attentionCalls, queries}, {4, 3, queries}, {8, 1, queries}, {64, 1, 2}} {
		t.Run(fmt.Sprint(tt.threads), func(t *testing.T) {
			setProcs(t, tt.threads)
			tier := portableTier(&m.mod)
			tier.Name = "calls"
			var most struct {
				sync.Mutex
				calls, rows int
			}
			for i := range tier.Impls {
				k, im := &m.mod.Kernels[i], &tier.Impls[i]
				if k.Kind != Attention {
					continue
				}
				group := k.Heads / k.KVHeads
				im.MicroM, im.BlockM = micro, queries*group
				shared := map[unsafe.Pointer]int{} // calls since a block of keys was packed, by its address
				im.PackKV = func(a *AttentionArgs) {
					most.Lock()
					shared[a.KPack] = 0
					most.Unlock()
					portablePackKV(k, a)
				}
				im.Attend = func(a *AttentionArgs) {
					most.Lock()
					shared[a.KPack]++
					most.rows = max(most.rows, a.Rows/group)
					if a.First == 0 {
						most.calls = max(most.calls, shared[a.KPack])
					}
					most.Unlock()
					portableAttend(k, a)
					// What a kernel of whole tiles may leave behind the rows.
					rows, width := RoundUp(a.Rows, micro), RoundUp(k.HeadDim, panelN)
					clear(view[float32](a.QPack, rows*k.HeadDim)[a.Rows*k.HeadDim:])
					clear(view[float32](a.S, rows*im.BlockN)[a.Rows*im.BlockN:])
					clear(view[float32](a.O, rows*width)[a.Rows*width:])
					clear(view[float32](a.Max, rows)[a.Rows:])
					clear(view[float32](a.Sum, rows)[a.Rows:])
				}
			}
			other := *m
			other.mod.Tiers = []Tier{tier}
			s := newSession(t, other.open(t, Options{Threads: tt.threads}), SessionOptions{})
			expect(t, s, m, seqs, hidden, logits)
			if most.calls != tt.calls || most.rows != tt.queries {
				t.Errorf("%d calls share a block of keys, of %d queries at most, want %d of %d", most.calls, most.rows, tt.calls, tt.queries)
			}
		})
	}
}
