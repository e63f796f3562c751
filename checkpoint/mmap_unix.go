//go:build unix

package checkpoint

// This file owns the mapping of checkpoint files where the system has mmap and madvise.

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

type mappedFile struct {
	data []byte
}

func mapFile(path string) (mapping, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0) // so that a pipe does not wait for its writer
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	if info.Size() == 0 {
		return &mappedFile{}, nil
	}
	if int64(int(info.Size())) != info.Size() {
		return nil, fmt.Errorf("%s: a file of %d bytes does not fit in the address space", path, info.Size())
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("%s: mmap: %w", path, err)
	}
	// Advice only: without it reading is slower and nothing else changes.
	_ = unix.Madvise(data, unix.MADV_SEQUENTIAL)
	return &mappedFile{data}, nil
}

func (m *mappedFile) size() int64 { return int64(len(m.data)) }

func (m *mappedFile) bytes(off, n int64) ([]byte, error) { return m.data[off : off+n : off+n], nil }

// release gives the whole pages inside the range back to the system; touching them again
// reads them again.
func (m *mappedFile) release(off, n int64) {
	page := int64(os.Getpagesize())
	lo := (off + page - 1) / page * page
	hi := off + n
	if hi < m.size() {
		hi = hi / page * page
	}
	if lo < hi {
		_ = unix.Madvise(m.data[lo:hi], unix.MADV_DONTNEED)
	}
}

func (m *mappedFile) close() error {
	if m.data == nil {
		return nil
	}
	data := m.data
	m.data = nil
	return unix.Munmap(data)
}
