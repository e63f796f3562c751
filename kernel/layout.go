package kernel

import (
	"fmt"
	"strconv"
	"strings"
)

// Layout is the order of a tensor's elements in memory: its dimensions, split into factors,
// from the outermost to the innermost. The text is the value, so layouts compare with ==.
//
// Each factor is written in brackets. "[n]" is the whole dimension n, "[n/32]" is the number
// of blocks of 32 (rounded up: the last block is padded with zeros), and "[n16]" is a factor
// of 16 inside such a block. The factors of a dimension inside its block multiply to the
// block size; the leftmost is the most significant. Examples:
//
//	[n][k]                            row-major
//	[n/32][k][n32]                    panels of 32 columns, f32 weights
//	[n/32][k/32][n2][k16][n16][k2]    panels of 32 columns; per 32 of k two tiles of
//	                                  16 k-pairs × 16 columns: the B operand of TDPBF16PS
//	                                  and VDPBF16PS (k pairs adjacent)
//	[n/32][k/64][n2][k16][n16][k4]    the same for codes of 8 bits: k quads, as TDPBSSD and
//	                                  VPDPBUSD take them
//
// Because every factor belongs to one dimension, the offset of an element is a sum of one
// term per dimension; Offsets returns these terms.
type Layout string

// The layouts of weights and vectors in the weight file.
const (
	RowMajor  Layout = "[n][k]"
	PanelF32  Layout = "[n/32][k][n32]"
	PanelBF16 Layout = "[n/32][k/32][n2][k16][n16][k2]"
	PanelI8   Layout = "[n/32][k/64][n2][k16][n16][k4]"
	Vector    Layout = "[n]"
	PadVector Layout = "[n/32][n32]" // a vector that is read 32 columns at a time
)

// PairedRows is the layout of packed rows for an instruction that multiplies two rows at a time.
const PairedRows Layout = "[m/2][k/4][m2][k4]"

// PanelN is the number of columns of a weight panel, the unit of work of a matmul.
const PanelN = 32

// factor is one bracket of a layout. size 0 is the outermost factor of its dimension, whose
// extent follows from the tensor; block is what it counts (1 for "[n]", 32 for "[n/32]").
type factor struct {
	dim   byte
	size  int
	block int
}

// maxBlock bounds the block size in a layout text, so that a hostile text cannot overflow.
const maxBlock = 1 << 16

func (l Layout) factors() ([]factor, error) {
	var fs []factor
	rest := string(l)
	for rest != "" {
		end := strings.IndexByte(rest, ']')
		if rest[0] != '[' || end < 2 {
			return nil, fmt.Errorf("layout %q: expected \"[\" at %q", l, rest)
		}
		name, count := rest[1:end], ""
		f := factor{dim: name[0], block: 1}
		if f.dim < 'a' || f.dim > 'z' {
			return nil, fmt.Errorf("layout %q: dimension %q is not a letter", l, name)
		}
		count = name[1:]
		target := &f.size
		if strings.HasPrefix(count, "/") {
			count, target = count[1:], &f.block
		}
		if name != string(f.dim) {
			n, err := strconv.Atoi(count)
			if err != nil || n < 1 || n > maxBlock {
				return nil, fmt.Errorf("layout %q: factor %q: size must be in 1..%d", l, name, maxBlock)
			}
			*target = n
		}
		fs = append(fs, f)
		rest = rest[end+1:]
	}
	if len(fs) == 0 {
		return nil, fmt.Errorf("layout is empty")
	}
	return fs, nil
}

