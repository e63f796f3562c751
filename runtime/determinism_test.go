package rt

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"unsafe"
)

// This file tests the promise that a sequence has the same bits however it is computed.

// lengths has sequences of one to two blocks of keys, and some that share blocks of rows.
var lengths = []int{1, 2, 31, 66, 7, 1, 64}

// alone returns the hidden states and the logits of the last token of each sequence, computed
// one by one on one thread.
func alone(t testing.TB, m *testModel, seqs [][]int32) (hidden, logits [][]float32) {
	t.Helper()
	s := newSession(t, m.open(t, Options{Kernels: PortableTier, Threads: 1}), SessionOptions{})
	for _, seq := range seqs {
		h, l := encode(t, s, seq, []int32{0, int32(len(seq))}, []int32{int32(len(seq) - 1)})
		hidden, logits = append(hidden, h), append(logits, l)
	}
	return hidden, logits
}

// encode returns copies of the results of a batch.
func encode(t testing.TB, s *Session, ids, offsets, rows []int32) (hidden, logits []float32) {
	t.Helper()
	if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
		t.Error(err)
		return nil, nil
	}
	hidden = slices.Clone(s.Hidden())
	logits, err := s.Logits(context.Background(), rows)
	if err != nil {
		t.Error(err)
	}
	return hidden, slices.Clone(logits)
}

// expect encodes sequences as one batch and compares the bits.
func expect(t testing.TB, s *Session, m *testModel, seqs [][]int32, hidden, logits [][]float32) {
	t.Helper()
	ids, offsets := join(seqs)
	var rows []int32
	for _, end := range offsets[1:] {
		rows = append(rows, end-1)
	}
	h, l := encode(t, s, ids, offsets, rows)
	for i := range seqs {
		if !slices.Equal(h[int(offsets[i])*m.hidden:int(offsets[i+1])*m.hidden], hidden[i]) {
			t.Errorf("hidden states of sequence %d differ from those of the sequence alone", i)
		}
		if !slices.Equal(l[i*m.vocab:(i+1)*m.vocab], logits[i]) {
			t.Errorf("logits of sequence %d differ from those of the sequence alone", i)
		}
	}
}

func setProcs(t testing.TB, n int) {
	old := runtime.GOMAXPROCS(n)
	t.Cleanup(func() { runtime.GOMAXPROCS(old) })
}

func TestSameBits(t *testing.T) {
	setProcs(t, 8)
	for name, shape := range shapes {
		t.Run(name, func(t *testing.T) {
			m := newTestModel(shape, 2)
			seqs := m.sequences(2, lengths...)
			hidden, logits := alone(t, m, seqs)
			for _, threads := range []int{1, 2, 3, 8} {
				model := m.open(t, Options{Kernels: PortableTier, Threads: threads})
				s := newSession(t, model, SessionOptions{MaxPicked: 10})
				for range 2 {
					expect(t, s, m, seqs, hidden, logits)
					order := m.rng.Perm(len(seqs))
					shuffle := func(x [][]float32) (y [][]float32) {
						for _, i := range order {
							y = append(y, x[i])
						}
						return y
					}
					var mixed [][]int32
					for _, i := range order {
						mixed = append(mixed, seqs[i])
					}
					expect(t, s, m, mixed, shuffle(hidden), shuffle(logits))
				}
			}
		})
	}
}

// Kernels with other blocks, and work cut into other items, must not change a bit either.
func TestSameBitsOtherBlocks(t *testing.T) {
	m := newTestModel(shapes["bf16/rmsnorm"], 3)
	seqs := m.sequences(3, lengths...)
	hidden, logits := alone(t, m, seqs)
	for _, rows := range []int{1, 2, 5, 64} {
		t.Run(fmt.Sprint(rows), func(t *testing.T) {
			tier := portableTier(&m.mod)
			tier.Name = "blocks"
			for i := range tier.Impls {
				im := &tier.Impls[i]
				im.BlockM, im.MicroM = rows, rows
				if k := &m.mod.Kernels[i]; k.Kind == Gemm {
					im.BlockN = k.Group
				}
			}
			other := *m
			other.mod.Tiers = []Tier{tier}
			s := newSession(t, other.open(t, Options{}), SessionOptions{})
			expect(t, s, m, seqs, hidden, logits)
		})
	}
}

