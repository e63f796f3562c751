package pipeline

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/bertc/bertc/checkpoint"
)

// Batch is rows of token ids without their padding, packed one after another.
type Batch struct {
	Path       string // of the input, for messages
	Rows, Cols int    // of the padded input: [B, S]
	IDs        []int32
	Positions  []int32 // index of each token in its row, as in Hugging Face models
	Offsets    []int32 // of the rows that have tokens
	// Cell is the index in [B·S] of every packed token.
	Cell []int
}

// maxCells bounds B·S of an input file.
const maxCells = 1 << 26

// ReadBatch reads input_ids [B, S] (i32 or i64) and, when it is there, attention_mask [B, S] from a
// safetensors file. Tokens whose mask is 0 are dropped; the others keep their index in the row as
// position.
func ReadBatch(path string) (Batch, error) {
	f, err := checkpoint.OpenFile(path)
	if err != nil {
		return Batch{}, err
	}
	defer f.Close()
	ids, shape, err := integers(f, "input_ids")
	if err != nil {
		return Batch{}, err
	}
	if shape == nil {
		return Batch{}, fmt.Errorf("%s: tensor \"input_ids\" is missing", path)
	}
	mask, maskShape, err := integers(f, "attention_mask")
	if err != nil {
		return Batch{}, err
	}
	if maskShape != nil && !slices.Equal(shape, maskShape) {
		return Batch{}, fmt.Errorf("%s: tensor \"attention_mask\": expected shape %v as \"input_ids\" has, found %v", path, shape, maskShape)
	}
	b := Batch{Path: path, Rows: shape[0], Cols: shape[1], Offsets: []int32{0}}
	for cell, id := range ids {
		if mask == nil || mask[cell] != 0 {
			if id != int64(int32(id)) {
				return Batch{}, fmt.Errorf("%s: tensor \"input_ids\": id %d at [%d, %d] is out of range", path, id, cell/b.Cols, cell%b.Cols)
			}
			b.IDs = append(b.IDs, int32(id))
			b.Positions = append(b.Positions, int32(cell%b.Cols))
			b.Cell = append(b.Cell, cell)
		}
		end := int32(len(b.IDs))
		if cell%b.Cols == b.Cols-1 && end > b.Offsets[len(b.Offsets)-1] {
			b.Offsets = append(b.Offsets, end)
		}
	}
	if len(b.IDs) == 0 {
		return Batch{}, fmt.Errorf("%s: no token has an attention_mask other than 0", path)
	}
	return b, nil
}

// integers reads a tensor of rank 2 of an integer type. The shape is nil when there is none.
func integers(f *checkpoint.File, name string) ([]int64, []int, error) {
	var found *checkpoint.Info
	for _, info := range f.Tensors() {
		if info.Name == name {
			found = &info
		}
	}
	if found == nil {
		return nil, nil, nil
	}
	if len(found.Shape) != 2 {
		return nil, nil, fmt.Errorf("%s: tensor %q: expected shape [B S], found %v", f.Path(), name, found.Shape)
	}
	cells := found.Shape[0] * found.Shape[1]
	if found.Shape[0] > maxCells || found.Shape[1] > maxCells || cells > maxCells || cells == 0 {
		return nil, nil, fmt.Errorf("%s: tensor %q: shape %v has %d cells, 1..%d are supported", f.Path(), name, found.Shape, cells, maxCells)
	}
	t, err := f.Tensor(name)
	if err != nil {
		return nil, nil, err
	}
	read := map[checkpoint.DType]func(i int) int64{
		"I32":  func(i int) int64 { return int64(int32(binary.LittleEndian.Uint32(t.Data[4*i:]))) },
		"I64":  func(i int) int64 { return int64(binary.LittleEndian.Uint64(t.Data[8*i:])) },
		"U8":   func(i int) int64 { return int64(t.Data[i]) },
		"BOOL": func(i int) int64 { return int64(t.Data[i]) },
	}[t.DType]
	if read == nil {
		return nil, nil, fmt.Errorf("%s: tensor %q: dtype %s is not supported (supported: I32, I64)", f.Path(), name, t.DType)
	}
	out := make([]int64, cells)
	for i := range out {
		out[i] = read(i)
	}
	return out, found.Shape, nil
}

// Check reports the first token that a model with so many ids and positions does not take.
func (b Batch) Check(vocab, positions int) error {
	for i, id := range b.IDs {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("%s: tensor \"input_ids\": id %d at [%d, %d] is outside the vocabulary, ids are 0..%d", b.Path, id, b.Cell[i]/b.Cols, b.Cell[i]%b.Cols, vocab-1)
		}
		if int(b.Positions[i]) >= positions {
			return fmt.Errorf("%s: tensor \"input_ids\": row %d has a token at %d, the model takes rows of at most %d tokens", b.Path, b.Cell[i]/b.Cols, b.Positions[i], positions)
		}
	}
	return nil
}
