// Package program is the second level of the IR: a straight list of kernel calls on typed
// buffers, with the recipes of the packed weights. Passes make it from an ir.Graph; emit writes
// it out as Go; the text form (print.go, parse.go) reads back; Verify checks it and Eval runs it
// with the interpreters of package kernel.
//
// It imports kernel, ir and internal/num. It knows no checkpoint file and no target's assembly.
// Start reading at program.go.
package program
