package cuda

import "testing"

// TestOrder: each order is a permutation within its block, and puts together what it says.
func TestOrder(t *testing.T) {
	for _, c := range []struct {
		order Order
		block int
	}{{Order{}, 1}, {Order{Quads: true}, 16}, {Order{Head: 16}, 16}, {Order{Head: 64}, 64}, {Order{Head: 96}, 96}} {
		seen := map[int]bool{}
		for i := range 4 * c.block {
			row := c.order.PanelRow(i)
			if seen[row] || row/c.block != i/c.block {
				t.Fatalf("%+v: device row %d holds row %d", c.order, i, row)
			}
			seen[row] = true
		}
	}
	for q := range 4 {
		for v := range 4 { // the four values of a thread in 16 columns
			if got := (Order{Quads: true}).PanelRow(32 + v/2*8 + 2*q + v%2); got != 32+4*q+v {
				t.Errorf("thread %d, value %d: column %d", q, v, got)
			}
		}
	}
	heads := Order{Head: 64}
	for i := range 8 {
		for b := range 4 {
			lo, hi := heads.PanelRow(64+16*b+i), heads.PanelRow(64+16*b+8+i)
			if lo != 64+8*b+i || hi != lo+32 {
				t.Errorf("rows %d and %d are not the pair", lo, hi)
			}
		}
	}
}
