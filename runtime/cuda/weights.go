package cuda

import (
	"encoding/binary"
	"fmt"
	"math"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	rt "github.com/bertc/bertc/runtime"
)

// This file owns the weights on the device: what is computed from those of the file, once, and
// uploaded.

// weightKey names an upload. Steps that need the same bytes share one.
type weightKey struct {
	form    form
	w, a, b rt.WeightID
	order   Order
}

// form is what is made of weights.
type form uint8

const (
	asFile   form = iota // the bytes of w
	asMatrix             // bf16 rows of w, times gamma a where there is one
	asBias               // bias a, plus w·beta b where there is one
	asColSum             // sums of the rows of the matrix of w and a
)

// matrix is an upload: its address, and the rows and columns of a matrix.
type matrix struct {
	at         Pointer
	rows, cols int
}

// key returns what a parameter needs of the weights; ok is false when it needs none.
func (m *Model) key(s *rt.Step, p Param) (k weightKey, ok bool) {
	w := weightOf(s, p.Operand)
	switch {
	case p.Kind == ParamColSum:
		return weightKey{form: asColSum, w: s.W, a: s.Gamma}, true
	case p.Kind != ParamPointer && p.Kind != ParamMap:
		return k, false
	case p.Operand == OperandBias:
		k := weightKey{form: asBias, w: s.W, a: s.Bias, b: s.Beta}
		if s.Beta == 0 {
			k.w = 0
		}
		return k, s.Bias != 0 || s.Beta != 0
	case w == 0:
		return k, false
	case p.Operand != OperandW:
		return weightKey{form: asFile, w: w}, true
	}
	k = weightKey{form: asMatrix, w: w, order: p.Order}
	if m.mod.Kernels[s.Kernel].Kind == rt.Gemm {
		k.a = s.Gamma
	}
	return k, true
}

// upload makes what a parameter needs of the weights, unless it is there.
func (m *Model) upload(weights *rt.Model, s *rt.Step, p Param) (err error) {
	k, ok := m.key(s, p)
	if !ok {
		return nil
	}
	if _, done := m.weights[k]; done {
		return nil
	}
	// A fault in the mapped file, which was cut, becomes an error.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if cause := recover(); cause != nil {
			err = fmt.Errorf("the weights cannot be read: %v", cause)
		}
	}()
	file := func(id rt.WeightID) []byte {
		if id == 0 {
			return nil
		}
		data, _ := weights.Weight(m.mod.Weights[id-1].Name)
		return data
	}
	var w matrix
	switch k.form {
	case asFile:
		w.at, err = m.put(slices.Clone(file(k.w))) // a fault in the driver's code would end the process
	case asMatrix:
		var src source
		if src, err = m.source(s, file(k.w)); err == nil {
			w, err = m.putMatrix(src, floats(file(k.a)), k.order)
		}
	case asBias:
		bias := floats(file(k.a))
		if k.b != 0 {
			var src source
			if src, err = m.source(s, file(k.w)); err != nil {
				return err
			}
			bias = src.addProduct(bias, floats(file(k.b)))
		}
		w.at, err = m.put(bytesOf(bias))
	case asColSum:
		var src source
		if src, err = m.source(s, file(k.w)); err == nil {
			w.at, err = m.put(bytesOf(src.sums(floats(file(k.a)))))
		}
	}
	m.weights[k] = w
	return err
}

// put uploads bytes.
func (m *Model) put(data []byte) (Pointer, error) {
	at, err := m.alloc(len(data))
	if err != nil {
		return 0, err
	}
	return at, m.driver.Upload(at, data)
}

func (m *Model) alloc(bytes int) (Pointer, error) {
	at, err := m.driver.Alloc(bytes)
	if err != nil {
		return 0, err
	}
	m.memory = append(m.memory, at)
	return at[0], nil
}

// source is a bf16 matrix of the weight file.
type source struct {
	data       []byte
	rows, cols int // cols is KPad
	panels     bool
	k          int // columns of a table without panels
}

// source returns the matrix that a step reads.
func (m *Model) source(s *rt.Step, data []byte) (source, error) {
	k := &m.mod.Kernels[s.Kernel]
	if k.WeightType != rt.BF16 {
		return source{}, fmt.Errorf("kernel %s has f32 weights, the device needs bf16", k.Name)
	}
	src := source{data: data, cols: k.KPad, panels: k.Kind == rt.Gemm || k.PanelTable, k: k.K}
	if src.rows = len(data) / 2 / src.cols; !src.panels {
		src.rows = len(data) / 2 / k.K
	}
	return src, nil
}