// Dims returns the dimension letters in the order of their outermost factors.
func (l Layout) Dims() (string, error) {
	fs, err := l.factors()
	if err != nil {
		return "", err
	}
	dims := ""
	for _, f := range fs {
		if f.size == 0 {
			if strings.IndexByte(dims, f.dim) >= 0 {
				return "", fmt.Errorf("layout %q: dimension %q has two outermost factors", l, string(f.dim))
			}
			dims += string(f.dim)
		}
	}
	for _, d := range []byte(dims) {
		inner, block := 1, 1
		seen := false
		for _, f := range fs {
			if f.dim != d {
				continue
			}
			if f.size == 0 {
				block, seen = f.block, true
			} else if inner *= f.size; !seen {
				return "", fmt.Errorf("layout %q: dimension %q: an inner factor precedes the outermost", l, string(d))
			}
		}
		if inner != block {
			return "", fmt.Errorf("layout %q: dimension %q: inner factors multiply to %d, want %d", l, string(d), inner, block)
		}
	}
	for _, f := range fs {
		if strings.IndexByte(dims, f.dim) < 0 {
			return "", fmt.Errorf("layout %q: dimension %q has no outermost factor", l, string(f.dim))
		}
	}
	return dims, nil
}

// Padded returns shape with every dimension rounded up to its block size. shape is in the
// order of Dims.
func (l Layout) Padded(shape ...int) []int {
	dims := l.mustDims(shape)
	fs, _ := l.factors()
	out := make([]int, len(shape))
	for i := range shape {
		for _, f := range fs {
			if f.dim == dims[i] && f.size == 0 {
				out[i] = (shape[i] + f.block - 1) / f.block * f.block
			}
		}
	}
	return out
}

// Len returns the number of elements that a tensor of the given shape takes, padding included.
func (l Layout) Len(shape ...int) int {
	n := 1
	for _, d := range l.Padded(shape...) {
		n *= d
	}
	return n
}

// Offsets returns, for every index of dimension dim of a tensor of the given shape, its term of
// the element offset: element (i, j) lies at Offsets(0, shape...)[i] + Offsets(1, shape...)[j].
// The result covers the padded extent.
func (l Layout) Offsets(dim int, shape ...int) []int {
	dims := l.mustDims(shape)
	fs, _ := l.factors()
	padded := l.Padded(shape...)
	stride := 1
	strides := make([]int, len(fs))
	for i := len(fs) - 1; i >= 0; i-- {
		strides[i] = stride
		if fs[i].size != 0 {
			stride *= fs[i].size
			continue
		}
		stride *= padded[strings.IndexByte(dims, fs[i].dim)] / fs[i].block
	}
	out := make([]int, padded[dim])
	for x := range out {
		rest := x
		for i := len(fs) - 1; i >= 0; i-- {
			if fs[i].dim != dims[dim] {
				continue
			}
			if fs[i].size == 0 {
				out[x] += rest * strides[i]
				continue
			}
			out[x] += rest % fs[i].size * strides[i]
			rest /= fs[i].size
		}
	}
	return out
}

// mustDims is for callers that hold a checked layout; Check is where a text from outside fails.
func (l Layout) mustDims(shape []int) string {
	dims, err := l.Dims()
	if err != nil || len(dims) != len(shape) {
		panic(fmt.Sprintf("kernel: layout %q for shape %v: %v", l, shape, err))
	}
	return dims
}

// Pack returns src, a row-major tensor of the given shape, in the order of l, padding zero.
// It is the oracle of every packing routine.
func Pack[E any](l Layout, src []E, shape ...int) []E {
	dst := make([]E, l.Len(shape...))
	walk(l, shape, func(row, packed int) { dst[packed] = src[row] })
	return dst
}

// Unpack is the inverse of Pack.
func Unpack[E any](l Layout, src []E, shape ...int) []E {
	n := 1
	for _, d := range shape {
		n *= d
	}
	dst := make([]E, n)
	walk(l, shape, func(row, packed int) { dst[row] = src[packed] })
	return dst
}

func walk(l Layout, shape []int, visit func(row, packed int)) {
	offs := make([][]int, len(shape))
	for d := range shape {
		offs[d] = l.Offsets(d, shape...)
	}
	idx := make([]int, len(shape))
	total := 1
	for _, d := range shape {
		total *= d
	}
	for row := range total {
		packed := 0
		rest := row
		for d := len(shape) - 1; d >= 0; d-- {
			idx[d] = rest % shape[d]
			rest /= shape[d]
			packed += offs[d][idx[d]]
		}
		visit(row, packed)
	}
}
