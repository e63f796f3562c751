package checkpoint

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rawFile returns a safetensors file with the given JSON text and data.
func rawFile(text string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return append(append(b, text...), make([]byte, data)...)
}

func writeRaw(t *testing.T, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// wantError compares an error's text with want, after taking dir out of it.
func wantError(t *testing.T, err error, dir, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %q", want)
	}
	got := filepath.ToSlash(strings.ReplaceAll(err.Error(), dir, "DIR"))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
}

func TestOpenFileErrors(t *testing.T) {
	const f16 = `"dtype":"F16","shape":[2,2],"data_offsets":[0,8]`
	tests := []struct {
		name string
		file []byte
		want string
	}{
		{"empty", nil, `file of 0 bytes is truncated: the header length alone takes 8`},
		{"short", []byte("1234567"), `file of 7 bytes is truncated: the header length alone takes 8`},
		{"2^60", append([]byte{0, 0, 0, 0, 0, 0, 0, 0x10}, "{}"...), `header length 1152921504606846976 exceeds the format's limit of 100000000 bytes`},
		{"truncated header", rawFile(`{"a":{`+f16+`}}`, 8)[:20], `header length 56 exceeds the file of 20 bytes: the file is truncated`},
		{"pointer", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), `the file is a Git LFS pointer and not the file itself; fetch it with: git lfs pull`},
		{"pickle", []byte("PK\x03\x04 and the rest of a zip file"), `the file is a PyTorch pickle and not safetensors`},
		{"empty header", rawFile("", 0), `header: expected a JSON object that begins with "{"`},
		{"list", rawFile("[]", 0), `header: expected a JSON object that begins with "{"`},
		{"not UTF-8", rawFile("{\"\xff\":0}", 0), `header: the JSON text is not valid UTF-8`},
		{"unfinished", rawFile(`{"a":{`, 0), `header: tensor "a": the JSON text ends too early`},
		{"trailing", rawFile(`{"a":{`+f16+`}}x`, 8), `header: 1 bytes follow the JSON object`},
		{"tensor twice", rawFile(`{"a":{`+f16+`},"a":{`+f16+`}}`, 8), `header: tensor "a" occurs twice`},
		{"field twice", rawFile(`{"a":{"dtype":"F16",`+f16+`}}`, 8), `header: tensor "a": field "dtype" occurs twice`},
		{"tensor a number", rawFile(`{"a":1}`, 8), `header: tensor "a": expected a JSON object, found 1`},
		{"unknown field", rawFile(`{"a":{"stride":[1],`+f16+`}}`, 8), `header: tensor "a": field "stride" is not known`},
		{"no shape", rawFile(`{"a":{"dtype":"F16","data_offsets":[0,8]}}`, 8), `header: tensor "a": field "shape" is missing`},
		{"dtype", rawFile(`{"a":{"dtype":"F12","shape":[2],"data_offsets":[0,3]}}`, 3), `header: tensor "a": dtype "F12" is not known (known: BF16, BOOL, F16, F32, F64, F8_E4M3, F8_E5M2, I16, I32, I64, I8, U16, U32, U64, U8)`},
		{"dtype a number", rawFile(`{"a":{"dtype":1,"shape":[2],"data_offsets":[0,3]}}`, 3), `header: tensor "a": field "dtype": expected a string, found 1`},
		{"negative shape", rawFile(`{"a":{"dtype":"F16","shape":[-2],"data_offsets":[0,8]}}`, 8), `header: tensor "a": field "shape": -2 is not a non-negative integer`},
		{"fractional shape", rawFile(`{"a":{"dtype":"F16","shape":[2.5],"data_offsets":[0,8]}}`, 8), `header: tensor "a": field "shape": 2.5 is not a non-negative integer`},
		{"text in shape", rawFile(`{"a":{"dtype":"F16","shape":["2"],"data_offsets":[0,8]}}`, 8), `header: tensor "a": field "shape": expected a number, found "2"`},
		{"overflow", rawFile(`{"a":{"dtype":"F16","shape":[4294967296,4294967296],"data_offsets":[0,8]}}`, 8), `header: tensor "a": shape [4294967296 4294967296] of F16 is too large`},
		{"one offset", rawFile(`{"a":{"dtype":"F16","shape":[4],"data_offsets":[8]}}`, 8), `header: tensor "a": data_offsets [8] are not a begin and an end`},
		{"offsets swapped", rawFile(`{"a":{"dtype":"F16","shape":[4],"data_offsets":[8,0]}}`, 8), `header: tensor "a": data_offsets [8 0] are not a begin and an end`},
		{"size", rawFile(`{"a":{"dtype":"F16","shape":[3],"data_offsets":[0,8]}}`, 8), `header: tensor "a": F16 [3] takes 6 bytes, but data_offsets [0 8] are 8 bytes`},
		{"overlap", rawFile(`{"a":{`+f16+`},"b":{"dtype":"F16","shape":[2],"data_offsets":[6,10]}}`, 10), `tensors "a" and "b" overlap: data_offsets [0 8] and [6 10]`},
		{"same place", rawFile(`{"a":{`+f16+`},"b":{`+f16+`}}`, 8), `tensors "a" and "b" overlap: data_offsets [0 8] and [0 8]`},
		{"gap", rawFile(`{"a":{`+f16+`},"b":{"dtype":"F16","shape":[1],"data_offsets":[10,12]}}`, 12), `tensor "b" begins at 10, but the data before it ends at 8: the format allows no gap`},
		{"gap at the end", rawFile(`{"a":{`+f16+`}}`, 9), `1 bytes follow the last tensor: the format allows no gap`},
		{"truncated data", rawFile(`{"a":{`+f16+`}}`, 7), `tensor "a" ends at 8, but the file has 7 bytes of data: the file is truncated`},
		{"metadata", rawFile(`{"__metadata__":{"format":1}}`, 0), `header: __metadata__: "format": expected a string, found 1`},
	}
	dir := t.TempDir()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := writeRaw(t, dir, "x.safetensors", tt.file)
			_, err := OpenFile(path)
			wantError(t, err, dir, "DIR/x.safetensors: "+tt.want)
		})
	}
	_, err := OpenFile(filepath.Join(dir, "none.safetensors"))
	wantError(t, err, dir, "DIR/none.safetensors: no such file or directory")
	_, err = OpenFile(dir)
	wantError(t, err, dir, "DIR: not a regular file")
}

func TestWriteFileRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.safetensors")
	infos := []Info{
		{"bf", BF16, []int{3}},
		{"名前\"", F32, []int{1, 2}},
		{"nothing", F16, []int{0, 7}},
		{"scalar", "I64", nil},
	}
	data := [][]byte{[]byte("abcdef"), []byte("01234567"), nil, []byte("scalar 8")}
	err := WriteFile(path, infos, func(i int, w io.Writer) error {
		_, err := w.Write(data[i])
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	f, err := OpenFile(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.h.data%8 != 0 {
		t.Errorf("data begins at %d", f.h.data)
	}
	for i, info := range infos {
		got, err := f.Tensor(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		if got.DType != info.DType || len(got.Shape) != len(info.Shape) || !bytes.Equal(got.Data, data[i]) {
			t.Errorf("tensor %q: got %v %q", info.Name, got.Info, got.Data)
		}
		f.Release(info.Name)
	}
	if diff := cmp.Diff(map[string]string{"format": "pt"}, f.Metadata()); diff != "" {
		t.Error(diff)
	}
}

func TestWriteFileErrors(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.safetensors")
	none := func(int, io.Writer) error { return nil }
	err := WriteFile(path, []Info{{"a", F32, []int{2}}}, none)
	wantError(t, err, dir, `DIR/x.safetensors: tensor "a": F32 [2] takes 8 bytes, 0 were written`)
	err = WriteFile(path, []Info{{"a", F32, []int{2}}, {"a", F32, nil}}, none)
	wantError(t, err, dir, `DIR/x.safetensors: tensor "a" occurs twice`)
	err = WriteFile(path, nil, none)
	if err != nil {
		t.Error(err)
	}
	os.Remove(path)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	err = WriteFile(filepath.Join(dir, "no", "x.safetensors"), nil, none)
	wantError(t, err, dir, "DIR/no/x.safetensors: no such file or directory")
}

// FuzzHeader checks that no file makes the reader panic or hand out bytes outside the file, and
// that what is accepted covers the data exactly.
func FuzzHeader(f *testing.F) {
	f.Add(rawFile(`{"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,2],"data_offsets":[0,8]}}  `, 8))
	f.Add(rawFile(`{"a":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"b":{"dtype":"I64","shape":[1],"data_offsets":[0,8]}}`, 12))
	f.Add(rawFile(`{"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`, 0))
	f.Add(rawFile(`{}`, 0))
	f.Add(append([]byte{0, 0, 0, 0, 0, 0, 0, 0x10}, "{}"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := newFile("x", memory(data))
		if err != nil {
			if strings.Contains(err.Error(), "\n") && !bytes.ContainsRune(data, '\n') {
				t.Errorf("error of several lines: %q", err)
			}
			return
		}
		covered := 8 + int64(binary.LittleEndian.Uint64(data))
		for _, info := range file.Tensors() {
			tensor, err := file.Tensor(info.Name)
			if err != nil {
				t.Fatal(err)
			}
			size, err := byteSize(info.DType, info.Shape)
			if err != nil || size != int64(len(tensor.Data)) {
				t.Errorf("tensor %q: %d bytes for %v", info.Name, len(tensor.Data), info)
			}
			covered += size
			lookupName(info.Name)
			nearestName(info.Name)
		}
		if covered != int64(len(data)) {
			t.Errorf("%d of %d bytes covered", covered, len(data))
		}
	})
}
