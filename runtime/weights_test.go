package rt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDamagedWeightFiles(t *testing.T) {
	m := newTestModel(shapes["f32/rmsnorm"], 16)
	good := m.file()
	le := binary.LittleEndian
	header := int(le.Uint64(good[16:]))
	entry := func(f []byte, i int) []byte { return f[headBytes+i*entryBytes:] }
	for _, c := range []struct {
		name   string
		damage func(f []byte) []byte
		sealed bool // the header's checksum is right again
		want   string
	}{
		{"empty", func(f []byte) []byte { return nil }, false, "has 0 bytes, too few"},
		{"cut in the header", func(f []byte) []byte { return f[:100] }, false, "has 100 bytes, its header says"},
		{"cut in the data", func(f []byte) []byte { return f[:len(f)-1] }, false, "its header says"},
		{"longer", func(f []byte) []byte { return append(f, 0) }, false, "its header says"},
		{"magic", func(f []byte) []byte { f[0] = 'X'; return f }, true, "begins with \"XERTCWT1\""},
		{"version", func(f []byte) []byte { f[8] = 2; return f }, true, "has version 2"},
		{"count of all", func(f []byte) []byte { le.PutUint32(f[12:], 1<<31); return f }, true, "do not fit its header"},
		{"count", func(f []byte) []byte { f[12]--; return f }, true, "weights"},
		{"header size", func(f []byte) []byte { f[16]++; return f }, false, "not a multiple of 4096"},
		{"header beyond the file", func(f []byte) []byte { le.PutUint64(f[16:], 1<<40); return f }, false, "within the file"},
		{"no header", func(f []byte) []byte { le.PutUint64(f[16:], 0); return f }, false, "do not fit its header"},
		{"file size", func(f []byte) []byte { f[24]++; return f }, true, "its header says"},
		{"id", func(f []byte) []byte { f[40] ^= 1; return f }, true, "belongs to another package or compile"},
		{"checksum", func(f []byte) []byte { f[64] ^= 1; return f }, false, "damaged header"},
		{"table", func(f []byte) []byte { f[headBytes] ^= 1; return f }, false, "damaged header"},
		{"end of the header", func(f []byte) []byte { f[header-1] ^= 1; return f }, false, "damaged header"},
		{"reserved", func(f []byte) []byte { f[68] = 1; return f }, true, "reserved header field"},
		{"offset unaligned", func(f []byte) []byte { entry(f, 1)[0]++; return f }, true, "expected a multiple of 64"},
		{"offset in the header", func(f []byte) []byte { le.PutUint64(entry(f, 0), 0); return f }, true, "expected a multiple of 64 from"},
		{"overlap", func(f []byte) []byte { copy(entry(f, 1)[:8], entry(f, 0)[:8]); return f }, true, "expected a multiple of 64 from"},
		{"offset beyond the file", func(f []byte) []byte { le.PutUint64(entry(f, 1), 1<<62); return f }, true, "ends beyond the file"},
		{"end beyond the file", func(f []byte) []byte { e := entry(f, len(m.packed)-1); le.PutUint64(e, le.Uint64(e)+64); return f }, true, "ends beyond the file"},
		{"size", func(f []byte) []byte { entry(f, 2)[8]++; return f }, true, "package test has"},
		{"name beyond the header", func(f []byte) []byte { le.PutUint64(entry(f, 0)[24:], 1<<63); return f }, true, "its name outside the header"},
		{"name length", func(f []byte) []byte { le.PutUint32(entry(f, 0)[20:], 1<<31); return f }, true, "its name outside the header"},
		{"other name", func(f []byte) []byte { entry(f, 0)[24]++; return f }, true, "package test has \"embed\""},
		{"reserved in an entry", func(f []byte) []byte { entry(f, 0)[32] = 1; return f }, true, "reserved bytes"},
	} {
		f := c.damage(bytes.Clone(good))
		if c.sealed {
			f = seal(f)
		}
		path := writeFile(t, f)
		model, err := Open(&m.mod, path, Options{})
		var weights ErrWeights
		if !errors.As(err, &weights) || weights.Path != path || !strings.Contains(weights.Reason, c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
		if err == nil {
			model.Close()
		}
	}
	if _, err := Open(&m.mod, filepath.Join(t.TempDir(), "none"), Options{}); err == nil {
		t.Error("a missing file was opened")
	}
	var weights ErrWeights
	if _, err := Open(&m.mod, t.TempDir(), Options{}); !errors.As(err, &weights) || weights.Reason != "is not a regular file" {
		t.Errorf("a directory: %v", err)
	}
}

func TestVerifyWeights(t *testing.T) {
	m := newTestModel(shapes["f32/rmsnorm"], 17)
	model := m.open(t, Options{})
	if err := model.VerifyWeights(context.Background()); err != nil {
		t.Error(err)
	}
	canceled, cancel := context.WithCancel(context.Background())
	cancel()
	if err := model.VerifyWeights(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	damaged := m.file()
	damaged[model.weights.entries[3].offset] ^= 1
	other, err := Open(&m.mod, writeFile(t, damaged), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if err := other.VerifyWeights(context.Background()); err == nil || !strings.Contains(err.Error(), `data of "sin" is damaged`) {
		t.Errorf("got %v", err)
	}
	if data, ok := model.Weight("sin"); !ok || !bytes.Equal(data, m.packed[3]) {
		t.Error("Weight returns other bytes")
	}
	if _, ok := model.Weight("none"); ok {
		t.Error("Weight returns what is not there")
	}
}

// Opening must not depend on the size of the weights.
func TestOpenIsQuick(t *testing.T) {
	m := newTestModel(shapes["f32/rmsnorm"], 18)
	m.layers = 1
	for len(m.packed) < 600 {
		m.add(strings.Repeat("w", len(m.packed)), make([]byte, 100))
	}
	path := writeFile(t, m.file())
	best := time.Hour
	for range 5 {
		start := time.Now()
		model, err := Open(&m.mod, path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
		model.Close()
	}
	if t.Logf("opened in %v", best); best > 50*time.Millisecond {
		t.Error("slow")
	}
}

func FuzzWeightsHeader(f *testing.F) {
	m := newTestModel(shapes["f32/rmsnorm"], 19)
	good := m.file()
	header := good[:binary.LittleEndian.Uint64(good[16:])]
	f.Add(header)
	f.Add(header[:headBytes])
	f.Fuzz(func(t *testing.T, data []byte) {
		// The checksum must not keep the fuzzer from the table.
		if size := uint64(len(data)); size >= headBytes && binary.LittleEndian.Uint64(data[16:]) <= size {
			data = seal(bytes.Clone(data))
		}
		entries, err := readHeader(&m.mod, bytes.NewReader(data), int64(len(data)))
		if err != nil {
			return
		}
		for i, e := range entries {
			if e.name != m.mod.Weights[i].Name || e.size != m.mod.Weights[i].Bytes || e.offset < headBytes || e.offset+e.size > len(data) {
				t.Errorf("entry %d: %+v", i, e)
			}
		}
	})
}
