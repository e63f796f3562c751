package rt

import (
	"context"
	"runtime/debug"
	"runtime/trace"
	"sync/atomic"
	"unsafe"
)

// SessionOptions are the sizes of a session.
type SessionOptions struct {
	// MaxTokens is the most tokens of one batch; 0 is what the model was compiled for.
	MaxTokens int
	// MaxPicked is the most rows that Logits takes at a time; 0 is 64, or MaxTokens if less.
	MaxPicked int
	// NoLogits: the session has no room for logits. TopK works, Logits does not.
	NoLogits bool
	// Threads caps the goroutines that work for this session at once; 0 is the model's limit.
	Threads int
	// Observe, when set, is called after each step with the rows that it has made: rows times
	// the bytes of a row of the step's result. The bytes are valid until it returns.
	Observe func(step int, name string, rows int, dst []byte)
}

const defaultPicked = 64

// defaults fills in the sizes that are 0.
func (o *SessionOptions) defaults(mod *Module) {
	if o.MaxTokens == 0 {
		o.MaxTokens = mod.MaxTokens
	}
	if o.MaxPicked == 0 {
		o.MaxPicked = defaultPicked
	}
	o.MaxPicked = min(o.MaxPicked, o.MaxTokens)
}

// Session runs a model on batches. It serves one goroutine at a time (ErrBusy otherwise), keeps
// its memory between calls; Encode and Logits allocate nothing. Sessions of a model may run at once.
//
// The result of a sequence is the same, bit for bit, whatever else is in the batch, in whatever
// order, and with any number of threads.
type Session struct {
	phases
	model   *Model
	threads int
	observe func(step int, name string, rows int, dst []byte)
	busy    atomic.Bool

	maxTokens, maxPicked int
	noLogits             bool

	device  DeviceSession    // that runs the steps; nil on the CPU
	free    func() error     // of the arena, or of the device's memory; nil when closed
	buffers []unsafe.Pointer // by BufferID
	self    worker
	grid    grid
	stream  *stream // of the fused decoder while it runs

	tokens    int     // of the last batch
	sequences int     // of the last batch
	starts    []int32 // where each sequence begins, and the end
	blocks    []int32 // attentionItems
}

// grid is the step that a phase runs and how it is cut into items.
type grid struct {
	loop    *loop
	step    *Step
	kernel  *Kernel
	impl    *Impl
	rows    int
	chunk   int // attention: queries of an item
	across  int // matmul: items of a block of rows, each a run of panels
	abreast int // matmul: blocks of rows that take turns
}

// loop is a way to cut a step into items and to do one.
type loop struct {
	items func(*Session) int
	item  func(*Session, *worker, int)
}

// loops are the loops by kind of kernel.
var loops = [...]loop{
	Gemm:      {(*Session).gemmItems, (*Session).gemmItem},
	Attention: {(*Session).attentionItems, (*Session).attentionItem},
	Rowwise:   {(*Session).rowItems, (*Session).rowItem},
	Gather:    {(*Session).rowItems, (*Session).gatherItem},
}

// NewSession allocates a session. It must be closed to give its memory back.
func (m *Model) NewSession(o SessionOptions) (*Session, error) {
	if err := m.hold(); err != nil {
		return nil, err
	}
	defer m.release()
	if o.MaxTokens < 0 || o.MaxPicked < 0 || o.Threads < 0 {
		return nil, ErrOptions{"a size of the session is negative"}
	}
	if o.MaxTokens > m.mod.MaxTokens {
		return nil, ErrTooManyTokens{o.MaxTokens, m.mod.MaxTokens}
	}
	o.defaults(m.mod)
	s := &Session{model: m, observe: o.Observe, threads: o.Threads,
		maxTokens: o.MaxTokens, maxPicked: o.MaxPicked, noLogits: o.NoLogits,
		buffers: make([]unsafe.Pointer, len(m.mod.Buffers)+1)}
	if m.device != nil {
		if err := s.newDeviceSession(o); err != nil {
			return nil, err
		}
		return s, nil
	}
	plan := m.MemoryPlan(o)
	arena, free, err := newMemory(plan.Total())
	if err != nil {
		return nil, err
	}
	s.free = free
	s.wake = make(chan struct{}, 1)
	base := unsafe.Pointer(unsafe.SliceData(arena))
	for i, b := range m.mod.Buffers {
		at := b.Offset * capacity(s.maxTokens)
		if b.Extent == Picked {
			at = plan.Tokens + b.Offset*capacity(s.maxPicked)
		}
		s.buffers[i+1] = unsafe.Add(base, at)
	}
	tables := unsafe.Add(base, plan.Tokens+plan.Picked)
	s.starts = view[int32](tables, s.maxTokens+1)
	s.blocks = view[int32](unsafe.Add(tables, tableBytes(s.maxTokens)), s.maxTokens+1)
	s.self.scratch = unsafe.Add(base, plan.Total()-plan.Scratch)
	return s, nil
}

