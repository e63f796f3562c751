// Package codegen is the seam between kernels and the targets that do them: the Backend
// interface and what a backend hands back. The backends are codegen/amd64 and its siblings;
// codegentest has the conformance suite that every one of them passes.
//
// It imports package kernel; backends import nothing of passes, program or emit.
package codegen

import "github.com/bertc/bertc/kernel"

// A Backend emits kernels for one target.
type Backend interface {
	// Target names the target as kernel.LookupTarget knows it.
	Target() *kernel.Target
	// Emit returns the code of k. It fails when k.Plan is not legal for k.Spec and this target
	// (kernel.Check). symbol prefixes every function and data symbol of the unit. Emit is
	// deterministic: equal arguments give equal text.
	Emit(symbol string, k kernel.Kernel) (Unit, error)
}

// Unit is the code of one kernel.
type Unit struct {
	// Funcs are the functions, one for each Role that the kind of kernel has.
	Funcs []Func
	// Asm is the text for the Go assembler: functions and data, without #include lines, which
	// the file that joins the units has once ("textflag.h").
	Asm string
	// Features are the CPU features that the code needs (a subset of the target's).
	Features []string
}

// Func is one assembly function, func(a *Args), NOSPLIT, without results.
type Func struct {
	Name string
	// Role is the field of rt.Impl that the function goes into: "Prologue", "Block", "PackQ",
	// "PackKV", "Attend", "Finish", "Row" or "Gather".
	Role string
	// Args is the argument type of package rt: "GemmArgs", "AttentionArgs", "RowArgs" or
	// "GatherArgs".
	Args string
	// Doc is one sentence for the stub.
	Doc string
}
