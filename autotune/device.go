package autotune

// This file owns tuning for a GPU: its batches, and the candidates as models on it.

import (
	"context"
	"fmt"
	"math/bits"
	"path/filepath"
	"slices"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/bench"
	"github.com/bertc/bertc/internal/gpucheck"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/program"
	rt "github.com/bertc/bertc/runtime"
	"github.com/bertc/bertc/runtime/cuda"
)

// DeviceTokens are the batches to measure a GPU at: a plan says what runs for more than 4096 rows,
// smaller batches have tiles of their own (kernel, WgmmaVariants).
var DeviceTokens = []int{8192, 16384}

const (
	deviceSequence = 512     // most tokens of a sequence of a batch
	deviceBatch    = 1 << 16 // most tokens of a batch
	// deviceRepeats is how many times a kernel runs in a row for a sample: 3 to 15 ms of a
	// matmul of the full size at 8192 rows, by the prediction of docs/h100.md.
	deviceRepeats = 50
)

// checkDevice is the part of Options.Check for a GPU: batches are of whole sequences.
func checkDevice(tokens []int, longest int) error {
	for _, n := range tokens {
		if n < 1 || n > deviceBatch || n%sequenceOf(n, longest) != 0 {
			return fmt.Errorf("--tokens %d: a batch of the GPU is of at most %d tokens, and above %d of a multiple of it",
				n, deviceBatch, sequenceOf(deviceBatch, longest))
		}
	}
	return nil
}

// sequenceOf returns the length of the sequences that make a batch of so many tokens: a power of two,
// as the usual sizes of batches are, or all tokens where they are fewer.
func sequenceOf(tokens, longest int) int {
	return min(tokens, 1<<(bits.Len(uint(min(longest, deviceSequence)))-1))
}

// Fingerprint identifies a kind of GPU and its driver, which compiles the kernels: compute
// capability, which is the family, name, multiprocessors and CUDA version, "NVIDIA
// sm_90-NVIDIA H100 80GB HBM3-132-12.8". Without a GPU to open it is the family that the kernels are
// for.
func Fingerprint(open func() (cuda.Driver, error)) string {
	d, err := open()
	if err != nil {
		return "NVIDIA sm_90"
	}
	defer d.Close()
	i := d.Info()
	return fmt.Sprintf("NVIDIA sm_%d%d-%s-%d-%s", i.Major, i.Minor, i.Name, i.SMs, i.CUDA())
}

// batch is equal sequences: what one of them gives, each of them must give.
type batch struct {
	tokens, length         int
	ids, positions, starts []int32
}

func newBatch(tokens int, cfg bert.Config) batch {
	b := batch{tokens: tokens, length: sequenceOf(tokens, cfg.MaxPositionEmbeddings), starts: []int32{0}}
	one := bench.Shape{Lengths: []int{b.length}}.Request(cfg.VocabSize).IDs
	b.ids = slices.Repeat(one, tokens/b.length)
	for i := range tokens {
		b.positions = append(b.positions, int32(i%b.length))
	}
	for end := b.length; end <= tokens; end += b.length {
		b.starts = append(b.starts, int32(end))
	}
	return b
}

// runDevice opens the small model on the GPU once for each tier, checks and times all of them.
func (t *tuner) runDevice(ctx context.Context, cfg bert.Config, r pipeline.Result) error {
	t.machine = Fingerprint(t.Open)
	weights, err := rt.Open(&r.Tables, filepath.Join(r.Dir, pipeline.WeightFile), rt.Options{})
	if err != nil {
		return err
	}
	defer weights.Close()
	batches := map[int]batch{} // by tokens
	for _, n := range t.Tokens {
		batches[n] = newBatch(n, cfg)
	}
	var sessions []*cuda.Session
	for i := range t.plans {
		device, err := t.openDevice(i, weights, r)
		if err != nil {
			return err
		}
		defer device.Close()
		s, err := device.NewSession(rt.DeviceOptions{MaxTokens: slices.Max(t.Tokens), MaxPicked: 1})
		if err != nil {
			return err
		}
		defer s.Close()
		sessions = append(sessions, s.(*cuda.Session))
	}
	verified, err := t.verifyDevice(ctx, weights, sessions, batches)
	if err != nil {
		return err
	}
	return t.rounds(ctx, verified, func(tier, tokens int) (map[string]int64, error) {
		b := batches[tokens]
		steps, err := sessions[tier].Times(b.ids, b.positions, b.starts, t.repeats)
		times := map[string]int64{}
		for _, s := range steps {
			times[t.p.Steps[s.Step].Kernel] = s.Time.Nanoseconds()
		}
		return times, err
	})
}

// openDevice opens the model on the GPU with the plans of a tier.
func (t *tuner) openDevice(tier int, weights *rt.Model, r pipeline.Result) (rt.Device, error) {
	p := program.Program{Buffers: t.p.Buffers}
	for i, k := range t.p.Kernels {
		p.Kernels = append(p.Kernels, program.Kernel{Name: k.Name, Spec: k.Spec, Plans: t.plans[tier][i : i+1]})
	}
	g, err := pipeline.GPUCode(&p)
	if err != nil {
		return nil, err
	}
	d, err := t.Open()
	if err != nil {
		return nil, err
	}
	return cuda.Open(d, weights, &r.Tables, &g.Program, g.PTX)
}

// verifyDevice compares the hidden states of a sequence with those of the CPU, within the budget of
// bf16, and those of each sequence of each batch with those of the sequence alone, which has tiles for
// few rows: the contract of a launch table wants equal bits.
func (t *tuner) verifyDevice(ctx context.Context, weights *rt.Model, sessions []*cuda.Session, batches map[int]batch) ([]bool, error) {
	cpu, err := weights.NewSession(rt.SessionOptions{MaxTokens: min(slices.Max(t.Tokens), deviceSequence)})
	if err != nil {
		return nil, err
	}
	defer cpu.Close()
	ok := slices.Repeat([]bool{true}, len(sessions))
	for _, n := range t.Tokens {
		b := batches[n]
		ends := []int32{0, int32(b.length)}
		if err := cpu.Encode(ctx, b.ids[:b.length], nil, ends); err != nil {
			return nil, err
		}
		want := num.Float64s(cpu.Hidden())
		for i, s := range sessions {
			if err := s.Encode(b.ids[:b.length], b.positions[:b.length], ends); err != nil {
				return nil, err
			}
			alone := slices.Clone(s.Hidden()[:len(want)])
			// A NaN is not within the budget.
			ok[i] = ok[i] && num.RelL2(num.Float64s(alone), want) <= gpucheck.Budget
			if err := s.Encode(b.ids, b.positions, b.starts); err != nil {
				return nil, err
			}
			for same := range slices.Chunk(s.Hidden()[:b.tokens/b.length*len(want)], len(want)) {
				ok[i] = ok[i] && slices.Equal(same, alone)
			}
		}
	}
	return ok, nil
}
