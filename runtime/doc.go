// Package rt is what a generated package carries along: it maps the weight file, finds out what
// the CPU can do, keeps the worker pool and the arena, and runs the program's steps.
//
// It imports the standard library alone, and nothing of it knows a model: kernels, steps,
// buffers and weights come as tables (program.go). The compiler copies this package, as it is,
// into generated packages as internal/rt. Start reading at program.go, then session.go.
package rt
