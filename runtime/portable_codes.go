package rt

import (
	"math"
	"unsafe"
)

// This file has the matmuls of codes of 8 bits. Rows of both factors are integers from −127 to 127
// with a scale; sums are exact, and the same on every machine.

const (
	// codesAt is where the codes of a packed row begin; the scale of the row is before them.
	codesAt = 64
	// leastMagnitude stands for the largest magnitude of a row that has none as large, so that the
	// scale and its inverse are normal numbers.
	leastMagnitude = 0x1p-100
)

// codesRowBytes is the distance of packed rows: there is space for the numbers that codes are made
// of.
func codesRowBytes(k *Kernel) int { return codesAt + 4*k.KPad }

// portableQuantize packs rows. With the largest magnitude m of a row, its scale is m/127 and a code
// is the integer nearest to x·(127/m), the even one of two. A NaN makes the scale NaN.
func portableQuantize(k *Kernel, a *GemmArgs) {
	for r := range a.Rows {
		src, dst := unsafe.Add(a.Src, r*a.SrcStride), unsafe.Add(a.A, r*codesRowBytes(k))
		at := unsafe.Add(dst, codesAt)
		row, codes := view[float32](at, k.K), view[int8](at, k.KPad)
		if k.Norm != NoNorm {
			normRow(k, src, a.Gamma, a.Beta, at, F32)
		} else {
			for i := range row {
				row[i] = load(src, i, k.In)
			}
		}
		most := math.Float32bits(leastMagnitude)
		for _, x := range row {
			most = max(most, math.Float32bits(x)&^(1<<31)) // magnitudes are ordered as integers, NaN last
		}
		m := math.Float32frombits(most)
		*(*float32)(dst) = m / 127
		inverse := 127 / m
		for i, x := range row { // code i lies where a number up to i was
			y := float32(x * inverse)
			codes[i] = 0
			if y == y {
				codes[i] = int8(math.RoundToEven(float64(y)))
			}
		}
		clear(codes[k.K:])
	}
}

// mulCodes writes the i32 products of rows of codes and a panel, [k/64][n2][k16][n16][k4], to c,
// which has cs elements from row to row.
func mulCodes(k *Kernel, c unsafe.Pointer, cs int, a, b unsafe.Pointer, rows int) {
	for r := range rows {
		out := view[int32](unsafe.Add(c, 4*r*cs), panelN)
		row := view[int8](unsafe.Add(a, r*codesRowBytes(k)+codesAt), k.KPad)
		clear(out)
		for i := 0; i < k.KPad; i += 4 {
			x0, x1, x2, x3 := int32(row[i]), int32(row[i+1]), int32(row[i+2]), int32(row[i+3])
			for side := range 2 {
				w := (*[64]int8)(unsafe.Add(b, i/64*2048+side*1024+i%64*16))
				sums := (*[16]int32)(out[16*side:])
				for n := range sums {
					q := (*[4]int8)(w[4*n:])
					sums[n] += x0*int32(q[0]) + x1*int32(q[1]) + x2*int32(q[2]) + x3*int32(q[3])
				}
			}
		}
	}
}

// scaleSums turns the i32 sums of a panel into f32, times the scale of the weight's row, times that
// of the packed row.
func scaleSums(k *Kernel, c unsafe.Pointer, cs int, a, scales unsafe.Pointer, rows int) {
	weights := view[float32](scales, panelN)
	for r := range rows {
		at := unsafe.Add(c, 4*r*cs)
		sums, out := view[int32](at, panelN), view[float32](at, panelN)
		scale := *(*float32)(unsafe.Add(a, r*codesRowBytes(k)))
		for n, w := range weights {
			x := float32(float32(sums[n]) * w)
			out[n] = float32(x * scale)
		}
	}
}
