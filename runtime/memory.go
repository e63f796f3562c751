package rt

import "unsafe"

// This file has the arithmetic of memory blocks: alignment and views. Package cuda uses it too.

// cacheLine is the alignment of buffers, scratch parts and weights.
const cacheLine = 64

// RoundUp returns the least multiple of to that is not below n. Both are positive, or n is 0.
func RoundUp(n, to int) int { return CeilDiv(n, to) * to }

// CeilDiv returns n/by, rounded up. Both are positive, or n is 0.
func CeilDiv(n, by int) int { return (n + by - 1) / by }

// view returns n elements at p.
func view[E any](p unsafe.Pointer, n int) []E { return unsafe.Slice((*E)(p), n) }
