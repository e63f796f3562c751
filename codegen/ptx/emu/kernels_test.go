package emu

import (
	"math"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/bertc/bertc/internal/num"
)

// runner of a testdata kernel: it launches the text on random inputs, and checks what it computes
// against float64. A fault of the kernel, or a wrong value, is an error.

// relError is the largest error against the reference relative to the scale of the reference.
func relError(got, want []float64) float64 {
	var worst, scale float64
	for i := range want {
		scale = max(scale, math.Abs(want[i]))
		d := math.Abs(got[i] - want[i])
		if d != d {
			return math.Inf(1)
		}
		worst = max(worst, d)
	}
	return worst / scale
}

// product is A[m][k]·B[n][k]ᵀ in float64.
func product(a, b []float64, m, n, k int) []float64 {
	c := make([]float64, m*n)
	for i := range m {
		for j := range n {
			var s float64
			for x := range k {
				s += a[i*k+x] * b[j*k+x]
			}
			c[i*n+j] = s
		}
	}
	return c
}

func fromBF16(v []uint16) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(num.FromBF16(v[i]))
	}
	return out
}

func widen(v []float32) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out
}

// tensor2D is a row-major bf16 matrix with a box of [boxRows][64].
func tensor2D(p uint64, rows, cols, boxRows int, s Swizzle) TensorMap {
	return TensorMap{Type: BFloat16, Address: p, Dims: []uint64{uint64(cols), uint64(rows)}, Strides: []uint64{uint64(2 * cols)}, Box: []uint32{64, uint32(boxRows)}, Swizzle: s}
}

func (h *host) encode(t TensorMap) [128]byte {
	h.t.Helper()
	m, err := h.EncodeTiled(t)
	h.must(err)
	return m
}

func runGEMM(t testing.TB, m *Module, seed uint64, swizzle Swizzle) (float64, error) {
	const M, N, K = 128, 256, 320
	h := newHost(t, seed)
	a, av := randomBF16(M*K, 1)
	b, bv := randomBF16(N*K, 2)
	pa, pb, pc := h.upload(a), h.upload(b), h.alloc(2*M*N)
	err := h.launch(m.Kernel("gemm"), Config{Grid: [3]int{N / 128, M / 128}, Block: [3]int{384}, Shared: 98352},
		h.encode(tensor2D(pa, M, K, 128, swizzle)), h.encode(tensor2D(pb, N, K, 128, swizzle)), pc, uint32(N), uint32(K))
	if err != nil {
		return 0, err
	}
	c := make([]uint16, M*N)
	h.download(pc, c)
	return relError(fromBF16(c), product(av, bv, M, N, K)), nil
}

func runAttention(t testing.TB, m *Module, seed uint64) (float64, error) {
	const Q, S, D = 128, 192, 64
	h := newHost(t, seed)
	q, qv := randomBF16(Q*D, 3)
	k, kv := randomBF16(S*D, 4)
	v, vv := randomBF16(S*D, 5)
	pq, pk, pv, po := h.upload(q), h.upload(k), h.upload(v), h.alloc(4*Q*D)
	err := h.launch(m.Kernel("attention"), Config{Grid: [3]int{Q / 64}, Block: [3]int{128}, Shared: 24592},
		h.encode(tensor2D(pq, Q, D, 64, Swizzle128B)), h.encode(tensor2D(pk, S, D, 64, Swizzle128B)), h.encode(tensor2D(pv, S, D, 64, Swizzle128B)), po, uint32(S))
	if err != nil {
		return 0, err
	}
	o := make([]float32, Q*D)
	h.download(po, o)
	scores := product(qv, kv, Q, S, D)
	want := make([]float64, Q*D)
	for i := range Q {
		row := scores[i*S : (i+1)*S]
		var sum float64
		for j := range row {
			row[j] = math.Exp(row[j] / 8)
			sum += row[j]
		}
		for j := range row {
			for x := range D {
				want[i*D+x] += row[j] / sum * vv[j*D+x]
			}
		}
	}
	return relError(widen(o), want), nil
}

func runMma(t testing.TB, m *Module, seed uint64) (float64, error) {
	const M, N, K = 128, 64, 96
	h := newHost(t, seed)
	a, av := randomBF16(M*K, 1)
	b, bv := randomBF16(N*K, 2)
	pa, pb, pc := h.upload(a), h.upload(b), h.alloc(4*M*N)
	err := h.launch(m.Kernel("mma"), Config{Grid: [3]int{N / 64, M / 64}, Block: [3]int{128}}, pa, pb, pc, uint32(N), uint32(K))
	if err != nil {
		return 0, err
	}
	c := make([]float32, M*N)
	h.download(pc, c)
	return relError(widen(c), product(av, bv, M, N, K)), nil
}

