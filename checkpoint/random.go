package checkpoint

// This file owns the numbers of random checkpoints. A tensor is divided into blocks with a
// generator each, so that the numbers depend on the seed, the name and the place alone, and
// all cores can make them.

import (
	"context"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
)

// distributions gives the mean and the standard deviation of one-dimensional tensors by the end
// of their canonical name; the first that fits counts. Matrices have mean 0 and InitOptions.Std.
var distributions = []struct {
	suffix    string
	mean, std float64
}{
	{"ln.weight", 1, 0.1},
	{"LayerNorm.weight", 1, 0.1},
	{"ln.bias", 0, 0.1},
	{"LayerNorm.bias", 0, 0.1},
	{"bias", 0, 0.05},
}

// outlierFactor multiplies the norm weights of the channels that InitOptions.Outliers asks for. The
// left factors of the matmuls then have magnitudes of 20 and more there, and less than 4 elsewhere;
// trained models have about six channels beyond 6 (LLM.int8, arXiv 2208.07339, section 4).
const outlierFactor = 8

// isNorm reports whether a tensor is the weight of a norm.
func isNorm(name string) bool {
	return strings.HasSuffix(name, "ln.weight") || strings.HasSuffix(name, "LayerNorm.weight")
}

// outliers returns the channels that are multiplied, the same ones in every norm of that width.
func (o InitOptions) outliers(width int) map[int]bool {
	set := map[int]bool{}
	for _, c := range rand.New(rand.NewPCG(o.Seed, uint64(width))).Perm(width)[:min(o.Outliers, width)] {
		set[c] = true
	}
	return set
}

// randomBlock is the number of elements that one generator makes.
const randomBlock = 1 << 16

// writeRandom writes the elements of one tensor and reports the bytes written. It holds one
// block of bytes and one of numbers for each core.
func writeRandom(ctx context.Context, w io.Writer, t Want, o InitOptions, wrote func(int64)) error {
	mean, std := 0.0, o.Std
	for _, d := range distributions {
		if len(t.Shape) == 1 && strings.HasSuffix(t.Name, d.suffix) {
			mean, std = d.mean, d.std
			break
		}
	}
	var large map[int]bool
	if o.Outliers > 0 && len(t.Shape) == 1 && isNorm(t.Name) {
		large = o.outliers(t.Shape[0])
	}
	hash := fnv.New64a()
	hash.Write([]byte(t.Name))
	stream := hash.Sum64()

	size := o.DType.Size()
	bytes, err := byteSize(o.DType, t.Shape)
	if err != nil {
		return err
	}
	elements := bytes / size
	workers := runtime.GOMAXPROCS(0)
	blocks := make([][]byte, workers)
	numbers := make([][]float32, workers)
	for i := range blocks {
		blocks[i] = make([]byte, randomBlock*size)
		numbers[i] = make([]float32, randomBlock)
	}
	places := make([]int, randomBlock)
	for i := range places {
		places[i] = i
	}
	for first := int64(0); first*randomBlock < elements; first += int64(workers) {
		if err := ctx.Err(); err != nil {
			return err
		}
		length := func(i int) int64 {
			return max(0, min(randomBlock, elements-(first+int64(i))*randomBlock))
		}
		var wait sync.WaitGroup
		for i := range workers {
			wait.Go(func() {
				x := numbers[i][:length(i)]
				// The factor is 2⁶⁴/φ: it spreads consecutive blocks over all states.
				r := rand.New(rand.NewPCG(o.Seed, stream^(uint64(first)+uint64(i))*0x9e3779b97f4a7c15))
				for j := range x {
					// The conversion keeps the product from being fused into the sum.
					x[j] = float32(mean + float64(std*r.NormFloat64()))
					if large[int(first+int64(i))*randomBlock+j] {
						x[j] *= outlierFactor
					}
				}
				encoders[o.DType](blocks[i], x, 0, places)
			})
		}
		wait.Wait()
		for i := range workers {
			n := length(i) * size
			if _, err := w.Write(blocks[i][:n]); err != nil {
				return err
			}
			wrote(n)
		}
	}
	return nil
}
