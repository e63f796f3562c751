package rt

import "sync/atomic"

// This file is the heart of the runtime: a phase, the grid of work items of one step, which the
// calling goroutine and its helpers share out.
//
// The state of a phase is one word: its number, and how many items nobody has claimed. A claim is
// a compare-and-swap that takes one item off. Success proves that the phase is open and stays so
// until the item is counted as done, so what the phase consists of (Session.grid) can be read
// without a lock: it was written before the word, and is next written after all items are done.

// phases is the part of a session that its workers share. Words that different workers write
// are on cache lines of their own.
type phases struct {
	_       [cacheLine]byte
	word    atomic.Uint64 // number<<32 | items left
	_       [cacheLine]byte
	pending atomic.Int64 // items that are not done
	_       [cacheLine]byte
	parked  atomic.Bool             // the calling goroutine waits for wake
	helpers atomic.Int32            // of the pool, that work for this session
	wake    chan struct{}           // one token
	failure atomic.Pointer[ErrStep] // the first of the call
	items   int                     // of the open phase
}

// runPhase does all items of the phase that grid describes.
func (s *Session) runPhase(items int) {
	s.items = items
	s.pending.Store(int64(items))
	number := uint32(s.word.Load()>>32) + 1
	s.word.Store(uint64(number)<<32 | uint64(items))
	if items > 1 {
		s.model.pool.summon(s, items-1)
	}
	s.work(&s.self)
	s.awaitItems()
}

// work claims and does items until none is left.
func (s *Session) work(w *worker) {
	done := int64(0)
	for {
		word := s.word.Load()
		left := uint32(word)
		if left == 0 {
			break
		}
		if !s.word.CompareAndSwap(word, word-1) {
			continue
		}
		if number := uint32(word >> 32); w.phase != number {
			w.phase, w.rowBlock = number, -1
		}
		s.doItem(w, s.items-int(left))
		done++
	}
	if done > 0 && s.pending.Add(-done) == 0 && s.parked.Swap(false) {
		s.wake <- struct{}{}
	}
}

// doItem does one item. A panic, which can only be a defect or a fault in the mapped weights,
// fails the call and not the process.
func (s *Session) doItem(w *worker, item int) {
	defer func() {
		if cause := recover(); cause != nil {
			s.failure.CompareAndSwap(nil, &ErrStep{s.grid.step.Name, cause})
		}
	}()
	if s.failure.Load() == nil {
		s.grid.loop.item(s, w, item)
	}
}

// awaitItems waits until the items that helpers have claimed are done. Whoever does the last item
// clears parked and sends the token. It may do so late, in the middle of the next phase, so a
// token says no more than that it is time to look again; but there is one receive for each token.
func (s *Session) awaitItems() {
	var spin spinner
	for s.pending.Load() != 0 {
		if spin.again() {
			continue
		}
		s.parked.Store(true)
		if s.pending.Load() != 0 || !s.parked.Swap(false) {
			<-s.wake
		}
	}
}

// awaitWork waits for a bounded time until there is an item to claim, and reports whether there is.
func (s *Session) awaitWork(p *pool) bool {
	var spin spinner
	for uint32(s.word.Load()) == 0 {
		if p.closed.Load() || !spin.again() {
			return false
		}
	}
	return true
}
