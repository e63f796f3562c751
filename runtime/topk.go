package rt

import (
	"context"
	"math"
	"sync"
	"unsafe"
)

// This file is the fused decoder: the last matmul of the head, over blocks of columns that are
// reduced to their maximum, the sum of their exponentials and their best entries as soon as they
// are made. The logits of all columns never exist.
//
// Blocks are the same for any batch and any number of threads, and the sums of a row are added
// in the order of the blocks; the best entries have a total order. So results have fixed bits.

// streamPanels is the panels of one block of columns: 512 columns, which with the rows of a block
// stay in the second-level cache.
const streamPanels = 16

// stream is what the blocks of all rows have been reduced to.
type stream struct {
	k, blocks int
	max       []float64 // [rows][blocks]
	sum       []float64 // [rows][blocks]: of exp(logit − max)
	rows      []bestOf
}

// bestOf is the best entries of a row, in order: the higher logit, then the lower id.
type bestOf struct {
	sync.Mutex
	ids    []int32
	logits []float32
}

func (b *bestOf) add(k int, id int32, logit float32) {
	n := len(b.ids)
	before := func(i int) bool { return b.logits[i] > logit || b.logits[i] == logit && b.ids[i] < id }
	if n == k {
		if before(n - 1) {
			return
		}
		n--
	} else {
		b.ids, b.logits = append(b.ids, 0), append(b.logits, 0)
	}
	for ; n > 0 && !before(n-1); n-- {
		b.ids[n], b.logits[n] = b.ids[n-1], b.logits[n-1]
	}
	b.ids[n], b.logits[n] = id, logit
}

var streamLoop = loop{(*Session).streamItems, (*Session).streamItem}

// TopK runs the head on rows of the last batch, given by token, and returns for each the k most
// probable columns of the softmax, best first, with their probabilities: [rows × k], where k is
// at most the number of columns. Among equals the lower column comes first. It takes any number
// of rows, in rounds of MaxPicked.
func (s *Session) TopK(ctx context.Context, rows []int32, k int) (ids []int32, probabilities []float64, err error) {
	mod := s.model.mod
	if mod.Logits == 0 {
		return nil, nil, ErrNoHead
	}
	if k < 1 {
		return nil, nil, ErrOptions{"the number of candidates must be positive"}
	}
	if err := s.begin(); err != nil {
		return nil, nil, err
	}
	defer s.end()
	if err := s.checkRows(rows); err != nil {
		return nil, nil, err
	}
	k = min(k, mod.LogitsSize)
	for len(rows) > 0 {
		n := min(len(rows), s.maxPicked)
		if ids, probabilities, err = s.topK(ctx, rows[:n], k, ids, probabilities); err != nil {
			return nil, nil, err
		}
		rows = rows[n:]
	}
	return ids, probabilities, nil
}

// topK is TopK for as many rows as the head takes at a time. It appends to ids and probabilities.
func (s *Session) topK(ctx context.Context, rows []int32, k int, ids []int32, probabilities []float64) ([]int32, []float64, error) {
	mod := s.model.mod
	last := len(mod.Steps) - 1
	blocks := ceilDiv(mod.Kernels[mod.Steps[last].Kernel].Panels, streamPanels)
	t := &stream{k: k, blocks: blocks, max: make([]float64, len(rows)*blocks), sum: make([]float64, len(rows)*blocks), rows: make([]bestOf, len(rows))}
	copy(view[int32](s.buffers[mod.Rows], len(rows)), rows)
	if err := s.run(ctx, mod.EncodeSteps, last, len(rows)); err != nil {
		return nil, nil, err
	}
	s.stream = t
	defer func() { s.stream = nil }()
	if err := s.run(ctx, last, last+1, len(rows)); err != nil {
		return nil, nil, err
	}
	for r := range t.rows {
		top, sum := math.Inf(-1), 0.0
		for _, x := range t.max[r*blocks:][:blocks] {
			top = max(top, x)
		}
		for b, x := range t.max[r*blocks:][:blocks] {
			sum += t.sum[r*blocks+b] * exp(x-top)
		}
		ids = append(ids, t.rows[r].ids...)
		for _, logit := range t.rows[r].logits {
			probabilities = append(probabilities, exp(float64(logit)-top)/sum)
		}
	}
	return ids, probabilities, nil
}

func (s *Session) streamItems() int {
	s.grid.across = s.stream.blocks
	return ceilDiv(s.grid.rows, s.grid.impl.BlockM) * s.grid.across
}

func (s *Session) streamItem(w *worker, item int) {
	g := &s.grid
	k, t := g.kernel, s.stream
	row, rows := s.packRows(w, item/g.across)
	block := item % g.across
	first := block * streamPanels
	const width = streamPanels * panelN
	out := w.part(&s.model.layouts[g.step.Kernel], partOut)
	s.multiply(w, row, rows, first, min(streamPanels, k.Panels-first), out, 4*width)
	columns := min(width, k.N-block*width)
	for r := range rows {
		t.reduce(row+r, block, view[float32](unsafe.Add(out, 4*width*r), columns))
	}
}

// reduce takes one row of one block of logits.
func (t *stream) reduce(row, block int, logits []float32) {
	top, sum := math.Inf(-1), 0.0
	for _, x := range logits {
		top = max(top, float64(x))
	}
	for _, x := range logits {
		sum += exp(float64(x) - top)
	}
	t.max[row*t.blocks+block], t.sum[row*t.blocks+block] = top, sum
	best := &t.rows[row]
	best.Lock()
	defer best.Unlock()
	for i, x := range logits {
		if n := len(best.logits); n < t.k || x >= best.logits[n-1] {
			best.add(t.k, int32(block*streamPanels*panelN+i), x)
		}
	}
}
