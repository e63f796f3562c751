// Package emulator is the emulator of PTX as a device of runtime/cuda: what runs on a GPU runs there
// unchanged, on any machine, and every fault that the emulator knows is an error that names the
// line of the PTX.
//
// It imports emu and runtime/cuda. Open is all that users need; the rest is the two interfaces of
// runtime/cuda/driver.go.
package emulator

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/bertc/bertc/codegen/ptx/emu"
	"github.com/bertc/bertc/runtime/cuda"
)

// device is an emulated GPU.
type device struct {
	mu     sync.Mutex // the emulator serves one goroutine at a time
	emu    *emu.Device
	sms    int
	module *emu.Module
	// functions are the entries that have been asked for, and what shared memory they may take.
	functions []function
	graphs    [][]func() error
}

type function struct {
	kernel *emu.Kernel
	shared int
}

// Open returns an emulated GPU of so many multiprocessors, whose threads run in the order that the
// seed makes.
func Open(seed uint64, sms int) cuda.Driver {
	return &device{emu: emu.New(emu.Options{Seed: seed, SMs: sms}), sms: sms}
}

func (d *device) Info() cuda.DeviceInfo {
	return cuda.DeviceInfo{Name: "emulated GPU", Major: 9, Minor: 0, SMs: d.sms}
}

func (d *device) Load(ptx string) (err error) {
	d.module, err = emu.Parse(ptx)
	return err
}

func (d *device) Function(entry string, shared int) (cuda.Function, error) {
	k := d.module.Kernel(entry)
	if k == nil {
		return 0, fmt.Errorf("the PTX text has no entry %s", entry)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.functions = append(d.functions, function{k, shared})
	return cuda.Function(len(d.functions) - 1), nil
}

// Alloc makes one allocation for each size, so that an access beyond one of them is found.
func (d *device) Alloc(sizes ...int) ([]cuda.Pointer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []cuda.Pointer
	for _, n := range sizes {
		p, err := d.emu.Alloc(n)
		if err == nil {
			err = d.emu.Memset(p, 0, n)
		}
		if err != nil {
			for _, p := range out {
				d.emu.Free(uint64(p))
			}
			return nil, err
		}
		out = append(out, cuda.Pointer(p))
	}
	return out, nil
}

func (d *device) Free(at []cuda.Pointer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, p := range at {
		errs = append(errs, d.emu.Free(uint64(p)))
	}
	return errors.Join(errs...)
}

func (d *device) Upload(dst cuda.Pointer, src []byte) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.emu.CopyIn(uint64(dst), src)
}

func (d *device) EncodeTiled(t cuda.TensorMap) ([cuda.TensorMapBytes]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	m := emu.TensorMap{Type: emu.BFloat16, Address: uint64(t.Address), Dims: t.Dims, Strides: t.Strides, Box: t.Box,
		Swizzle: map[int]emu.Swizzle{0: emu.SwizzleNone, 32: emu.Swizzle32B, 64: emu.Swizzle64B, 128: emu.Swizzle128B}[t.Swizzle]}
	if t.F32 {
		m.Type = emu.Float32
	}
	return d.emu.EncodeTiled(m)
}

func (d *device) HostAlloc(bytes int) ([]byte, error) { return make([]byte, bytes), nil }
func (d *device) HostFree([]byte) error               { return nil }
func (d *device) Close() error                        { return nil }

func (d *device) NewStream() (cuda.Stream, error) {
	return &stream{device: d, queue: d.emu.NewStream()}, nil
}

// stream does everything at once. What launches may do before those ahead have ended, the queue checks.
type stream struct {
	*device
	queue  *emu.Stream
	record *[]func() error // of a capture
}

// CopyIn and CopyOut wait for the launches before, and those behind wait for them, dependent or not.
func (s *stream) CopyIn(dst cuda.Pointer, src []byte) error {
	s.Sync()
	return s.Upload(dst, src)
}

func (s *stream) CopyOut(dst []byte, src cuda.Pointer) error {
	s.Sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.emu.CopyOut(dst, uint64(src))
}

func (s *stream) Launch(f cuda.Function, l cuda.LaunchSize, params []byte, offsets []int) error {
	s.mu.Lock()
	fn := s.functions[f]
	s.mu.Unlock()
	if l.Shared > fn.shared {
		return fmt.Errorf("launch of %s: %d bytes of shared memory, it was allowed %d", fn.kernel.Name, l.Shared, fn.shared)
	}
	var want []int
	for _, p := range fn.kernel.Params {
		want = append(want, p.Offset)
	}
	if !slices.Equal(want, offsets) {
		return fmt.Errorf("launch of %s: parameters at %v, the entry has them at %v", fn.kernel.Name, offsets, want)
	}
	c := emu.Config{Grid: [3]int{l.Grid}, Block: [3]int{l.Threads}, Shared: l.Shared, Dependent: l.Dependent}
	if l.Cluster > 1 {
		c.Cluster = [3]int{l.Cluster}
	}
	params = slices.Clone(params)
	run := func() error {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.queue.Launch(fn.kernel, c, params)
	}
	if s.record != nil {
		*s.record = append(*s.record, run)
		return nil
	}
	return run()
}

func (s *stream) Capture(record func() error) (cuda.Graph, error) {
	var launches []func() error
	s.record = &launches
	err := record()
	s.record = nil
	s.mu.Lock()
	defer s.mu.Unlock()
	s.graphs = append(s.graphs, launches)
	return cuda.Graph(len(s.graphs) - 1), err
}

// LaunchGraph: the first launch of a graph, and the first behind it, wait for all before them: there are
// programmatic edges only within a graph.
func (s *stream) LaunchGraph(g cuda.Graph) error {
	s.Sync()
	defer s.Sync()
	s.mu.Lock()
	launches := s.graphs[g]
	s.mu.Unlock()
	for _, run := range launches {
		if err := run(); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) FreeGraph(g cuda.Graph) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.graphs[g] = nil
	return nil
}

func (s *stream) Sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue.Sync()
	return nil
}

func (s *stream) Close() error { return nil }
