package cuda

import (
	"fmt"
	"sync"

	rt "github.com/bertc/bertc/runtime"
)

// This file owns a model on a device: its kernels and weights, which all sessions share.

// Model is a module on a device. It is an rt.Device.
type Model struct {
	driver  Driver
	mod     *rt.Module
	program *Program
	// topK is the step of Program.TopK, behind the last of the module; its kernel follows the
	// module's.
	topK      rt.Step
	functions map[string]Function
	weights   map[weightKey]matrix
	memory    [][]Pointer // of the weights
	buffers   []buffer    // by rt.BufferID, 0 is none
	slots     []int       // by step: slots of the statistics of its Src

	mu    sync.Mutex
	users int // the model itself, until Close, and its sessions
}

// Open puts mod on the device: it compiles the PTX text, and uploads the weights of m as its
// kernels need them. The driver belongs to the model from then on.
func Open(d Driver, m *rt.Model, mod *rt.Module, p *Program, ptx string) (rt.Device, error) {
	model := &Model{driver: d, mod: mod, program: p, functions: map[string]Function{}, weights: map[weightKey]matrix{}, users: 1}
	if err := model.open(m, ptx); err != nil {
		model.leave()
		return nil, err
	}
	return model, nil
}

func (m *Model) open(weights *rt.Model, ptx string) error {
	m.topK = rt.Step{Name: "top-k", Kernel: len(m.mod.Kernels), Src: m.mod.Logits}
	if err := m.plan(); err != nil {
		return rt.ErrModule{Module: m.mod.Name, Reason: err.Error()}
	}
	if err := m.driver.Load(ptx); err != nil {
		return err
	}
	return m.eachLaunch(func(s *rt.Step, l *Launch) error {
		if _, ok := m.functions[l.Entry]; !ok {
			f, err := m.driver.Function(l.Entry, l.Shared)
			if err != nil {
				return err
			}
			m.functions[l.Entry] = f
		}
		for _, p := range l.Params {
			if err := m.upload(weights, s, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachLaunch calls f for every launch of every step, whatever the rows.
func (m *Model) eachLaunch(f func(*rt.Step, *Launch) error) error {
	for i := range len(m.mod.Steps) + 1 {
		s := m.step(i)
		variants := m.kernel(s).Variants
		for v := range variants {
			for l := range variants[v].Launches {
				if err := f(s, &variants[v].Launches[l]); err != nil {
					return fmt.Errorf("step %s: %w", s.Name, err)
				}
			}
		}
	}
	return nil
}

// step returns a step of the module, or the one behind them, the best entries of the logits.
func (m *Model) step(i int) *rt.Step {
	if i == len(m.mod.Steps) {
		return &m.topK
	}
	return &m.mod.Steps[i]
}

// kernel returns how the device does a step.
func (m *Model) kernel(s *rt.Step) *Kernel {
	if s.Kernel == len(m.mod.Kernels) {
		return &m.program.TopK
	}
	return &m.program.Kernels[s.Kernel]
}

// Name is what Info calls the device.
func (m *Model) Name() string {
	i := m.driver.Info()
	return fmt.Sprintf("%s (sm_%d%d)", i.Name, i.Major, i.Minor)
}

// Close gives the device back when the last session is closed.
func (m *Model) Close() error { return m.leave() }

func (m *Model) enter() {
	m.mu.Lock()
	m.users++
	m.mu.Unlock()
}

func (m *Model) leave() error {
	m.mu.Lock()
	m.users--
	last := m.users == 0
	m.mu.Unlock()
	if !last {
		return nil
	}
	var err error
	for _, p := range m.memory {
		err = first(err, m.driver.Free(p))
	}
	return first(err, m.driver.Close())
}
