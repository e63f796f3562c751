package rt

import (
	"math"
	"unsafe"
)

func portablePackQ(k *Kernel, a *AttentionArgs) {
	group := k.Heads / k.KVHeads
	q := view[float32](a.QPack, a.Rows*k.HeadDim)
	for r := range a.Rows {
		src := unsafe.Add(a.Q, r/group*a.QStride+r%group*k.HeadDim*k.In.Size())
		for d := range k.HeadDim {
			q[r*k.HeadDim+d] = roundTo(k.Math, float32(load(src, d, k.In)*k.Scale))
		}
	}
}

func portablePackKV(k *Kernel, a *AttentionArgs) {
	blocks := CeilDiv(k.HeadDim, panelN)
	kp := view[float32](a.KPack, portableKeys*k.HeadDim)
	vp := view[float32](a.VPack, portableKeys*blocks*panelN)
	for n := range RoundUp(a.Keys, panelN) {
		key, value := unsafe.Add(a.K, n*a.KVStride), unsafe.Add(a.V, n*a.KVStride)
		column := kp[n/panelN*panelN*k.HeadDim+n%panelN:]
		if n >= a.Keys {
			for d := range k.HeadDim {
				column[d*panelN] = 0
			}
			continue
		}
		for d := range k.HeadDim {
			column[d*panelN] = roundTo(k.Math, load(key, d, k.In))
		}
		for b := range blocks {
			row := vp[(b*portableKeys+n)*panelN:][:panelN]
			for i := range row {
				row[i] = 0
				if d := b*panelN + i; d < k.HeadDim {
					row[i] = roundTo(k.Math, load(value, d, k.In))
				}
			}
		}
	}
}

func portableAttend(k *Kernel, a *AttentionArgs) {
	width := RoundUp(k.HeadDim, panelN)
	scores := view[float32](a.S, a.Rows*portableKeys)
	out := view[float32](a.O, a.Rows*width)
	top, sum := view[float32](a.Max, a.Rows), view[float32](a.Sum, a.Rows)
	clear(scores)
	for n := 0; n < a.Keys; n += panelN {
		mulPanel(unsafe.Add(a.S, 4*n), portableKeys, a.QPack, k.HeadDim, unsafe.Add(a.KPack, 4*n*k.HeadDim), a.Rows, k.HeadDim)
	}
	for r := range a.Rows {
		s, o := scores[r*portableKeys:][:a.Keys], out[r*width:][:width]
		best := float32(math.Inf(-1))
		if a.First == 0 {
			best = top[r]
		}
		for _, x := range s {
			best = max(best, x)
		}
		if a.First != 0 {
			clear(o)
			sum[r] = 0
		} else {
			keep := float32(exp(float64(top[r]) - float64(best)))
			sum[r] *= keep
			for i := range o {
				o[i] *= keep
			}
		}
		total := 0.0
		for i, x := range s {
			p := float32(exp(float64(x) - float64(best)))
			total += float64(p)
			s[i] = roundTo(k.Math, p)
		}
		top[r], sum[r] = best, sum[r]+float32(total)
	}
	for d := 0; d < width; d += panelN {
		mulPanel(unsafe.Add(a.O, 4*d), width, a.S, portableKeys, unsafe.Add(a.VPack, 4*d*portableKeys), a.Rows, a.Keys)
	}
}

func portableFinish(k *Kernel, a *AttentionArgs) {
	group := k.Heads / k.KVHeads
	width := RoundUp(k.HeadDim, panelN)
	out, sum := view[float32](a.O, a.Rows*width), view[float32](a.Sum, a.Rows)
	for r := range a.Rows {
		dst := unsafe.Add(a.Dst, r/group*a.DstStride+r%group*k.HeadDim*k.Out.Size())
		for d := range k.HeadDim {
			store(dst, d, k.Out, out[r*width+d]/sum[r])
		}
	}
}
