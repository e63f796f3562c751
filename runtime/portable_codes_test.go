package rt

import (
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"
)

// TestPortableCodes compares a matmul of codes with the same written down: rows are quantised, sums
// are integers, both scales are applied in turn. One row is zero and one has a NaN.
func TestPortableCodes(t *testing.T) {
	const rows, n, kk, kPad, panels = 4, 40, 70, 128, 2
	k := &Kernel{Kind: Gemm, In: F32, Out: F32, Math: I8, WeightType: I8, N: n, K: kk, KPad: kPad,
		Panels: panels, PanelBytes: panelN * kPad, PanelOut: panelN, Group: 1}
	r := rand.New(rand.NewPCG(7, 1))
	x, w, scales := make([]float32, rows*kk), make([]int8, panels*panelN*kPad), make([]float32, panels*panelN)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	clear(x[kk : 2*kk])
	x[2*kk+5] = float32(math.NaN())
	for c := range n {
		scales[c] = r.Float32()
		for i := range kk {
			w[c/panelN*panelN*kPad+panelOffset(I8, c%panelN, i)] = int8(r.IntN(255) - 127)
		}
	}
	a, tile, out := make([]byte, rows*codesRowBytes(k)), make([]float32, rows*panelN), make([]float32, rows*n)
	args := &GemmArgs{Rows: rows, Src: unsafe.Pointer(&x[0]), SrcStride: 4 * kk, A: unsafe.Pointer(&a[0]), Panels: panels,
		B: unsafe.Pointer(&w[0]), WScale: unsafe.Pointer(&scales[0]), Tile: unsafe.Pointer(&tile[0]), Dst: unsafe.Pointer(&out[0]), DstStride: 4 * n}
	portablePrologue(k, args)
	portableBlock(k, args)
	for row := range rows {
		most := float32(leastMagnitude)
		for _, v := range x[row*kk : (row+1)*kk] {
			most = max(most, float32(math.Abs(float64(v)))) // NaN stays
		}
		inverse, scale := 127/most, most/127
		for c := range n {
			sum := int32(0)
			for i := range kk {
				code := math.RoundToEven(float64(x[row*kk+i] * inverse))
				if code == code {
					sum += int32(code) * int32(w[c/panelN*panelN*kPad+panelOffset(I8, c%panelN, i)])
				}
			}
			want := float32(sum) * scales[c]
			want *= scale
			if got := out[row*n+c]; got != want && (got == got || want == want) {
				t.Fatalf("row %d, column %d: %v, want %v", row, c, got, want)
			}
		}
	}
}
