package diff

import (
	"math"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// This file owns how large the error of a step may be.
//
// A budget bounds two measures of a step. The error of every row, relative to the norm of the
// row, is at most the budget; and the error of every element is at most peak times the budget,
// relative to the larger of the element and the row's root mean square. The first measures how
// well a kernel computes; the second finds one wrong element in a row of a hundred thousand.

const (
	// u32 is the unit roundoff of f32.
	u32 = 0x1p-24
	// u16 is the unit roundoff of bf16. Two neighbours are at most twice that apart.
	u16 = 0x1p-8
	// peak is how far above the error of its row one element may be.
	peak = 16
	// slack covers what the models below leave out: sums that cancel, and rows that one large
	// element dominates, as trained models have them.
	slack = 8
)

// localBudget returns the budget of a step whose inputs are those of the reference. The rounding of
// the result to its type is not part of it. tokens is the length of the longest
// sequence.
func localBudget(s kernel.Spec, tokens int) float64 {
	e := 0.0
	switch s.Kind {
	case kernel.Gather:
		// Rows are copied and widened, which is exact; a sum of two rows rounds once, a scale and the
		// product of a code with it once each.
		if s.Positions || s.Weight == ir.I8 {
			e = 2 * u32
		}
	case kernel.Rowwise:
		// The mean square is a sum of positive terms; then a root, a quotient, two products.
		e = slack * u32 * (4 + math.Sqrt(float64(s.K))/4)
	case kernel.Gemm:
		// A sum of K products in f32, in any order, has an error that grows like the root of K.
		e = slack * u32 * (2 + math.Sqrt(float64(s.K)))
		if s.Math == ir.BF16 && s.Prologue != kernel.NoPrologue {
			// The factors are computed (the norm) and then rounded to bf16: now and then one
			// goes to another side than in the reference. That moves a row by as much as the
			// factor counts in it, which in trained models is nearly all for a few channels.
			e += u16
		}
		if s.Math == ir.I8 {
			// Likewise for codes, which are apart by 1/127 of the row's largest factor; without a
			// norm, for one whose scaled value is close to a tie.
			e += 2 * u16
		}
	case kernel.Attention:
		// Two sums and, between them, an exponential: an absolute error of a score, of which
		// some are in the tens, becomes a relative error of its weight.
		e = slack * u32 * (32 + math.Sqrt(float64(s.HeadDim)) + math.Sqrt(float64(tokens)))
		if s.Math == ir.BF16 {
			// Kernels round the weights of a softmax to bf16, the reference does not; values
			// that cancel make the error count for more.
			e += 2 * u16
		}
	}
	return e
}

// foldedBudget is what the budget of a step is larger by on a GPU, where the weight of a norm is
// multiplied into the matrix and the rows are rounded before they are scaled: both factors of every
// product are rounded at another place than in the reference.
func foldedBudget(s kernel.Spec) float64 {
	if s.Kind == kernel.Gemm && s.Prologue != kernel.NoPrologue {
		return u16
	}
	return 0
}

// propagatedBudget returns the budget between two runs after steps whose variances have the given
// sum: errors of different steps and runs are independent, so their squares add, and norms keep a
// relative error as large as it was.
func propagatedBudget(sum float64) float64 { return math.Sqrt(2 * sum) }

// variance is what a step adds to the sum of propagatedBudget.
func variance(s kernel.Spec, tokens int) float64 {
	e := localBudget(s, tokens)
	if s.Out == ir.BF16 {
		e += 2 * u16 // almost equal numbers, rounded to different sides
	}
	return e * e
}
