package checkpoint

// This file owns packing: checkpoint tensors go through the recipes of a program into the
// packed weight file, a slab of rows at a time.

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/bertc/bertc/internal/staging"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

// Source is where packing reads tensors from, by canonical name; a Checkpoint is one.
type Source interface {
	Tensor(name string) (Tensor, error)
	Release(name string)
}

// PackOptions are the parts of a packed file that do not come from the checkpoint.
type PackOptions struct {
	ID       func(Manifest) [32]byte // identity of the package that the file belongs to, asked for when all data is written; nil is zeros
	Blobs    map[string][]byte       // contents by the name that Weight.Blob gives
	Vectors  func(string) []float32  // of factors, by the name that Factor.Vector gives, nil for another; may be nil
	Progress func(done, total int64) // in bytes of data written; may be nil
}

// PackFile writes the packed file of recipes at path. It appears when it is complete and on the
// disk, and a mapping of it can have huge pages where the system has them for files.
func PackFile(ctx context.Context, path string, src Source, recipes []program.Weight, o PackOptions) (m Manifest, err error) {
	err = staging.File(path, func(f *os.File) error {
		if m, err = Pack(ctx, f, src, recipes, o); err != nil {
			return err
		}
		return settle(f)
	})
	return m, err
}

// Pack writes the packed file of recipes to w. All recipes are checked against the source
// before anything is written. The bytes depend on nothing but the arguments.
func Pack(ctx context.Context, w io.WriterAt, src Source, recipes []program.Weight, o PackOptions) (Manifest, error) {
	var m Manifest
	var total int64
	seen := map[string]bool{}
	packers := make([]*packer, len(recipes))
	for i, r := range recipes {
		p, err := newPacker(r, src, o)
		if err == nil && seen[r.Name] {
			err = fmt.Errorf("the name occurs twice")
		}
		if err != nil {
			return m, fmt.Errorf("weight %q: %w", r.Name, err)
		}
		seen[r.Name] = true
		packers[i] = p
		m.Weights = append(m.Weights, PackedWeight{
			Name: r.Name, DType: r.DType.String(), Shape: slices.Clone(r.Shape), Layout: string(r.Layout), Size: p.bytes,
		})
		total += p.bytes
	}
	m.place()
	var done int64
	for i, p := range packers {
		at, crc := m.Weights[i].Offset, uint32(0)
		err := p.pack(ctx, func(slab []byte) error {
			if _, err := w.WriteAt(slab, at); err != nil {
				return err
			}
			crc = crc32.Update(crc, castagnoli, slab)
			at += int64(len(slab))
			if done += int64(len(slab)); o.Progress != nil {
				o.Progress(done, total)
			}
			return nil
		})
		if err != nil {
			return m, err
		}
		m.Weights[i].CRC32C = crc
		if _, err := w.WriteAt(make([]byte, roundUp(at, packAlign)-at), at); err != nil {
			return m, err
		}
		for _, part := range p.recipe.Parts {
			src.Release(part.Tensor)
		}
	}
	var id [32]byte
	if o.ID != nil {
		id = o.ID(m)
	}
	_, err := w.WriteAt(m.header(id), 0)
	return m, err
}

// slabBytes is about how much of a weight is held in memory.
const slabBytes = 16 << 20

// elementTypes maps the element types that a recipe may have to those of the encoders.
var elementTypes = map[ir.DType]DType{ir.F32: F32, ir.BF16: BF16, ir.F16: F16, ir.I8: I8}

// packer packs one weight.
type packer struct {
	recipe  program.Weight
	src     Source
	bytes   int64         // size in the file
	blob    []byte        // of a blob
	factors [][][]float32 // vectors of the factors of each part

	// Of the other kinds: rows and columns (1 for a vector), and the places of both.
	rows, cols int
	rowAt      []int
	colAt      []int
	block      int // rows of one outermost block, which is contiguous in the file
	rowBytes   int64
	element    DType
}

