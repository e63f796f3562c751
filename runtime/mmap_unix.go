//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package rt

import (
	"os"
	"syscall"
)

// mapFile maps the first size bytes of f for reading. unmap ends the mapping.
func mapFile(f *os.File, size int) (data []byte, unmap func() error, err error) {
	data, err = syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		return nil, nil, os.NewSyscallError("mmap", err)
	}
	adviseHuge(data)
	return data, func() error { return os.NewSyscallError("munmap", syscall.Munmap(data)) }, nil
}
