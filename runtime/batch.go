package rt

import "fmt"

// This file checks a batch and copies it into the arena.

// accept checks the inputs of Encode and takes them over.
func (s *Session) accept(ids, positions, offsets []int32) error {
	mod := s.model.mod
	if len(ids) > s.maxTokens {
		return ErrTooManyTokens{len(ids), s.maxTokens}
	}
	if err := checkOffsets(offsets, len(ids), mod.MaxPositions); err != nil {
		return err
	}
	for i, id := range ids {
		if id < 0 || int(id) >= mod.VocabSize {
			return ErrToken{i, id, mod.VocabSize}
		}
	}
	if positions != nil && len(positions) != len(ids) {
		return ErrBatch{fmt.Sprintf("%d positions for %d tokens", len(positions), len(ids))}
	}
	for i, p := range positions {
		if p < 0 || int(p) >= mod.MaxPositions {
			return ErrPosition{i, p, mod.MaxPositions}
		}
	}
	copy(view[int32](s.buffers[mod.IDs], len(ids)), ids)
	s.sequences = max(0, len(offsets)-1)
	copy(s.starts, offsets)
	if mod.Positions == 0 {
		return nil
	}
	own := view[int32](s.buffers[mod.Positions], len(ids))
	if copy(own, positions) > 0 {
		return nil
	}
	for i := range s.sequences {
		for n, t := int32(0), offsets[i]; t < offsets[i+1]; n, t = n+1, t+1 {
			own[t] = n
		}
	}
	return nil
}

// checkOffsets checks that offsets cut tokens into sequences.
func checkOffsets(offsets []int32, tokens, longest int) error {
	if len(offsets) == 0 && tokens == 0 {
		return nil
	}
	if len(offsets) == 0 || offsets[0] != 0 || int(offsets[len(offsets)-1]) != tokens {
		return ErrBatch{fmt.Sprintf("offsets must go from 0 to %d, the number of tokens", tokens)}
	}
	for i, start := range offsets[:len(offsets)-1] {
		switch n := int(offsets[i+1]) - int(start); {
		case n <= 0:
			return ErrBatch{fmt.Sprintf("sequence %d begins at token %d and ends at %d: it must have tokens", i, start, offsets[i+1])}
		case n > longest:
			return ErrTooLong{i, n, longest}
		}
	}
	return nil
}
