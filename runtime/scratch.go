package rt

import "unsafe"

// This file plans memory: the arena of a session and the scratch of a worker.
//
// An arena is one block: the area of the tokens, the area of the picked rows, the tables of the
// sequences, and the scratch of the calling goroutine. An area has one capacity, the number of
// rows rounded up to rowAlign; a buffer begins at its offset times that capacity.

// rowAlign is the multiple to which capacities are rounded, so that every buffer begins on a
// cache line: offsets are multiples of 4 bytes a row.
const rowAlign = 16

// MemoryPlan is what a session on the CPU takes outside the Go heap.
type MemoryPlan struct {
	Tokens  int // bytes of the buffers with a row for each token
	Picked  int // bytes of the buffers with a row for each selected row
	Tables  int // bytes of the tables of sequences
	Scratch int // bytes of the calling goroutine's scratch; each helper of the model has as much
}

// Total is the size of the session's arena.
func (p MemoryPlan) Total() int { return p.Tokens + p.Picked + p.Tables + p.Scratch }

// MemoryPlan returns the memory that NewSession allocates for the same options.
func (m *Model) MemoryPlan(o SessionOptions) MemoryPlan {
	o.defaults(m.mod)
	without := BufferID(0)
	if o.NoLogits {
		without = m.mod.Logits
	}
	return MemoryPlan{
		Tokens:  areaBytes(m.mod, Tokens, o.MaxTokens, 0),
		Picked:  areaBytes(m.mod, Picked, o.MaxPicked, without),
		Tables:  2 * tableBytes(o.MaxTokens),
		Scratch: m.scratch,
	}
}

func capacity(rows int) int { return RoundUp(rows, rowAlign) }

// areaBytes returns the bytes of all buffers of an extent but one. The compiler puts the logits
// behind all others.
func areaBytes(mod *Module, e Extent, rows int, without BufferID) int {
	perRow := 0
	for i := range mod.Buffers {
		if b := &mod.Buffers[i]; b.Extent == e && BufferID(i+1) != without {
			perRow = max(perRow, b.Offset+RoundUp(b.RowBytes, 4))
		}
	}
	return perRow * capacity(rows)
}

// tableBytes returns the bytes of a table with an entry for each sequence and one more.
func tableBytes(tokens int) int { return RoundUp(4*(tokens+1), cacheLine) }

// The parts of a worker's scratch. They are numbered for each kind of kernel.
const (
	partA = iota
	partTile
	partOut // of the kernel of the fused decoder
)

const (
	partQ = iota
	partK
	partV
	partS
	partO
	partMax
	partSum
	parts
)

// layout is where the parts of one kernel's scratch begin.
type layout [parts]int

// attentionQueries returns the queries of a call: its rows are the heads of each.
func attentionQueries(k *Kernel, im *Impl) int {
	rows := min(im.BlockM, max(1, im.callMACs()/(2*im.BlockN*k.HeadDim)))
	return max(1, rows/(k.Heads/k.KVHeads))
}

// attentionRows returns the rows of a call, in whole tiles.
func attentionRows(k *Kernel, im *Impl) int {
	return RoundUp(attentionQueries(k, im)*(k.Heads/k.KVHeads), im.MicroM)
}

// attentionWidth returns the columns of a packed row.
func attentionWidth(k *Kernel) int { return RoundUp(k.HeadDim, panelN) }

// scratchLayout lays out the scratch of a kernel and returns its size. streamed is for the kernel
// of the fused decoder.
func scratchLayout(k *Kernel, im *Impl, streamed bool) (l layout, size int) {
	var sizes layout
	switch k.Kind {
	case Gemm:
		sizes[partA] = im.BlockM * im.RowBytes / 4
		sizes[partTile] = im.MicroM * k.Group * panelN
		if streamed {
			sizes[partOut] = im.BlockM * streamPanels * panelN
		}
	case Attention:
		rows, width := attentionRows(k, im), attentionWidth(k)
		sizes[partQ] = attentionCalls * rows * width
		sizes[partK] = im.BlockN * width
		sizes[partV] = im.BlockN * width
		sizes[partS] = rows * im.BlockN
		sizes[partO] = attentionCalls * rows * width
		sizes[partMax] = attentionCalls * rows
		sizes[partSum] = attentionCalls * rows
	}
	for part, n := range sizes {
		l[part] = size
		size += RoundUp(4*n, cacheLine)
	}
	return l, size
}

// part returns a part of the worker's scratch.
func (w *worker) part(l *layout, part int) unsafe.Pointer { return unsafe.Add(w.scratch, l[part]) }