func newPacker(r program.Weight, src Source, o PackOptions) (*packer, error) {
	p := &packer{recipe: r, src: src}
	kinds := 0
	for _, set := range []bool{len(r.Parts) > 0, r.Rope != nil, r.Blob != ""} {
		if set {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, fmt.Errorf("expected exactly one of parts, rope and blob, found %d", kinds)
	}
	if r.Blob != "" {
		blob, ok := o.Blobs[r.Blob]
		if !ok {
			return nil, fmt.Errorf("blob %q is missing", r.Blob)
		}
		if !slices.Equal(r.Shape, []int{len(blob)}) {
			return nil, fmt.Errorf("blob %q: expected shape %v, found %d bytes", r.Blob, r.Shape, len(blob))
		}
		p.blob, p.bytes = blob, int64(len(blob))
		return p, nil
	}
	shape, err := recipeShape(r)
	if err != nil {
		return nil, err
	}
	if !slices.Equal(shape, r.Shape) {
		return nil, fmt.Errorf("expected shape %v, the parts make %v", r.Shape, shape)
	}
	for _, part := range r.Parts {
		vectors, err := vectorsOf(part, o.Vectors)
		if err != nil {
			return nil, err
		}
		p.factors = append(p.factors, vectors)
		if part.Tensor == "" {
			continue
		}
		t, err := src.Tensor(part.Tensor)
		if err != nil {
			return nil, err
		}
		if !slices.Equal(t.Shape, part.Shape) {
			return nil, fmt.Errorf("%s: tensor %q: expected shape %v, found %v", t.File, t.Name, part.Shape, t.Shape)
		}
		if decoders[t.DType] == nil {
			return nil, fmt.Errorf("%s: tensor %q: dtype %s, expected F32, BF16 or F16", t.File, t.Name, t.DType)
		}
	}
	var ok bool
	if p.element, ok = elementTypes[r.DType]; !ok {
		return nil, fmt.Errorf("dtype %s, expected f32, bf16, f16 or i8", r.DType)
	}
	return p, p.place()
}

// place computes the places of rows and columns from the layout.
func (p *packer) place() error {
	l, shape := p.recipe.Layout, p.recipe.Shape
	dims, err := l.Dims()
	if err != nil {
		return err
	}
	if len(dims) != len(shape) {
		return fmt.Errorf("layout %q does not fit shape %v", l, shape)
	}
	p.rows, p.cols, p.colAt = shape[0], 1, []int{0}
	one := []int{1}
	if len(shape) == 2 {
		p.cols, p.colAt, one = shape[1], l.Offsets(1, shape...), []int{1, 1}
	}
	if p.recipe.Scales {
		p.cols = p.recipe.Parts[0].Shape[1]
	}
	p.rowAt = l.Offsets(0, shape...)
	p.block = l.Padded(one...)[0]
	elements := l.Len(shape...)
	size := p.element.Size()
	p.bytes = int64(elements) * size
	p.rowBytes = p.bytes / int64(len(p.rowAt))
	return nil
}

// recipeShape is the shape that the parts make, joined or interleaved.
func recipeShape(r program.Weight) ([]int, error) {
	if rope := r.Rope; rope != nil {
		if rope.HeadDim < 2 || rope.HeadDim%2 != 0 || rope.Positions < 1 || !(rope.Theta > 0) {
			return nil, fmt.Errorf("rope %+v is not possible", *rope)
		}
		return []int{rope.Positions, rope.HeadDim / 2}, nil
	}
	first := r.Parts[0].Shape
	rows := 0
	for _, part := range r.Parts {
		s := part.Shape
		if len(s) != len(first) || len(s) < 1 || len(s) > 2 || s[0] < 1 || s[len(s)-1] < 1 || !slices.Equal(s[1:], first[1:]) {
			return nil, fmt.Errorf("part %q of shape %v cannot be joined to shape %v", part.Tensor, s, first)
		}
		if r.Interleave > 0 && s[0] != first[0] {
			return nil, fmt.Errorf("part %q of shape %v cannot be interleaved with shape %v", part.Tensor, s, first)
		}
		rows += s[0]
	}
	if g := r.Interleave; g > 0 {
		rows = (first[0] + g - 1) / g * g * len(r.Parts)
	}
	if (r.Scales || r.DType == ir.I8) && len(first) != 2 {
		return nil, fmt.Errorf("part %q of shape %v is not a matrix, which codes and scales are of", r.Parts[0].Tensor, first)
	}
	if !r.Scales {
		return append([]int{rows}, first[1:]...), nil
	}
	if r.DType != ir.F32 {
		return nil, fmt.Errorf("scales have dtype %s, expected f32", r.DType)
	}
	return []int{rows}, nil
}

// vectorsOf returns the vectors of a part's factors.
func vectorsOf(part program.Part, vectors func(string) []float32) ([][]float32, error) {
	var out [][]float32
	for _, f := range part.Factors {
		var v []float32
		if vectors != nil {
			v = vectors(f.Vector)
		}
		want := f.First + part.Shape[0]
		if f.Columns {
			want = part.Shape[len(part.Shape)-1]
		}
		if len(v) < want || len(v) > want && !f.Add {
			return nil, fmt.Errorf("part %q: factor %s: expected %d elements, found %d", part.Tensor, f, want, len(v))
		}
		out = append(out, v)
	}
	return out, nil
}

// pack makes the weight slab by slab. Layouts put the blocks of the first dimension outermost,
// so that whole blocks of rows are contiguous in the file.
func (p *packer) pack(ctx context.Context, write func(slab []byte) error) error {
	if p.blob != nil || p.recipe.Blob != "" {
		return write(p.blob)
	}
	fill, err := p.rowFiller()
	if err != nil {
		return err
	}
	step := max(1, int(slabBytes/(p.rowBytes*int64(p.block)))) * p.block
	slab := make([]byte, int64(min(step, len(p.rowAt)))*p.rowBytes)
	workers := runtime.GOMAXPROCS(0)
	for first := 0; first < len(p.rowAt); first += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		last := min(first+step, len(p.rowAt))
		slab := slab[:int64(last-first)*p.rowBytes]
		clear(slab)
		var wait sync.WaitGroup
		for w := range workers {
			lo, hi := first+(last-first)*w/workers, first+(last-first)*(w+1)/workers
			wait.Go(func() {
				row := make([]float32, p.cols)
				for n := lo; n < min(hi, p.rows); n++ {
					if out := p.finish(fill(n, row), row); out != nil {
						encoders[p.element](slab, out, p.rowAt[n]-p.rowAt[first], p.colAt)
					}
				}
			})
		}
		wait.Wait()
		if err := write(slab); err != nil {
			return err
		}
	}
	return nil
}

