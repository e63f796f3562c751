package rt

import (
	"context"
	"unsafe"
)

// This file is the seam to an accelerator: where a model has a Device, its sessions hand the steps
// to it, and what they return lies where the CPU would have written it.

// The names of Options.Device beside those of accelerators.
const (
	DeviceCPU  = "cpu"
	DeviceAuto = "auto"
)

// Accelerator is a kind of device that a package has kernels for.
type Accelerator struct {
	Name string
	// Open finds the device and gives it the model. Its error is one sentence that says why the
	// model cannot run there.
	Open func(*Model) (Device, error)
}

// Device runs the steps of a model. It may be used by any number of goroutines.
type Device interface {
	Name() string
	NewSession(o DeviceOptions) (DeviceSession, error)
	// Close gives the device back. Sessions that are open stay valid until they are closed.
	Close() error
}

// DeviceOptions are the sizes of a session, and its observer: see SessionOptions.
type DeviceOptions struct {
	MaxTokens, MaxPicked int
	Observe              func(step int, name string, rows int, dst []byte)
}

// DeviceSession is the memory of a session on the device. One goroutine uses it at a time; the
// arguments have been checked.
type DeviceSession interface {
	// Hidden is host memory for the hidden states of the largest batch. Encode writes there.
	Hidden() []float32
	Encode(ids, positions, starts []int32) error
	// Logits runs the head on rows of the last batch and writes their logits.
	Logits(rows []int32, logits []float32) error
	// TopK runs the head on rows of the last batch and returns the k best entries of each, in
	// order, [rows × k], and [rows] pairs of the largest logit and the sum of exp(logit − largest).
	// The results are valid until the next call. ok is false, and nothing was done, when the
	// device does not find so many.
	TopK(rows []int32, k int) (ids []int32, logits, sums []float32, ok bool, err error)
	Close() error
}

// openDevice opens the device that the options ask for, nil for the CPU. Where they leave the
// choice, a device that cannot be used is among the rejected.
func (m *Model) openDevice(want string, a *Accelerator) error {
	switch {
	case want == "" || want == DeviceCPU:
		return nil
	case a == nil:
		if want == DeviceAuto {
			return nil
		}
		return ErrOptions{"device \"" + want + "\": the package runs on the CPU only"}
	case want != a.Name && want != DeviceAuto:
		return ErrOptions{"device \"" + want + "\": unknown, the package knows cpu, " + a.Name + " and auto"}
	}
	d, err := a.Open(m)
	if err != nil && want == DeviceAuto {
		m.rejected = append([]Rejected{{a.Name, err.Error()}}, m.rejected...)
		return nil
	}
	if err != nil {
		return ErrOptions{"device \"" + a.Name + "\": " + err.Error()}
	}
	m.device = d
	return nil
}

// newDeviceSession allocates the session on the device. Of the host's memory it needs the inputs
// alone.
func (s *Session) newDeviceSession(o SessionOptions) (err error) {
	mod := s.model.mod
	s.device, err = s.model.device.NewSession(DeviceOptions{MaxTokens: o.MaxTokens, MaxPicked: o.MaxPicked, Observe: o.Observe})
	if err != nil {
		return err
	}
	s.free = s.device.Close
	s.starts = make([]int32, o.MaxTokens+1)
	room := func(id BufferID, n int) {
		if id != 0 {
			s.buffers[id] = unsafe.Pointer(unsafe.SliceData(make([]int32, n)))
		}
	}
	room(mod.IDs, o.MaxTokens)
	room(mod.Positions, o.MaxTokens)
	room(mod.Rows, o.MaxPicked)
	s.buffers[mod.Hidden] = unsafe.Pointer(unsafe.SliceData(s.device.Hidden()))
	if mod.Logits != 0 && !o.NoLogits {
		s.buffers[mod.Logits] = unsafe.Pointer(unsafe.SliceData(make([]float32, o.MaxPicked*mod.LogitsSize)))
	}
	return nil
}

// encodeOnDevice is the steps of the hidden states.
func (s *Session) encodeOnDevice(ctx context.Context, tokens int) error {
	if err := ctx.Err(); err != nil || tokens == 0 {
		return err
	}
	mod := s.model.mod
	var positions []int32
	if mod.Positions != 0 {
		positions = view[int32](s.buffers[mod.Positions], tokens)
	}
	return s.device.Encode(view[int32](s.buffers[mod.IDs], tokens), positions, s.starts[:s.sequences+1])
}

// logitsOnDevice is the steps of the head.
func (s *Session) logitsOnDevice(ctx context.Context, rows []int32, logits []float32) error {
	if err := ctx.Err(); err != nil || len(rows) == 0 {
		return err
	}
	return s.device.Logits(rows, logits)
}

// topKOnDevice is topK where a device runs the head. What is more than the device finds is found
// here, among the logits.
func (s *Session) topKOnDevice(ctx context.Context, rows []int32, k int, ids []int32, probabilities []float64) ([]int32, []float64, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	best, logits, sums, ok, err := s.device.TopK(rows, k)
	if err != nil {
		return nil, nil, err
	}
	if ok {
		ids = append(ids, best...)
		for i, x := range logits {
			top, sum := float64(sums[2*(i/k)]), float64(sums[2*(i/k)+1])
			probabilities = append(probabilities, exp(float64(x)-top)/sum)
		}
		return ids, probabilities, nil
	}
	width := s.model.mod.LogitsSize
	logits = make([]float32, len(rows)*width)
	if err := s.device.Logits(rows, logits); err != nil {
		return nil, nil, err
	}
	const columns = streamPanels * panelN
	t := newStream(k, len(rows), CeilDiv(width, columns))
	for r := range rows {
		for b := range t.blocks {
			t.reduce(r, b, logits[r*width+b*columns:r*width+min((b+1)*columns, width)])
		}
	}
	ids, probabilities = t.results(ids, probabilities)
	return ids, probabilities, nil
}
