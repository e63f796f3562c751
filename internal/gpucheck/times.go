package gpucheck

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the times of the full size.

// shapes are the batches that are timed: sequences × tokens.
var shapes = [][2]int{{1, 32}, {1, 512}, {8, 128}, {4, 512}, {8, 512}, {16, 512}, {4, 2048}, {32, 512}}

// calls is how many times a batch is encoded, of which the median counts, and repeats how many
// times a step runs in a row.
const (
	calls   = 11
	repeats = 50
)

// fullTimes times the full size.
func (c *checker) fullTimes(ctx context.Context, work string) error {
	c.now("full size, the model whose calls are timed")
	m, err := compile(ctx, work, full(c.Layers, 99584))
	if err != nil {
		return err
	}
	defer m.Close()
	return c.times(ctx, m, shapes, repeats)
}

// times prints and reports the time of whole calls of the encoder and of single steps.
func (c *checker) times(ctx context.Context, m *compiled, shapes [][2]int, repeats int) error {
	// The sessions are those of the device itself: a benchmark asks them for more than package rt.
	weights, err := m.onCPU()
	if err != nil {
		return err
	}
	defer weights.Close()
	d, err := c.Open()
	if err != nil {
		return err
	}
	start := time.Now()
	device, err := cuda.Open(d, weights, &m.Tables, &m.GPU.Program, m.GPU.PTX)
	if err != nil {
		return err
	}
	defer device.Close()
	fmt.Fprintf(c.w, "\n%d layers: %.1f GiB of weights uploaded in %s.\n",
		m.Config.NumHiddenLayers, float64(m.Manifest.FileBytes)/(1<<30), time.Since(start).Round(time.Millisecond))
	fmt.Fprintf(c.w, "Times are medians of %d calls, host to host; TFLOP/s count matmuls and attention.\n", calls)
	found := Times{Config: m.config, Kernels: m.kernels()}
	for _, shape := range shapes {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := fmt.Sprintf("%d×%d", shape[0], shape[1])
		c.now("full size, times of " + name)
		s, err := c.shape(m, device, shape[0], shape[1], repeats)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		found.Shapes = append(found.Shapes, s)
		c.mu.Lock()
		c.report.Times = &Times{found.Config, found.Kernels, slices.Clone(found.Shapes)}
		c.mu.Unlock()
	}
	return nil
}

// kernels returns the kernels of the encoder.
func (c *compiled) kernels() []Kernel {
	var out []Kernel
	for i := range c.Tables.EncodeSteps {
		k := c.Result.Program.Kernels[c.Tables.Steps[i].Kernel]
		at := slices.IndexFunc(out, func(o Kernel) bool { return o.Name == k.Name })
		if at < 0 {
			at = len(out)
			out = append(out, Kernel{Name: k.Name, Kind: string(k.Spec.Kind)})
			if k.Spec.Kind == kernel.Gemm {
				out[at].N, out[at].K = k.Spec.WeightRows(), k.Spec.K
			}
		}
		out[at].Steps++
	}
	return out
}

// shape times one batch.
func (c *checker) shape(m *compiled, device rt.Device, sequences, length, repeats int) (Shape, error) {
	found := Shape{Sequences: sequences, Length: length}
	tokens := sequences * length
	session, err := device.NewSession(rt.DeviceOptions{MaxTokens: tokens, MaxPicked: 16})
	if err != nil {
		return found, err
	}
	defer session.Close()
	ids, positions, starts := m.batch(slices.Repeat([]int{length}, sequences)...)
	var took []time.Duration
	for range calls + 2 { // the first two make the graph
		begin := time.Now()
		if err := session.Encode(ids, positions, starts); err != nil {
			return found, err
		}
		took = append(took, time.Since(begin))
	}
	took = took[2:]
	slices.Sort(took)
	median := took[len(took)/2]
	found.Seconds = median.Seconds()
	flops := func(step int) float64 {
		s := m.Result.Program.Kernels[m.Tables.Steps[step].Kernel].Spec
		if s.Kind == kernel.Attention {
			return float64(sequences) * float64(s.Flops(length))
		}
		return float64(s.Flops(tokens))
	}
	total := 0.0
	for i := range m.Tables.EncodeSteps {
		total += flops(i)
	}
	fmt.Fprintf(c.w, "\n%7s  %9.3f ms  %9.0f tokens/s  %6.0f TFLOP/s\n", fmt.Sprintf("%d×%d", sequences, length),
		milliseconds(median), float64(tokens)/median.Seconds(), total/median.Seconds()/1e12)
	steps, err := session.(*cuda.Session).Times(ids, positions, starts, repeats)
	if err != nil {
		return found, err
	}
	for _, s := range steps {
		t := StepTime{m.Tables.Kernels[m.Tables.Steps[s.Step].Kernel].Name, s.Time.Seconds(), flops(s.Step)}
		found.Steps = append(found.Steps, t)
		fmt.Fprintf(c.w, "  %-18s  %9.1f µs  %6.0f TFLOP/s\n", t.Kernel, 1e6*t.Seconds, t.Flops/t.Seconds/1e12)
	}
	return found, nil
}

func milliseconds(d time.Duration) float64 { return 1e3 * d.Seconds() }
