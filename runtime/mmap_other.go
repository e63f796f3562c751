//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly || windows)

package rt

import (
	"io"
	"os"
)

// mapFile reads the first size bytes of f into memory, for systems without file mappings.
func mapFile(f *os.File, size int) (data []byte, unmap func() error, err error) {
	data = alignedBytes(size)
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, int64(size)), data); err != nil {
		return nil, nil, err
	}
	return data, func() error { return nil }, nil
}
