package passes

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/program"
)

// State is what flows through the passes: the graph until choose-plans, from then on the program
// (the graph stays as it was formed, for tools that compare the two).
type State struct {
	Options Options
	Graph   *ir.Graph
	Program *program.Program

	bound map[*ir.Value]binding // of each group, from choose-plans to assign-layouts
}

// String returns the text form of the stage that the state is at.
func (s *State) String() string {
	if s.Program != nil {
		return s.Program.String()
	}
	return s.Graph.String()
}

// Pass is one entry of the table.
type Pass struct {
	Name string
	Doc  string
	Run  func(*State) error
	// Ensures states what holds afterwards; it is checked after every run, besides the
	// verifier of the level.
	Ensures func(*State) error
}

// table is the compiler, from top to bottom.
var table = []Pass{
	{"canonicalize",
		"Drops what no output needs, puts the values in an order that does not depend on how the graph was made, and joins equal values (the tied table is one weight, whoever reads it).",
		canonicalize, nil},
	{"merge-siblings",
		"Joins matmuls that read the same rows into one: query, key and value, and gate and up. Their weights are concatenated and the results are slices; queries, keys and values stay together in one buffer, so that attention reads one tensor.",
		mergeSiblings, ensureMerged},
	{"smooth-activations",
		"Moves the range of activations into weights, for matmuls of 8 bits that have smoothing factors: the columns of a weight are multiplied by them, and the norm or the up half of a gated unit before it is divided. Biases get what rounding the weights takes from the mean result, where the options have it. Otherwise nothing changes.",
		smoothActivations, nil},
	{"assign-precision",
		"Writes the numerics policy into the graph as casts and result types. f32 changes nothing. bf16: both factors of every matmul and of attention are rounded to bf16 and summed in f32; the embedding table is stored in bf16; the residual stream, norms, softmax, activations and logits stay f32. i8: as bf16, but rows of both factors of the matmuls of the layers, the first ones excepted, and of the decoder are rounded to 8 bits with a scale each, and so is the embedding table.",
		assignPrecision, ensurePrecision},
	{"form-groups",
		"Divides the graph into fusion groups, each with one anchor (matmul, attention, norm, gather), the row-local work before it and the elementwise work after it. Each group becomes one kernel call.",
		formGroups, ensureGroups},
	{"choose-plans",
		"Derives the kernel Spec of every group, chooses a plan for each target, and joins equal Specs into one kernel.",
		choosePlans, nil},
	{"assign-layouts",
		"Turns the weight expressions around the groups into recipes: which checkpoint tensors are joined, interleaved, converted and packed into which layout.",
		assignLayouts, ensureComplete},
	{"plan-memory",
		"Writes the sum with a residual into the residual's buffer, lets results of one kernel that are never alive together share a buffer, and gives every buffer its offset in the arena, in bytes per row: the largest first, each at the lowest place that is free during its life.",
		planMemory, ensurePlanned},
}

// order lists which pass must precede which, and why. It is checked by a test.
var order = []struct{ first, then, why string }{
	{"canonicalize", "merge-siblings", "siblings are found by reading the same value; equal values must be one"},
	{"merge-siblings", "smooth-activations", "factors are those of merged matmuls, which are called by what plan.txt shows"},
	{"smooth-activations", "assign-precision", "what is quantised is what has been smoothed"},
	{"merge-siblings", "assign-precision", "the cast of q, k and v is one cast of the merged result"},
	{"assign-precision", "form-groups", "casts belong to the group of the value they convert"},
	{"form-groups", "choose-plans", "a Spec is derived from a group"},
	{"choose-plans", "assign-layouts", "the layout of a weight follows from the Spec that reads it"},
	{"choose-plans", "plan-memory", "buffers are results of steps"},
	{"assign-layouts", "plan-memory", "the verifier of a planned program looks at complete steps"},
}

// Passes returns the table.
func Passes() []Pass { return table }
