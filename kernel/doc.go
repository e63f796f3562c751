// Package kernel says what a kernel is and how it is done, for every target and for the tuner.
//
// A Spec is the mathematics of one kernel (dtypes, N, K, prologue, epilogue; the number of rows
// is the only dynamic extent). A Plan is the way a target does it (tile, blocks, order). Check is
// the only legality rule, Space enumerates legal plans, Cost predicts them; EvalGemm and its
// siblings interpret one exactly as the generated code runs it: tile shapes, packing, tails and K
// order, on any machine. Start reading at spec.go.
//
// It imports package ir for dtypes and internal/num for rounding; it knows no program, no
// assembly and no checkpoint.
package kernel
