// Command classify reads lines of text from files, or from standard input, and writes for each its
// label, the score of the label, and the text, separated by tabs.
//
// The package tinybert is generated: run go generate with bertc in PATH.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"example.com/classify/tinybert"
)

//go:generate bertc compile --model ../../models/sentiment --out tinybert

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:]); err != nil {
		log.Fatal(err)
	}
}

func run(files []string) error {
	m, err := tinybert.Open("tinybert/model.weights")
	if err != nil {
		return err
	}
	defer m.Close()
	if len(files) == 0 {
		return classify(m, os.Stdin)
	}
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			return err
		}
		err = classify(m, f)
		f.Close()
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	return nil
}

// batch is how many lines are classified at a time.
const batch = 256

func classify(m *tinybert.Model, r io.Reader) error {
	lines := bufio.NewScanner(r)
	var inputs []tinybert.Input
	for lines.Scan() {
		if inputs = append(inputs, tinybert.Input{Text: lines.Text()}); len(inputs) == batch {
			if err := write(m, inputs); err != nil {
				return err
			}
			inputs = inputs[:0]
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return write(m, inputs)
}

func write(m *tinybert.Model, inputs []tinybert.Input) error {
	o := tinybert.ClassifyOptions{TextOptions: tinybert.TextOptions{Long: tinybert.LongTruncate}}
	results, err := m.ClassifyBatch(context.Background(), inputs, o)
	failed := map[int]error{}
	var items tinybert.BatchError
	if errors.As(err, &items) {
		for _, item := range items {
			failed[item.Index] = item.Err
		}
	} else if err != nil {
		return err
	}
	for i, in := range inputs {
		if failed[i] != nil {
			fmt.Printf("error\t0\t%v\n", failed[i])
			continue
		}
		best := results[i].Labels[0]
		fmt.Printf("%s\t%.3f\t%s\n", best.Label, best.Score, in.Text)
	}
	return nil
}