func runExchange(t testing.TB, m *Module, seed uint64) (float64, error) {
	const pairs, steps = 3, 3
	const rows = 128 * steps * pairs
	h := newHost(t, seed)
	x, xv := randomBF16(rows*64, 6)
	px, py := h.upload(x), h.alloc(2*rows*64)
	box := func(p uint64) [128]byte { return h.encode(tensor2D(p, rows, 64, 64, SwizzleNone)) }
	err := h.launch(m.Kernel("exchange"), Config{Grid: [3]int{2 * pairs}, Block: [3]int{128}, Shared: 24608}, box(px), box(py), uint32(steps))
	if err != nil {
		return 0, err
	}
	y := make([]uint16, rows*64)
	h.download(py, y)
	want := make([]float64, len(y))
	for i := range want {
		pair := i / (128 * 64)
		at := i % (128 * 64)
		a, b := xv[pair*128*64+at%(64*64)], xv[pair*128*64+64*64+at%(64*64)]
		if at < 64*64 {
			want[i] = a + b
		} else {
			want[i] = a - b
		}
	}
	return relError(fromBF16(y), want), nil
}

func runAxpb(t testing.TB, m *Module, seed uint64) (float64, error) {
	const n = 300
	h := newHost(t, seed)
	x, want := make([]float32, n), make([]float64, n)
	for i := range x {
		x[i] = float32(i) / 8
		want[i] = float64(2*x[i] - 1)
	}
	px, py := h.upload(x), h.alloc(4*n)
	if err := h.launch(m.Kernel("axpb"), Config{Grid: [3]int{5}, Block: [3]int{64}}, px, py, float32(2), float32(-1), uint32(n)); err != nil {
		return 0, err
	}
	y := make([]float32, n)
	h.download(py, y)
	return relError(widen(y), want), nil
}

// runChain does three launches, of which the last two depend on the one ahead: y from x, z from the weights, and x
// from y and z. Nothing comes from the one ahead alone: the last reads what the first has written, and
// writes what it has read.
func runChain(t testing.TB, m *Module, seed uint64) (float64, error) {
	const n = 96
	h := newHost(t, seed)
	x, w, r, want := make([]float32, n), make([]float32, 32), make([]float32, n), make([]float64, n)
	for i := range w {
		w[i] = float32(i) - 16
	}
	for i := range x {
		x[i], r[i] = float32(i)/8, float32(3*i)
		a := float64(w[i%32])
		want[i] = a*(a*float64(x[i])+float64(r[i])) + a
	}
	px, pw, pr, py, pz := h.upload(x), h.upload(w), h.upload(r), h.alloc(4*n), h.alloc(4*n)
	rows, side := m.Kernel("rows"), m.Kernel("side")
	c := Config{Grid: [3]int{4}, Block: [3]int{64}, Dependent: true}
	if err := h.launch(rows, c, px, pw, pr, py, uint32(n)); err != nil {
		return 0, err
	}
	if err := h.launch(side, Config{Grid: [3]int{3}, Block: [3]int{32}, Dependent: true}, pw, pz); err != nil {
		return 0, err
	}
	if err := h.launch(rows, c, py, pw, pz, px, uint32(n)); err != nil {
		return 0, err
	}
	h.download(px, x)
	return relError(widen(x), want), nil
}

// testKernel is a known-good kernel of testdata.
type testKernel struct {
	file string
	run  func(t testing.TB, m *Module, seed uint64) (float64, error)
	tol  float64 // of relError
}

var testKernels = []testKernel{
	// 2^-8 is one rounding to bf16.
	{"gemm.ptx", func(t testing.TB, m *Module, seed uint64) (float64, error) {
		return runGEMM(t, m, seed, Swizzle128B)
	}, 1.0 / 256},
	// The probabilities are rounded to bf16: 2^-8 of each, which partly cancel in the sum.
	{"attention.ptx", runAttention, 1.0 / 128},
	// f32 sums of exact products.
	{"mma.ptx", runMma, 1e-6},
	// One rounding to bf16.
	{"exchange.ptx", runExchange, 1.0 / 256},
	// Exact.
	{"axpb.ptx", runAxpb, 0},
	// Exact: multiples of 1/8 below 2^21.
	{"chain.ptx", runChain, 0},
}

func TestKernels(t *testing.T) {
	for _, k := range testKernels {
		t.Run(k.file, func(t *testing.T) {
			m := mustParse(t, read(t, k.file))
			for seed := range uint64(seeds) {
				e, err := k.run(t, m, seed)
				if err != nil {
					t.Fatalf("seed %d: %v", seed, err)
				}
				if e > k.tol {
					t.Fatalf("seed %d: relative error %.3g, want at most %.3g", seed, e, k.tol)
				}
			}
		})
	}
}

// TestAssemble: NVIDIA's assembler takes the kernels of testdata without a complaint; where it is not on
// the path, the test skips.
func TestAssemble(t *testing.T) {
	ptxas, err := exec.LookPath("ptxas")
	if err != nil {
		t.Skip("SKIP: ptxas (pip: nvidia-cuda-nvcc==13.0.88) is not installed")
	}
	for _, k := range testKernels {
		out, err := exec.Command(ptxas, "-v", "-arch=sm_90a", "-O3", "testdata/"+k.file, "-o", filepath.Join(t.TempDir(), "k.cubin")).CombinedOutput()
		// C75xx and C76xx are advisories about wgmma and setmaxnreg.
		if err != nil || regexp.MustCompile(`\(C7[0-9]{3}\)|[1-9][0-9]* bytes spill|ignored`).Match(out) {
			t.Errorf("%s: %v\n%s", k.file, err, out)
		}
	}
}
