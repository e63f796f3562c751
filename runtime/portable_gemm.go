package rt

import "unsafe"

// panelN is the number of columns of a weight panel, gluN the number of gate columns that are
// followed by as many up columns in the panels of a gated matmul.
const (
	panelN = 32
	gluN   = panelN / 2
)

// portableRowBytes is the distance of packed rows.
func portableRowBytes(k *Kernel) int {
	if k.Math == I8 {
		return codesRowBytes(k)
	}
	return 4 * k.KPad
}

func portablePrologue(k *Kernel, a *GemmArgs) {
	if k.Math == I8 {
		portableQuantize(k, a)
		return
	}
	for r := range a.Rows {
		src, dst := unsafe.Add(a.Src, r*a.SrcStride), unsafe.Add(a.A, 4*r*k.KPad)
		row := view[float32](dst, k.KPad)
		if k.Norm != NoNorm {
			normRow(k, src, a.Gamma, a.Beta, dst, F32)
		} else {
			for i := range k.K {
				row[i] = load(src, i, k.In)
			}
		}
		for i, x := range row[:k.K] {
			row[i] = roundTo(k.Math, x)
		}
		clear(row[k.K:])
	}
}

// portableBlock does the panels a group at a time: all of K into the tile, then the epilogue.
func portableBlock(k *Kernel, a *GemmArgs) {
	var wide [1024]float32
	stride := k.Group * panelN
	for first := 0; first < a.Panels; first += k.Group {
		panels := min(k.Group, a.Panels-first)
		tile := view[float32](a.Tile, a.Rows*stride)
		clear(tile)
		for p := range panels {
			c := unsafe.Add(a.Tile, 4*p*panelN)
			b := unsafe.Add(a.B, (first+p)*k.PanelBytes)
			if k.WeightType == I8 {
				mulCodes(k, c, stride, a.A, b, a.Rows)
				scaleSums(k, c, stride, a.A, unsafe.Add(a.WScale, 4*(first+p)*panelN), a.Rows)
				continue
			}
			if k.WeightType == F32 {
				mulPanel(c, stride, a.A, k.KPad, b, a.Rows, k.KPad)
				continue
			}
			for i := 0; i < k.KPad; i += 32 {
				widenPanel(&wide, unsafe.Add(b, 2*panelN*i))
				mulPanel(c, stride, unsafe.Add(a.A, 4*i), k.KPad, unsafe.Pointer(&wide), a.Rows, 32)
			}
		}
		for r := range a.Rows {
			portableEpilogue(k, a, tile[r*stride:][:panels*panelN], r, first)
		}
	}
}

// portableEpilogue finishes row r of the panels from first on, whose sums are in acc.
func portableEpilogue(k *Kernel, a *GemmArgs, acc []float32, r, first int) {
	if k.Bias {
		for i, b := range view[float32](unsafe.Add(a.Bias, 4*first*panelN), len(acc)) {
			acc[i] += b
		}
	}
	col := a.Col + first*k.PanelOut
	switch {
	case k.Rope:
		portableRope(k, a, acc, r, col)
	case k.SiLU:
		for i, x := range acc {
			acc[i] = silu(x)
		}
	case k.Tanh:
		for i, x := range acc {
			acc[i] = tanh(x)
		}
	case k.GLU:
		for p := 0; p < len(acc); p += panelN {
			for i := range gluN {
				acc[p/2+i] = float32(silu(acc[p+i]) * acc[p+gluN+i])
			}
		}
		acc = acc[:len(acc)/2]
	}
	acc = acc[:min(len(acc), k.N-col)]
	at := first * k.PanelOut
	if k.Residual {
		for i, x := range view[float32](unsafe.Add(a.Res, r*a.ResStride+4*at), len(acc)) {
			acc[i] += x
		}
	}
	dst := unsafe.Add(a.Dst, r*a.DstStride+at*k.Out.Size())
	for i, x := range acc {
		store(dst, i, k.Out, x)
	}
}

// portableRope rotates the whole heads among the columns from col on: element j of a head with
// element j + HeadDim/2, by the angle of the row's position.
func portableRope(k *Kernel, a *GemmArgs, acc []float32, r, col int) {
	half := k.HeadDim / 2
	pos := int(*(*int32)(unsafe.Add(a.Pos, 4*r)))
	cos := view[float32](unsafe.Add(a.Cos, 4*pos*half), half)
	sin := view[float32](unsafe.Add(a.Sin, 4*pos*half), half)
	end := min(len(acc), (k.Heads+k.KVHeads)*k.HeadDim-col)
	for h := 0; h+k.HeadDim <= end; h += k.HeadDim {
		lo, hi := acc[h:][:half], acc[h+half:][:half]
		for j, x := range lo {
			y := hi[j]
			lo[j] = float32(x*cos[j]) - float32(y*sin[j])
			hi[j] = float32(y*cos[j]) + float32(x*sin[j])
		}
	}
}
