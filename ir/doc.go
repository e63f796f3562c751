// Package ir is the tensor graph: values in single-assignment order, typed by
// an element type and symbolic dims, without control flow, strides or targets.
//
// It owns the op table, types and dims, the builder, the text form (printer
// and parser), the verifier and the evaluator. It imports only internal/num
// and the standard library, and knows nothing of kernels, programs or
// checkpoints.
//
// Start reading at table.go, which declares every op once; Verify, the
// printer, the parser, Eval and the generated docs/ops.md are all driven by
// that table. Then graph.go (what a graph is) and builder.go (how to make one).
//
// A graph has a text form:
//
//	graph @encoder(T: 1..8192) {
//	  %x = input "hidden" : f32[T,1536]
//	  %g = weight "norm.weight" : f32[1536]
//	  %n = rmsnorm %x, %g {eps=1e-05} : f32[T,1536]
//	  return %n
//	}
//
// White space separates tokens and is otherwise free. A semicolon starts a
// comment that runs to the end of its line. Every value states its type.
package ir
