// Package metrics has the figures by which models are compared: accuracy, correlations, exact match
// and F1 of answers with JGLUE's normalization, and confidence intervals. It imports nothing.
package metrics

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
)

// Mean returns the mean of xs; the accuracy, when they are 1 and 0. It is NaN for none.
func Mean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / float64(len(xs))
}

// Pearson returns the correlation coefficient of pairs, NaN where one side is constant.
func Pearson(xs, ys []float64) float64 {
	mx, my := Mean(xs), Mean(ys)
	xy, xx, yy := 0.0, 0.0, 0.0
	for i := range xs {
		dx, dy := xs[i]-mx, ys[i]-my
		xy += dx * dy
		xx += dx * dx
		yy += dy * dy
	}
	return xy / (math.Sqrt(xx) * math.Sqrt(yy))
}

// Spearman returns the rank correlation of pairs: Pearson's of their ranks, equal values sharing
// the mean of theirs.
func Spearman(xs, ys []float64) float64 { return Pearson(ranks(xs), ranks(ys)) }

func ranks(xs []float64) []float64 {
	order := make([]int, len(xs))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(xs[a], xs[b]) })
	out := make([]float64, len(xs))
	for at := 0; at < len(order); {
		end := at + 1
		for end < len(order) && xs[order[end]] == xs[order[at]] {
			end++
		}
		for _, i := range order[at:end] {
			out[i] = float64(at+end+1) / 2
		}
		at = end
	}
	return out
}

// normalize is how JGLUE writes answers before it compares them: lower case, no 。 at the end, one
// space for white space. Punctuation stays.
func normalize(answer string) string {
	return strings.Join(strings.Fields(strings.TrimRight(strings.ToLower(answer), "。")), " ")
}

// ExactMatch returns 1 when the answer is one of the right ones, else 0.
func ExactMatch(answer string, right []string) float64 {
	for _, r := range right {
		if normalize(answer) == normalize(r) {
			return 1
		}
	}
	return 0
}

// CharF1 returns the best F1 of an answer against the right ones, over the characters that both
// have, each as often as it occurs. An empty answer is right only where the right one is empty.
func CharF1(answer string, right []string) float64 {
	best := 0.0
	for _, r := range right {
		best = max(best, charF1([]rune(normalize(answer)), []rune(normalize(r))))
	}
	return best
}

func charF1(answer, right []rune) float64 {
	if len(answer) == 0 || len(right) == 0 {
		if len(answer) == len(right) {
			return 1
		}
		return 0
	}
	count := map[rune]int{}
	for _, c := range right {
		count[c]++
	}
	common := 0
	for _, c := range answer {
		if count[c] > 0 {
			count[c]--
			common++
		}
	}
	if common == 0 {
		return 0
	}
	precision, recall := float64(common)/float64(len(answer)), float64(common)/float64(len(right))
	return 2 * precision * recall / (precision + recall)
}

// resamples is how often Interval draws; with 1,000 the ends move by about a tenth of the width.
const resamples = 1000

// Interval returns the 95 % confidence interval of a figure of n records by the percentile
// bootstrap: the figure is computed for samples drawn with replacement, given by index. It is the
// same in every run.
func Interval(n int, figure func(sample []int) float64) (lo, hi float64) {
	rng := rand.New(rand.NewPCG(1, uint64(n)))
	var figures []float64
	sample := make([]int, n)
	for range resamples {
		for i := range sample {
			sample[i] = rng.IntN(n)
		}
		if x := figure(sample); !math.IsNaN(x) {
			figures = append(figures, x)
		}
	}
	if len(figures) == 0 {
		return math.NaN(), math.NaN()
	}
	slices.Sort(figures)
	at := func(p float64) float64 { return figures[int(math.Round(p*float64(len(figures)-1)))] }
	return at(0.025), at(0.975)
}
