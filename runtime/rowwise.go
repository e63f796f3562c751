package rt

// This file is the loop around a norm of rows. A work item is a block of rows.

// rowItems is the number of blocks of rows, for norms and gathers.
func (s *Session) rowItems() int { return CeilDiv(s.grid.rows, s.grid.impl.BlockM) }

func (s *Session) rowItem(w *worker, item int) {
	g, a := &s.grid, &w.row
	row := item * g.impl.BlockM
	a.Rows = min(g.impl.BlockM, g.rows-row)
	a.Src, a.SrcStride = s.rowsOf(g.step.Src, row)
	a.Dst, a.DstStride = s.rowsOf(g.step.Dst, row)
	a.Gamma, a.Beta = s.weight(g.step.Gamma), s.weight(g.step.Beta)
	callRow(g.impl.Row, a)
}
