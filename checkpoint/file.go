package checkpoint

// This file owns one open safetensors file.

import (
	"fmt"
	"io/fs"
)

// mapping is a file whose ranges can be looked at. Ranges are checked by the caller.
type mapping interface {
	size() int64
	bytes(off, n int64) ([]byte, error)
	release(off, n int64)
	close() error
}

// memory is a mapping of a file that is in memory already.
type memory []byte

func (m memory) size() int64                        { return int64(len(m)) }
func (m memory) bytes(off, n int64) ([]byte, error) { return m[off : off+n : off+n], nil }
func (m memory) release(off, n int64)               {}
func (m memory) close() error                       { return nil }

// Info describes one tensor of a file.
type Info struct {
	Name  string
	DType DType
	Shape []int
}

// Tensor is one tensor with its data, row-major and little-endian. Data is read-only, and valid
// until the file that it came from is closed.
type Tensor struct {
	Info
	Data []byte
	File string // path of the file, for messages
}

// File is one safetensors file, completely checked. Its methods may be called concurrently,
// Close excepted.
type File struct {
	path  string
	m     mapping
	h     *header
	index map[string]int
}

// OpenFile maps and checks one safetensors file.
func OpenFile(path string) (*File, error) {
	m, err := mapFile(path)
	if err != nil {
		return nil, pathError(path, err)
	}
	return newFile(path, m)
}

func openFileFS(fsys fs.FS, path string) (*File, error) {
	data, err := fs.ReadFile(fsys, path)
	if err != nil {
		return nil, pathError(path, err)
	}
	return newFile(path, memory(data))
}

func newFile(path string, m mapping) (*File, error) {
	h, err := readHeader(m.size(), m.bytes)
	if err != nil {
		m.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f := &File{path: path, m: m, h: h, index: map[string]int{}}
	for i, e := range h.entries {
		f.index[e.name] = i
	}
	return f, nil
}

// Path returns the path that the file was opened with.
func (f *File) Path() string { return f.path }

// Metadata returns the free-form strings of the header.
func (f *File) Metadata() map[string]string { return f.h.metadata }

// Tensors lists the tensors in the order of their data.
func (f *File) Tensors() []Info {
	out := make([]Info, len(f.h.entries))
	for i, e := range f.h.entries {
		out[i] = Info{e.name, e.dtype, e.shape}
	}
	return out
}

// Tensor returns the tensor of the given name.
func (f *File) Tensor(name string) (Tensor, error) {
	i, ok := f.index[name]
	if !ok {
		return Tensor{}, fmt.Errorf("%s: no tensor %q", f.path, name)
	}
	e := f.h.entries[i]
	data, err := f.m.bytes(f.h.data+e.begin, e.end-e.begin)
	return Tensor{Info{e.name, e.dtype, e.shape}, data, f.path}, err
}

// Release says that the tensor's data has been used; its memory goes back to the system, and a
// later use reads it again.
func (f *File) Release(name string) {
	if i, ok := f.index[name]; ok {
		e := f.h.entries[i]
		f.m.release(f.h.data+e.begin, e.end-e.begin)
	}
}

// Close unmaps the file. Data of its tensors must not be used afterwards.
func (f *File) Close() error { return f.m.close() }

// pathError turns the system's "open x: no such file or directory" into "x: no such file or
// directory", and leaves sentences that name the path as they are.
func pathError(path string, err error) error {
	if e, ok := err.(*fs.PathError); ok {
		return fmt.Errorf("%s: %w", path, e.Err)
	}
	return err
}