// Close gives the memory of the session back. Views of results are invalid after it.
func (s *Session) Close() error {
	if !s.busy.CompareAndSwap(false, true) {
		return ErrBusy
	}
	defer s.busy.Store(false)
	if s.free == nil {
		return nil
	}
	free := s.free
	s.free, s.tokens, s.sequences = nil, 0, 0
	return free()
}

// begin takes the session and the model for one call.
func (s *Session) begin() error {
	if !s.busy.CompareAndSwap(false, true) {
		return ErrBusy
	}
	err := ErrClosed
	if s.free != nil {
		err = s.model.hold()
	}
	if err != nil {
		s.busy.Store(false)
		return err
	}
	s.model.pool.enter()
	return nil
}

func (s *Session) end() {
	s.model.pool.leave()
	s.model.release()
	s.busy.Store(false)
}

// Encode computes the hidden states of a batch: sequence i is ids[offsets[i]:offsets[i+1]], and
// offsets go from 0 to len(ids). positions has a position for each token; nil counts them from 0
// in each sequence. No sequence may be empty, but a batch of no sequences is fine.
//
// The context is looked at between steps. After an error there are no hidden states: ErrBatch,
// ErrTooManyTokens, ErrTooLong, ErrToken or ErrPosition says what is wrong with the batch, ErrStep which
// step failed.
func (s *Session) Encode(ctx context.Context, ids, positions, offsets []int32) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer s.end()
	s.tokens, s.sequences = 0, 0
	if err := s.accept(ids, positions, offsets); err != nil {
		return err
	}
	var err error
	if s.device != nil {
		err = s.encodeOnDevice(ctx, len(ids))
	} else {
		err = s.run(ctx, 0, s.model.mod.EncodeSteps, len(ids))
	}
	if err != nil {
		return err
	}
	s.tokens = len(ids)
	return nil
}

// Hidden returns the hidden states of the last batch, one row of HiddenSize values a token. The
// view is valid until the next call of Encode or Close.
func (s *Session) Hidden() []float32 {
	return view[float32](s.buffers[s.model.mod.Hidden], s.tokens*s.model.mod.HiddenSize)
}

// Logits runs the head on rows of the last batch, given by token, and returns one row of
// Module.LogitsSize values for each. The view is valid until the next call of Logits or Close. It fails
// with ErrNoHead, with ErrTooManyRows beyond MaxPicked rows, and with ErrRow for a row that the batch
// does not have.
func (s *Session) Logits(ctx context.Context, rows []int32) ([]float32, error) {
	mod := s.model.mod
	if mod.Logits == 0 || s.noLogits {
		return nil, ErrNoHead
	}
	if err := s.begin(); err != nil {
		return nil, err
	}
	defer s.end()
	if len(rows) > s.maxPicked {
		return nil, ErrTooManyRows{len(rows), s.maxPicked}
	}
	if err := s.checkRows(rows); err != nil {
		return nil, err
	}
	logits := view[float32](s.buffers[mod.Logits], len(rows)*mod.LogitsSize)
	if s.device != nil {
		if err := s.logitsOnDevice(ctx, rows, logits); err != nil {
			return nil, err
		}
		return logits, nil
	}
	copy(view[int32](s.buffers[mod.Rows], len(rows)), rows)
	if err := s.run(ctx, mod.EncodeSteps, len(mod.Steps), len(rows)); err != nil {
		return nil, err
	}
	return logits, nil
}

// checkRows checks that rows are tokens of the last batch.
func (s *Session) checkRows(rows []int32) error {
	for i, r := range rows {
		if r < 0 || int(r) >= s.tokens {
			return ErrRow{i, r, s.tokens}
		}
	}
	return nil
}

// run does the steps from first to last, not included, on so many rows.
func (s *Session) run(ctx context.Context, first, last, rows int) error {
	if rows == 0 {
		return ctx.Err()
	}
	// A fault in the mapped weights, of a file that was cut, becomes a panic in doItem.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	m := s.model
	s.failure.Store(nil)
	for i := first; i < last; i++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		step := &m.mod.Steps[i]
		region := trace.StartRegion(ctx, step.Name)
		s.grid = grid{step: step, kernel: &m.mod.Kernels[step.Kernel], impl: &m.tier.Impls[step.Kernel], rows: rows}
		if s.grid.loop = &loops[s.grid.kernel.Kind]; s.stream != nil {
			s.grid.loop = &streamLoop
		}
		s.runPhase(s.grid.loop.items(s))
		region.End()
		if failure := s.failure.Load(); failure != nil {
			return *failure
		}
		if s.observe != nil && s.stream == nil {
			dst, stride := s.rowsOf(step.Dst, 0)
			s.observe(i, step.Name, rows, view[byte](dst, rows*stride))
		}
	}
	return nil
}

// rowsOf returns where a row of a buffer begins, and the bytes from one row to the next.
func (s *Session) rowsOf(id BufferID, row int) (unsafe.Pointer, int) {
	stride := s.model.mod.Buffers[id-1].RowBytes
	return unsafe.Add(s.buffers[id], row*stride), stride
}

// weight returns where a weight begins, nil when there is none.
func (s *Session) weight(id WeightID) unsafe.Pointer { return s.model.pointers[id] }
