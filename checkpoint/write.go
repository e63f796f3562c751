package checkpoint

// This file owns writing safetensors files.

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/bertc/bertc/internal/staging"
)

// WriteFile writes a safetensors file. The header comes first, and then the data of the tensors
// in the order of the list: data is called with the index of each, and writes exactly its
// bytes. The file appears under its name when it is complete; after an error nothing is there.
func WriteFile(path string, tensors []Info, data func(i int, w io.Writer) error) error {
	head, sizes, err := makeHeader(tensors)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return staging.File(path, func(f *os.File) error {
		w := bufio.NewWriterSize(f, 1<<20)
		if _, err := w.Write(head); err != nil {
			return err
		}
		for i, t := range tensors {
			c := &countingWriter{w: w}
			if err := data(i, c); err != nil {
				return err
			}
			if c.n != sizes[i] {
				return fmt.Errorf("%s: tensor %q: %s %v takes %d bytes, %d were written", path, t.Name, t.DType, t.Shape, sizes[i], c.n)
			}
		}
		return w.Flush()
	})
}

// makeHeader returns the header length, the JSON text and the padding that lets the data begin
// at a multiple of 8.
func makeHeader(tensors []Info) (head []byte, sizes []int64, err error) {
	type field struct {
		DType   DType    `json:"dtype"`
		Shape   []int    `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	var text bytes.Buffer
	text.WriteString(`{"__metadata__":{"format":"pt"}`)
	seen := map[string]bool{"__metadata__": true}
	var at int64
	for _, t := range tensors {
		if seen[t.Name] {
			return nil, nil, fmt.Errorf("tensor %q occurs twice", t.Name)
		}
		seen[t.Name] = true
		size, err := byteSize(t.DType, t.Shape)
		if err != nil {
			return nil, nil, fmt.Errorf("tensor %q: %w", t.Name, err)
		}
		name, err := json.Marshal(t.Name)
		if err != nil {
			return nil, nil, err
		}
		value, err := json.Marshal(field{t.DType, append([]int{}, t.Shape...), [2]int64{at, at + size}})
		if err != nil {
			return nil, nil, err
		}
		fmt.Fprintf(&text, ",%s:%s", name, value)
		at += size
		sizes = append(sizes, size)
	}
	text.WriteByte('}')
	for text.Len()%8 != 0 {
		text.WriteByte(' ')
	}
	if text.Len() > maxHeader {
		return nil, nil, fmt.Errorf("header length %d exceeds the format's limit of %d bytes", text.Len(), maxHeader)
	}
	head = binary.LittleEndian.AppendUint64(nil, uint64(text.Len()))
	return append(head, text.Bytes()...), sizes, nil
}

type countingWriter struct {
	w io.Writer
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}
