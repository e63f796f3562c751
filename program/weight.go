package program

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// Weight is a recipe: how one packed tensor of the weight file is made. Exactly one of Parts,
// Rope and Blob is set. A recipe names checkpoint tensors and never holds their data.
type Weight struct {
	// Name is unique in the program, for example "layer.0.qkv.weight".
	Name string

	// Parts are checkpoint tensors joined along the first dimension (rows).
	Parts []Part
	// Interleave 0 puts the parts one after another. g > 0 takes g rows of each part in turn;
	// all parts have the same number of rows, and the last group of each is filled up to g
	// with zero rows. The matmul of a gated unit wants gate and up side by side (g = 16).
	Interleave int

	// Rope, when set, is a table of cosines or sines instead of checkpoint data.
	Rope *Rope
	// Blob, when set, names bytes that the packer is given beside the checkpoint ("tokenizer").
	Blob string

	// DType is the element type in the file; values are converted with round to nearest even.
	// I8 with Parts: the codes of each row (kernel.QuantizeWeights). A Blob has I8.
	DType ir.DType
	// Scales: not the rows of Parts but the scale of each is the weight, f32; Parts are matrices.
	Scales bool
	// Shape is the shape after joining and interleaving, before the padding of Layout: [N, K]
	// for a matrix, [N] for a vector, [bytes] for a blob (filled in by the packer's caller).
	Shape []int
	// Layout is the element order in the file.
	Layout kernel.Layout
}

// Part is one checkpoint tensor of a recipe.
type Part struct {
	// Tensor is the canonical name (package checkpoint), or "" for zeros.
	Tensor string
	// Shape is what the checkpoint must have: [rows, K] or [rows].
	Shape []int
	// Factors change the elements, one after another, before anything else is done with them.
	Factors []Factor
}

// Factor multiplies or divides the elements of a part by those of a vector, or adds them, each time
// rounded to f32.
type Factor struct {
	// Vector names the vector (package quant). It has an element for each row of the part, or
	// with Columns for each column.
	Vector  string
	Columns bool
	Divide  bool
	// Add: they are added. First is the element of the vector that the first row gets.
	Add   bool
	First int
}

// Apply changes x by an element of the vector.
func (f Factor) Apply(x, element float32) float32 {
	switch {
	case f.Add:
		return x + element
	case f.Divide:
		return x / element
	}
	return x * element
}

// Rope describes a table f32 [Positions, HeadDim/2] whose element (p, j) is cos or sin of
// p·Theta^(−2j/HeadDim), computed in float64 (RoFormer, arXiv 2104.09864, section 3.2.2, with
// the half-split pairing of Hugging Face's Llama).
type Rope struct {
	Theta     float64
	HeadDim   int
	Positions int
	Sin       bool
}
