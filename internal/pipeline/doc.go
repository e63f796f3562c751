// Package pipeline joins the rooms: it opens a model directory, compiles it, writes the generated
// package and runs it. The command is a thin layer over it, and the end-to-end tests use it too.
//
// It may import every package that does not stand on it. Start reading at model.go, then compile.go.
package pipeline
