package rt

import "cmp"

// This file has the calls of kernels. Go cannot preempt a goroutine inside assembly, and a loop
// that calls nothing but NOSPLIT assembly functions has no point where it can be stopped: it
// holds up the garbage collector for ever. So kernels are called through functions that have a
// stack check, which must not be inlined, and a call does a bounded amount of work.

// callMACs, in cpu_GOARCH.go, bounds the multiply-accumulates of one call to 100 µs or
// little more, unless the kernel has its own bound.
func (im *Impl) callMACs() int { return cmp.Or(im.CallMACs, callMACs) }

// callBytes bounds the weights that one call reads, where a single group of panels has fewer: few rows
// wait for them. 1 MiB is 100 µs at 10 GB/s, a slow core's share of a memory.
const callBytes = 1 << 20

//go:noinline
func callGemm(f func(*GemmArgs), a *GemmArgs) { f(a) }

//go:noinline
func callAttention(f func(*AttentionArgs), a *AttentionArgs) { f(a) }

//go:noinline
func callRow(f func(*RowArgs), a *RowArgs) { f(a) }

//go:noinline
func callGather(f func(*GatherArgs), a *GatherArgs) { f(a) }
