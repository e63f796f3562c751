package pipeline

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/quant"
)

// TestCheckPackage: a package is of the model that it was compiled from, whatever its numerics, and of
// no model with other weights, sizes or another tokenizer.
func TestCheckPackage(t *testing.T) {
	const tiny = "../../models/tiny"
	m, err := Open(tiny)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	ones := bytes.Repeat([]byte(" 2"), m.Config.HiddenSize)
	calibrated, err := quant.Parse(strings.NewReader("matmul layer.1.qkv int8\nsmooth layer.1.qkv" + string(ones)))
	if err != nil {
		t.Fatal(err)
	}
	dirs := map[string]string{}
	for _, c := range []struct {
		name  string
		dtype ir.DType
		quant *quant.Config
	}{{"f32", ir.F32, nil}, {"bf16", ir.BF16, nil}, {"int8", ir.I8, nil}, {"smooth", ir.I8, calibrated}} {
		dirs[c.name] = filepath.Join(t.TempDir(), c.name)
		m.Quant = c.quant
		if _, err := Compile(t.Context(), m, Options{Out: dirs[c.name], Math: c.dtype, Architectures: []string{}}); err != nil {
			t.Fatal(err)
		}
		m.Quant = nil
		if err := m.CheckPackage(t.Context(), dirs[c.name]); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []struct {
		file  string
		spoil func([]byte) []byte
		want  string
	}{
		{"model.safetensors", func(b []byte) []byte { b[len(b)-1] ^= 0x80; return b }, "differs"},
		{"config.json", func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"rope_theta": 10000.0`), []byte(`"rope_theta": 20000.0`), 1)
		}, `"rope.cos" differs`},
		{"config.json", func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"max_position_embeddings": 2048`), []byte(`"max_position_embeddings": 1024`), 1)
		}, `the parts make [1024 16]`},
		{"tokenizer.json", func(b []byte) []byte { return bytes.Replace(b, []byte(`"昨日"`), []byte(`"昨昨"`), 1) }, `"tokenizer" differs`},
		{"tokenizer.json", nil, `blob "tokenizer"`},
	} {
		other := filepath.Join(t.TempDir(), "other")
		if err := os.CopyFS(other, os.DirFS(tiny)); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(other, c.file)
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if os.Remove(file); c.spoil != nil {
			if err := os.WriteFile(file, c.spoil(data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o, err := Open(other)
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		for _, dir := range dirs {
			if err := o.CheckPackage(t.Context(), dir); err == nil || !strings.Contains(err.Error(), dir+" is not a package of model other: ") || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.file, err)
			}
		}
	}
}
