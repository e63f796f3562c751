package hf

// This file owns the component "model": the vocabulary and its scores.

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

const (
	// unkPenalty is how far below the lowest score an unknown character is
	// scored (K_UNK_PENALTY in Hugging Face tokenizers).
	unkPenalty = 10.0
	// maxScore bounds scores so that no sum of them overflows.
	maxScore = 1e30
	// maxVocab bounds the number of tokens.
	maxVocab = 1 << 24
)

// A piece is one entry of the vocabulary.
type piece struct {
	text  string
	score float64
}

// readPiece returns the piece that an entry ["text", score] holds.
func readPiece(entry []any) (piece, bool) {
	if len(entry) != 2 {
		return piece{}, false
	}
	text, isText := entry[0].(string)
	score, isScore := entry[1].(float64)
	return piece{text, score}, isText && isScore && text != ""
}

func (b *builder) readModel(data json.RawMessage) error {
	if isNull(data) {
		return errors.New("it is missing")
	}
	if _, err := typeOf(data, map[string]bool{"Unigram": true}, "Unigram"); err != nil {
		return err
	}
	var m struct {
		UnkID        *int64  `json:"unk_id"`
		Vocab        [][]any `json:"vocab"`
		ByteFallback bool    `json:"byte_fallback"`
	}
	if err := unmarshal(data, &m); err != nil {
		return err
	}
	if len(m.Vocab) == 0 {
		return errors.New("vocab is missing or empty")
	}
	if len(m.Vocab) > maxVocab {
		return fmt.Errorf("vocab has %d entries, more than the %d that are supported", len(m.Vocab), maxVocab)
	}
	if m.UnkID == nil {
		return errors.New("unk_id null is not supported")
	}
	if *m.UnkID < 0 || *m.UnkID >= int64(len(m.Vocab)) {
		return fmt.Errorf("unk_id %d is not in the vocabulary of %d entries", *m.UnkID, len(m.Vocab))
	}
	lowest := math.Inf(1)
	vocab := make([]piece, len(m.Vocab))
	for id, entry := range m.Vocab {
		p, ok := readPiece(entry)
		if !ok {
			return fmt.Errorf("vocab: entry %d is not a text and a score", id)
		}
		vocab[id] = p
		if before, ok := b.ids[p.text]; ok {
			return fmt.Errorf("vocab: entries %d and %d are both %q", before, id, p.text)
		}
		if math.Abs(p.score) > maxScore {
			return fmt.Errorf("vocab: the score %g of entry %d is beyond %g", p.score, id, maxScore)
		}
		lowest = min(lowest, p.score)
		b.ids[p.text] = int32(id)
		b.texts = append(b.texts, p.text)
	}
	b.image.UnkID = int32(*m.UnkID)
	b.image.UnkScore = lowest - unkPenalty
	if m.ByteFallback {
		b.image.ByteFallback = 1
	}
	b.image.ByteIDs = make([]int32, 256)
	for i := range b.image.ByteIDs {
		id, ok := b.ids[fmt.Sprintf("<0x%02X>", i)]
		if !ok {
			id = -1
		}
		b.image.ByteIDs[i] = id
	}
	return b.buildTrie(vocab)
}
