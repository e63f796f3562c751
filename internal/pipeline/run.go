package pipeline

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/bertc/bertc/checkpoint"
)

// The outputs of Run, by the names of their tensors.
const (
	OutHidden = "last_hidden_state" // f32 [B, S, hidden_size]
	OutLogits = "logits"            // f32 [B, S, logits of the head]
)

// Encoder computes packed batches; a Driver or the interpreter behind a function.
//
// Encode returns the hidden states of a batch [tokens × hidden_size]; Logits hands out those of
// the tokens of the last batch, in order and in blocks of whole rows.
type Encoder struct {
	HiddenSize, VocabSize int
	LogitsSize            int // 0 without a head
	MaxTokens             int
	Encode                func(b Batch) ([]float32, error)
	Logits                func(b Batch, f func([]float32) error) error
}

// Encoder returns d as an Encoder of batches of maxTokens.
func (d *Driver) Encoder(maxTokens int) Encoder {
	return Encoder{
		HiddenSize: d.Hello.HiddenSize, VocabSize: d.Hello.VocabSize, LogitsSize: d.Hello.LogitsSize, MaxTokens: maxTokens,
		Encode: func(b Batch) (hidden []float32, err error) {
			err = d.Do(Request{IDs: b.IDs, Positions: b.Positions, Offsets: b.Offsets}, func(r Response) error {
				hidden = r.Hidden
				return nil
			})
			return hidden, err
		},
		Logits: func(b Batch, f func([]float32) error) error {
			rows := make([]int32, len(b.IDs))
			for i := range rows {
				rows[i] = int32(i)
			}
			return d.Do(Request{Rows: rows}, func(r Response) error { return f(r.Logits) })
		},
	}
}

// Run computes the outputs of b and writes them to a safetensors file. Rows of tokens that the
// mask left out are zero.
func Run(e Encoder, b Batch, outputs []string, path string) error {
	if len(outputs) == 0 {
		return fmt.Errorf("--outputs: name a tensor (known: %s, %s)", OutHidden, OutLogits)
	}
	var infos []checkpoint.Info
	for _, name := range outputs {
		if name == OutLogits && e.LogitsSize == 0 {
			return fmt.Errorf("--outputs %s: the model has no head: it makes no logits", name)
		}
		width := map[string]int{OutHidden: e.HiddenSize, OutLogits: e.LogitsSize}[name]
		if width == 0 {
			return fmt.Errorf("--outputs %q: unknown output (known: %s, %s)", name, OutHidden, OutLogits)
		}
		infos = append(infos, checkpoint.Info{Name: name, DType: checkpoint.F32, Shape: []int{b.Rows, b.Cols, width}})
	}
	chunks, err := b.split(e.MaxTokens)
	if err != nil {
		return err
	}
	last := -1 // the chunk that was encoded last
	return checkpoint.WriteFile(path, infos, func(i int, w io.Writer) error {
		c := cellWriter{w: w, width: infos[i].Shape[2], cells: b.Rows * b.Cols}
		for n, chunk := range chunks {
			if outputs[i] == OutHidden || last != n {
				hidden, err := e.Encode(chunk)
				if err != nil {
					return err
				}
				if last = n; outputs[i] == OutHidden {
					if err := c.rows(chunk.Cell, hidden); err != nil {
						return err
					}
					continue
				}
			}
			at := 0
			err := e.Logits(chunk, func(rows []float32) error {
				count := len(rows) / c.width
				at += count
				return c.rows(chunk.Cell[at-count:at], rows)
			})
			if err != nil {
				return err
			}
		}
		return c.skip(c.cells)
	})
}

// split cuts b into batches of whole rows with at most limit tokens.
func (b Batch) split(limit int) ([]Batch, error) {
	var chunks []Batch
	for first := 0; first < len(b.Offsets)-1; {
		end := first + 1
		for end < len(b.Offsets)-1 && int(b.Offsets[end+1]-b.Offsets[first]) <= limit {
			end++
		}
		lo, hi := b.Offsets[first], b.Offsets[end]
		if int(hi-lo) > limit {
			return nil, fmt.Errorf("%s: row %d has %d tokens, a batch has at most %d", b.Path, b.Cell[lo]/b.Cols, hi-lo, limit)
		}
		offsets := slices.Clone(b.Offsets[first : end+1])
		for i := range offsets {
			offsets[i] -= lo
		}
		chunks = append(chunks, Batch{Path: b.Path, Rows: b.Rows, Cols: b.Cols, IDs: b.IDs[lo:hi], Positions: b.Positions[lo:hi], Offsets: offsets, Cell: b.Cell[lo:hi]})
		first = end
	}
	return chunks, nil
}

// cellWriter writes one row for each cell of [B, S], zeros for those that have no token.
type cellWriter struct {
	w            io.Writer
	width, cells int
	at           int // next cell
	buf          []byte
}

func (c *cellWriter) rows(cells []int, data []float32) error {
	for i, cell := range cells {
		if err := c.skip(cell); err != nil {
			return err
		}
		c.buf = c.buf[:0]
		for _, x := range data[i*c.width : (i+1)*c.width] {
			c.buf = binary.LittleEndian.AppendUint32(c.buf, math.Float32bits(x))
		}
		if _, err := c.w.Write(c.buf); err != nil {
			return err
		}
		c.at++
	}
	return nil
}

// skip writes zero rows up to cell.
func (c *cellWriter) skip(cell int) error {
	c.buf = append(c.buf[:0], make([]byte, 4*c.width)...)
	for ; c.at < cell; c.at++ {
		if _, err := c.w.Write(c.buf); err != nil {
			return err
		}
	}
	return nil
}
