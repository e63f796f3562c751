// Package emit writes a program and its kernels out as the files of a Go package. It is a pure
// function: equal arguments give equal bytes, and it touches no disk.
//
// It imports program, kernel and codegen, and takes the sources of packages runtime, runtime/cuda,
// tokenizer and heads as embedded text. Start reading at package.go.
package emit
