package rt

import (
	"fmt"
	"math"
)

// This file is the forward pass of the test models as one would write it down, in float64 and
// without rounding anything.

func (m *testModel) refNorm(name string, x []float64) []float64 {
	mean, square := 0.0, 0.0
	if m.shape.norm == LayerNorm {
		for _, v := range x {
			mean += v / float64(len(x))
		}
	}
	for _, v := range x {
		square += (v - mean) * (v - mean) / float64(len(x))
	}
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = (v - mean) / math.Sqrt(square+1e-5) * m.plain[name+".gamma"].data[i]
		if m.shape.norm == LayerNorm {
			out[i] += m.plain[name+".beta"].data[i]
		}
	}
	return out
}

func (m *testModel) refLinear(name string, x []float64) []float64 {
	w := m.plain[name+".w"]
	out := make([]float64, w.rows)
	for n := range out {
		out[n] = m.plain[name+".b"].data[n]
		for k, v := range x {
			out[n] += v * w.row(n)[k]
		}
	}
	return out
}

func (m *testModel) refRope(x []float64, pos int) {
	half := m.headDim / 2
	for h := 0; h < (m.heads+m.kvHeads)*m.headDim; h += m.headDim {
		for j := range half {
			sin, cos := math.Sincos(float64(pos) * math.Pow(10000, -2*float64(j)/float64(m.headDim)))
			a, b := x[h+j], x[h+half+j]
			x[h+j], x[h+half+j] = a*cos-b*sin, b*cos+a*sin
		}
	}
}

func refSiLU(x float64) float64 { return x / (1 + math.Exp(-x)) }

// refAttention is softmax(scale·q·kᵀ)·v over the rows of one sequence.
func (m *testModel) refAttention(qkv [][]float64) [][]float64 {
	d := m.headDim
	out := make([][]float64, len(qkv))
	for i := range qkv {
		out[i] = make([]float64, m.heads*d)
		for h := range m.heads {
			kv := h / (m.heads / m.kvHeads)
			q := qkv[i][h*d:][:d]
			p, sum := make([]float64, len(qkv)), 0.0
			for j := range qkv {
				score := 0.0
				for e, k := range qkv[j][(m.heads+kv)*d:][:d] {
					score += q[e] * k
				}
				p[j] = math.Exp(score / math.Sqrt(float64(d)))
				sum += p[j]
			}
			for j := range qkv {
				for e, v := range qkv[j][(m.heads+m.kvHeads+kv)*d:][:d] {
					out[i][h*d+e] += p[j] / sum * v
				}
			}
		}
	}
	return out
}

// reference returns the hidden states and the logits of one sequence.
func (m *testModel) reference(ids []int32) (hidden, logits [][]float64) {
	x := make([][]float64, len(ids))
	for i, id := range ids {
		x[i] = append([]float64(nil), m.plain["embed"].row(int(id))...)
		if m.absolute {
			addTo(x[i], m.plain["position"].row(i))
		}
	}
	for l := range m.layers {
		name := fmt.Sprintf("layer.%d.", l)
		qkv := make([][]float64, len(x))
		for i := range x {
			qkv[i] = m.refLinear(name+"qkv", m.refNorm(name+"norm1", x[i]))
			m.refRope(qkv[i], i)
		}
		for i, a := range m.refAttention(qkv) {
			addTo(x[i], m.refLinear(name+"o", a))
			n := m.refNorm(name+"norm2", x[i])
			gate, up := m.refLinear(name+"gate", n), m.refLinear(name+"up", n)
			for j := range gate {
				gate[j] = refSiLU(gate[j]) * up[j]
			}
			addTo(x[i], m.refLinear(name+"down", gate))
		}
	}
	for _, row := range x {
		h := m.refNorm("final", row)
		d := m.refLinear("head", h)
		for i := range d {
			d[i] = refSiLU(d[i])
		}
		hidden = append(hidden, h)
		logits = append(logits, m.refLinear("decoder", m.refNorm("headnorm", d)))
	}
	return hidden, logits
}

func addTo(x, y []float64) {
	for i, v := range y {
		x[i] += v
	}
}
