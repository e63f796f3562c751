package calibrate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/bertc/bertc/quant"
)

// This file owns the choice: bf16 for the matmuls whose error is worth most for its bytes.

// choose returns a Config whose predicted error of the last hidden states is at most bound, and
// which share of the matmuls that have a part in it is in bf16. A matmul behind them is in bf16 when its own error
// exceeds most.
func choose(items []*item, bound, most float64) (c *quant.Config, share float64) {
	total, sum := 0.0, 0.0
	wide := map[*item]bool{}
	var order []*item
	for _, it := range items {
		total += it.part
		switch {
		case it.small || it.head && it.error > most:
			wide[it] = true
		case it.part > 0:
			order = append(order, it)
		}
	}
	// A decoder in bf16 takes the table that it shares along.
	order = slices.DeleteFunc(order, func(it *item) bool {
		wide[it] = wide[it] || it.decoder != nil && wide[it.decoder]
		return wide[it]
	})
	for _, it := range order {
		sum += it.part
	}
	slices.SortStableFunc(order, func(a, b *item) int { return -cmp.Compare(a.part/float64(a.bytes), b.part/float64(b.bytes)) })
	chosen := 0
	for _, it := range order {
		if sum <= bound*bound {
			break
		}
		wide[it] = true
		chosen++
		sum -= it.part
	}
	c = &quant.Config{Linears: map[string]quant.Linear{}}
	for _, it := range items {
		l := quant.Linear{Precision: quant.Int8, Error: threeDigits(it.error), Smooth: it.smooth}
		switch {
		case it.small:
			l.Reason = "small"
		case it.head && wide[it]:
			l.Reason = "its own error is too large"
		case it.head:
			l.Reason = "behind the last hidden states"
		default:
			l.Reason = fmt.Sprintf("%.2g %% of the squared error", 100*it.part/max(total, math.SmallestNonzeroFloat64))
		}
		if wide[it] {
			l.Precision, l.Smooth = quant.BF16, nil // a factor changes the exponent of what is rounded, not its digits
		}
		c.Linears[it.name] = l
	}
	return c, float64(chosen) / float64(max(1, len(order)))
}

// threeDigits rounds to what the text form shows.
func threeDigits(x float64) float64 {
	y, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 3, 64), 64)
	return y
}