// finish returns what is written of a row: its scale, its codes or the row itself, in its place;
// nil when that is zeros. filled is false for a row of zeros.
func (p *packer) finish(filled bool, row []float32) []float32 {
	switch {
	case p.recipe.Scales:
		if !filled {
			clear(row)
		}
		return []float32{kernel.WeightScale(row)}
	case !filled:
		return nil
	case p.element == I8:
		kernel.QuantizeWeights(row, row)
	}
	return row
}

// rowFiller returns a function that computes one row; it returns false for a row of zeros.
func (p *packer) rowFiller() (func(n int, row []float32) bool, error) {
	if r := p.recipe.Rope; r != nil {
		return func(n int, row []float32) bool { ropeRow(*r, n, row); return true }, nil
	}
	type part struct {
		rows   int
		data   []byte
		stride int
		decode func([]float32, []byte)
		// change applies the factors, of which there are any where changed is set.
		change  func(row []float32, n int)
		changed bool
	}
	var parts []part
	for i, s := range p.recipe.Parts {
		q := part{rows: s.Shape[0], change: change(s.Factors, p.factors[i]), changed: len(s.Factors) > 0}
		if s.Tensor != "" {
			t, err := p.src.Tensor(s.Tensor)
			if err != nil {
				return nil, err
			}
			q.data, q.stride, q.decode = t.Data, p.cols*int(t.DType.Size()), decoders[t.DType]
		}
		parts = append(parts, q)
	}
	g := p.recipe.Interleave
	return func(n int, row []float32) bool {
		var q part
		if g > 0 {
			q = parts[n/g%len(parts)]
			n = n/(g*len(parts))*g + n%g
		} else {
			for _, q = range parts {
				if n < q.rows {
					break
				}
				n -= q.rows
			}
		}
		if n >= q.rows || q.decode == nil && !q.changed {
			return false
		}
		if q.decode != nil {
			q.decode(row, q.data[n*q.stride:])
		} else {
			clear(row)
		}
		q.change(row, n)
		return true
	}, nil
}

// change returns a function that applies factors to row n of a part.
func change(factors []program.Factor, vectors [][]float32) func(row []float32, n int) {
	return func(row []float32, n int) {
		for i, f := range factors {
			v := vectors[i]
			for k := range row {
				at := f.First + n
				if f.Columns {
					at = k
				}
				row[k] = f.Apply(row[k], v[at])
			}
		}
	}
}

// ropeRow computes the cosines or sines of one position.
func ropeRow(r program.Rope, position int, row []float32) {
	f := math.Cos
	if r.Sin {
		f = math.Sin
	}
	for j := range row {
		row[j] = float32(f(float64(position) * math.Pow(r.Theta, -2*float64(j)/float64(r.HeadDim))))
	}
}

var _ Source = (*Checkpoint)(nil)
