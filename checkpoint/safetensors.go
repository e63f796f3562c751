package checkpoint

// This file owns the safetensors format: eight bytes of header length, a JSON object of
// tensors, the data. Everything that the header says is checked against the file before a
// tensor is handed out. The rules are those of the format's own specification; in particular
// the data is covered completely, without holes and without overlaps.

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"unicode/utf8"
)

// maxHeader is the format's own limit on the header length.
const maxHeader = 100_000_000

// entry is one tensor of a header; begin and end are relative to the start of the data.
type entry struct {
	name       string
	dtype      DType
	shape      []int
	begin, end int64
}

// header is the checked header of one file. Entries are in the order of their data.
type header struct {
	entries  []entry
	metadata map[string]string
	data     int64 // offset of the data in the file
}

// impostors are files that are often found under a safetensors name; their first bytes would
// only be reported as an absurd header length.
var impostors = []struct{ magic, what string }{
	{"version https://git-lfs", "a Git LFS pointer and not the file itself; fetch it with: git lfs pull"},
	{"PK\x03\x04", "a PyTorch pickle and not safetensors"},
	{"\x80\x02", "a Python pickle and not safetensors"},
	{"GGUF", "a GGUF file and not safetensors"},
	{"<!DOCTYPE", "an HTML page and not safetensors; the download failed"},
}

// readHeader reads and checks the header of a file of the given size. read returns n bytes at
// an offset; it is never asked for bytes outside the file.
func readHeader(size int64, read func(off, n int64) ([]byte, error)) (*header, error) {
	if size < 8 {
		return nil, fmt.Errorf("file of %d bytes is truncated: the header length alone takes 8", size)
	}
	start, err := read(0, min(size, 32))
	if err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint64(start)
	if n > maxHeader {
		for _, i := range impostors {
			if bytes.HasPrefix(start, []byte(i.magic)) {
				return nil, fmt.Errorf("the file is %s", i.what)
			}
		}
		return nil, fmt.Errorf("header length %d exceeds the format's limit of %d bytes", n, maxHeader)
	}
	if int64(n) > size-8 {
		return nil, fmt.Errorf("header length %d exceeds the file of %d bytes: the file is truncated", n, size)
	}
	text, err := read(8, int64(n))
	if err != nil {
		return nil, err
	}
	h, err := parseHeader(text)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	h.data = 8 + int64(n)
	if err := h.checkCoverage(size - h.data); err != nil {
		return nil, err
	}
	return h, nil
}

