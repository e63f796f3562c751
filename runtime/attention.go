package rt

import "unsafe"

// This file is the loop around the functions of attention. A work item is one group of query
// heads (those that share a key/value head) of a block of queries of one sequence. It goes
// through all keys of the sequence, in blocks counted from the sequence's start, so that a result
// does not depend on what else is in the batch. A block of keys is packed once for all queries of the
// item, which may be those of several calls.

// attentionCalls is the number of calls that share a packed block of keys at most. Packing takes 3 % of the
// time of one call (Zen 4, docs/tuning.md), more where the products are faster.
const attentionCalls = 4

// attentionItems fills blocks: entry i is the number of query blocks of the sequences before i.
func (s *Session) attentionItems() int {
	g := &s.grid
	call := attentionQueries(g.kernel, g.impl)
	g.chunk = CeilDiv(int(s.starts[s.sequences])*g.kernel.KVHeads, itemsPerWorker*s.width())
	if g.chunk > call {
		g.chunk = min(attentionCalls, g.chunk/call) * call
	}
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
	from := start + (block-int(s.blocks[seq]))*g.chunk
	to := min(from+g.chunk, end)

	group, a, l := k.Heads/k.KVHeads, &w.attend, &s.model.layouts[step.Kernel]
	queries := attentionQueries(k, im)
	rows := attentionRows(k, im)
	a.KPack, a.VPack, a.S = w.part(l, partK), w.part(l, partV), w.part(l, partS)
	// each runs f on the queries of every call.
	each := func(f func(a *AttentionArgs)) {
		for call, query := 0, from; query < to; call, query = call+1, query+queries {
			a.Rows = min(queries, to-query) * group
			a.QPack = unsafe.Add(w.part(l, partQ), 4*call*rows*attentionWidth(k))
			a.O = unsafe.Add(w.part(l, partO), 4*call*rows*attentionWidth(k))
			a.Max = unsafe.Add(w.part(l, partMax), 4*call*rows)
			a.Sum = unsafe.Add(w.part(l, partSum), 4*call*rows)
			a.Q, a.QStride = s.rowsOf(step.Src, query)
			a.Q = unsafe.Add(a.Q, head*group*k.HeadDim*k.In.Size())
			a.Dst, a.DstStride = s.rowsOf(step.Dst, query)
			a.Dst = unsafe.Add(a.Dst, head*group*k.HeadDim*k.Out.Size())
			callAttention(f, a)
		}
	}
	each(im.PackQ)
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
		each(im.Attend)
	}
	each(im.Finish)
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