// The layout of the panels, [n/32][k/32][n2][k16][n16][k2]: 32 rows and 32 columns are a block.
const (
	panelRows  = 32
	blockCols  = 32
	blockBytes = 2 * panelRows * blockCols
)

// row unpacks a row into dst, [cols] of bf16.
func (s *source) row(n int, dst []uint16) {
	if n >= s.rows {
		clear(dst)
		return
	}
	if !s.panels {
		for i := range s.k {
			dst[i] = binary.LittleEndian.Uint16(s.data[2*(n*s.k+i):])
		}
		clear(dst[s.k:])
		return
	}
	at := n/panelRows*panelRows*s.cols*2 + n%panelRows/16*(blockBytes/2) + n%16*4
	for k := 0; k < s.cols; k += blockCols {
		block := s.data[at:]
		for j := range blockCols / 2 {
			pair := binary.LittleEndian.Uint32(block[64*j:])
			dst[k+2*j], dst[k+2*j+1] = uint16(pair), uint16(pair>>16)
		}
		at += blockBytes
	}
}

// scale multiplies a row by gamma, which is nil for none, and rounds to bf16.
func scale(row []uint16, gamma []float32) {
	for i, g := range gamma {
		row[i] = rt.ToBF16(fromBF16(row[i]) * g)
	}
}

// addProduct returns bias + w·beta, summed in float64; bias is nil for none.
func (s *source) addProduct(bias, beta []float32) []float32 {
	out := make([]float32, s.rows)
	s.each(nil, func(n int, row []uint16) {
		sum := 0.0
		if bias != nil {
			sum = float64(bias[n])
		}
		for k, b := range beta {
			sum += float64(b) * float64(fromBF16(row[k]))
		}
		out[n] = float32(sum)
	})
	return out
}

// sums returns the sums of the rows of the matrix that gamma is multiplied into.
func (s *source) sums(gamma []float32) []float32 {
	out := make([]float32, s.rows)
	s.each(gamma, func(n int, row []uint16) {
		sum := 0.0
		for _, x := range row {
			sum += float64(fromBF16(x))
		}
		out[n] = float32(sum)
	})
	return out
}

// each calls f with every row times gamma.
func (s *source) each(gamma []float32, f func(n int, row []uint16)) {
	row := make([]uint16, s.cols)
	for n := range s.rows {
		s.row(n, row)
		scale(row, gamma)
		f(n, row)
	}
}

// uploadBytes is about how much is unpacked at a time.
const uploadBytes = 4 << 20

// putMatrix uploads the matrix, times gamma, with its rows in an order. Every processor unpacks a
// part of it.
func (m *Model) putMatrix(src source, gamma []float32, order Order) (matrix, error) {
	out := matrix{rows: rt.RoundUp(src.rows, OrderRows), cols: src.cols}
	var err error
	if out.at, err = m.alloc(2 * out.rows * out.cols); err != nil {
		return out, err
	}
	rows := max(1, uploadBytes/(2*src.cols))
	var next atomic.Int64
	var failed atomic.Pointer[error]
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), rt.CeilDiv(out.rows, rows)) {
		workers.Add(1)
		go func() {
			defer workers.Done()
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer func() {
				if cause := recover(); cause != nil {
					err := fmt.Errorf("the weights cannot be read: %v", cause)
					failed.Store(&err)
				}
			}()
			row := make([]uint16, src.cols)
			buf := make([]byte, 0, rows*2*src.cols)
			for failed.Load() == nil {
				first := int(next.Add(int64(rows))) - rows
				if first >= out.rows {
					return
				}
				buf = buf[:0]
				for i := first; i < min(first+rows, out.rows); i++ {
					src.row(order.PanelRow(i), row)
					scale(row, gamma)
					for _, x := range row {
						buf = binary.LittleEndian.AppendUint16(buf, x)
					}
				}
				if err := m.driver.Upload(out.at+Pointer(first*2*src.cols), buf); err != nil {
					failed.Store(&err)
				}
			}
		}()
	}
	workers.Wait()
	if err := failed.Load(); err != nil {
		return out, *err
	}
	return out, nil
}

// floats reads f32 values of the weight file.
func floats(data []byte) []float32 {
	if data == nil {
		return nil
	}
	out := make([]float32, len(data)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	return out
}

func bytesOf(values []float32) []byte {
	out := make([]byte, 0, 4*len(values))
	for _, x := range values {
		out = binary.LittleEndian.AppendUint32(out, math.Float32bits(x))
	}
	return out
}

func fromBF16(x uint16) float32 { return math.Float32frombits(uint32(x) << 16) }
