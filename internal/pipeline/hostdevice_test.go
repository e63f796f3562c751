package pipeline

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"sort"
	"sync"
	"unsafe"

	"github.com/bertc/bertc/internal/num"
	rt "github.com/bertc/bertc/runtime"
	"github.com/bertc/bertc/runtime/cuda"
)

// hostDevice is a device in the memory of the test. Its kernels are written in Go from the
// comments of runtime/cuda/abi.go, in float64: what they give is right when the arguments of
// every launch are.
type hostDevice struct {
	mod     *rt.Module
	weights *rt.Model // no upload reads their mapped file

	mu     sync.Mutex
	next   cuda.Pointer
	blocks []hostBlock
	maps   []cuda.TensorMap
	graphs [][]func() error
	// launches and captured count the launches that ran one by one and those of graphs.
	launches, captured int
	streams            int
	idle               bool  // graphs do nothing
	failure            error // of launches
	reading            bool  // a copy to the device may read the host's memory until Sync
}

type hostBlock struct {
	at   cuda.Pointer
	data []byte
}

const hostStats = 32 // columns of a slot

// hostProgram is the launch table of the kernels below.
func hostProgram(mod *rt.Module) *cuda.Program {
	p := &cuda.Program{}
	param := func(kind cuda.ParamKind, o cuda.Operand) cuda.Param { return cuda.Param{Kind: kind, Operand: o} }
	for i, k := range mod.Kernels {
		l := cuda.Launch{Entry: fmt.Sprint("k", i), Threads: 32, Shared: 64 << 10}
		add := func(on bool, kind cuda.ParamKind, o cuda.Operand) {
			if on {
				l.Params = append(l.Params, param(kind, o))
			}
		}
		out := cuda.Kernel{}
		switch k.Kind {
		case rt.Gemm:
			l.Grid = cuda.Grid{Kind: cuda.GridTiles, TileM: 16, TileN: 64, N: k.N, Persistent: i%2 == 0}
			src := cuda.Param{Kind: cuda.ParamShadowMap, Operand: cuda.OperandSrc, Box: []int{64, 16}, Swizzle: 128}
			if k.In == rt.BF16 {
				src.Kind = cuda.ParamMap
			}
			w := cuda.Param{Kind: cuda.ParamMap, Operand: cuda.OperandW, Box: []int{64, 64}, Swizzle: 128}
			switch {
			case k.Rope:
				w.Order.Head = k.HeadDim
			case k.Residual:
				w.Order.Quads = true
			}
			l.Params = []cuda.Param{src, w}
			add(true, cuda.ParamRows, 0)
			add(true, cuda.ParamPointer, cuda.OperandDst)
			add(k.Out == rt.F32, cuda.ParamShadow, cuda.OperandDst)
			add(k.Out == rt.F32, cuda.ParamStats, cuda.OperandDst)
			add(k.Norm != rt.NoNorm, cuda.ParamStats, cuda.OperandSrc)
			add(k.Norm != rt.NoNorm, cuda.ParamSlots, cuda.OperandSrc)
			add(k.Norm == rt.LayerNorm, cuda.ParamColSum, 0)
			add(k.Bias || k.Beta, cuda.ParamPointer, cuda.OperandBias)
			add(k.Residual, cuda.ParamPointer, cuda.OperandRes)
			add(k.Rope, cuda.ParamPointer, cuda.OperandPos)
			add(k.Rope, cuda.ParamPointer, cuda.OperandCos)
			add(k.Rope, cuda.ParamPointer, cuda.OperandSin)
			if k.Out == rt.F32 {
				out.StatsCols = hostStats
			}
		case rt.Attention:
			l.Grid = cuda.Grid{Kind: cuda.GridItems, TileM: 24}
			l.Params = []cuda.Param{{Kind: cuda.ParamMap, Operand: cuda.OperandSrc, Box: []int{k.HeadDim, k.Heads / k.KVHeads, 4}}}
			add(true, cuda.ParamItems, 0)
			add(true, cuda.ParamItemCount, 0)
			add(true, cuda.ParamPointer, cuda.OperandDst)
		case rt.Rowwise:
			l.Grid = cuda.Grid{Kind: cuda.GridRows, TileM: 8}
			add(true, cuda.ParamRows, 0)
			add(true, cuda.ParamPointer, cuda.OperandSrc)
			add(true, cuda.ParamPointer, cuda.OperandDst)
			add(true, cuda.ParamPointer, cuda.OperandGamma)
			add(k.Beta, cuda.ParamPointer, cuda.OperandBeta)
		case rt.Gather:
			l.Grid = cuda.Grid{Kind: cuda.GridRows, TileM: 8}
			add(true, cuda.ParamRows, 0)
			add(true, cuda.ParamPointer, cuda.OperandIndex)
			add(k.Activations, cuda.ParamPointer, cuda.OperandSrc)
			add(!k.Activations, cuda.ParamPointer, cuda.OperandW)
			add(true, cuda.ParamPointer, cuda.OperandDst)
			add(true, cuda.ParamShadow, cuda.OperandDst)
			add(true, cuda.ParamStats, cuda.OperandDst)
			add(k.AddPositions, cuda.ParamPointer, cuda.OperandPos)
			add(k.AddPositions, cuda.ParamPointer, cuda.OperandPosTable)
			out.StatsCols = hostStats
		}
		// Two variants that differ in the name of the entry alone: small batches and others.
		small := l
		small.Entry += "s"
		out.Variants = []cuda.Variant{{MaxRows: 64, Launches: []cuda.Launch{small}}, {Launches: []cuda.Launch{l}}}
		p.Kernels = append(p.Kernels, out)
	}
	if mod.Logits != 0 {
		top := cuda.Launch{Entry: "top", Threads: 32, Grid: cuda.Grid{Kind: cuda.GridRows, TileM: 1}}
		for _, kind := range []cuda.ParamKind{cuda.ParamRows, cuda.ParamTopK, cuda.ParamPointer, cuda.ParamTopIDs, cuda.ParamTopLogits, cuda.ParamTopSums} {
			top.Params = append(top.Params, param(kind, cuda.OperandSrc))
		}
		p.TopK.Variants = []cuda.Variant{{Launches: []cuda.Launch{top}}}
	}
	return p
}

