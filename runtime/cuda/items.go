package cuda

import rt "github.com/bertc/bertc/runtime"

// This file owns the work items of attention.

// itemBytes is the size of an Item in memory.
const itemBytes = 16

// itemList is the items of one way to cut sequences, and where they lie in the input block.
type itemList struct {
	tileM          int
	group, kvHeads int // query heads of a key/value head, and how many of these
	at, count      int // bytes from the start of the input block: items, and their number
	most           int // items of a batch of the phase's size
}

// mostItems bounds the items of a batch: each sequence of each key/value head has at most one that
// is not full.
func (l *itemList) mostItems(tokens, sequences int) int {
	return l.kvHeads * (tokens*l.group/l.tileM + min(tokens, sequences))
}

// fill lists the items of a batch, sequence by sequence, and returns their number.
func (l *itemList) fill(items []Item, starts []int32) int {
	n := 0
	for i, start := range starts[:len(starts)-1] {
		length := starts[i+1] - start
		for kv := range int32(l.kvHeads) {
			for row := 0; row < int(length)*l.group; row += l.tileM {
				items[n] = Item{start, length, kv, int32(row)}
				n++
			}
		}
	}
	return n
}

// list returns the list of a kernel that cuts into so many rows; nil when the phase has none.
func (ph *phase) list(tileM int, k *rt.Kernel) *itemList {
	for i := range ph.lists {
		if l := &ph.lists[i]; l.tileM == tileM && l.kvHeads == k.KVHeads && l.group == k.Heads/k.KVHeads {
			return l
		}
	}
	return nil
}
