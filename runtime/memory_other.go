//go:build !linux

package rt

// adviseHuge asks for huge pages, which only Linux lets a program do.
func adviseHuge([]byte) {}

// newMemory returns size zero bytes, aligned to a cache line. free gives them back.
func newMemory(size int) (data []byte, free func() error, err error) {
	return alignedBytes(max(size, cacheLine)), func() error { return nil }, nil
}

// hugeBytes returns how many bytes of b are mapped by huge pages, which only Linux tells.
func hugeBytes([]byte) (int, bool) { return 0, false }
