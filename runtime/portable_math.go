package rt

import (
	"math"
	"unsafe"
)

// This file has the arithmetic of the portable kernels. Every product that is followed by a sum
// goes through an explicit conversion: the Go specification forbids fusing across it, so the bits
// are the same on every architecture.

// roundBF16 rounds to bfloat16, to nearest, ties to even, and stays a float32. NaN stays NaN.
func roundBF16(x float32) float32 { return math.Float32frombits(uint32(ToBF16(x)) << 16) }

// ToBF16 returns the bits of the bfloat16 nearest to x, ties to even. NaN stays NaN.
func ToBF16(x float32) uint16 {
	b := math.Float32bits(x)
	if x != x {
		return uint16(b>>16) | 0x40
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// roundTo rounds x to the dtype of a multiplication.
func roundTo(d DType, x float32) float32 {
	if d == BF16 {
		return roundBF16(x)
	}
	return x
}

// load returns element i of a row of dtype d.
func load(p unsafe.Pointer, i int, d DType) float32 {
	switch d {
	case I8:
		return float32(*(*int8)(unsafe.Add(p, i)))
	case BF16:
		return math.Float32frombits(uint32(*(*uint16)(unsafe.Add(p, 2*i))) << 16)
	}
	return *(*float32)(unsafe.Add(p, 4*i))
}

// store sets element i of a row of dtype d.
func store(p unsafe.Pointer, i int, d DType, x float32) {
	if d == BF16 {
		*(*uint16)(unsafe.Add(p, 2*i)) = ToBF16(x)
		return
	}
	*(*float32)(unsafe.Add(p, 4*i)) = x
}

// exp returns e to the power x with a relative error below 1e-9: 2^k · e^r, where
// |r| ≤ ln(2)/2 and e^r is its Taylor polynomial of degree 8 (r⁹/9! < 2e-10).
func exp(x float64) float64 {
	if x < -700 {
		return 0
	}
	if x > 700 {
		return math.Inf(1)
	}
	k := math.Floor(float64(x*math.Log2E) + 0.5)
	r := x - float64(k*math.Ln2)
	y := 1.0 / 40320
	for _, c := range [...]float64{1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1, 1} {
		y = float64(y*r) + c
	}
	return y * math.Float64frombits(uint64(int64(k)+1023)<<52)
}

// silu returns x·sigmoid(x).
func silu(x float32) float32 { return float32(float64(x) / (1 + exp(-float64(x)))) }

// tanh returns the hyperbolic tangent of x with an absolute error below 1e-8 before the rounding.
func tanh(x float32) float32 { return float32(1 - 2/(1+exp(2*float64(x)))) }

// normRow normalises k elements of dtype in at src into out, which may be src when its dtype is
// out. Sums are float64.
func normRow(k *Kernel, src, gamma, beta, dst unsafe.Pointer, out DType) {
	mean, square := 0.0, 0.0
	if k.Norm == LayerNorm {
		for i := range k.K {
			mean += float64(load(src, i, k.In))
		}
		mean /= float64(k.K)
	}
	for i := range k.K {
		d := float64(load(src, i, k.In)) - mean
		square += float64(d * d)
	}
	scale := 1 / math.Sqrt(square/float64(k.K)+float64(k.Eps))
	g := view[float32](gamma, k.K)
	if !k.Beta {
		for i := range k.K {
			store(dst, i, out, float32((float64(load(src, i, k.In))-mean)*scale*float64(g[i])))
		}
		return
	}
	b := view[float32](beta, k.K)
	for i := range k.K {
		store(dst, i, out, float32(float64((float64(load(src, i, k.In))-mean)*scale*float64(g[i]))+float64(b[i])))
	}
}

// mulPanel adds a·b to c: rows × k times k × 32, the sum over k in order. c and a have cs and as
// elements from row to row. Two rows by four columns stay in registers.
func mulPanel(c unsafe.Pointer, cs int, a unsafe.Pointer, as int, b unsafe.Pointer, rows, k int) {
	for n := 0; n < 32; n += 4 {
		bn := unsafe.Add(b, 4*n)
		r := 0
		for ; r+2 <= rows; r += 2 {
			c0 := (*[4]float32)(unsafe.Add(c, 4*(r*cs+n)))
			c1 := (*[4]float32)(unsafe.Add(c, 4*((r+1)*cs+n)))
			a0, a1 := unsafe.Add(a, 4*r*as), unsafe.Add(a, 4*(r+1)*as)
			x0, x1, x2, x3 := c0[0], c0[1], c0[2], c0[3]
			y0, y1, y2, y3 := c1[0], c1[1], c1[2], c1[3]
			for i := range k {
				w := (*[4]float32)(unsafe.Add(bn, 128*i))
				p, q := *(*float32)(unsafe.Add(a0, 4*i)), *(*float32)(unsafe.Add(a1, 4*i))
				x0 += float32(p * w[0])
				x1 += float32(p * w[1])
				x2 += float32(p * w[2])
				x3 += float32(p * w[3])
				y0 += float32(q * w[0])
				y1 += float32(q * w[1])
				y2 += float32(q * w[2])
				y3 += float32(q * w[3])
			}
			c0[0], c0[1], c0[2], c0[3] = x0, x1, x2, x3
			c1[0], c1[1], c1[2], c1[3] = y0, y1, y2, y3
		}
		if r < rows {
			c0, a0 := (*[4]float32)(unsafe.Add(c, 4*(r*cs+n))), unsafe.Add(a, 4*r*as)
			x0, x1, x2, x3 := c0[0], c0[1], c0[2], c0[3]
			for i := range k {
				w := (*[4]float32)(unsafe.Add(bn, 128*i))
				p := *(*float32)(unsafe.Add(a0, 4*i))
				x0 += float32(p * w[0])
				x1 += float32(p * w[1])
				x2 += float32(p * w[2])
				x3 += float32(p * w[3])
			}
			c0[0], c0[1], c0[2], c0[3] = x0, x1, x2, x3
		}
	}
}

// widenPanel writes 32 of k of a bf16 panel, [n2][k16][n16][k2], as f32 [k32][n32].
func widenPanel(dst *[1024]float32, src unsafe.Pointer) {
	s := (*[512]uint32)(src)
	for n2 := range 2 {
		for k := range 16 {
			from := (*[16]uint32)(s[n2*256+k*16:])
			even := (*[16]float32)(dst[2*k*32+n2*16:])
			odd := (*[16]float32)(dst[(2*k+1)*32+n2*16:])
			for n, v := range from {
				even[n] = math.Float32frombits(v << 16)
				odd[n] = math.Float32frombits(v &^ 0xffff)
			}
		}
	}
}
