// Command encode prints the cosine similarity of the first text in its arguments to each of the
// others: of the means of their hidden states. All texts go through the model as one batch.
//
// The package tinybert is generated: run go generate with bertc in PATH, or make examples in the
// root of the repository.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"os"

	"example.com/encode/tinybert"
)

//go:generate bertc compile --model ../../models/tiny --out tinybert

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(texts []string) error {
	if len(texts) < 2 {
		return errors.New("usage: encode TEXT TEXT ...")
	}
	m, err := tinybert.Open("tinybert/model.weights")
	if err != nil {
		return err
	}
	defer m.Close()

	// A batch is all tokens one after another, and where each sequence begins.
	batch := tinybert.Batch{Offsets: []int32{0}}
	for _, text := range texts {
		e, err := m.Tokenize(text)
		if err != nil {
			return fmt.Errorf("%q: %w", text, err)
		}
		batch.IDs = append(batch.IDs, e.IDs...)
		batch.Offsets = append(batch.Offsets, int32(len(batch.IDs)))
	}

	s, err := m.NewSession(tinybert.SessionOptions{MaxTokens: len(batch.IDs)})
	if err != nil {
		return err
	}
	defer s.Close()
	h, err := s.Encode(context.Background(), batch)
	if err != nil {
		return err
	}
	first := mean(h.Sequence(0))
	for i, text := range texts[1:] {
		fmt.Printf("%.3f %s\n", cosine(first, mean(h.Sequence(i+1))), text)
	}
	return nil
}

// mean returns the mean of the rows of x.
func mean(x []float32) []float64 {
	sum := make([]float64, tinybert.HiddenSize)
	for i, v := range x {
		sum[i%len(sum)] += float64(v) * float64(len(sum)) / float64(len(x))
	}
	return sum
}

func cosine(a, b []float64) float64 {
	var ab, aa, bb float64
	for i := range a {
		ab += a[i] * b[i]
		aa += a[i] * a[i]
		bb += b[i] * b[i]
	}
	return ab / math.Sqrt(aa*bb)
}
