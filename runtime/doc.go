// Package rt is what a generated package carries along: it maps the weight file, finds out what
// the CPU can do, keeps the worker pool and the arena, and runs the program's steps.
//
// It imports the standard library alone, and nothing of it knows a model: kernels, steps,
// buffers and weights come as tables (program.go). The compiler copies this package, as it is,
// into generated packages as internal/rt.
//
// Start reading at program.go, the tables, and args.go, the arguments of kernels. A step runs
// through session.go (the steps), phase.go (sharing out work items) and the loop of its kind of
// kernel (gemm.go, attention.go, rowwise.go, gather.go). The kernels in Go are in portable*.go.
package rt
