// Package passes turns an ir.Graph into a program.Program. The passes are one table and the
// constraints on their order another (table.go); each pass is a file of its own.
//
// It imports ir, kernel, program and quant. It knows no checkpoint, no assembly and no Go source.
// Start reading at table.go.
package passes