func (d *hostDevice) Info() cuda.DeviceInfo {
	return cuda.DeviceInfo{Name: "memory of the test", Major: 9, Minor: 0, SMs: 4}
}
func (d *hostDevice) Load(string) error { return nil }

func (d *hostDevice) Close() error {
	if len(d.blocks) != 0 || d.streams != 0 {
		return fmt.Errorf("%d allocations and %d streams are left", len(d.blocks), d.streams)
	}
	return nil
}

// Function numbers entries: the kernel, and the one behind them for the best entries.
func (d *hostDevice) Function(entry string, shared int) (cuda.Function, error) {
	var i int
	if entry == "top" {
		return cuda.Function(len(d.mod.Kernels)), nil
	}
	_, err := fmt.Sscanf(entry, "k%d", &i)
	return cuda.Function(i), err
}

func (d *hostDevice) Alloc(sizes ...int) ([]cuda.Pointer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []cuda.Pointer
	for _, n := range sizes {
		d.next += 1 << 20
		out = append(out, d.next)
		d.blocks = append(d.blocks, hostBlock{d.next, make([]byte, n)})
		d.next += cuda.Pointer((n + 255) &^ 255)
	}
	return out, nil
}

func (d *hostDevice) Free(at []cuda.Pointer) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.blocks = slices.DeleteFunc(d.blocks, func(b hostBlock) bool { return slices.Contains(at, b.at) })
	return nil
}

// bytes is the memory from an address to the end of its allocation.
func (d *hostDevice) bytes(at cuda.Pointer) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := sort.Search(len(d.blocks), func(i int) bool { return d.blocks[i].at > at }) - 1
	return d.blocks[i].data[at-d.blocks[i].at:]
}

func (d *hostDevice) Upload(dst cuda.Pointer, src []byte) error {
	for _, w := range d.mod.Weights {
		if file, _ := d.weights.Weight(w.Name); len(file) > 0 && &file[0] == &src[0] {
			return fmt.Errorf("the driver reads %s in the mapped file: a fault there would end the process", w.Name)
		}
	}
	copy(d.bytes(dst)[:len(src)], src)
	return nil
}

func (d *hostDevice) EncodeTiled(t cuda.TensorMap) (out [cuda.TensorMapBytes]byte, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.maps = append(d.maps, t)
	binary.LittleEndian.PutUint64(out[:], uint64(len(d.maps)-1))
	if t.Address%16 != 0 || t.Strides[0]%16 != 0 || t.Strides[len(t.Strides)-1]%16 != 0 {
		return out, fmt.Errorf("tensor map %+v is not aligned", t)
	}
	return out, nil
}

