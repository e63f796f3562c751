package rt

import "unsafe"

// This file has the arithmetic of memory blocks: alignment and views.

// cacheLine is the alignment of buffers, scratch parts and weights.
const cacheLine = 64

func roundUp(n, to int) int { return (n + to - 1) / to * to }

func ceilDiv(n, by int) int { return (n + by - 1) / by }

// alignedBytes returns size bytes of the Go heap that begin on a cache line. At least one cache
// line of the allocation follows them, so that a pointer just past their end still points into it.
func alignedBytes(size int) []byte {
	b := make([]byte, size+2*cacheLine)
	skip := -int(uintptr(unsafe.Pointer(&b[0]))) & (cacheLine - 1)
	return b[skip : skip+size : skip+size]
}

// view returns n elements at p.
func view[E any](p unsafe.Pointer, n int) []E { return unsafe.Slice((*E)(p), n) }
