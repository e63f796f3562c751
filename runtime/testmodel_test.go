package rt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// This file builds small models by hand: the tables of a Module, a weight file, and the plain
// weights that the reference (reference_test.go) reads.

// shape is the architecture of a test model. The sizes are awkward on purpose: no multiple of a
// panel, heads that share panels, half-filled gate groups.
type shape struct {
	vocab, positions, hidden, ff, layers int
	heads, kvHeads, headDim              int

	norm       Norm
	dtype      DType // weights and factors of products
	act        DType // activations between steps
	panelTable bool
	absolute   bool // position embeddings beside the rotary ones
}

var shapes = map[string]shape{
	"f32/rmsnorm":    {70, 256, 48, 40, 2, 4, 2, 12, RMSNorm, F32, F32, false, false},
	"f32/layernorm":  {70, 256, 50, 40, 2, 4, 1, 10, LayerNorm, F32, F32, true, true},
	"bf16/rmsnorm":   {70, 256, 48, 40, 2, 4, 2, 12, RMSNorm, BF16, BF16, true, false},
	"bf16/layernorm": {70, 256, 50, 40, 2, 4, 4, 10, LayerNorm, BF16, F32, false, true},
}

// tensor is a matrix in float64, or a vector with rows 1.
type tensor struct {
	rows, cols int
	data       []float64
}

func (t tensor) row(i int) []float64 { return t.data[i*t.cols:][:t.cols] }

// testModel is a Module with its weights in both forms.
type testModel struct {
	shape
	mod    Module
	plain  map[string]tensor
	packed [][]byte
	rng    *rand.Rand
	ids    map[string]WeightID
}

// matrix makes random values that are exact in the dtype.
func (m *testModel) matrix(name string, rows, cols int, d DType, scale, offset float64) tensor {
	t := tensor{rows, cols, make([]float64, rows*cols)}
	for i := range t.data {
		t.data[i] = float64(roundTo(d, float32(offset+scale*m.rng.NormFloat64())))
	}
	m.plain[name] = t
	return t
}

func (m *testModel) add(name string, data []byte) {
	m.packed = append(m.packed, data)
	m.mod.Weights = append(m.mod.Weights, Weight{name, len(data)})
	m.ids[name] = WeightID(len(m.mod.Weights))
}

// vector packs values as f32, padded with zeros to a multiple.
func (m *testModel) vector(name string, v []float64, multiple int) {
	data := make([]byte, 4*RoundUp(len(v), multiple))
	for i, x := range v {
		binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(float32(x)))
	}
	m.add(name, data)
}

func put(data []byte, i int, d DType, x float64) {
	if d == BF16 {
		binary.LittleEndian.PutUint16(data[2*i:], ToBF16(float32(x)))
		return
	}
	binary.LittleEndian.PutUint32(data[4*i:], math.Float32bits(float32(x)))
}

// kPad is K as panels hold it.
func (m *testModel) kPad(k int) int {
	if m.dtype == BF16 {
		return RoundUp(k, 32)
	}
	return k
}

// panels packs a matrix of weight rows × k in panels.
func (m *testModel) panels(name string, t tensor) {
	panelLen := panelN * m.kPad(t.cols)
	data := make([]byte, RoundUp(t.rows, panelN)/panelN*panelLen*m.dtype.Size())
	for n := range t.rows {
		for k, x := range t.row(n) {
			put(data, n/panelN*panelLen+panelOffset(m.dtype, n%panelN, k), m.dtype, x)
		}
	}
	m.add(name, data)
}

// interleave puts gluN rows of a and as many of b in turn, filled up with zeros.
func interleave(a, b tensor) tensor {
	out := tensor{2 * RoundUp(a.rows, gluN), a.cols, nil}
	out.data = make([]float64, out.rows*out.cols)
	for i := range a.rows {
		at := i/gluN*2*gluN + i%gluN
		copy(out.row(at), a.row(i))
		copy(out.row(at+gluN), b.row(i))
	}
	return out
}

