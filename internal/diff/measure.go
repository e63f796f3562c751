package diff

import (
	"math"

	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
)

// This file owns the comparison of one result with its reference.
//
// A kernel may write bf16. The reference is then the number before rounding, and an element is off
// by what is left when half the distance of neighbouring bf16 numbers is allowed for rounding:
// nothing, for a number that is rounded correctly or lies next to a tie.

// Step is the comparison of one step.
type Step struct {
	Index        int
	Name, Kernel string
	DType        ir.DType
	Shape        []int
	num.Diff             // over all elements, from the reference rounded to DType
	RowError     float64 // the largest relative L2 error of a row, rounding allowed
	Row          int     // where it is
	PeakError    float64 // the largest error of an element, rounding allowed; see budget.go
	Budget       float64
	OK           bool
}

// load is the share of the budget that is used: above 1, the step fails.
func (s Step) load() float64 {
	worst := max(s.RowError, s.PeakError/peak)
	if worst == 0 {
		return 0
	}
	return worst / s.Budget
}

// measure compares a result with its reference, of the same shape [rows, columns].
func measure(got, want *ir.Tensor, budget float64) Step {
	width := want.Shape[len(want.Shape)-1]
	s := Step{DType: got.DType, Shape: got.Shape, Budget: budget}
	rounded, excess := want.Data, got.Data
	if got.DType == ir.BF16 && want.DType != ir.BF16 {
		rounded, excess = make([]float64, len(want.Data)), make([]float64, len(want.Data))
		for i, y := range want.Data {
			rounded[i] = num.RoundBF16(y)
			excess[i] = allowRounding(got.Data[i], y)
		}
	}
	s.Diff = num.Compare(got.Data, rounded, width)
	for row := 0; (row+1)*width <= len(want.Data); row++ {
		a, b := excess[row*width:(row+1)*width], want.Data[row*width:(row+1)*width]
		if e := num.RelL2(a, b); e > s.RowError {
			s.RowError, s.Row = e, row
		}
		s.PeakError = max(s.PeakError, rowPeak(a, b))
	}
	s.OK = s.load() <= 1
	return s
}

// allowRounding returns the number nearest to y that is rounded to the bf16 number x, or x itself
// when that is not finite.
func allowRounding(x, y float64) float64 {
	if math.IsInf(x, 0) || x != x {
		return x
	}
	_, exp := math.Frexp(max(math.Abs(x), 0x1p-126))
	half := math.Ldexp(1, exp-9)
	return min(max(y, x-half), x+half)
}

// rowPeak returns the largest error of an element of a row, relative to the larger of the element
// and the root mean square of the row.
func rowPeak(a, b []float64) float64 {
	sum := 0.0
	for _, y := range b {
		sum += y * y
	}
	rms, worst := math.Sqrt(sum/float64(len(b))), 0.0
	for i, y := range b {
		switch x := a[i]; {
		case x == y || x != x && y != y:
		case math.IsNaN(x-y) || math.IsInf(x-y, 0):
			return math.Inf(1)
		default:
			worst = max(worst, math.Abs(x-y)/max(math.Abs(y), rms))
		}
	}
	return worst
}
