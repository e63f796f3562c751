package rt

import "unsafe"

// This file is the loop around the functions of a matmul. A work item is a block of rows by a
// run of weight panels. How the work is cut never changes a result: every element is one
// sum over K in order, whoever makes it.

// itemsPerWorker is how many items a worker should get at least, so that the last ones do not
// leave the others waiting for long.
const itemsPerWorker = 8

func (s *Session) gemmItems() int {
	g := &s.grid
	blocks, workers := CeilDiv(g.rows, g.impl.BlockM), s.width()
	groups := CeilDiv(g.kernel.Panels, g.kernel.Group)
	g.across = max(CeilDiv(itemsPerWorker*workers, blocks), CeilDiv(g.kernel.Panels, g.impl.BlockN))
	g.across = min(groups, RoundUp(g.across, workers))
	g.abreast = min(blocks, workers)
	return blocks * g.across
}

// gemmPlace returns the block of rows and the run of panels of an item. Blocks take turns, as many as there are
// workers: a worker that claims in turn stays with its block, which it packs once. Each begins elsewhere in the
// panels, so that they come from the memory once. The blocks that are left over follow one by one.
func (g *grid) gemmPlace(item int) (block, run int) {
	round := g.abreast * g.across
	if first := item / round * g.abreast; first+g.abreast <= CeilDiv(g.rows, g.impl.BlockM) {
		lane, turn := item%g.abreast, item%round/g.abreast
		return first + lane, (turn + lane*g.across/g.abreast) % g.across
	}
	return item / g.across, item % g.across
}

func (s *Session) gemmItem(w *worker, item int) {
	g := &s.grid
	block, run := g.gemmPlace(item)
	row, rows := s.packRows(w, block)
	first, end := g.firstPanel(run), g.firstPanel(run+1)
	dst, stride := s.rowsOf(g.step.Dst, row)
	dst = unsafe.Add(dst, first*g.kernel.PanelOut*g.kernel.Out.Size())
	s.multiply(w, row, rows, first, end-first, dst, stride)
}

// firstPanel returns where a run begins: runs are whole groups, and as equal as that allows.
func (g *grid) firstPanel(run int) int {
	k := g.kernel
	return min(k.Panels, run*CeilDiv(k.Panels, k.Group)/g.across*k.Group)
}

// packRows packs a block of rows, unless the worker's last item did, and returns its first row
// and their number.
func (s *Session) packRows(w *worker, block int) (row, rows int) {
	g := &s.grid
	step, a := g.step, &w.gemm
	row = block * g.impl.BlockM
	rows = min(g.impl.BlockM, g.rows-row)
	if w.rowBlock != block {
		a.Rows, a.A = rows, w.part(&s.model.layouts[step.Kernel], partA)
		a.Src, a.SrcStride = s.rowsOf(step.Src, row)
		a.Gamma, a.Beta = s.weight(step.Gamma), s.weight(step.Beta)
		callGemm(g.impl.Prologue, a)
		w.rowBlock = block
	}
	return row, rows
}

// multiply computes the columns of a run of panels for packed rows. dst is where the first
// column of the first row goes.
func (s *Session) multiply(w *worker, row, rows, first, panels int, dst unsafe.Pointer, stride int) {
	k, im, step := s.grid.kernel, s.grid.impl, s.grid.step
	a, l := &w.gemm, &s.model.layouts[step.Kernel]
	packed := w.part(l, partA)
	a.Tile, a.DstStride = w.part(l, partTile), stride
	a.Cos, a.Sin = s.weight(step.Cos), s.weight(step.Sin)
	weights, scales, bias := s.weight(step.W), s.weight(step.WScale), s.weight(step.Bias)
	rowsPerCall, panelsPerCall := gemmCall(k, im, rows)
	for p := first; p < first+panels; p += panelsPerCall {
		a.Panels = min(panelsPerCall, first+panels-p)
		a.B = unsafe.Add(weights, p*k.PanelBytes)
		a.Col = p * k.PanelOut
		if k.WeightType == I8 {
			a.WScale = unsafe.Add(scales, 4*panelN*p)
		}
		if k.Bias {
			a.Bias = unsafe.Add(bias, 4*panelN*p)
		}
		for r := 0; r < rows; r += rowsPerCall {
			a.Rows = min(rowsPerCall, rows-r)
			a.A = unsafe.Add(packed, r*im.RowBytes)
			a.Dst = unsafe.Add(dst, r*stride+(p-first)*k.PanelOut*k.Out.Size())
			if k.Residual {
				a.Res, a.ResStride = s.rowsOf(step.Res, row+r)
				a.Res = unsafe.Add(a.Res, 4*a.Col)
			}
			if k.Rope {
				a.Pos, _ = s.rowsOf(step.Pos, row+r)
			}
			callGemm(im.Block, a)
		}
	}
}

// gemmCall returns the rows and panels of one call: whole groups of panels, and all rows unless
// a single group would take too long.
func gemmCall(k *Kernel, im *Impl, rows int) (rowsPerCall, panelsPerCall int) {
	group := panelN * k.KPad * k.Group
	if groups := im.callMACs() / (rows * group); groups > 0 {
		return rows, min(groups, max(1, callBytes/(k.Group*k.PanelBytes))) * k.Group
	}
	return max(1, im.callMACs()/(group*im.MicroM)) * im.MicroM, k.Group
}
