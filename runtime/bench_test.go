package rt

import (
	"context"
	"fmt"
	"testing"
)

// BenchmarkEncode is a small model with the portable kernels.
func BenchmarkEncode(b *testing.B) {
	small := shape{vocab: 1000, positions: 256, hidden: 256, ff: 512, layers: 2, heads: 4, kvHeads: 2, headDim: 64, norm: RMSNorm, dtype: BF16, act: BF16}
	m := newTestModel(small, 30)
	for _, n := range []int{1, 16, 128} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			s := newSession(b, m.open(b, Options{Kernels: PortableTier}), SessionOptions{})
			ids, offsets := join(m.sequences(30, n))
			for b.Loop() {
				if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkPhase is the cost of a step whose kernel does nothing: opening a phase, sharing out
// eight items a thread, and the barrier.
func BenchmarkPhase(b *testing.B) {
	const steps = 100
	m := newTestModel(shapes["f32/rmsnorm"], 31)
	for len(m.mod.Steps) > 0 && m.mod.Steps[0].Name != "final" {
		m.mod.Steps = m.mod.Steps[1:]
	}
	final := m.mod.Steps[0]
	m.mod.Steps = nil
	for range steps {
		m.mod.Steps = append(m.mod.Steps, final)
	}
	m.mod.EncodeSteps = steps
	m.mod.Logits = 0
	tier := portableTier(&m.mod)
	tier.Name = "nothing"
	tier.Impls[final.Kernel] = Impl{BlockM: 1, Row: func(*RowArgs) {}}
	m.mod.Tiers = []Tier{tier}
	for _, threads := range []int{1, 2} {
		b.Run(fmt.Sprint(threads), func(b *testing.B) {
			s := newSession(b, m.open(b, Options{Threads: threads}), SessionOptions{})
			ids, offsets := join(m.sequences(31, 16))
			for b.Loop() {
				if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*steps), "ns/step")
		})
	}
}