func (m *testModel) buffer(name string, e Extent, d DType, cols int) BufferID {
	offset := 0
	for _, b := range m.mod.Buffers {
		if b.Extent == e {
			offset = b.Offset + RoundUp(b.RowBytes, 4)
		}
	}
	m.mod.Buffers = append(m.mod.Buffers, Buffer{name, e, cols * d.Size(), offset, d, cols})
	return BufferID(len(m.mod.Buffers))
}

// kernel adds a kernel unless there is an equal one.
func (m *testModel) kernel(k Kernel) int {
	for i, old := range m.mod.Kernels {
		if old == k {
			return i
		}
	}
	m.mod.Kernels = append(m.mod.Kernels, k)
	return len(m.mod.Kernels) - 1
}

// gemm completes the derived fields of a matmul.
func (m *testModel) gemm(k Kernel) int {
	k.Kind, k.Math, k.WeightType, k.Eps = Gemm, m.dtype, m.dtype, 1e-5
	k.KPad, k.PanelOut, k.Group = m.kPad(k.K), panelN, 1
	if k.GLU {
		k.PanelOut = gluN
	}
	k.Panels = CeilDiv(k.N, k.PanelOut)
	k.PanelBytes = panelN * k.KPad * k.WeightType.Size()
	if k.Rope {
		group := panelN
		for group%k.HeadDim != 0 {
			group += panelN
		}
		k.Group = min(group/panelN, k.Panels)
	}
	k.Beta = k.Norm == LayerNorm
	return m.kernel(k)
}

func (m *testModel) norm(name string, k int) {
	m.vector(name+".gamma", m.matrix(name+".gamma", 1, k, F32, 0.1, 1).data, 1)
	m.vector(name+".beta", m.matrix(name+".beta", 1, k, F32, 0.1, 0).data, 1)
}

func (m *testModel) linear(name string, n, k int) {
	m.panels(name+".w", m.matrix(name+".w", n, k, m.dtype, 1/math.Sqrt(float64(k)), 0))
	m.vector(name+".b", m.matrix(name+".b", 1, n, F32, 0.1, 0).data, panelN)
}

func newTestModel(s shape, seed uint64) *testModel {
	m := &testModel{shape: s, plain: map[string]tensor{}, ids: map[string]WeightID{}, rng: rand.New(rand.NewPCG(seed, 1))}
	mod := &m.mod
	*mod = Module{Name: "test", VocabSize: s.vocab, MaxPositions: s.positions, MaxTokens: 1024, HiddenSize: s.hidden, LogitsSize: s.vocab}
	for i := range mod.ID {
		mod.ID[i] = byte(m.rng.Uint32())
	}
	m.weights()
	m.steps()
	return m
}

func (m *testModel) weights() {
	h := m.hidden
	table := m.matrix("embed", m.vocab, h, m.dtype, 1, 0)
	if m.panelTable {
		m.panels("embed", table)
	} else {
		data := make([]byte, m.vocab*h*m.dtype.Size())
		for i, x := range table.data {
			put(data, i, m.dtype, x)
		}
		m.add("embed", data)
	}
	m.vector("position", m.matrix("position", m.positions, h, F32, 0.5, 0).data, 1)
	half := m.headDim / 2
	cos, sin := make([]float64, m.positions*half), make([]float64, m.positions*half)
	for p := range m.positions {
		for j := range half {
			sin[p*half+j], cos[p*half+j] = math.Sincos(float64(p) * math.Pow(10000, -2*float64(j)/float64(m.headDim)))
		}
	}
	m.vector("cos", cos, 1)
	m.vector("sin", sin, 1)
	for l := range m.layers {
		name := fmt.Sprintf("layer.%d.", l)
		m.norm(name+"norm1", h)
		m.linear(name+"qkv", (m.heads+2*m.kvHeads)*m.headDim, h)
		m.linear(name+"o", h, m.heads*m.headDim)
		m.norm(name+"norm2", h)
		gate := m.matrix(name+"gate.w", m.ff, h, m.dtype, 1/math.Sqrt(float64(h)), 0)
		up := m.matrix(name+"up.w", m.ff, h, m.dtype, 1/math.Sqrt(float64(h)), 0)
		m.panels(name+"gateup.w", interleave(gate, up))
		gateBias, upBias := m.matrix(name+"gate.b", 1, m.ff, F32, 0.1, 0), m.matrix(name+"up.b", 1, m.ff, F32, 0.1, 0)
		column := func(t tensor) tensor { return tensor{t.cols, 1, t.data} }
		m.vector(name+"gateup.b", interleave(column(gateBias), column(upBias)).data, panelN)
		m.linear(name+"down", h, m.ff)
	}
	m.norm("final", h)
	m.linear("head", h, h)
	m.norm("headnorm", h)
	m.linear("decoder", m.vocab, h)
}

