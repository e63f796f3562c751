package rt

import "unsafe"

func portableRow(k *Kernel, a *RowArgs) {
	for r := range a.Rows {
		normRow(k, unsafe.Add(a.Src, r*a.SrcStride), a.Gamma, a.Beta, unsafe.Add(a.Dst, r*a.DstStride), k.Out)
	}
}

func portableGather(k *Kernel, a *GatherArgs) {
	index := view[int32](a.Index, a.Rows)
	for r, i := range index {
		dtype, row := k.WeightType, int(i)
		if k.Activations {
			dtype = k.In
		}
		src := unsafe.Add(a.Table, row*k.K*dtype.Size())
		if k.PanelTable {
			src = unsafe.Add(a.Table, row/panelN*panelN*k.KPad*dtype.Size())
		}
		scale := float32(1)
		if dtype == I8 {
			scale = view[float32](a.WScale, row+1)[row]
		}
		var positions []float32
		if k.AddPositions {
			pos := int(*(*int32)(unsafe.Add(a.Pos, 4*r)))
			positions = view[float32](unsafe.Add(a.PosTable, 4*pos*k.K), k.K)
		}
		dst := unsafe.Add(a.Dst, r*a.DstStride)
		for j := range k.K {
			at := j
			if k.PanelTable {
				at = panelOffset(dtype, row%panelN, j)
			}
			x := load(src, at, dtype)
			if dtype == I8 {
				x = float32(x * scale)
			}
			if k.AddPositions {
				x += positions[j]
			}
			store(dst, j, k.Out, x)
		}
	}
}

// panelOffset returns where element (n, k) of a weight panel lies: [k][n32] for f32,
// [k/32][n2][k16][n16][k2] for bf16, [k/64][n2][k16][n16][k4] for codes.
func panelOffset(d DType, n, k int) int {
	switch d {
	case F32:
		return k*panelN + n
	case I8:
		return k/64*2048 + n/16*1024 + k%64/4*64 + n%16*4 + k%4
	}
	return k/32*1024 + n/16*512 + k%32/2*32 + n%16*2 + k%2
}
