package codegentest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"unsafe"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns what a job is made of: buffers with guard bytes, and argument blocks.

// guard bytes lie before every buffer, and what is to be written consists of them at first. As
// f32 and as bf16 they are NaN: a kernel that reads them and uses the value shows it, and one
// that writes them is caught by check. After a buffer comes memory that cannot be accessed.
const (
	guardSize = 128 // keeps the alignment of the end, which is a page's
	guardByte = 0xff
)

// jobBuilder makes a job.
type jobBuilder struct{ job }

// buffer adds a buffer with the given content and returns the address of its first byte.
func (b *jobBuilder) buffer(content []byte) word {
	guard := bytes.Repeat([]byte{guardByte}, guardSize)
	b.Buffers = append(b.Buffers, append(guard, content...))
	return word{Buffer: len(b.Buffers), Value: guardSize}
}

// space adds a buffer of n bytes that are as the guards are.
func (b *jobBuilder) space(n int) word { return b.buffer(bytes.Repeat([]byte{guardByte}, n)) }

// floats adds a buffer of elements of type d.
func (b *jobBuilder) floats(d ir.DType, xs []float32) word { return b.buffer(encode(d, xs)) }

func (b *jobBuilder) ints(xs []int32) word {
	content, _ := binary.Append(nil, binary.LittleEndian, xs)
	return b.buffer(content)
}

// call adds a call. args is a zero argument block of package rt; fields sets those of its
// fields that are not zero, by name.
func (b *jobBuilder) call(f int, args any, fields map[string]word) {
	t := reflect.TypeOf(args)
	words := make([]word, t.NumField())
	for name, w := range fields {
		f, ok := t.FieldByName(name)
		if !ok {
			panic(fmt.Sprintf("codegentest: %s has no field %s", t, name))
		}
		words[f.Offset/unsafe.Sizeof(uintptr(0))] = w
	}
	b.Calls = append(b.Calls, call{Func: f, Words: words})
}

func value(n int) word { return word{Value: int64(n)} }

// plus returns the address n bytes after w.
func plus(w word, n int) word {
	w.Value += int64(n)
	return w
}

// check reports guard bytes that the job changed.
func (b *jobBuilder) check(t testing.TB, r result) {
	t.Helper()
	for i, got := range r.Buffers {
		for at, c := range got[:guardSize] {
			if c != guardByte {
				t.Errorf("buffer %d: byte %d before it was written", i+1, guardSize-at)
				break
			}
		}
	}
}

// content returns the bytes of the buffer at w after the job.
func (b *jobBuilder) content(r result, w word) []byte {
	i := w.Buffer - 1
	return r.Buffers[i][guardSize:]
}

// rowsOf returns rows of cols elements that lie stride bytes apart, and reports bytes between
// them that are not as the guards are.
func rowsOf(t testing.TB, content []byte, d ir.DType, rows, cols, stride int) []float32 {
	t.Helper()
	var out []float32
	for r := range rows {
		row := content[r*stride : min((r+1)*stride, len(content))]
		out = append(out, decode(d, row[:cols*d.Size()])...)
		for _, c := range row[cols*d.Size():] {
			if c != guardByte {
				t.Errorf("bytes after row %d were written", r)
				break
			}
		}
	}
	return out
}

// spread returns the bytes of rows of cols elements, stride bytes apart, guard bytes between.
func spread(d ir.DType, xs []float32, cols, stride int) []byte {
	var out []byte
	for r := 0; r < len(xs); r += cols {
		row := encode(d, xs[r:r+cols])
		out = append(append(out, row...), bytes.Repeat([]byte{guardByte}, stride-len(row))...)
	}
	return out
}

func encode(d ir.DType, xs []float32) []byte {
	var out []byte
	for _, x := range xs {
		if d == ir.I8 {
			out = append(out, byte(int8(x)))
		} else if d == ir.BF16 {
			out = binary.LittleEndian.AppendUint16(out, num.BF16(x))
		} else {
			out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
		}
	}
	return out
}

func decode(d ir.DType, b []byte) []float32 {
	var out []float32
	for i := 0; i < len(b); i += d.Size() {
		if d == ir.BF16 {
			out = append(out, num.FromBF16(binary.LittleEndian.Uint16(b[i:])))
		} else {
			out = append(out, math.Float32frombits(binary.LittleEndian.Uint32(b[i:])))
		}
	}
	return out
}

// codeDeviation is that of codes that are equally probable.
const codeDeviation = 73

// normal returns n numbers of the given deviation, rounded to d; codes are random instead.
func normal(r *rand.Rand, d ir.DType, n int, deviation float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		if d == ir.I8 {
			out[i] = float32(r.IntN(2*kernel.Code+1) - kernel.Code)
			continue
		}
		out[i] = float32(r.NormFloat64() * deviation)
		if d == ir.BF16 {
			out[i] = num.FromBF16(num.BF16(out[i]))
		}
	}
	return out
}