func (m *testModel) steps() {
	mod, h, act := &m.mod, m.hidden, m.act
	mod.IDs = m.buffer("ids", Tokens, I32, 1)
	mod.Positions = m.buffer("positions", Tokens, I32, 1)
	x := m.buffer("x", Tokens, F32, h)
	qkvCols := (m.heads + 2*m.kvHeads) * m.headDim
	qkv := m.buffer("qkv", Tokens, act, qkvCols)
	att := m.buffer("attention", Tokens, act, m.heads*m.headDim)
	ff := m.buffer("ff", Tokens, act, m.ff)
	mod.Hidden = m.buffer("hidden", Tokens, F32, h)
	mod.Rows = m.buffer("rows", Picked, I32, 1)
	picked := m.buffer("picked", Picked, F32, h)
	dense := m.buffer("dense", Picked, F32, h)
	normed := m.buffer("normed", Picked, act, h)
	mod.Logits = m.buffer("logits", Picked, F32, m.vocab)

	step := func(s Step) { mod.Steps = append(mod.Steps, s) }
	w := func(name string) WeightID { return m.ids[name] }

	step(Step{Name: "embed", Index: mod.IDs, Pos: mod.Positions, Dst: x, W: w("embed"), PosTable: w("position"),
		Kernel: m.kernel(Kernel{Name: "embed", Kind: Gather, WeightType: m.dtype, K: h, KPad: m.kPad(h), PanelTable: m.panelTable, AddPositions: m.absolute})})
	heads := Kernel{Heads: m.heads, KVHeads: m.kvHeads, HeadDim: m.headDim}
	for l := range m.layers {
		name := fmt.Sprintf("layer.%d.", l)
		k := heads
		k.Name, k.Out, k.N, k.K, k.Norm, k.Bias, k.Rope = "qkv", act, qkvCols, h, m.shape.norm, true, true
		step(Step{Name: name + "qkv", Kernel: m.gemm(k), Src: x, Dst: qkv, Pos: mod.Positions, W: w(name + "qkv.w"), Bias: w(name + "qkv.b"),
			Gamma: w(name + "norm1.gamma"), Beta: w(name + "norm1.beta"), Cos: w("cos"), Sin: w("sin")})
		k = heads
		k.Name, k.Kind, k.In, k.Out, k.Math, k.Scale = "attention", Attention, act, act, m.dtype, float32(1/math.Sqrt(float64(m.headDim)))
		step(Step{Name: name + "attention", Kernel: m.kernel(k), Src: qkv, Dst: att})
		step(Step{Name: name + "o", Kernel: m.gemm(Kernel{Name: "o", In: act, N: h, K: m.heads * m.headDim, Bias: true, Residual: true}),
			Src: att, Dst: x, Res: x, W: w(name + "o.w"), Bias: w(name + "o.b")})
		step(Step{Name: name + "up", Kernel: m.gemm(Kernel{Name: "up", Out: act, N: m.ff, K: h, Norm: m.shape.norm, Bias: true, GLU: true}),
			Src: x, Dst: ff, W: w(name + "gateup.w"), Bias: w(name + "gateup.b"), Gamma: w(name + "norm2.gamma"), Beta: w(name + "norm2.beta")})
		step(Step{Name: name + "down", Kernel: m.gemm(Kernel{Name: "down", In: act, N: h, K: m.ff, Bias: true, Residual: true}),
			Src: ff, Dst: x, Res: x, W: w(name + "down.w"), Bias: w(name + "down.b")})
	}
	norm := Kernel{Name: "norm", Kind: Rowwise, K: h, Norm: m.shape.norm, Beta: m.shape.norm == LayerNorm, Eps: 1e-5}
	step(Step{Name: "final", Kernel: m.kernel(norm), Src: x, Dst: mod.Hidden, Gamma: w("final.gamma"), Beta: w("final.beta")})
	mod.EncodeSteps = len(mod.Steps)
	step(Step{Name: "pick", Kernel: m.kernel(Kernel{Name: "pick", Kind: Gather, K: h, Activations: true}), Index: mod.Rows, Src: mod.Hidden, Dst: picked})
	step(Step{Name: "head", Kernel: m.gemm(Kernel{Name: "head", N: h, K: h, Bias: true, SiLU: true}), Src: picked, Dst: dense, W: w("head.w"), Bias: w("head.b")})
	norm.Name, norm.Out = "headnorm", act
	step(Step{Name: "headnorm", Kernel: m.kernel(norm), Src: dense, Dst: normed, Gamma: w("headnorm.gamma"), Beta: w("headnorm.beta")})
	step(Step{Name: "decoder", Kernel: m.gemm(Kernel{Name: "decoder", In: act, N: m.vocab, K: h, Bias: true}), Src: normed, Dst: mod.Logits, W: w("decoder.w"), Bias: w("decoder.b")})
}

