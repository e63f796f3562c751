package ir

import (
	"runtime"
	"sync"
)

// This file owns the evaluation of dot, where nearly all evaluation time goes.

// evalDot sums each product in float64, in order of k, whatever acc says: the
// reference has no rounding of its own. Columns are shared out among processors;
// an element's result does not depend on who computes it.
func evalDot(c *Call) error {
	a, b := c.Args[0], c.Args[1]
	r := len(a.Shape)
	m, n, k := a.Shape[r-2], b.Shape[r-2], a.Shape[r-1]
	for i := range count(a.Shape[:r-2]) {
		dotRows(c.Out.Data[i*m*n:(i+1)*m*n], a.Data[i*m*k:(i+1)*m*k], b.Data[i*n*k:(i+1)*n*k], m, n, k)
	}
	return nil
}

// smallDot is the number of products below which one goroutine does it all.
const smallDot = 1 << 16

func dotRows(out, a, b []float64, m, n, k int) {
	workers := runtime.GOMAXPROCS(0)
	if m*n*k < smallDot || workers == 1 {
		dotPanel(out, a, b, m, n, k, 0, n)
		return
	}
	// Columns are split, not rows, so that one long row is split too.
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() { dotPanel(out, a, b, m, n, k, n*w/workers, n*(w+1)/workers) })
	}
	wg.Wait()
}

// dotPanel computes columns j0 to j1-1 of every row. Four rows of b at a time
// share each load of a and stay in cache over all rows of a.
func dotPanel(out, a, b []float64, m, n, k, j0, j1 int) {
	j := j0
	for ; j+4 <= j1; j += 4 {
		b0, b1, b2, b3 := b[j*k:(j+1)*k], b[(j+1)*k:(j+2)*k], b[(j+2)*k:(j+3)*k], b[(j+3)*k:(j+4)*k]
		for i := range m {
			row := a[i*k : (i+1)*k]
			var s0, s1, s2, s3 float64
			for p, x := range row {
				s0 += x * b0[p]
				s1 += x * b1[p]
				s2 += x * b2[p]
				s3 += x * b3[p]
			}
			o := out[i*n+j : i*n+j+4]
			o[0], o[1], o[2], o[3] = s0, s1, s2, s3
		}
	}
	for ; j < j1; j++ {
		col := b[j*k : (j+1)*k]
		for i := range m {
			var s float64
			for p, x := range a[i*k : (i+1)*k] {
				s += x * col[p]
			}
			out[i*n+j] = s
		}
	}
}
