// Package autotune chooses kernel plans by measurement. Candidates are the cheapest plans of
// kernel.Space by kernel.Cost; they are built into one package as tiers, checked, and timed
// inside whole calls of a model of the same dimensions, alternating. On a GPU each tier is a launch
// table of its own (device.go). Every candidate leaves a record (records.go); compiling looks plans
// up in the records and falls back to Cost.
//
// It may import kernel, program, emit, checkpoint, graph/bert, runtime, runtime/cuda and internal
// packages. Start reading at tune.go.
package autotune
