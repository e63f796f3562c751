// Command fillmask fills the masks of the texts in its arguments.
//
// The package tinybert is generated: run go generate with bertc in PATH, or make examples in the
// root of the repository.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"example.com/fillmask/tinybert"
)

//go:generate bertc compile --model ../../models/tiny --out tinybert

func main() {
	log.SetFlags(0)
	m, err := tinybert.Open("tinybert/model.weights")
	if err != nil {
		log.Fatal(err)
	}
	defer m.Close()
	for _, text := range os.Args[1:] {
		masks, err := m.FillMask(context.Background(), text, 3)
		if err != nil {
			log.Fatalf("%s: %v", text, err)
		}
		for _, candidates := range masks {
			for _, c := range candidates {
				fmt.Printf("%.2f %s\n", c.Score, c.TokenStr)
			}
		}
	}
}
