package heads

// This file owns batches: which sequences are computed together.

import "slices"

// Pack divides sequences of the given lengths into batches of at most budget tokens, or one
// sequence that is longer. Sequences of about the same length come together, the longest first,
// so that a batch that is too large for the machine shows at once.
func Pack(lengths []int, budget int) [][]int {
	order := make([]int, len(lengths))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return lengths[b] - lengths[a] })
	var batches [][]int
	tokens := 0
	for i, s := range order {
		if i == 0 || tokens+lengths[s] > budget {
			batches = append(batches, nil)
			tokens = 0
		}
		last := &batches[len(batches)-1]
		*last = append(*last, s)
		tokens += lengths[s]
	}
	return batches
}
