// Command answer answers a question about a text file, however long, and says where in the file the
// answer stands:
//
//	answer 'どこで本を読んだか？' story.txt
//
// The package tinybert is generated: run go generate with bertc in PATH. It is made of random
// weights, so its answers mean nothing: name your own fine-tuned checkpoint in the second line.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"example.com/answer/tinybert"
)

//go:generate sh -c "rm -rf model && bertc init --config config.json --tokenizer ../../models/tiny/tokenizer.json --out model"
//go:generate bertc compile --model model --out tinybert

func main() {
	log.SetFlags(0)
	if err := run(os.Stdout, os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(w io.Writer, args []string) error {
	if len(args) != 2 {
		return errors.New("usage: answer QUESTION FILE")
	}
	text, err := os.ReadFile(args[1])
	if err != nil {
		return err
	}
	m, err := tinybert.Open("tinybert/model.weights")
	if err != nil {
		return err
	}
	defer m.Close()
	o := tinybert.AnswerOptions{TopK: 3, NoAnswer: true}
	o.Long = tinybert.LongWindow // a text that is too long is read in windows
	a, err := m.Answer(context.Background(), args[0], string(text), o)
	if err != nil {
		return fmt.Errorf("%s: %w", args[1], err)
	}
	for _, answer := range a.Answers {
		if answer.Text == "" {
			fmt.Fprintf(w, "%.4f (no answer)\n", answer.Score)
			continue
		}
		fmt.Fprintf(w, "%.4f characters %d to %d: %s\n", answer.Score, answer.Start, answer.End, answer.Text)
	}
	return nil
}
