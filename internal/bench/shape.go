package bench

// This file owns shapes: batches by the lengths of their sequences.

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/bertc/bertc/internal/pipeline"
)

// Shape is the lengths of the sequences of a batch. "8x128" is 8 sequences of 128 tokens,
// "16+32+48" a ragged batch of three.
type Shape struct {
	Text    string
	Lengths []int
}

// ParseShapes reads a list of shapes separated by commas.
func ParseShapes(text string) ([]Shape, error) {
	var shapes []Shape
	for _, s := range strings.Split(text, ",") {
		shape, err := parseShape(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		shapes = append(shapes, shape)
	}
	return shapes, nil
}

// maxShapeTokens bounds the tokens of a shape.
const maxShapeTokens = 1 << 20

func parseShape(s string) (Shape, error) {
	shape := Shape{Text: s}
	bad := fmt.Errorf("shape %q: want BATCHxLENGTH or LENGTH+LENGTH+… of numbers from 1, with at most %d tokens", s, maxShapeTokens)
	size := func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 || n > maxShapeTokens {
			return 0, bad
		}
		return n, nil
	}
	if batch, length, ok := strings.Cut(s, "x"); ok {
		b, err1 := size(batch)
		n, err2 := size(length)
		if err1 != nil || err2 != nil || b*n > maxShapeTokens {
			return shape, bad
		}
		for range b {
			shape.Lengths = append(shape.Lengths, n)
		}
		return shape, nil
	}
	for _, part := range strings.Split(s, "+") {
		n, err := size(part)
		if err != nil {
			return shape, err
		}
		shape.Lengths = append(shape.Lengths, n)
	}
	if shape.Tokens() > maxShapeTokens {
		return shape, bad
	}
	return shape, nil
}

// Tokens returns the number of tokens.
func (s Shape) Tokens() int {
	n := 0
	for _, l := range s.Lengths {
		n += l
	}
	return n
}

// Request returns a call with random ids below vocab.
func (s Shape) Request(vocab int) pipeline.Request {
	r := rand.New(rand.NewPCG(uint64(len(s.Lengths)), uint64(s.Tokens())))
	req := pipeline.Request{Offsets: []int32{0}, Quiet: true}
	for _, l := range s.Lengths {
		for range l {
			req.IDs = append(req.IDs, int32(r.IntN(vocab)))
		}
		req.Offsets = append(req.Offsets, int32(len(req.IDs)))
	}
	return req
}
