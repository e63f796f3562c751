package rt

import (
	"context"
	"encoding/binary"
	"sync"
	"unsafe"
)

// Options are the choices of Open. The zero value is right for most programs.
type Options struct {
	// Kernels forces a kernel set by name, or PortableTier; "" takes the best that the CPU has.
	Kernels string
	// Threads caps the goroutines that work at once, over all sessions of the model. 0 is the
	// number of cores. GOMAXPROCS caps it in any case and is read anew at every call.
	Threads int
	// Device is where steps run: "" or DeviceCPU, the name of the Accelerator, or DeviceAuto, which
	// is the accelerator where it can be used and the CPU where not. Info says which, and why not.
	Device      string
	Accelerator *Accelerator // nil: the package has kernels for the CPU only
}

// Model is an opened weight file with the kernels that run it. It does not change and may be
// shared by any number of goroutines, each with a session of its own.
type Model struct {
	mod      *Module
	tier     Tier
	rejected []Rejected
	device   Device // nil: the CPU
	weights  *weightFile
	pointers []unsafe.Pointer // by WeightID
	layouts  []layout         // by kernel
	scratch  int              // bytes for each worker
	pool     pool

	life   sync.RWMutex // held for reading by calls, for writing by Close
	closed bool
}

// Open maps the weight file at path, checks it against mod, and chooses the kernels. It fails with
// ErrWeights when the file cannot be used, ErrOptions when a choice cannot be met, and ErrModule when
// the tables are wrong.
func Open(mod *Module, path string, o Options) (*Model, error) {
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		return nil, ErrOptions{"weight files are little-endian, this machine is not"}
	}
	if o.Threads < 0 {
		return nil, ErrOptions{"the number of threads is negative"}
	}
	if err := checkModule(mod); err != nil {
		return nil, err
	}
	tier, rejected, err := chooseTier(mod, o.Kernels, hasTrait)
	if err != nil {
		return nil, err
	}
	if err := checkTier(mod, tier); err != nil {
		return nil, err
	}
	weights, err := openWeights(mod, path)
	if err != nil {
		return nil, err
	}
	m := &Model{mod: mod, tier: tier, rejected: rejected, weights: weights,
		pointers: make([]unsafe.Pointer, len(mod.Weights)+1),
		layouts:  make([]layout, len(mod.Kernels))}
	for i := range mod.Weights {
		m.pointers[i+1] = weights.pointer(i)
	}
	for i := range mod.Kernels {
		streamed := mod.Logits != 0 && mod.Steps[len(mod.Steps)-1].Kernel == i
		l, size := scratchLayout(&mod.Kernels[i], &tier.Impls[i], streamed)
		m.layouts[i], m.scratch = l, max(m.scratch, size)
	}
	m.pool.scratch, m.pool.cap = m.scratch, o.Threads
	if err := m.openDevice(o.Device, o.Accelerator); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// Close waits for calls to end, ends the helpers and unmaps the weights. Calls after it return
// ErrClosed; sessions are closed on their own. Closing again does nothing. A session's Observe
// function must not call it.
func (m *Model) Close() error {
	m.life.Lock()
	defer m.life.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	m.pool.close()
	if m.device != nil {
		if err := m.device.Close(); err != nil {
			m.weights.unmap()
			return err
		}
	}
	return m.weights.unmap()
}

// hold keeps the model open until release.
func (m *Model) hold() error {
	m.life.RLock()
	if m.closed {
		m.life.RUnlock()
		return ErrClosed
	}
	return nil
}

func (m *Model) release() { m.life.RUnlock() }

// VerifyWeights reads the whole weight file and compares its checksums.
func (m *Model) VerifyWeights(ctx context.Context) error {
	if err := m.hold(); err != nil {
		return err
	}
	defer m.release()
	return m.weights.verify(ctx)
}

// Weight returns the bytes of the weight of that name, and false when there is none. They are
// valid until Close and must not be written.
func (m *Model) Weight(name string) ([]byte, bool) {
	for _, e := range m.weights.entries {
		if e.name == name {
			return m.weights.data[e.offset:][:e.size:e.size], true
		}
	}
	return nil, false
}

// Info is what a model runs on.
type Info struct {
	Device      string     // the accelerator that runs the steps, or "cpu"
	Tier        string     // the kernel set of the CPU
	Rejected    []Rejected // the kernel sets and accelerators that are not used, and why
	Threads     int        // goroutines that may work at once
	WeightBytes int        // of the weight file
	// HugeBytes is how much of the weight file is mapped by huge pages now, which is known on
	// Linux only (HugeKnown) and grows as the weights are touched.
	HugeBytes int
	HugeKnown bool
}

// Info describes the model. It takes milliseconds on Linux.
func (m *Model) Info() Info {
	info := Info{Device: DeviceCPU, Tier: m.tier.Name, Rejected: m.rejected, Threads: m.pool.threads(), WeightBytes: len(m.weights.data)}
	if m.device != nil {
		info.Device = m.device.Name()
	}
	if m.hold() == nil {
		info.HugeBytes, info.HugeKnown = hugeBytes(m.weights.data)
		m.release()
	}
	return info
}