func (d *hostDevice) HostAlloc(n int) ([]byte, error) {
	return hostBytes(make([]uint64, (n+7)/8))[:n], nil
}
func (d *hostDevice) HostFree([]byte) error { return nil }

func (d *hostDevice) NewStream() (cuda.Stream, error) {
	d.streams++
	return &hostStream{hostDevice: d}, nil
}

type hostStream struct {
	*hostDevice
	record *[]func() error
}

func (s *hostStream) Close() error { s.streams--; return nil }
func (s *hostStream) Sync() error  { s.reading = false; return nil }

func (s *hostStream) CopyIn(dst cuda.Pointer, src []byte) error {
	copy(s.bytes(dst)[:len(src)], src)
	s.reading = true
	return nil
}

func (s *hostStream) CopyOut(dst []byte, src cuda.Pointer) error {
	copy(dst, s.bytes(src)[:len(dst)])
	return nil
}

func (s *hostStream) Launch(f cuda.Function, l cuda.LaunchSize, params []byte, offsets []int) error {
	if s.failure != nil {
		return s.failure
	}
	params = slices.Clone(params)
	run := func() error { return s.run(int(f), l, &hostArgs{s.hostDevice, params, offsets}) }
	if s.record != nil {
		*s.record = append(*s.record, run)
		return nil
	}
	s.launches++
	return run()
}

func (s *hostStream) Capture(record func() error) (cuda.Graph, error) {
	s.graphs = append(s.graphs, nil)
	s.record = &s.graphs[len(s.graphs)-1]
	defer func() { s.record = nil }()
	return cuda.Graph(len(s.graphs) - 1), record()
}

func (s *hostStream) LaunchGraph(g cuda.Graph) error {
	for _, run := range s.graphs[g] {
		if s.captured++; s.idle {
			continue
		}
		if err := run(); err != nil {
			return err
		}
	}
	return nil
}

func (s *hostStream) FreeGraph(g cuda.Graph) error { s.graphs[g] = nil; return nil }

// hostArgs reads the parameters of a launch in order.
type hostArgs struct {
	d       *hostDevice
	params  []byte
	offsets []int
}

func (a *hostArgs) next() []byte {
	p := a.params[a.offsets[0]:]
	a.offsets = a.offsets[1:]
	return p
}

func (a *hostArgs) u32() int { return int(binary.LittleEndian.Uint32(a.next())) }

// memory is what a pointer points at, nil for 0.
func (a *hostArgs) memory() []byte {
	p := cuda.Pointer(binary.LittleEndian.Uint64(a.next()))
	if p == 0 {
		return nil
	}
	return a.d.bytes(p)
}

// number is the u32 that a pointer points at.
func (a *hostArgs) number() int { return int(binary.LittleEndian.Uint32(a.memory())) }

// tensor is a matrix behind a tensor map: its memory, columns, rows, and bytes of a row.
func (a *hostArgs) tensor() (data []byte, cols, rows, pitch int) {
	t := a.d.maps[binary.LittleEndian.Uint64(a.next())]
	cols = int(t.Dims[0])
	if len(t.Dims) == 3 {
		cols *= int(t.Dims[1])
	}
	return a.d.bytes(t.Address), cols, int(t.Dims[len(t.Dims)-1]), int(t.Strides[len(t.Strides)-1])
}

func hostView[E any](data []byte) []E {
	var e E
	return unsafe.Slice((*E)(unsafe.Pointer(unsafe.SliceData(data))), len(data)/int(unsafe.Sizeof(e)))
}

func hostBytes(words []uint64) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), 8*len(words))
}

// bfRow is row r of a bf16 matrix.
func bfRow(data []byte, r, cols, pitch int) []float64 {
	out := make([]float64, cols)
	for i, x := range hostView[uint16](data[r*pitch:][:2*cols]) {
		out[i] = float64(num.FromBF16(x))
	}
	return out
}

// result writes rows of a buffer, its shadow and its statistics.
type result struct {
	dst, shadow, stats []byte
	cols               int
	bf16               bool
}

