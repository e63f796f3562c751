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

func newStream(k, rows, blocks int) *stream {
	return &stream{k: k, blocks: blocks, max: make([]float64, rows*blocks), sum: make([]float64, rows*blocks), rows: make([]bestOf, rows)}
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
	if s.device != nil {
		return s.topKOnDevice(ctx, rows, k, ids, probabilities)
	}
	last := len(mod.Steps) - 1
	t := newStream(k, len(rows), CeilDiv(mod.Kernels[mod.Steps[last].Kernel].Panels, streamPanels))
	copy(view[int32](s.buffers[mod.Rows], len(rows)), rows)
	if err := s.run(ctx, mod.EncodeSteps, last, len(rows)); err != nil {
		return nil, nil, err
	}
	s.stream = t
	defer func() { s.stream = nil }()
	if err := s.run(ctx, last, last+1, len(rows)); err != nil {
		return nil, nil, err
	}
	ids, probabilities = t.results(ids, probabilities)
	return ids, probabilities, nil
}

// results appends the best entries of every row and their probabilities.
func (t *stream) results(ids []int32, probabilities []float64) ([]int32, []float64) {
	for r := range t.rows {
		top, sum := math.Inf(-1), 0.0
		for _, x := range t.max[r*t.blocks:][:t.blocks] {
			top = max(top, x)
		}
		for b, x := range t.max[r*t.blocks:][:t.blocks] {
			sum += t.sum[r*t.blocks+b] * exp(x-top)
		}
		ids = append(ids, t.rows[r].ids...)
		for _, logit := range t.rows[r].logits {
			probabilities = append(probabilities, exp(float64(logit)-top)/sum)
		}
	}
	return ids, probabilities
}

func (s *Session) streamItems() int {
	s.grid.across = s.stream.blocks
	return CeilDiv(s.grid.rows, s.grid.impl.BlockM) * s.grid.across
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
	highest, sum := float32(math.Inf(-1)), 0.0
	for _, x := range logits {
		if x > highest {
			highest = x
		}
	}
	top := float64(highest)
	for _, x := range logits {
		sum += expNegative(float64(x) - top)
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

// sixteenths are the powers of two with exponents 0/16 to 15/16.
var sixteenths = [16]float64{
	0x1.0000000000000p+0, 0x1.0b5586cf9890fp+0, 0x1.172b83c7d517bp+0, 0x1.2387a6e756238p+0,
	0x1.306fe0a31b715p+0, 0x1.3dea64c123422p+0, 0x1.4bfdad5362a27p+0, 0x1.5ab07dd485429p+0,
	0x1.6a09e667f3bcdp+0, 0x1.7a11473eb0187p+0, 0x1.8ace5422aa0dbp+0, 0x1.9c49182a3f090p+0,
	0x1.ae89f995ad3adp+0, 0x1.c199bdd85529cp+0, 0x1.d5818dcfba487p+0, 0x1.ea4afa2a490dap+0,
}

// expNegative returns e to the power x ≤ 0 with a relative error below 1e-10, twice as fast as exp:
// 2^(k/16) · e^r, where |r| ≤ ln(2)/32 and e^r is its Taylor polynomial of degree 4 (r⁵/5! < 4e-11).
func expNegative(x float64) float64 {
	if x < -700 {
		return 0
	}
	const shift = 3 << 51 // added, it leaves the nearest integer in the low bits of the sum
	t := float64(x*(16*math.Log2E)) + shift
	k := int32(math.Float64bits(t))
	r := x - float64((t-shift)*(math.Ln2/16))
	y := float64(r*(1.0/24)) + 1.0/6
	y = float64(y*r) + 1.0/2
	y = float64(y*r) + 1
	y = float64(y*r) + 1
	return float64(y*sixteenths[k&15]) * math.Float64frombits(uint64(int64(k>>4)+1023)<<52)
}
