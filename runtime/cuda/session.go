package cuda

import (
	"fmt"
	"math/bits"
	"unsafe"

	rt "github.com/bertc/bertc/runtime"
)

// This file owns a session: its memory on the device, and its calls.
//
// A call copies one block of inputs to the device, runs the launches, and copies the result back.
// The launches of a size of batch are prepared once; when the size comes a second time they are
// captured as a graph.

// Session is the memory of a session on the device. It is an rt.DeviceSession.
type Session struct {
	model   *Model
	stream  Stream
	observe func(step int, name string, rows int, dst []byte)
	arena   []Pointer
	// capacity is the rows of the buffers, by extent.
	capacity [2]int
	memory   []memory  // by rt.BufferID
	scratch  []Pointer // by index of rt.Module.Kernels, and of the best entries

	topIDs, topLogits, topSums Pointer

	input    Pointer // the input block on the device
	host     []byte  // the host's copy of it
	hidden   []byte
	top      []byte // ids, logits and sums of the best entries
	bestIDs  []int32
	bestVals []float32

	phases map[phaseKey]*phase
	graphs []Graph // of phases
	result []byte  // of a step, for the observer
}

// memory is where a buffer lies; an address is 0 when the buffer has none.
type memory struct{ data, shadow, stats Pointer }

// The input block begins with a control block of u32: the rows of the batch, how many best entries
// are wanted, and the number of items of each list.
const (
	controlRows  = 0
	controlTopK  = 4
	controlItems = 8
	controlBytes = 64
)

// NewSession allocates a session.
func (m *Model) NewSession(o rt.DeviceOptions) (rt.DeviceSession, error) {
	s := &Session{model: m, observe: o.Observe, phases: map[phaseKey]*phase{},
		capacity: [2]int{rt.Tokens: bucket(o.MaxTokens), rt.Picked: bucket(o.MaxPicked)},
		memory:   make([]memory, len(m.buffers)), scratch: make([]Pointer, len(m.mod.Kernels)+1)}
	m.enter()
	if err := s.allocate(o); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Session) allocate(o rt.DeviceOptions) (err error) {
	m := s.model
	var parts []*Pointer
	var sizes []int
	part := func(p *Pointer, bytes int) {
		if bytes > 0 {
			parts, sizes = append(parts, p), append(sizes, bytes)
		}
	}
	for i := 1; i < len(m.buffers); i++ {
		b, rows := &m.buffers[i], s.capacity[m.buffers[i].extent]
		if b.input {
			continue
		}
		part(&s.memory[i].data, rows*Pitch(b.cols, b.bf16))
		if b.shadow {
			part(&s.memory[i].shadow, rows*Pitch(b.cols, true))
		}
		part(&s.memory[i].stats, rows*b.slots*8)
	}
	scratch := make([]int, len(s.scratch))
	for i := range len(m.mod.Steps) + 1 {
		step := m.step(i)
		for _, v := range m.kernel(step).Variants {
			scratch[step.Kernel] = max(scratch[step.Kernel], v.Scratch+s.capacity[m.extent(i)]*v.ScratchRow)
		}
	}
	for k, bytes := range scratch {
		part(&s.scratch[k], bytes)
	}
	picked := s.capacity[rt.Picked]
	if m.findsBest() {
		part(&s.topIDs, picked*MaxTopK*4)
		part(&s.topLogits, picked*MaxTopK*4)
		part(&s.topSums, picked*8)
	}
	largest := s.newPhase(phaseKey{best, picked, 0}).bytes
	for rows := bucket(1); rows <= s.capacity[rt.Tokens]; rows = bucket(rows + 1) {
		largest = max(largest, s.newPhase(phaseKey{encode, rows, rows}).bytes)
	}
	part(&s.input, largest)
	if s.stream, err = m.driver.NewStream(); err != nil {
		return err
	}
	if s.arena, err = m.driver.Alloc(sizes...); err != nil {
		return fmt.Errorf("device memory for a session of %d tokens: %w", o.MaxTokens, err)
	}
	for i, p := range parts {
		*p = s.arena[i]
	}
	for _, h := range []struct {
		memory *[]byte
		bytes  int
	}{
		{&s.host, largest},
		{&s.hidden, 4 * o.MaxTokens * m.mod.HiddenSize},
		{&s.top, o.MaxPicked * (MaxTopK*8 + 8)},
	} {
		if *h.memory, err = m.driver.HostAlloc(h.bytes); err != nil {
			return err
		}
	}
	return nil
}

// extent says what step i has rows for.
func (m *Model) extent(i int) rt.Extent {
	if i < m.mod.EncodeSteps {
		return rt.Tokens
	}
	return rt.Picked
}

// findsBest reports whether the device finds the best entries of the logits.
func (m *Model) findsBest() bool { return m.mod.Logits != 0 && len(m.program.TopK.Variants) > 0 }

