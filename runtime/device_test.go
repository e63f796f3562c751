package rt

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
)

// double is a Device that computes on the CPU.
type double struct {
	cpu     *Model
	maxTopK int
	closed  int
}

type doubleSession struct {
	*double
	s      *Session
	hidden []float32
}

func (d *double) Name() string { return "a double" }
func (d *double) Close() error { d.closed++; return d.cpu.Close() }

func (d *double) NewSession(o DeviceOptions) (DeviceSession, error) {
	s, err := d.cpu.NewSession(SessionOptions{MaxTokens: o.MaxTokens, MaxPicked: o.MaxPicked})
	return &doubleSession{d, s, make([]float32, o.MaxTokens*d.cpu.mod.HiddenSize)}, err
}

func (d *doubleSession) Hidden() []float32 { return d.hidden }
func (d *doubleSession) Close() error      { d.closed++; return d.s.Close() }

func (d *doubleSession) Encode(ids, positions, starts []int32) error {
	if err := d.s.Encode(context.Background(), ids, positions, starts); err != nil {
		return err
	}
	copy(d.hidden, d.s.Hidden())
	return nil
}

func (d *doubleSession) Logits(rows []int32, logits []float32) error {
	l, err := d.s.Logits(context.Background(), rows)
	copy(logits, l)
	return err
}

func (d *doubleSession) TopK(rows []int32, k int) (ids []int32, logits, sums []float32, ok bool, err error) {
	if k > d.maxTopK {
		return nil, nil, nil, false, nil
	}
	all, err := d.s.Logits(context.Background(), rows)
	for width := d.cpu.mod.LogitsSize; len(all) > 0; all = all[width:] {
		row := all[:width]
		top, sum := slices.Max(row), 0.0
		for _, x := range row {
			sum += math.Exp(float64(x - top))
		}
		sums = append(sums, top, float32(sum))
		order := make([]int32, width)
		for i := range order {
			order[i] = int32(i)
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
		for _, id := range order[:k] {
			ids, logits = append(ids, id), append(logits, row[id])
		}
	}
	return ids, logits, sums, true, err
}

// TestDevice: a session on a device gives what the device computes, in every way of asking.
func TestDevice(t *testing.T) {
	m := newTestModel(shapes["bf16/rmsnorm"], 11)
	path := writeFile(t, m.file())
	cpu := m.open(t, Options{Kernels: PortableTier})
	d := &double{cpu: m.open(t, Options{Kernels: PortableTier}), maxTopK: 4}
	model, err := Open(&m.mod, path, Options{Device: "double", Accelerator: &Accelerator{"double", func(*Model) (Device, error) { return d, nil }}})
	if err != nil {
		t.Fatal(err)
	}
	if got := model.Info().Device; got != d.Name() {
		t.Errorf("the model runs on %q", got)
	}
	o := SessionOptions{MaxTokens: 64, MaxPicked: 3}
	want, got := newSession(t, cpu, o), newSession(t, model, o)
	ids, offsets := join(m.sequences(3, 1, 20, 9))
	rows := []int32{29, 0, 5, 7, 5}
	for _, s := range []*Session{want, got} {
		if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(got.Hidden(), want.Hidden()) {
		t.Error("hidden states differ")
	}
	a, err1 := want.Logits(context.Background(), rows[:3])
	b, err2 := got.Logits(context.Background(), rows[:3])
	if err1 != nil || err2 != nil || !slices.Equal(a, b) {
		t.Errorf("logits differ (%v, %v)", err1, err2)
	}
	for _, k := range []int{1, 4, 5, m.vocab + 1} {
		ids1, p1, err1 := want.TopK(context.Background(), rows, k)
		ids2, p2, err2 := got.TopK(context.Background(), rows, k)
		if err1 != nil || err2 != nil || !slices.Equal(ids1, ids2) {
			t.Errorf("the best %d differ (%v, %v): %v, want %v", k, err1, err2, ids2, ids1)
		}
		for i := range p1 {
			if math.Abs(p1[i]-p2[i]) > 1e-6 { // the device's sum is an f32
				t.Errorf("the best %d: probability %v, want %v", k, p2[i], p1[i])
			}
		}
	}
	if err := got.Encode(context.Background(), nil, nil, nil); err != nil || len(got.Hidden()) != 0 {
		t.Errorf("an empty batch: %v, %d hidden states", err, len(got.Hidden()))
	}
	if _, err := got.Logits(context.Background(), rows[:1]); !errors.As(err, new(ErrRow)) {
		t.Errorf("a row of the batch before: %v", err)
	}
	done, cancel := context.WithCancel(context.Background())
	cancel()
	if err := got.Encode(done, ids, nil, offsets); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled call: %v", err)
	}
	if got.Close(); d.closed != 1 {
		t.Error("closing the session does not close that of the device")
	}
	if model.Close(); d.closed != 2 {
		t.Error("closing the model does not close the device")
	}
}

// TestDeviceChoice: which device runs, and what is said where it cannot.
func TestDeviceChoice(t *testing.T) {
	m := newTestModel(shapes["f32/rmsnorm"], 12)
	path := writeFile(t, m.file())
	broken := &Accelerator{"gpu", func(*Model) (Device, error) { return nil, errors.New("it is not there") }}
	for _, c := range []struct {
		device      string
		accelerator *Accelerator
		err, reason string
	}{
		{"", broken, "", ""},
		{DeviceCPU, broken, "", ""},
		{DeviceAuto, nil, "", ""},
		{DeviceAuto, broken, "", "gpu: it is not there"},
		{"gpu", broken, `options: device "gpu": it is not there`, ""},
		{"gpu", nil, `options: device "gpu": the package runs on the CPU only`, ""},
		{"tpu", broken, `options: device "tpu": unknown, the package knows cpu, gpu and auto`, ""},
	} {
		model, err := Open(&m.mod, path, Options{Device: c.device, Accelerator: c.accelerator})
		if err != nil || c.err != "" {
			if err == nil || err.Error() != c.err {
				t.Errorf("device %q: %v, want %q", c.device, err, c.err)
			}
			continue
		}
		info := model.Info()
		var reasons []string
		for _, r := range info.Rejected {
			if r.Tier == "gpu" {
				reasons = append(reasons, r.String())
			}
		}
		if info.Device != DeviceCPU || strings.Join(reasons, "") != c.reason {
			t.Errorf("device %q: runs on %q, %q, want %q", c.device, info.Device, reasons, c.reason)
		}
		model.Close()
	}
}