func (o result) put(r int, row []float64) {
	pitch := cuda.Pitch(o.cols, true)
	if o.bf16 {
		o.shadow = o.dst
	} else {
		dst := hostView[float32](o.dst[r*4*o.cols:])
		for i, x := range row {
			dst[i] = float32(x)
		}
	}
	if o.shadow != nil {
		shadow := hostView[uint16](o.shadow[r*pitch:])
		for i, x := range row {
			shadow[i] = num.BF16(float32(x))
		}
	}
	if o.stats != nil {
		slots := (o.cols + hostStats - 1) / hostStats
		stats := hostView[float32](o.stats[r*slots*8:])[:2*slots]
		clear(stats)
		for i, x := range row {
			stats[i/hostStats*2] += float32(x)
			stats[i/hostStats*2+1] += float32(x * x)
		}
	}
}

// run does one launch.
func (s *hostStream) run(kernel int, l cuda.LaunchSize, a *hostArgs) error {
	if kernel == len(s.mod.Kernels) {
		return hostTopK(s.mod.LogitsSize, a)
	}
	k := &s.mod.Kernels[kernel]
	var work int // that the grid must be large enough for
	switch k.Kind {
	case rt.Gemm:
		work = hostGemm(k, a)
	case rt.Attention:
		work = hostAttention(k, a)
	case rt.Rowwise:
		work = hostRowwise(k, a)
	case rt.Gather:
		work = hostGather(k, a)
	}
	if len(a.offsets) != 0 || l.Grid < 1 || k.Kind == rt.Attention && l.Grid < work {
		return fmt.Errorf("kernel %s: %d parameters too many, or %d CTAs for %d items", k.Name, len(a.offsets), l.Grid, work)
	}
	return nil
}

func hostGemm(k *rt.Kernel, a *hostArgs) int {
	x, xCols, _, xPitch := a.tensor()
	w, wCols, wRows, wPitch := a.tensor()
	rows := a.number()
	out := result{dst: a.memory(), cols: k.N, bf16: k.Out == rt.BF16}
	if !out.bf16 {
		out.shadow, out.stats = a.memory(), a.memory()
	}
	var stats, sums, bias, res, pos, cos, sin []float32
	slots := 0
	if k.Norm != rt.NoNorm {
		stats, slots = hostView[float32](a.memory()), a.u32()
	}
	float := func(on bool) []float32 {
		if !on {
			return nil
		}
		return hostView[float32](a.memory())
	}
	sums, bias, res = float(k.Norm == rt.LayerNorm), float(k.Bias || k.Beta), float(k.Residual)
	pos, cos, sin = float(k.Rope), float(k.Rope), float(k.Rope)
	order := cuda.Order{}
	switch {
	case k.Rope:
		order.Head = k.HeadDim
	case k.Residual:
		order.Quads = true
	}
	matrix := make([][]float64, wRows)
	for i := range matrix {
		if n := order.PanelRow(i); n < wRows {
			matrix[n] = bfRow(w, i, wCols, wPitch)
		}
	}
	width := k.N
	if k.GLU {
		width = 2 * ((k.N + 15) / 16 * 16)
	}
	for r := range rows {
		row := bfRow(x, r, xCols, xPitch)
		mean, scale := 0.0, 1.0
		if k.Norm != rt.NoNorm {
			sum, squares := 0.0, 0.0
			for i := range slots {
				sum += float64(stats[2*(r*slots+i)])
				squares += float64(stats[2*(r*slots+i)+1])
			}
			n := float64(k.K)
			if k.Norm == rt.LayerNorm {
				mean = sum / n
			}
			scale = 1 / math.Sqrt(squares/n-mean*mean+float64(k.Eps))
		}
		y := make([]float64, width)
		for n := range y {
			sum := 0.0
			for i, v := range row {
				sum += v * matrix[n][i]
			}
			if sums != nil {
				sum -= mean * float64(sums[n])
			}
			if y[n] = sum * scale; bias != nil {
				y[n] += float64(bias[n])
			}
		}
		if k.Rope {
			half := k.HeadDim / 2
			at := int(math.Float32bits(pos[r])) * half
			for h := 0; h < (k.Heads+k.KVHeads)*k.HeadDim; h += k.HeadDim {
				for i := range half {
					c, s := float64(cos[at+i]), float64(sin[at+i])
					y[h+i], y[h+half+i] = y[h+i]*c-y[h+half+i]*s, y[h+half+i]*c+y[h+i]*s
				}
			}
		}
		silu := func(x float64) float64 { return x / (1 + math.Exp(-x)) }
		z := make([]float64, k.N)
		for n := range z {
			switch {
			case k.GLU:
				z[n] = silu(y[n/16*32+n%16]) * y[n/16*32+16+n%16]
			case k.SiLU:
				z[n] = silu(y[n])
			case k.Tanh:
				z[n] = math.Tanh(y[n])
			default:
				z[n] = y[n]
			}
			if res != nil {
				z[n] += float64(res[r*k.N+n])
			}
		}
		out.put(r, z)
	}
	return 0
}

