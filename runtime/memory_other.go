//go:build !linux

package rt

import "unsafe"

// adviseHuge asks for huge pages, which only Linux lets a program do.
func adviseHuge([]byte) {}

// newMemory returns size zero bytes, aligned to a cache line. free gives them back.
func newMemory(size int) (data []byte, free func() error, err error) {
	return alignedBytes(max(size, cacheLine)), func() error { return nil }, nil
}

// hugeBytes returns how many bytes of b are mapped by huge pages, which only Linux tells.
func hugeBytes([]byte) (int, bool) { return 0, false }

// alignedBytes returns size bytes of the Go heap that begin on a cache line. At least one cache
// line of the allocation follows them, so that a pointer just past their end still points into it.
func alignedBytes(size int) []byte {
	b := make([]byte, size+2*cacheLine)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (cacheLine - 1)
	return b[skip : skip+size : skip+size]
}
