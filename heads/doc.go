// Package heads says what the logits of a head mean: scores of labels, entities in a text, spans
// that answer a question, embeddings. It also cuts long inputs into windows and packs sequences
// into batches. Everything is a pure function of slices.
//
// It imports the standard library alone and is copied into generated packages, whose typed methods
// are thin layers over it. Start reading at options.go, then labels.go.
package heads
