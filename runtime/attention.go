package rt

import "unsafe"

// This file is the loop around the functions of attention. A work item is one group of query
// heads (those that share a key/value head) of a block of queries of one sequence. It goes
// through all keys of the sequence, in blocks counted from the sequence's start, so that a result
// does not depend on what else is in the batch.

// attentionItems fills blocks: entry i is the number of query blocks of the sequences before i.
func (s *Session) attentionItems() int {
	g := &s.grid
	g.chunk = attentionQueries(g.kernel, g.impl)
	total := 0
	for i := range s.sequences {
		s.blocks[i] = int32(total)
		total += CeilDiv(int(s.starts[i+1]-s.starts[i]), g.chunk)
	}
	s.blocks[s.sequences] = int32(total)
	return total * g.kernel.KVHeads
}

func (s *Session) attentionItem(w *worker, item int) {
	g := &s.grid
	k, im, step := g.kernel, g.impl, g.step
	block, head := item/k.KVHeads, item%k.KVHeads
	seq := s.sequenceOf(int32(block))
	start, end := int(s.starts[seq]), int(s.starts[seq+1])
	query := start + (block-int(s.blocks[seq]))*g.chunk

	group := k.Heads / k.KVHeads
	a, l := &w.attend, &s.model.layouts[step.Kernel]
	a.Rows = min(g.chunk, end-query) * group
	a.QPack, a.KPack, a.VPack = w.part(l, partQ), w.part(l, partK), w.part(l, partV)
	a.S, a.O, a.Max, a.Sum = w.part(l, partS), w.part(l, partO), w.part(l, partMax), w.part(l, partSum)
	a.Q, a.QStride = s.rowsOf(step.Src, query)
	a.Q = unsafe.Add(a.Q, head*group*k.HeadDim*k.In.Size())
	callAttention(im.PackQ, a)

	for key := start; key < end; key += im.BlockN {
		a.Keys, a.First = min(im.BlockN, end-key), 0
		if key == start {
			a.First = 1
		}
		var kv unsafe.Pointer
		kv, a.KVStride = s.rowsOf(step.Src, key)
		a.K = unsafe.Add(kv, (k.Heads+head)*k.HeadDim*k.In.Size())
		a.V = unsafe.Add(kv, (k.Heads+k.KVHeads+head)*k.HeadDim*k.In.Size())
		callAttention(im.PackKV, a)
		callAttention(im.Attend, a)
	}

	a.Dst, a.DstStride = s.rowsOf(step.Dst, query)
	a.Dst = unsafe.Add(a.Dst, head*group*k.HeadDim*k.Out.Size())
	callAttention(im.Finish, a)
}

// sequenceOf returns the sequence that a query block belongs to.
func (s *Session) sequenceOf(block int32) int {
	lo, hi := 0, s.sequences
	for hi-lo > 1 {
		if mid := (lo + hi) / 2; s.blocks[mid] <= block {
			lo = mid
		} else {
			hi = mid
		}
	}
	return lo
}
