package checkpoint

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
	"github.com/google/go-cmp/cmp"
)

// packSource writes a checkpoint whose tensors count up, and opens it.
func packSource(t *testing.T, dtype DType, tensors ...given) *Checkpoint {
	t.Helper()
	dir := t.TempDir()
	infos := make([]Info, len(tensors))
	for i, g := range tensors {
		infos[i] = Info{g.name, dtype, g.shape}
	}
	err := WriteFile(filepath.Join(dir, singleFile), infos, func(i int, w io.Writer) error {
		size, _ := byteSize(dtype, infos[i].Shape)
		n := int(size / dtype.Size())
		x, at := make([]float32, n), make([]int, n)
		for j := range x {
			x[j], at[j] = float32(j+1)*1.001+1000*float32(i+1), j
		}
		data := make([]byte, size)
		encoders[dtype](data, x, 0, at)
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// numbersOf reads one weight of a packed file back as numbers.
func numbersOf(file []byte, w PackedWeight) []float32 {
	data := file[w.Offset : w.Offset+w.Size]
	types := map[string]DType{"f32": F32, "bf16": BF16, "f16": F16}
	return Tensor{Info: Info{DType: types[w.DType]}, Data: data}.Float32s()
}

func TestPack(t *testing.T) {
	c := packSource(t, F32,
		given{name: "encoder.layer.0.mlp.gate_proj.weight", shape: []int{37, 70}},
		given{name: "encoder.layer.0.mlp.up_proj.weight", shape: []int{37, 70}},
		given{name: "encoder.layer.0.mlp.gate_proj.bias", shape: []int{37}},
		given{name: "encoder.layer.0.mlp.up_proj.bias", shape: []int{37}})
	gate, up := "encoder.layer.0.mlp.gate_proj.", "encoder.layer.0.mlp.up_proj."
	matrix, vector := []int{37, 70}, []int{37}
	recipes := []program.Weight{
		{Name: "joined", Parts: []program.Part{{Tensor: gate + "weight", Shape: matrix}, {Shape: []int{3, 70}}, {Tensor: up + "weight", Shape: matrix}},
			DType: ir.BF16, Shape: []int{77, 70}, Layout: kernel.PanelBF16},
		{Name: "interleaved", Parts: []program.Part{{Tensor: gate + "weight", Shape: matrix}, {Tensor: up + "weight", Shape: matrix}},
			Interleave: 16, DType: ir.F32, Shape: []int{96, 70}, Layout: kernel.PanelF32},
		{Name: "half", Parts: []program.Part{{Tensor: up + "weight", Shape: matrix}}, DType: ir.F16, Shape: matrix, Layout: kernel.RowMajor},
		{Name: "bias", Parts: []program.Part{{Tensor: gate + "bias", Shape: vector}, {Tensor: up + "bias", Shape: vector}},
			Interleave: 16, DType: ir.F32, Shape: []int{96}, Layout: kernel.PadVector},
		{Name: "zeros", Parts: []program.Part{{Shape: vector}}, DType: ir.F32, Shape: vector, Layout: kernel.PadVector},
		{Name: "cos", Rope: &program.Rope{Theta: 10000, HeadDim: 8, Positions: 5}, DType: ir.F32, Shape: []int{5, 4}, Layout: kernel.RowMajor},
		{Name: "sin", Rope: &program.Rope{Theta: 10000, HeadDim: 8, Positions: 5, Sin: true}, DType: ir.F32, Shape: []int{5, 4}, Layout: kernel.RowMajor},
		{Name: "tokenizer", Blob: "tokenizer", DType: ir.I8, Shape: []int{5}, Layout: kernel.Vector},
	}
	path := filepath.Join(t.TempDir(), "model.weights")
	options := PackOptions{ID: func(Manifest) [32]byte { return [32]byte{1, 2, 3} }, Blobs: map[string][]byte{"tokenizer": []byte("hello")}}
	m, err := PackFile(context.Background(), path, c, recipes, options)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	checkPackedHeader(t, file, m, [32]byte{1, 2, 3})

	// What the recipes mean, row-major, element by element.
	numbers := func(name string) []float32 {
		tensor, err := c.Tensor(name)
		if err != nil {
			t.Fatal(err)
		}
		return tensor.Float32s()
	}
	interleave := func(a, b []float32, k int) []float32 {
		var out []float32
		for g := 0; g < 48; g += 16 {
			for _, x := range [][]float32{a, b} {
				for r := g; r < g+16; r++ {
					row := make([]float32, k)
					if r < 37 {
						copy(row, x[r*k:])
					}
					out = append(out, row...)
				}
			}
		}
		return out
	}
	rope := func(f func(float64) float64) (out []float32) {
		for p := range 5 {
			for j := range 4 {
				out = append(out, float32(f(float64(p)*math.Pow(10000, -float64(2*j)/8))))
			}
		}
		return out
	}
	bf16 := func(x []float32) []float32 {
		out := make([]float32, len(x))
		for i := range x {
			out[i] = num.FromBF16(num.BF16(x[i]))
		}
		return out
	}
	f16 := func(x []float32) []float32 {
		out := make([]float32, len(x))
		for i := range x {
			out[i] = num.FromF16(num.F16(x[i]))
		}
		return out
	}
	want := map[string][]float32{
		"joined":      bf16(slices.Concat(numbers(gate+"weight"), make([]float32, 3*70), numbers(up+"weight"))),
		"interleaved": interleave(numbers(gate+"weight"), numbers(up+"weight"), 70),
		"half":        f16(numbers(up + "weight")),
		"bias":        interleave(numbers(gate+"bias"), numbers(up+"bias"), 1),
		"zeros":       make([]float32, 37),
		"cos":         rope(math.Cos),
		"sin":         rope(math.Sin),
	}
	for i, w := range m.Weights {
		if w.Name == "tokenizer" {
			if got := string(file[w.Offset : w.Offset+w.Size]); got != "hello" {
				t.Errorf("blob: %q", got)
			}
			continue
		}
		if diff := cmp.Diff(kernel.Pack(recipes[i].Layout, want[w.Name], w.Shape...), numbersOf(file, w)); diff != "" {
			t.Errorf("%s: %.500s", w.Name, diff)
		}
	}
}

// checkPackedHeader reads the header as the documentation of the format says.

// TestPackCodes: codes, scales and factors are what the interpreter of recipes makes of them.
func TestPackCodes(t *testing.T) {
	const gate, up, norm = "encoder.layer.0.mlp.gate_proj.weight", "encoder.layer.0.mlp.up_proj.weight", "encoder.layer.0.ln.weight"
	const bias = "encoder.layer.0.mlp.gate_proj.bias"
	matrix := []int{37, 70}
	c := packSource(t, BF16, given{name: gate, shape: matrix}, given{name: up, shape: matrix}, given{name: norm, shape: []int{70}}, given{name: bias, shape: []int{37}})
	vectors := map[string][]float32{"rows": make([]float32, 37), "columns": make([]float32, 70), "shift": make([]float32, 74)}
	for _, v := range vectors {
		for i := range v {
			v[i] = 1 + float32(i%5)/4
		}
	}
	columns, rows := program.Factor{Vector: "columns", Columns: true}, program.Factor{Vector: "rows", Divide: true}
	parts := []program.Part{
		{Tensor: gate, Shape: matrix, Factors: []program.Factor{columns}},
		{Tensor: up, Shape: matrix, Factors: []program.Factor{rows, columns}},
	}
	recipes := []program.Weight{
		{Name: "codes", Parts: parts, Interleave: 16, DType: ir.I8, Shape: []int{96, 70}, Layout: kernel.PanelI8},
		{Name: "scales", Parts: parts, Interleave: 16, Scales: true, DType: ir.F32, Shape: []int{96}, Layout: kernel.PadVector},
		{Name: "table", Parts: parts[1:], DType: ir.I8, Shape: matrix, Layout: kernel.RowMajor},
		{Name: "bias", Interleave: 16, DType: ir.F32, Shape: []int{96}, Layout: kernel.PadVector, Parts: []program.Part{
			{Tensor: bias, Shape: []int{37}, Factors: []program.Factor{{Vector: "shift", Add: true}}},
			{Shape: []int{37}, Factors: []program.Factor{{Vector: "shift", Add: true, First: 37}}},
		}},
		{Name: "norm", Parts: []program.Part{{Tensor: norm, Shape: []int{70}, Factors: []program.Factor{{Vector: "columns", Divide: true}}}},
			DType: ir.F32, Shape: []int{70}, Layout: kernel.Vector},
	}
	path := filepath.Join(t.TempDir(), "model.weights")
	options := PackOptions{Vectors: func(name string) []float32 { return vectors[name] }}
	m, err := PackFile(context.Background(), path, c, recipes, options)
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range recipes {
		want, err := r.Values(func(name string) ([]float32, []int, error) {
			if v := vectors[name]; v != nil {
				return v, []int{len(v)}, nil
			}
			tensor, err := c.Tensor(name)
			return tensor.Float32s(), tensor.Shape, err
		})
		if err != nil {
			t.Fatal(err)
		}
		w := m.Weights[i]
		got := numbersOf(file, w)
		if w.DType == "i8" {
			got = nil
			for _, b := range file[w.Offset : w.Offset+w.Size] {
				got = append(got, float32(int8(b)))
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s differs from what the interpreter makes", r.Name)
		}
		if slices.Max(got) == 0 || r.DType == ir.I8 && slices.Max(got) != kernel.Code {
			t.Errorf("%s: the largest element is %v", r.Name, slices.Max(got))
		}
	}
}

func checkPackedHeader(t *testing.T, file []byte, m Manifest, id [32]byte) {
	t.Helper()
	le := binary.LittleEndian
	if string(file[:8]) != "BERTCWT1" || le.Uint32(file[8:]) != 1 || int(le.Uint32(file[12:])) != len(m.Weights) || [32]byte(file[32:64]) != id {
		t.Errorf("header %x", file[:72])
	}
	n := le.Uint64(file[16:])
	if n%4096 != 0 || int64(n) != m.HeaderBytes || le.Uint64(file[24:]) != uint64(len(file)) || m.FileBytes != int64(len(file)) {
		t.Errorf("header of %d bytes, file of %d", n, len(file))
	}
	head := slices.Clone(file[:n])
	le.PutUint32(head[64:], 0)
	table := crc32.MakeTable(crc32.Castagnoli)
	if got := crc32.Checksum(head, table); got != le.Uint32(file[64:]) {
		t.Errorf("header CRC %x", got)
	}
	for i, w := range m.Weights {
		e := file[72+48*i:]
		name := le.Uint64(e[24:])
		if int64(le.Uint64(e)) != w.Offset || int64(le.Uint64(e[8:])) != w.Size || string(file[name:name+uint64(le.Uint32(e[20:]))]) != w.Name {
			t.Errorf("entry %d: %x", i, e[:48])
		}
		if crc := crc32.Checksum(file[w.Offset:w.Offset+w.Size], table); w.Offset%64 != 0 || crc != w.CRC32C || crc != le.Uint32(e[16:]) {
			t.Errorf("%s: offset %d, CRC %x", w.Name, w.Offset, crc)
		}
	}
}

// TestPackSlabs packs a matrix of several slabs, from bf16.
func TestPackSlabs(t *testing.T) {
	shape := []int{9001, 1030}
	c := packSource(t, BF16, given{name: "embeddings.word_embeddings.weight", shape: shape})
	recipe := program.Weight{Name: "w", Parts: []program.Part{{Tensor: "embeddings.word_embeddings.weight", Shape: shape}},
		DType: ir.BF16, Shape: shape, Layout: kernel.PanelBF16}
	path := filepath.Join(t.TempDir(), "w")
	m, err := PackFile(context.Background(), path, c, []program.Weight{recipe}, PackOptions{})
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	checkPackedHeader(t, file, m, [32]byte{})
	tensor, err := c.Tensor("embeddings.word_embeddings.weight")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(kernel.Pack(recipe.Layout, tensor.Float32s(), shape...), numbersOf(file, m.Weights[0])) {
		t.Error("packed numbers differ")
	}
}

func TestPackErrors(t *testing.T) {
	c := packSource(t, F32, given{name: "encoder.ln.weight", shape: []int{4}}, given{name: "encoder.layer.0.mlp.up_proj.weight", shape: []int{4, 4}})
	ln := []program.Part{{Tensor: "encoder.ln.weight", Shape: []int{4}}}
	good := program.Weight{Name: "w", Parts: ln, DType: ir.F32, Shape: []int{4}, Layout: kernel.Vector}
	edit := func(f func(w *program.Weight)) []program.Weight {
		w := good
		f(&w)
		return []program.Weight{w}
	}
	tests := []struct {
		recipes []program.Weight
		want    string
	}{
		{[]program.Weight{good, good}, `weight "w": the name occurs twice`},
		{edit(func(w *program.Weight) { w.Parts = nil }), `weight "w": expected exactly one of parts, rope and blob, found 0`},
		{edit(func(w *program.Weight) { w.Blob = "b" }), `weight "w": expected exactly one of parts, rope and blob, found 2`},
		{edit(func(w *program.Weight) { w.Parts, w.Blob = nil, "b" }), `weight "w": blob "b" is missing`},
		{edit(func(w *program.Weight) { w.Shape = []int{5} }), `weight "w": expected shape [5], the parts make [4]`},
		{edit(func(w *program.Weight) { w.DType = ir.I32 }), `weight "w": dtype i32, expected f32, bf16, f16 or i8`},
		{edit(func(w *program.Weight) { w.DType = ir.I8 }), `weight "w": part "encoder.ln.weight" of shape [4] is not a matrix, which codes and scales are of`},
		{edit(func(w *program.Weight) { w.Scales = true }), `weight "w": part "encoder.ln.weight" of shape [4] is not a matrix, which codes and scales are of`},
		{edit(func(w *program.Weight) {
			w.Parts = []program.Part{{Tensor: "encoder.ln.weight", Shape: []int{4}, Factors: []program.Factor{{Vector: "v"}}}}
		}), `weight "w": part "encoder.ln.weight": factor rows*v: expected 4 elements, found 0`},
		{edit(func(w *program.Weight) { w.Layout = kernel.RowMajor }), `weight "w": layout "[n][k]" does not fit shape [4]`},
		{edit(func(w *program.Weight) { w.Layout = "[n" }), `weight "w": layout "[n": expected "[" at "[n"`},
		{edit(func(w *program.Weight) { w.Parts = []program.Part{{Tensor: "encoder.ln.bias", Shape: []int{4}}} }), `weight "w": DIR: tensor "encoder.ln.bias" is missing`},
		{edit(func(w *program.Weight) {
			w.Parts, w.Shape = []program.Part{{Tensor: "encoder.ln.weight", Shape: []int{5}}}, []int{5}
		}), `weight "w": DIR/model.safetensors: tensor "encoder.ln.weight": expected shape [5], found [4]`},
		{edit(func(w *program.Weight) { w.Parts = append(ln, program.Part{Shape: []int{2, 2}}) }), `weight "w": part "" of shape [2 2] cannot be joined to shape [4]`},
		{edit(func(w *program.Weight) { w.Interleave, w.Parts = 2, append(ln, program.Part{Shape: []int{2}}) }), `weight "w": part "" of shape [2] cannot be interleaved with shape [4]`},
		{edit(func(w *program.Weight) { w.Parts, w.Rope = nil, &program.Rope{Theta: 1, HeadDim: 3, Positions: 1} }), `weight "w": rope {Theta:1 HeadDim:3 Positions:1 Sin:false} is not possible`},
	}
	dir := t.TempDir()
	for _, tt := range tests {
		_, err := PackFile(context.Background(), filepath.Join(dir, "w"), c, tt.recipes, PackOptions{})
		wantError(t, err, c.dir.dir, tt.want)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := PackFile(ctx, filepath.Join(dir, "w"), c, []program.Weight{good}, PackOptions{}); err != context.Canceled {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
