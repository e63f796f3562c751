package cuda

import (
	"fmt"

	rt "github.com/bertc/bertc/runtime"
)

// This file owns the launches of a call: which ones a size of batch has, and how they run.

// phaseKind is a part of the program.
type phaseKind uint8

const (
	encode     phaseKind = iota // the steps of the hidden states
	logitsOnly                  // the steps of the head
	best                        // the steps of the head, and the best entries
)

// phaseKey is what the launches of a call depend on. sequences is 0 but for encode.
type phaseKey struct {
	kind            phaseKind
	rows, sequences int
}

// phase is the launches of a size of batch.
type phase struct {
	phaseKey
	lists []itemList
	at    []int // by rt.BufferID: where an input begins in the input block
	bytes int   // of the input block
	calls []call
	// ran: the launches have run once, one by one, so that every function is loaded on the
	// device; the next time they are captured.
	ran, captured bool
	graph         Graph
}

// call is a launch with its arguments.
type call struct {
	step     int
	last     bool // of the step
	function Function
	size     LaunchSize
	params   paramBlock
}

// phase returns the launches for a batch.
func (s *Session) phase(kind phaseKind, rows, sequences int) (*phase, error) {
	key := phaseKey{kind: kind, rows: bucket(rows)}
	if kind == encode {
		key.sequences = min(sequenceBucket(sequences), key.rows)
	}
	if ph := s.phases[key]; ph != nil {
		return ph, nil
	}
	ph := s.newPhase(key)
	if err := s.prepare(ph); err != nil {
		return nil, err
	}
	s.phases[key] = ph
	return ph, nil
}

// steps returns the first step and the one after the last. The best entries are one more step.
func (ph *phase) steps(mod *rt.Module) (first, end int) {
	switch ph.kind {
	case encode:
		return 0, mod.EncodeSteps
	case logitsOnly:
		return mod.EncodeSteps, len(mod.Steps)
	}
	return mod.EncodeSteps, len(mod.Steps) + 1
}

// newPhase lays out the input block of a size of batch.
func (s *Session) newPhase(key phaseKey) *phase {
	m := s.model
	ph := &phase{phaseKey: key, at: make([]int, len(m.buffers)), bytes: controlBytes}
	first, end := ph.steps(m.mod)
	for i := first; i < end; i++ {
		step := m.step(i)
		for _, l := range m.launches(step, key.rows) {
			if l.Grid.Kind == GridItems && ph.list(l.Grid.TileM, &m.mod.Kernels[step.Kernel]) == nil {
				k := &m.mod.Kernels[step.Kernel]
				list := itemList{tileM: l.Grid.TileM, group: k.Heads / k.KVHeads, kvHeads: k.KVHeads, count: controlItems + 4*len(ph.lists)}
				list.most = list.mostItems(key.rows, key.sequences)
				list.at, ph.bytes = ph.bytes, ph.bytes+list.most*itemBytes
				ph.lists = append(ph.lists, list)
			}
		}
	}
	for id := 1; id < len(m.buffers); id++ {
		if b := &m.buffers[id]; b.input && (b.extent == rt.Tokens) == (key.kind == encode) {
			ph.at[id], ph.bytes = ph.bytes, ph.bytes+rt.RoundUp(4*key.rows, 16)
		}
	}
	return ph
}

// launches returns those of a step for so many rows.
func (m *Model) launches(step *rt.Step, rows int) []Launch {
	k := m.kernel(step)
	if len(k.Variants) == 0 {
		return nil
	}
	return k.variant(rows).Launches
}

// prepare makes the launches of a phase.
func (s *Session) prepare(ph *phase) error {
	m := s.model
	if controlItems+4*len(ph.lists) > controlBytes {
		return fmt.Errorf("the module cuts attention in %d ways, at most %d are supported", len(ph.lists), (controlBytes-controlItems)/4)
	}
	first, end := ph.steps(m.mod)
	for i := first; i < end; i++ {
		step := m.step(i)
		launches := m.launches(step, ph.rows)
		for n := range launches {
			l := &launches[n]
			params, err := s.params(i, l, ph)
			if err != nil {
				return err
			}
			items := 0
			if l.Grid.Kind == GridItems {
				items = ph.list(l.Grid.TileM, &m.mod.Kernels[step.Kernel]).most
			}
			size := LaunchSize{Grid: l.CTAs(ph.rows, items, m.driver.Info().SMs), Threads: l.Threads, Shared: l.Shared, Cluster: l.Cluster, Dependent: l.Dependent}
			ph.calls = append(ph.calls, call{i, n == len(launches)-1, m.functions[l.Entry], size, params})
		}
	}
	return nil
}

// run copies the input block of a phase to the device and starts its launches.
func (s *Session) run(ph *phase, rows int) error {
	s.put(controlRows, rows)
	if err := s.stream.CopyIn(s.input, s.host[:ph.bytes]); err != nil {
		return err
	}
	switch {
	case s.observe != nil:
		return s.runObserved(ph, rows)
	case ph.captured:
		return s.stream.LaunchGraph(ph.graph)
	case !ph.ran:
		if err := s.launch(ph); err != nil {
			return err
		}
		ph.ran = true
		return nil
	}
	var err error
	if ph.graph, err = s.stream.Capture(func() error { return s.launch(ph) }); err != nil {
		return err
	}
	ph.captured = true
	s.graphs = append(s.graphs, ph.graph)
	return s.stream.LaunchGraph(ph.graph)
}

// launch starts the launches one by one.
func (s *Session) launch(ph *phase) error {
	for i := range ph.calls {
		if err := s.start(&ph.calls[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Session) start(c *call) error {
	if err := s.stream.Launch(c.function, c.size, c.params.data, c.params.offsets); err != nil {
		return fmt.Errorf("step %s: %w", s.model.step(c.step).Name, err)
	}
	return nil
}

// runObserved starts the launches and hands the result of every step to the observer.
func (s *Session) runObserved(ph *phase, rows int) error {
	mod := s.model.mod
	for i := range ph.calls {
		c := &ph.calls[i]
		if err := s.start(c); err != nil {
			return err
		}
		step := s.model.step(c.step)
		if !c.last || step.Dst == 0 {
			continue
		}
		if err := s.stream.Sync(); err != nil {
			return fmt.Errorf("step %s: %w", step.Name, err)
		}
		b := &mod.Buffers[step.Dst-1]
		pitch := Pitch(b.Cols, b.DType == rt.BF16)
		s.result = append(s.result[:0], make([]byte, rows*pitch)...)
		if err := s.stream.CopyOut(s.result, s.memory[step.Dst].data); err != nil {
			return err
		}
		if err := s.stream.Sync(); err != nil {
			return err
		}
		for r := 1; r < rows && pitch > b.RowBytes; r++ {
			copy(s.result[r*b.RowBytes:], s.result[r*pitch:][:b.RowBytes])
		}
		s.observe(c.step, step.Name, rows, s.result[:rows*b.RowBytes])
	}
	return nil
}