// file returns the weight file.
func (m *testModel) file() []byte {
	le := binary.LittleEndian
	names := headBytes + entryBytes*len(m.packed)
	header := make([]byte, names)
	for _, w := range m.mod.Weights {
		header = append(header, w.Name...)
	}
	header = append(header, make([]byte, RoundUp(len(header), headerAlign)-len(header))...)
	copy(header, weightMagic)
	le.PutUint32(header[8:], weightVersion)
	le.PutUint32(header[12:], uint32(len(m.packed)))
	le.PutUint64(header[16:], uint64(len(header)))
	copy(header[32:], m.mod.ID[:])
	at := len(header)
	var data []byte
	for i, p := range m.packed {
		e := header[headBytes+i*entryBytes:]
		le.PutUint64(e, uint64(at))
		le.PutUint64(e[8:], uint64(len(p)))
		le.PutUint32(e[16:], crc32.Checksum(p, castagnoli))
		le.PutUint32(e[20:], uint32(len(m.mod.Weights[i].Name)))
		le.PutUint64(e[24:], uint64(names))
		names += len(m.mod.Weights[i].Name)
		data = append(data, p...)
		data = append(data, make([]byte, RoundUp(len(p), cacheLine)-len(p))...)
		at += RoundUp(len(p), cacheLine)
	}
	le.PutUint64(header[24:], uint64(at))
	return seal(append(header, data...))
}

// seal computes the checksum of the header anew.
func seal(file []byte) []byte {
	le := binary.LittleEndian
	le.PutUint32(file[64:], 0)
	le.PutUint32(file[64:], crc32.Checksum(file[:le.Uint64(file[16:])], castagnoli))
	return file
}

func writeFile(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.weights")
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// open opens a test model, which the test closes at its end.
func (m *testModel) open(t testing.TB, o Options) *Model {
	t.Helper()
	model, err := Open(&m.mod, writeFile(t, m.file()), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { model.Close() })
	return model
}

func newSession(t testing.TB, m *Model, o SessionOptions) *Session {
	t.Helper()
	s, err := m.NewSession(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// sequences makes random sequences of the given lengths.
func (m *testModel) sequences(seed uint64, lengths ...int) [][]int32 {
	rng := rand.New(rand.NewPCG(seed, 2))
	out := make([][]int32, len(lengths))
	for i, n := range lengths {
		for range n {
			out[i] = append(out[i], rng.Int32N(int32(m.vocab)))
		}
	}
	return out
}

// join makes a batch of sequences.
func join(seqs [][]int32) (ids, offsets []int32) {
	offsets = []int32{0}
	for _, s := range seqs {
		ids = append(ids, s...)
		offsets = append(offsets, int32(len(ids)))
	}
	return ids, offsets
}
