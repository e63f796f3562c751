package rt

// This file is the loop around a gather. A work item is a block of rows. The indices are inputs
// of the session, which has checked their range.

func (s *Session) gatherItem(w *worker, item int) {
	g, a := &s.grid, &w.gather
	row := item * g.impl.BlockM
	a.Rows = min(g.impl.BlockM, g.rows-row)
	a.Index, _ = s.rowsOf(g.step.Index, row)
	a.Table, a.WScale = s.weight(g.step.W), s.weight(g.step.WScale)
	if g.kernel.Activations {
		a.Table, _ = s.rowsOf(g.step.Src, 0)
	}
	if g.kernel.AddPositions {
		a.Pos, _ = s.rowsOf(g.step.Pos, row)
		a.PosTable = s.weight(g.step.PosTable)
	}
	a.Dst, a.DstStride = s.rowsOf(g.step.Dst, row)
	callGather(g.impl.Gather, a)
}
