// Package bench measures: the ceilings of the machine (machine.go), generated packages at shapes
// (model.go) and their kernels inside a real run (kernels.go). Results print in the Go benchmark
// format, which benchstat reads, or as JSON.
//
// It may import internal/pipeline and what is below it; it knows no command line.
package bench
