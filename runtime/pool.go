package rt

import (
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// This file is the worker pool. A model has one; all its sessions share it.
//
// The goroutine that calls a session does the session's work, and helpers from the pool join it:
// progress never waits for a helper to be scheduled, except for the work items that a helper has
// already claimed. Helpers follow the calls: together with the calling goroutines there are never
// more than the limit (GOMAXPROCS, the number of cores, Options.Threads), so with as many
// concurrent calls as cores every call runs alone and no barrier costs anything.
//
// A helper that finds no work spins for a bounded time, then parks. A session that opens a phase
// wakes as many parked helpers as the phase has work for.

// spinTime bounds how long a goroutine spins at a barrier before it parks. Waking a parked one
// costs about 10–20 µs, a region of a spinning one 0.5 µs.
const spinTime = 80 * time.Microsecond

type pool struct {
	scratch int // bytes for each helper
	cap     int // Options.Threads, 0 for none

	limit    atomic.Int32 // goroutines that may work at once
	calls    atomic.Int32 // calling goroutines at work
	attached atomic.Int32 // helpers with a session
	closed   atomic.Bool

	mu      sync.Mutex
	idle    []*helper
	started int
	done    sync.WaitGroup
}

// helper is a goroutine of the pool.
type helper struct {
	worker
	session *Session      // whose work it does; set before wake
	wake    chan struct{} // one token; with no session it means: end
	free    func() error  // of the scratch
}

// worker is what a goroutine needs to run kernels: the argument blocks, which must outlive the
// call of an assembly function, and the scratch memory.
type worker struct {
	scratch  unsafe.Pointer
	gemm     GemmArgs
	attend   AttentionArgs
	row      RowArgs
	gather   GatherArgs
	phase    uint32 // of the session, in which packed was filled
	rowBlock int    // of a matmul, whose rows are packed in scratch; -1 for none
}

// threads returns how many goroutines may work at once.
func (p *pool) threads() int {
	if p.cap > 0 {
		return min(p.cap, runtime.GOMAXPROCS(0))
	}
	return min(runtime.NumCPU(), runtime.GOMAXPROCS(0))
}

// enter counts a call in and takes the limit anew, so that the pool follows GOMAXPROCS.
func (p *pool) enter() {
	p.limit.Store(int32(p.threads()))
	p.calls.Add(1)
}

func (p *pool) leave() { p.calls.Add(-1) }

// crowded reports whether more goroutines are at work than the limit allows.
func (p *pool) crowded() bool { return p.calls.Load()+p.attached.Load() > p.limit.Load() }

// summon brings up to n helpers to a session, besides those that it has.
func (p *pool) summon(s *Session, n int) {
	want := min(n, s.width()-1) - int(s.helpers.Load())
	want = min(want, int(p.limit.Load()-p.calls.Load()-p.attached.Load()))
	if want <= 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for ; want > 0; want-- {
		h := p.take()
		if h == nil {
			return
		}
		h.session = s
		s.helpers.Add(1)
		p.attached.Add(1)
		h.wake <- struct{}{}
	}
}

// width returns how many goroutines may work for a session at once.
func (s *Session) width() int {
	limit := int(s.model.pool.limit.Load())
	if s.threads > 0 {
		return min(limit, s.threads)
	}
	return limit
}

// take returns a parked helper, or a new one, or nil when there is no memory for it.
func (p *pool) take() *helper {
	if last := len(p.idle) - 1; last >= 0 {
		h := p.idle[last]
		p.idle = p.idle[:last]
		return h
	}
	if p.started >= int(p.limit.Load())-1 {
		return nil
	}
	mem, free, err := newMemory(p.scratch)
	if err != nil {
		return nil
	}
	p.started++
	h := &helper{wake: make(chan struct{}, 1), free: free}
	h.scratch = unsafe.Pointer(unsafe.SliceData(mem))
	p.done.Add(1)
	go p.serve(h)
	return h
}

// serve is the life of a helper.
func (p *pool) serve(h *helper) {
	defer p.done.Done()
	defer h.free()
	// A fault in a mapped file becomes a panic, which the session turns into an error.
	debug.SetPanicOnFault(true)
	for {
		<-h.wake
		s := h.session
		if s == nil {
			return
		}
		h.rowBlock = -1
		for !p.crowded() && s.awaitWork(p) {
			s.work(&h.worker)
		}
		p.mu.Lock()
		h.session = nil
		s.helpers.Add(-1)
		p.attached.Add(-1)
		p.idle = append(p.idle, h)
		if p.closed.Load() {
			h.wake <- struct{}{}
		}
		p.mu.Unlock()
	}
}

// close ends all helpers. No call is at work.
func (p *pool) close() {
	p.mu.Lock()
	p.closed.Store(true)
	for _, h := range p.idle {
		h.wake <- struct{}{}
	}
	p.mu.Unlock()
	p.done.Wait()
}

// spinner bounds a spin by time, which it reads now and then.
type spinner struct {
	rounds int
	start  time.Duration // by clock
}

// again pauses and reports whether to go on spinning. It must not be inlined: a loop without a
// stack check, of loads and assembly, can hold up the garbage collector.
//
//go:noinline
func (s *spinner) again() bool {
	pause()
	s.rounds++
	switch {
	case s.rounds == 1:
		s.start = clock()
	case s.rounds%16 == 0:
		return clock()-s.start < spinTime
	}
	return true
}