// A call is bounded: a wide matmul is cut into calls of fewer panels and of fewer rows.
func TestCallsAreBounded(t *testing.T) {
	const micro = 4
	wide := shapes["bf16/rmsnorm"]
	wide.ff, wide.layers = 20000, 1
	m := newTestModel(wide, 5)
	seqs := m.sequences(5, 3, 40)
	hidden, logits := alone(t, m, seqs)
	tier := portableTier(&m.mod)
	tier.Name = "bounded"
	var cut atomic.Bool
	for i := range tier.Impls {
		k, im := &m.mod.Kernels[i], &tier.Impls[i]
		if k.Kind != Gemm {
			continue
		}
		im.MicroM = micro
		im.Block = func(a *GemmArgs) {
			if macs := a.Rows * a.Panels * panelN * k.KPad; macs > callMACs {
				t.Errorf("%s: %d rows and %d panels of %d: %d", k.Name, a.Rows, a.Panels, k.KPad, macs)
			}
			if k.Name == "down" && a.Rows < portableRows && a.Rows%micro == 0 {
				cut.Store(true)
			}
			for r := 0; r < a.Rows; r += micro {
				part := *a
				part.Rows = min(micro, a.Rows-r)
				part.A = unsafe.Add(a.A, r*im.RowBytes)
				part.Dst = unsafe.Add(a.Dst, r*a.DstStride)
				if k.Residual {
					part.Res = unsafe.Add(a.Res, r*a.ResStride)
				}
				if k.Rope {
					part.Pos = unsafe.Add(a.Pos, 4*r)
				}
				portableBlock(k, &part)
			}
		}
	}
	m.mod.Tiers = []Tier{tier}
	s := newSession(t, m.open(t, Options{}), SessionOptions{})
	expect(t, s, m, seqs, hidden, logits)
	if !cut.Load() {
		t.Error("no block of rows was cut")
	}
}

// TestGemmCall: a call does as much as both bounds allow, of products and of weights, in whole groups
// of panels and, where it must not do all rows, whole tiles of them.
func TestGemmCall(t *testing.T) {
	im := &Impl{MicroM: 32, CallMACs: 32 << 20}
	for _, tt := range []struct{ kPad, group, rows, wantRows, wantPanels int }{
		{1536, 1, 1, 1, 10},     // 1 MiB of weights
		{1536, 4, 1, 1, 8},      // in groups
		{1536, 1, 256, 256, 2},  // products
		{1536, 1, 32, 32, 10},   // both
		{16384, 4, 1, 1, 4},     // a group of 4 MiB
		{1536, 1, 4096, 672, 1}, // whole tiles of rows
		{16384, 4, 4096, 32, 4}, // one tile of rows is more than it should do
	} {
		k := &Kernel{KPad: tt.kPad, Group: tt.group, PanelBytes: panelN * tt.kPad * 2}
		rows, panels := gemmCall(k, im, tt.rows)
		if rows != tt.wantRows || panels != tt.wantPanels {
			t.Errorf("%+v: %d rows, %d panels", tt, rows, panels)
		}
	}
}

func TestConcurrentSessions(t *testing.T) {
	for _, procs := range []int{2, 8} {
		t.Run(fmt.Sprint(procs), func(t *testing.T) {
			setProcs(t, procs)
			m := newTestModel(shapes["bf16/rmsnorm"], 4)
			seqs := m.sequences(4, 3, 70, 20)
			hidden, logits := alone(t, m, seqs)
			model := m.open(t, Options{Threads: procs})
			stop := make(chan struct{})
			storm := make(chan struct{})
			go func() {
				defer close(storm)
				for {
					select {
					case <-stop:
						return
					default:
						runtime.GC()
					}
				}
			}()
			var group sync.WaitGroup
			for range 4 {
				s := newSession(t, model, SessionOptions{MaxTokens: 100})
				group.Go(func() {
					for range 5 {
						expect(t, s, m, seqs, hidden, logits)
					}
				})
			}
			group.Wait()
			close(stop)
			<-storm
		})
	}
}
