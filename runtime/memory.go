package rt

import "unsafe"

// This file has the arithmetic of memory blocks: alignment and views.

// cacheLine is the alignment of buffers, scratch parts and weights.
const cacheLine = 64

func roundUp(n, to int) int { return (n + to - 1) / to * to }

func ceilDiv(n, by int) int { return (n + by - 1) / by }

// view returns n elements at p.
func view[E any](p unsafe.Pointer, n int) []E { return unsafe.Slice((*E)(p), n) }
