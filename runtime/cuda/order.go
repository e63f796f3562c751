package cuda

// This file owns the orders in which the rows of a weight matrix may lie on the device.

// Order is the order of the rows of a weight matrix. The zero value is that of the panels of the
// weight file. The others place the columns of a product so that each thread of a D fragment (PTX
// ISA, wgmma.mma_async: columns 8j+2q and 8j+2q+1 for q = lane%4) holds those that its epilogue
// needs together.
type Order struct {
	// Quads: in each 16 rows, row 8j+2q+i of the device is row 4q+2j+i. A thread then has four
	// neighbouring columns, which it stores at once.
	Quads bool
	// Head is the size of a head: row 16b+8j+c of each head is its row j·Head/2+8b+c. A thread
	// then has both columns of a pair that is rotated, within 16 columns.
	Head int
}

// OrderRows is what the rows of a matrix in one of the orders are padded to.
const OrderRows = 16

// PanelRow returns which row of the panel order is row i of the device.
func (o Order) PanelRow(i int) int {
	switch {
	case o.Quads:
		return i&^15 | i>>1&3<<2 | i>>3&1<<1 | i&1
	case o.Head > 0:
		head, r := i/o.Head*o.Head, i%o.Head
		return head + r>>3&1*(o.Head/2) + r/16*8 + r%8
	}
	return i
}