func hostAttention(k *rt.Kernel, a *hostArgs) int {
	qkv, cols, _, pitch := a.tensor()
	items, count := hostView[cuda.Item](a.memory()), a.number()
	dst := a.memory()
	g, d := k.Heads/k.KVHeads, k.HeadDim
	for _, item := range items[:count] {
		for row := int(item.Row); row < min(int(item.Row)+24, int(item.Len)*g); row++ {
			token, head := int(item.Start)+row/g, int(item.KVHead)*g+row%g
			q := bfRow(qkv, token, cols, pitch)[head*d:][:d]
			scores := make([]float64, item.Len)
			keys := make([][]float64, item.Len)
			for t := range scores {
				keys[t] = bfRow(qkv, int(item.Start)+t, cols, pitch)
				for i, x := range keys[t][(k.Heads+int(item.KVHead))*d:][:d] {
					scores[t] += q[i] * x * float64(k.Scale)
				}
			}
			top, sum := slices.Max(scores), 0.0
			o := make([]float64, d)
			for t, x := range scores {
				p := math.Exp(x - top)
				sum += p
				for i, v := range keys[t][(k.Heads+k.KVHeads+int(item.KVHead))*d:][:d] {
					o[i] += p * v
				}
			}
			out := hostView[uint16](dst[token*cuda.Pitch(k.Heads*d, true):])[head*d:]
			for i, x := range o {
				out[i] = num.BF16(float32(x / sum))
			}
		}
	}
	return count
}

func hostRowwise(k *rt.Kernel, a *hostArgs) int {
	rows, src, dst, gamma := a.number(), hostView[float32](a.memory()), a.memory(), hostView[float32](a.memory())
	var beta []float32
	if k.Beta {
		beta = hostView[float32](a.memory())
	}
	out := result{dst: dst, cols: k.K, bf16: k.Out == rt.BF16}
	for r := range rows {
		row := num.Float64s(src[r*k.K:][:k.K])
		mean, sum := 0.0, 0.0
		for _, x := range row {
			mean += x / float64(k.K)
		}
		if k.Norm == rt.RMSNorm {
			mean = 0
		}
		for _, x := range row {
			sum += (x - mean) * (x - mean)
		}
		for i, x := range row {
			row[i] = (x - mean) / math.Sqrt(sum/float64(k.K)+float64(k.Eps)) * float64(gamma[i])
			if beta != nil {
				row[i] += float64(beta[i])
			}
		}
		out.put(r, row)
	}
	return rows
}

func hostGather(k *rt.Kernel, a *hostArgs) int {
	rows, index, table := a.number(), hostView[int32](a.memory()), a.memory()
	out := result{dst: a.memory(), cols: k.K, shadow: a.memory(), stats: a.memory()}
	var pos []int32
	var posTable []float32
	if k.AddPositions {
		pos, posTable = hostView[int32](a.memory()), hostView[float32](a.memory())
	}
	for r := range rows {
		var row []float64
		if k.Activations {
			row = num.Float64s(hostView[float32](table[4*k.K*int(index[r]):])[:k.K])
		} else {
			row = bfRow(table, int(index[r]), k.K, 2*k.KPad)
		}
		for i := range row {
			if pos != nil {
				row[i] += float64(posTable[int(pos[r])*k.K+i])
			}
		}
		out.put(r, row)
	}
	return rows
}

func hostTopK(width int, a *hostArgs) error {
	rows, k, logits := a.number(), a.number(), hostView[float32](a.memory())
	ids, best, sums := hostView[int32](a.memory()), hostView[float32](a.memory()), hostView[float32](a.memory())
	for r := range rows {
		row := logits[r*width:][:width]
		order := make([]int32, width)
		sum, top := 0.0, slices.Max(row)
		for i, x := range row {
			order[i] = int32(i)
			sum += math.Exp(float64(x - top))
		}
		sort.SliceStable(order, func(i, j int) bool { return row[order[i]] > row[order[j]] })
		for i, id := range order[:min(k, width)] {
			ids[r*cuda.MaxTopK+i], best[r*cuda.MaxTopK+i] = id, row[id]
		}
		sums[2*r], sums[2*r+1] = top, float32(sum)
	}
	return nil
}