// parseHeader parses the JSON text and checks each entry on its own.
func parseHeader(text []byte) (*header, error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, errors.New("expected a JSON object that begins with \"{\"")
	}
	if !utf8.Valid(text) {
		return nil, errors.New("the JSON text is not valid UTF-8")
	}
	h := &header{}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	seen := map[string]bool{}
	err := object(d, func(name string) (err error) {
		if seen[name] {
			return fmt.Errorf("tensor %q occurs twice", name)
		}
		seen[name] = true
		if name == "__metadata__" {
			h.metadata, err = metadata(d)
			return err
		}
		e, err := parseEntry(d)
		if err != nil {
			return fmt.Errorf("tensor %q: %w", name, err)
		}
		e.name = name
		h.entries = append(h.entries, e)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if rest := bytes.Trim(text[d.InputOffset():], " \t\r\n"); len(rest) != 0 {
		return nil, fmt.Errorf("%d bytes follow the JSON object", len(rest))
	}
	return h, nil
}

func parseEntry(d *json.Decoder) (entry, error) {
	var e entry
	var offsets []int64
	seen := map[string]bool{}
	err := object(d, func(key string) error {
		if seen[key] {
			return fmt.Errorf("field %q occurs twice", key)
		}
		seen[key] = true
		switch key {
		case "dtype":
			t, err := d.Token()
			s, ok := t.(string)
			if err != nil || !ok {
				return fmt.Errorf("field \"dtype\": expected a string, found %s", show(t))
			}
			if e.dtype = DType(s); e.dtype.Size() == 0 {
				return fmt.Errorf("dtype %q is not known (known: %s)", s, knownDTypes())
			}
		case "shape":
			dims, err := integers(d, key)
			for _, x := range dims {
				if int64(int(x)) != x {
					return fmt.Errorf("field \"shape\": %d is too large", x)
				}
				e.shape = append(e.shape, int(x))
			}
			return err
		case "data_offsets":
			var err error
			offsets, err = integers(d, key)
			return err
		default:
			return fmt.Errorf("field %q is not known", key)
		}
		return nil
	})
	if err != nil {
		return e, err
	}
	for _, key := range []string{"dtype", "shape", "data_offsets"} {
		if !seen[key] {
			return e, fmt.Errorf("field %q is missing", key)
		}
	}
	if len(offsets) != 2 || offsets[0] > offsets[1] {
		return e, fmt.Errorf("data_offsets %v are not a begin and an end", offsets)
	}
	e.begin, e.end = offsets[0], offsets[1]
	size, err := byteSize(e.dtype, e.shape)
	if err != nil {
		return e, err
	}
	if size != e.end-e.begin {
		return e, fmt.Errorf("%s %v takes %d bytes, but data_offsets %v are %d bytes", e.dtype, e.shape, size, offsets, e.end-e.begin)
	}
	return e, nil
}

// checkCoverage sorts the entries by their place in the data and checks that they cover the
// data of the file exactly.
func (h *header) checkCoverage(size int64) error {
	sort.Slice(h.entries, func(i, j int) bool {
		a, b := h.entries[i], h.entries[j]
		if a.begin != b.begin {
			return a.begin < b.begin
		}
		if a.end != b.end {
			return a.end < b.end
		}
		return a.name < b.name
	})
	var at int64
	for i, e := range h.entries {
		if e.begin < at {
			p := h.entries[i-1]
			return fmt.Errorf("tensors %q and %q overlap: data_offsets [%d %d] and [%d %d]", p.name, e.name, p.begin, p.end, e.begin, e.end)
		}
		if e.begin > at {
			return fmt.Errorf("tensor %q begins at %d, but the data before it ends at %d: the format allows no gap", e.name, e.begin, at)
		}
		at = e.end
	}
	for _, e := range h.entries {
		if e.end > size {
			return fmt.Errorf("tensor %q ends at %d, but the file has %d bytes of data: the file is truncated", e.name, e.end, size)
		}
	}
	if at < size {
		return fmt.Errorf("%d bytes follow the last tensor: the format allows no gap", size-at)
	}
	return nil
}

// object reads a JSON object and calls visit after each key.
func object(d *json.Decoder, visit func(key string) error) error {
	t, err := d.Token()
	if err != nil {
		return jsonError(err)
	}
	if t != json.Delim('{') {
		return fmt.Errorf("expected a JSON object, found %s", show(t))
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return jsonError(err)
		}
		key, ok := t.(string)
		if !ok {
			return fmt.Errorf("expected a JSON string as key, found %s", show(t))
		}
		if err := visit(key); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return jsonError(err)
}

func integers(d *json.Decoder, field string) ([]int64, error) {
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return nil, fmt.Errorf("field %q: expected a list, found %s", field, show(t))
	}
	var out []int64
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, jsonError(err)
		}
		number, ok := t.(json.Number)
		if !ok {
			return nil, fmt.Errorf("field %q: expected a number, found %s", field, show(t))
		}
		n, err := strconv.ParseInt(number.String(), 10, 64)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("field %q: %s is not a non-negative integer", field, number)
		}
		out = append(out, n)
	}
	_, err := d.Token()
	return out, jsonError(err)
}

func metadata(d *json.Decoder) (map[string]string, error) {
	m := map[string]string{}
	err := object(d, func(key string) error {
		t, err := d.Token()
		value, ok := t.(string)
		if err != nil || !ok {
			return fmt.Errorf("__metadata__: %q: expected a string, found %s", key, show(t))
		}
		m[key] = value
		return nil
	})
	return m, err
}

// show is a JSON token for a message; texts are quoted.
func show(t json.Token) string {
	if s, ok := t.(string); ok {
		return strconv.Quote(s)
	}
	return fmt.Sprint(t)
}

// jsonError replaces the decoder's end of input, which would read as the end of the file.
func jsonError(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the JSON text ends too early")
	}
	return err
}
