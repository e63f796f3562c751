// Command numerics is the measuring tool behind docs/numerics.md. It writes files of token ids for
// "bertc run", and says how far one result of "bertc run" is from another.
//
//	go run ./examples/numerics ids --batch 1 --tokens 128 --vocab 99584 ids.safetensors
//	go run ./examples/numerics compare got.safetensors want.safetensors
package main

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/internal/num"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "numerics:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) > 0 && args[0] == "ids" {
		return ids(args[1:])
	}
	if len(args) == 3 && args[0] == "compare" {
		return compare(args[1], args[2])
	}
	return fmt.Errorf("expected \"ids [flags] FILE\" or \"compare GOT WANT\"")
}

// ids writes input_ids [batch, tokens] with random ids, the same for the same flags.
func ids(args []string) error {
	f := flag.NewFlagSet("ids", flag.ContinueOnError)
	batch := f.Int("batch", 1, "rows")
	tokens := f.Int("tokens", 128, "tokens of a row")
	vocab := f.Int("vocab", 0, "ids are below this")
	seed := f.Uint64("seed", 1, "seed of the random ids")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() != 1 || *vocab < 1 || *batch < 1 || *tokens < 1 {
		return fmt.Errorf("ids needs --vocab and one file; sizes are positive")
	}
	random := rand.New(rand.NewPCG(*seed, 0))
	info := checkpoint.Info{Name: "input_ids", DType: "I32", Shape: []int{*batch, *tokens}}
	return checkpoint.WriteFile(f.Arg(0), []checkpoint.Info{info}, func(_ int, w io.Writer) error {
		var data []byte
		for range *batch * *tokens {
			data = binary.LittleEndian.AppendUint32(data, uint32(random.IntN(*vocab)))
		}
		_, err := w.Write(data)
		return err
	})
}

// compare prints the measures of every tensor that both files have.
func compare(got, want string) error {
	a, err := checkpoint.OpenFile(got)
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := checkpoint.OpenFile(want)
	if err != nil {
		return err
	}
	defer b.Close()
	for _, info := range b.Tensors() {
		x, err := a.Tensor(info.Name)
		if err != nil {
			return err
		}
		y, err := b.Tensor(info.Name)
		if err != nil {
			return err
		}
		if !slices.Equal(x.Shape, y.Shape) {
			return fmt.Errorf("tensor %q: %s has shape %v, %s has shape %v", info.Name, got, x.Shape, want, y.Shape)
		}
		width := info.Shape[len(info.Shape)-1]
		fmt.Printf("%s: %s\n", info.Name, num.Compare(num.Float64s(x.Float32s()), num.Float64s(y.Float32s()), width))
	}
	return nil
}
