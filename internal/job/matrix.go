package job

// This file owns reading lines back, and embeddings as a matrix: .npy of NumPy and safetensors.

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/internal/staging"
)

// eachLine calls f with every whole line and its size in bytes. What follows the last line end was
// cut off when it was written, and is left out.
func eachLine(r io.Reader, f func(line Line, size int) error) error {
	in := bufio.NewReaderSize(r, 1<<20)
	for number := 1; ; number++ {
		text, err := in.ReadBytes('\n')
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		var line Line
		if err := json.Unmarshal(text, &line); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if line.Record != number {
			return fmt.Errorf("line %d is of record %d", number, line.Record)
		}
		if err := f(line, len(text)); err != nil {
			return err
		}
	}
}

// matrices write embeddings, by the ending of the file's name.
var matrices = map[string]func(lines io.ReadSeeker, path string) error{
	".npy":         writeNpy,
	".safetensors": writeSafetensors,
}

// Matrix returns the function that makes a matrix of lines for a path, nil for lines of JSON.
func Matrix(path string) func(lines io.ReadSeeker, path string) error {
	return matrices[filepath.Ext(path)]
}

// shape returns the rows and the columns of the matrix.
func shape(lines io.ReadSeeker) (rows, columns int, err error) {
	err = eachLine(lines, func(line Line, _ int) error {
		rows++
		if columns == 0 && line.Error == "" {
			v, err := vector(line)
			columns = len(v)
			return err
		}
		return nil
	})
	if err == nil && columns == 0 {
		err = errors.New("no record has an embedding: the matrix has no columns")
	}
	if err != nil {
		return 0, 0, err
	}
	_, err = lines.Seek(0, io.SeekStart)
	return rows, columns, err
}

func vector(line Line) ([]float32, error) {
	var result struct{ Vector []float32 }
	err := json.Unmarshal(line.Result, &result)
	return result.Vector, err
}

// writeRows writes one row of f32 for each line. A record that failed is a row of NaN.
func writeRows(w io.Writer, lines io.Reader, columns int) error {
	row := make([]byte, 4*columns)
	return eachLine(lines, func(line Line, _ int) error {
		var v []float32
		if line.Error == "" {
			var err error
			if v, err = vector(line); err != nil {
				return err
			}
			if len(v) != columns {
				return fmt.Errorf("record %d: the embedding has %d elements, others have %d", line.Record, len(v), columns)
			}
		}
		for i := range columns {
			x := float32(math.NaN())
			if v != nil {
				x = v[i]
			}
			binary.LittleEndian.PutUint32(row[4*i:], math.Float32bits(x))
		}
		_, err := w.Write(row)
		return err
	})
}

// writeNpy writes version 1.0 of NumPy's format.
func writeNpy(lines io.ReadSeeker, path string) error {
	rows, columns, err := shape(lines)
	if err != nil {
		return err
	}
	header := fmt.Sprintf("{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }", rows, columns)
	const before, align = 10, 64 // magic, version and length; the data begins at a multiple of 64
	for (before+len(header)+1)%align != 0 {
		header += " "
	}
	return staging.File(path, func(f *os.File) error {
		w := bufio.NewWriterSize(f, 1<<20)
		fmt.Fprintf(w, "\x93NUMPY\x01\x00%s%s\n", binary.LittleEndian.AppendUint16(nil, uint16(len(header)+1)), header)
		if err := writeRows(w, lines, columns); err != nil {
			return err
		}
		return w.Flush()
	})
}

// writeSafetensors writes the tensor "embeddings" [records, elements].
func writeSafetensors(lines io.ReadSeeker, path string) error {
	rows, columns, err := shape(lines)
	if err != nil {
		return err
	}
	info := checkpoint.Info{Name: "embeddings", DType: checkpoint.F32, Shape: []int{rows, columns}}
	return checkpoint.WriteFile(path, []checkpoint.Info{info}, func(_ int, w io.Writer) error {
		return writeRows(w, lines, columns)
	})
}