// Close frees the session's memory. Nothing of it runs: a call ends when its work has.
func (s *Session) Close() error {
	d := s.model.driver
	var err error
	for _, g := range s.graphs {
		err = first(err, s.stream.FreeGraph(g))
	}
	for _, h := range [][]byte{s.host, s.hidden, s.top} {
		if h != nil {
			err = first(err, d.HostFree(h))
		}
	}
	if s.arena != nil {
		err = first(err, d.Free(s.arena))
	}
	if s.stream != nil {
		err = first(err, s.stream.Close())
	}
	return first(err, s.model.leave())
}

// Hidden is the room for the hidden states.
func (s *Session) Hidden() []float32 { return view[float32](s.hidden, len(s.hidden)/4) }

// Encode computes the hidden states of a batch and copies them to Hidden.
func (s *Session) Encode(ids, positions, starts []int32) (err error) {
	defer s.drain(&err)
	mod := s.model.mod
	ph, err := s.phase(encode, len(ids), len(starts)-1)
	if err != nil {
		return err
	}
	for _, l := range ph.lists {
		items := view[Item](s.host[l.at:], l.most)
		s.put(l.count, l.fill(items, starts))
	}
	copy(view[int32](s.host[ph.at[mod.IDs]:], len(ids)), ids)
	if mod.Positions != 0 {
		copy(view[int32](s.host[ph.at[mod.Positions]:], len(ids)), positions)
	}
	if err := s.run(ph, len(ids)); err != nil {
		return err
	}
	if err := s.stream.CopyOut(s.hidden[:4*len(ids)*mod.HiddenSize], s.memory[mod.Hidden].data); err != nil {
		return err
	}
	return s.stream.Sync()
}

// Logits runs the head on rows of the last batch.
func (s *Session) Logits(rows []int32, logits []float32) (err error) {
	defer s.drain(&err)
	if err := s.runHead(logitsOnly, rows); err != nil {
		return err
	}
	mod := s.model.mod
	n := len(rows) * mod.LogitsSize
	if err := s.stream.CopyOut(bytesAt(unsafe.Pointer(unsafe.SliceData(logits)), 4*n), s.memory[mod.Logits].data); err != nil {
		return err
	}
	return s.stream.Sync()
}

// TopK runs the head on rows of the last batch and finds the best entries of their logits.
func (s *Session) TopK(rows []int32, k int) (ids []int32, logits, sums []float32, ok bool, err error) {
	if !s.model.findsBest() || k > MaxTopK {
		return nil, nil, nil, false, nil
	}
	defer s.drain(&err)
	s.put(controlTopK, k)
	if err := s.runHead(best, rows); err != nil {
		return nil, nil, nil, true, err
	}
	n := len(rows)
	at := 0
	out := func(src Pointer, bytes int) []byte {
		dst := s.top[at : at+bytes]
		if at += bytes; err == nil {
			err = s.stream.CopyOut(dst, src)
		}
		return dst
	}
	rawIDs := out(s.topIDs, n*MaxTopK*4)
	rawLogits := out(s.topLogits, n*MaxTopK*4)
	rawSums := out(s.topSums, n*8)
	if err == nil {
		err = s.stream.Sync()
	}
	if err != nil {
		return nil, nil, nil, true, err
	}
	s.bestIDs, s.bestVals = s.bestIDs[:0], s.bestVals[:0]
	for r := range n {
		s.bestIDs = append(s.bestIDs, view[int32](rawIDs[r*MaxTopK*4:], k)...)
		s.bestVals = append(s.bestVals, view[float32](rawLogits[r*MaxTopK*4:], k)...)
	}
	return s.bestIDs, s.bestVals, view[float32](rawSums, 2*n), true, nil
}

// runHead starts the head on rows of the last batch.
func (s *Session) runHead(kind phaseKind, rows []int32) error {
	ph, err := s.phase(kind, len(rows), 0)
	if err != nil {
		return err
	}
	copy(view[int32](s.host[ph.at[s.model.mod.Rows]:], len(rows)), rows)
	return s.run(ph, len(rows))
}

// drain waits, where a call failed, for what it began: the next call writes the input block, which a
// copy may still read.
func (s *Session) drain(err *error) {
	if *err != nil {
		s.stream.Sync()
	}
}

// put writes a number of the input block.
func (s *Session) put(at, x int) { view[uint32](s.host[at:], 1)[0] = uint32(x) }

// bucket rounds rows up to what graphs are made for: four sizes in each power of two, multiples
// of 16. At most a quarter of the CTAs of a graph have no work.
func bucket(rows int) int {
	return rt.RoundUp(max(rows, 1), max(16, 1<<bits.Len(uint(rows-1))>>3))
}

// sequenceBucket rounds up to a power of four. It bounds work items alone: a sequence too many is
// one CTA for each key/value head that finds no work.
func sequenceBucket(n int) int { return 1 << rt.RoundUp(bits.Len(uint(max(n, 1)-1)), 2) }

// view is n values at the beginning of memory.
func view[E any](memory []byte, n int) []E {
	return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(memory))), n)
}

func bytesAt(p unsafe.Pointer, n int) []byte { return unsafe.Slice((*byte)(p), n) }
