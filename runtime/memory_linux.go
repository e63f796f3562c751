package rt

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"syscall"
	"unsafe"
)

// This file is what Linux adds: memory outside the Go heap, and huge pages.

// hugePage is the size of a huge page of amd64, and of arm64 with 4 KiB pages.
const hugePage = 2 << 20

// adviseHuge asks for huge pages. It must come before the first touch: a file mapping that was
// touched with small pages is not upgraded. A kernel without them refuses, which is no error.
func adviseHuge(b []byte) {
	if len(b) >= hugePage {
		_ = syscall.Madvise(b, syscall.MADV_HUGEPAGE)
	}
}

// newMemory returns size zero bytes outside the Go heap, aligned to a cache line, or to a huge
// page when they fill one. free gives them back.
func newMemory(size int) (data []byte, free func() error, err error) {
	size = max(size, cacheLine)
	align := cacheLine
	if size >= hugePage {
		align = hugePage
	}
	// Munmap accepts only the slice that Mmap returned.
	raw, err := syscall.Mmap(-1, 0, size+align, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, nil, os.NewSyscallError("mmap", err)
	}
	skip := -int(uintptr(unsafe.Pointer(&raw[0]))) & (align - 1)
	data = raw[skip : skip+size : skip+size]
	adviseHuge(data[:size&^(hugePage-1)])
	return data, func() error { return os.NewSyscallError("munmap", syscall.Munmap(raw)) }, nil
}

// hugeBytes returns how many bytes of b are mapped by huge pages now, and false where the system
// does not say. It walks /proc/self/smaps, which takes milliseconds.
func hugeBytes(b []byte) (int, bool) {
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	lo := uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b))))
	hi := lo + uint64(len(b))
	kib, inside := 0, false
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		key, rest, _ := bytes.Cut(lines.Bytes(), []byte(" "))
		if from, to, isRange := bytes.Cut(key, []byte("-")); isRange {
			start, err1 := strconv.ParseUint(string(from), 16, 64)
			end, err2 := strconv.ParseUint(string(to), 16, 64)
			inside = err1 == nil && err2 == nil && start < hi && lo < end
			continue
		}
		switch string(key) {
		case "AnonHugePages:", "ShmemPmdMapped:", "FilePmdMapped:":
			if n, err := strconv.Atoi(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB")))); inside && err == nil {
				kib += n
			}
		}
	}
	return kib << 10, lines.Err() == nil
}
