//go:build !unix

package checkpoint

// This file owns the mapping of checkpoint files where the system has no madvise: tensors are
// copied out of the mapping, one at a time, and the garbage collector takes them back.

import (
	"fmt"
	"os"

	"golang.org/x/exp/mmap"
)

type mappedFile struct {
	path string
	r    *mmap.ReaderAt
}

func mapFile(path string) (mapping, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	r, err := mmap.Open(path)
	if err != nil {
		return nil, err
	}
	return &mappedFile{path, r}, nil
}

func (m *mappedFile) size() int64 { return int64(m.r.Len()) }

func (m *mappedFile) bytes(off, n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := m.r.ReadAt(b, off); err != nil {
		return nil, fmt.Errorf("%s: reading %d bytes at %d: %w", m.path, n, off, err)
	}
	return b, nil
}

func (m *mappedFile) release(off, n int64) {}

func (m *mappedFile) close() error { return m.r.Close() }
