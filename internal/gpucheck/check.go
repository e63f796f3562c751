package gpucheck

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/bertc/bertc/codegen/ptx"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	rt "github.com/bertc/bertc/runtime"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the comparisons.

// Budget bounds the relative distance of a bf16 run from the interpreter: 1.5 times that of PyTorch
// in bf16 from float64 at the full size, as in internal/pipeline's tests.
const Budget = 1.5 * 0.0164

// stepBudget bounds that of one step between two devices that ran the same text: values that are
// equal but for the order of sums, of which some round to the neighbour in bf16, 2^-8 away, and
// carry that through the layers.
const stepBudget = 1.0 / 256

// Options says what is checked.
type Options struct {
	// Open opens the device under test.
	Open func() (cuda.Driver, error)
	// Emulator, when not nil, opens the emulator: each step is held against it.
	Emulator func() (cuda.Driver, error)
	// Layers is how many layers of the full size are timed; 0: neither compared nor timed.
	Layers int
}

// checker collects the results.
type checker struct {
	Options
	w io.Writer

	mu     sync.Mutex
	report Report
	doing  string // what runs, for the message about a kernel that hangs
}

// Run checks the device and writes a line for each result. After an error the report is of what ran
// before it. An interrupt ends it at once, for nothing ends a kernel that hangs: the error says what ran,
// and the device is left to the end of the process.
func Run(ctx context.Context, w io.Writer, o Options) (*Report, error) {
	work, err := os.MkdirTemp("", "bertc-check-*")
	if err != nil {
		return &Report{}, err
	}
	defer os.RemoveAll(work)
	c := &checker{Options: o, w: w, report: Report{Version: pipeline.Version()}}
	done := make(chan error, 1)
	go func() { done <- c.run(ctx, work) }()
	select {
	case err = <-done:
	case <-ctx.Done():
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	report := c.report // the run may go on
	if ctx.Err() != nil {
		err = fmt.Errorf("%s: %w", c.doing, ctx.Err())
	}
	return &report, err
}

// now says what runs.
func (c *checker) now(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doing = what
}

func (c *checker) run(ctx context.Context, work string) error {
	c.now("probes")
	if err := c.device(); err != nil {
		return err
	}
	for _, cfg := range small {
		m, err := compile(ctx, work, cfg)
		if err == nil {
			err = c.model(ctx, cfg.name, m)
			m.Close()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", cfg.name, err)
		}
	}
	if c.Layers == 0 {
		return nil
	}
	c.now("full size, 2 layers")
	m, err := compile(ctx, work, full(2, 8192))
	if err == nil {
		err = c.fullSize(ctx, m, 1, 3, 7, 15)
		m.Close()
	}
	if err == nil {
		err = c.fullTimes(ctx, work)
	}
	if err != nil {
		return fmt.Errorf("full size: %w", err)
	}
	return nil
}

// device says what the device is, and asks it the questions that all kernels rely on.
func (c *checker) device() error {
	d, err := c.Open()
	if err != nil {
		return err
	}
	defer d.Close()
	i := d.Info()
	c.mu.Lock()
	c.report.Device, c.report.SMs, c.report.Driver = i.Name, i.SMs, i.CUDA()
	c.mu.Unlock()
	fmt.Fprintf(c.w, "%s, compute capability %d.%d, %d multiprocessors, %.0f GiB\n\n", i.Name, i.Major, i.Minor, i.SMs, float64(i.Memory)/(1<<30))
	probes := ptx.Probes()
	found, err := ptx.RunProbes(d, probes)
	if err != nil {
		return err
	}
	wrong := 0
	for i, err := range found {
		if err != nil {
			wrong++
			c.say(false, probes[i].Name, probes[i].Asks, "%v", err)
		}
	}
	c.say(wrong == 0, "probes", "wgmma and TMA as documented", "%d of %d", len(probes)-wrong, len(probes))
	return nil
}

// say writes a result.
func (c *checker) say(ok bool, model, what, format string, args ...any) {
	verdict := "ok"
	if !ok {
		verdict = "FAILED"
	}
	found := fmt.Sprintf(format, args...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Checks = append(c.report.Checks, Check{OK: ok, Model: model, What: what, Found: found})
	fmt.Fprintf(c.w, "%-6s  %-16s  %-34s  %s\n", verdict, model, what, found)
}

// model checks one small model.
func (c *checker) model(ctx context.Context, name string, m *compiled) error {
	if err := c.steps(ctx, name, m); err != nil {
		return err
	}
	c.now(name + ", whole calls")
	gpu, err := m.onDevice(c.Open)
	if err != nil {
		return err
	}
	defer gpu.Close()
	s, err := gpu.NewSession(rt.SessionOptions{MaxTokens: 512})
	if err != nil {
		return err
	}
	defer s.Close()
	lengths := []int{40, 1, 17, 2}
	ids, positions, offsets := m.batch(lengths...)
	want, _, err := m.Eval(pipeline.Batch{Rows: len(lengths), Cols: slices.Max(lengths), IDs: ids, Positions: positions, Offsets: offsets}, ir.BF16, false)
	if err != nil {
		return err
	}
	encode := func(ids, offsets []int32) ([]float32, error) {
		err := s.Encode(ctx, ids, nil, offsets)
		return slices.Clone(s.Hidden()), err
	}
	first, err := encode(ids, offsets)
	if err != nil {
		return err
	}
	e := num.RelL2(num.Float64s(first), num.Float64s(want))
	c.say(e <= Budget, name, "hidden states, interpreter", "apart by %.4f, budget %.4f", e, Budget)
	same := true
	for range 2 { // the second call of a size captures a graph, the third launches it
		again, err := encode(ids, offsets)
		if err != nil {
			return err
		}
		same = same && slices.Equal(again, first)
	}
	c.say(same, name, "again, as a graph", "same bits: %v", same)
	same = true
	width := m.Tables.HiddenSize
	for i := range lengths {
		lo, hi := offsets[i], offsets[i+1]
		alone, err := encode(ids[lo:hi], []int32{0, hi - lo})
		if err != nil {
			return err
		}
		same = same && slices.Equal(alone, first[int(lo)*width:int(hi)*width])
	}
	c.say(same, name, "each sequence alone", "same bits: %v", same)
	return c.head(ctx, name, m, s, ids, offsets)
}

// head compares the best entries with the logits.
func (c *checker) head(ctx context.Context, name string, m *compiled, s *rt.Session, ids, offsets []int32) error {
	if err := s.Encode(ctx, ids, nil, offsets); err != nil {
		return err
	}
	rows := []int32{3, 0, int32(len(ids) - 1)}
	const k = 10
	got, scores, err := s.TopK(ctx, rows, k)
	if err != nil {
		return err
	}
	logits, err := s.Logits(ctx, rows)
	if err != nil {
		return err
	}
	width := m.Tables.LogitsSize
	ok, worst := true, 0.0
	for r := range rows {
		row := logits[r*width:][:width]
		order := make([]int32, width)
		top, sum := slices.Max(row), 0.0
		for i, x := range row {
			order[i] = int32(i)
			sum += math.Exp(float64(x - top))
		}
		slices.SortStableFunc(order, func(a, b int32) int {
			switch {
			case row[a] > row[b]:
				return -1
			case row[a] < row[b]:
				return 1
			}
			return 0
		})
		ok = ok && slices.Equal(got[r*k:][:k], order[:k])
		for i, id := range order[:k] {
			p := math.Exp(float64(row[id]-top)) / sum
			worst = max(worst, math.Abs(scores[r*k+i]-p)/p)
		}
	}
	// The device sums exponentials in f32, each with an error of 2^-22 (PTX ISA, ex2.approx).
	c.say(ok && worst < 1e-5, name, "best entries of the logits", "in order: %v, probabilities apart by %.1e", ok, worst)
	return nil
}

// record runs a batch and returns the result of each step. It calls begin before each.
func record(ctx context.Context, m *compiled, open func() (cuda.Driver, error), ids, offsets []int32, begin func(step int)) (steps [][]byte, err error) {
	begin(0)
	gpu, err := m.onDevice(open)
	if err != nil {
		return nil, err
	}
	defer gpu.Close()
	s, err := gpu.NewSession(rt.SessionOptions{MaxTokens: len(ids), Observe: func(step int, _ string, _ int, dst []byte) {
		steps = append(steps, bytes.Clone(dst))
		begin(step + 1)
	}})
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return steps, s.Encode(ctx, ids, nil, offsets)
}

// steps holds each step against the emulator, which runs the same text.
func (c *checker) steps(ctx context.Context, name string, m *compiled) error {
	if c.Emulator == nil {
		return nil
	}
	ids, _, offsets := m.batch(30, 5)
	got, err := record(ctx, m, c.Open, ids, offsets, func(step int) { c.now(name + ", " + stepName(&m.Tables, step)) })
	if err != nil {
		return err
	}
	want, err := record(ctx, m, c.Emulator, ids, offsets, func(int) { c.now(name + ", the emulator") })
	if err != nil {
		return err
	}
	equal, worst, at := 0, 0.0, 0
	for i := range got {
		b := m.Tables.Buffers[m.Tables.Steps[i].Dst-1]
		e := num.RelL2(values(got[i], b.DType), values(want[i], b.DType))
		if e > worst {
			worst, at = e, i
		}
		if bytes.Equal(got[i], want[i]) {
			equal++
		}
	}
	c.say(worst <= stepBudget, name, "steps, emulator", "%d of %d have the same bits; worst %.1e, %s", equal, len(got), worst, stepName(&m.Tables, at))
	return nil
}

// values reads the elements of a result.
func values(data []byte, d rt.DType) []float64 {
	out := make([]float64, len(data)/d.Size())
	for i := range out {
		if d == rt.BF16 {
			out[i] = float64(num.FromBF16(uint16(data[2*i]) | uint16(data[2*i+1])<<8))
			continue
		}
		bits := uint32(data[4*i]) | uint32(data[4*i+1])<<8 | uint32(data[4*i+2])<<16 | uint32(data[4*i+3])<<24
		out[i] = float64(math.Float32frombits(bits))
	}
	return out
}

// fullSize compares the kernels of the full size with those of the CPU in Go, and the tiles of large
// batches, with so many sequences of 512 tokens more, with those of a small one.
func (c *checker) fullSize(ctx context.Context, m *compiled, more ...int) error {
	cpu, err := m.onCPU()
	if err != nil {
		return err
	}
	defer cpu.Close()
	gpu, err := m.onDevice(c.Open)
	if err != nil {
		return err
	}
	defer gpu.Close()
	ids, _, offsets := m.batch(1, 150, 300)
	rows := []int32{0, 100, 450}
	var hidden, logits [2][]float64
	for i, model := range []*rt.Model{cpu, gpu} {
		s, err := model.NewSession(rt.SessionOptions{MaxTokens: len(ids)})
		if err != nil {
			return err
		}
		defer s.Close()
		if err := s.Encode(ctx, ids, nil, offsets); err != nil {
			return err
		}
		hidden[i] = num.Float64s(s.Hidden())
		l, err := s.Logits(ctx, rows)
		if err != nil {
			return err
		}
		logits[i] = num.Float64s(l)
	}
	e := num.RelL2(hidden[1], hidden[0])
	c.say(e <= Budget, "full size", "hidden states, 2 layers, CPU", "apart by %.4f, budget %.4f", e, Budget)
	e = num.RelL2(logits[1], logits[0])
	c.say(e <= Budget, "full size", "logits, 2 layers, CPU", "apart by %.4f, budget %.4f", e, Budget)
	for _, n := range more {
		all, _, ends := m.batch(append([]int{1, 150, 300}, slices.Repeat([]int{512}, n)...)...)
		s, err := gpu.NewSession(rt.SessionOptions{MaxTokens: len(all)})
		if err != nil {
			return err
		}
		err = s.Encode(ctx, all, nil, ends)
		same := err == nil && slices.Equal(num.Float64s(s.Hidden()[:len(hidden[1])]), hidden[1])
		s.Close()
		if err != nil {
			return err
		}
		c.say(same, "full size", fmt.Sprintf("among %d tokens", len(all)), "same bits: %v", same)
	}
	return nil
}
