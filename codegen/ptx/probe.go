package ptx

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the probes: small kernels that ask a device whether wgmma and TMA move what the
// documents say they do, since the kernels and the emulator share one reading of them. They run
// on the emulator in a test, and on an H100 before anything else does.
//
// Most probes are exact: their numbers are integers whose sums are f32, and the result is compared bit
// for bit with what the formulas below make of the input. Formulas: PTX ISA, "Register Fragments for
// wgmma.mma_async" and "Shared Memory Matrix Layout"; CUTLASS, cute/atom/mma_traits_sm90_gmma.hpp.

// Probe is a question to a device.
type Probe struct {
	Name string
	// Asks is what the probe shows.
	Asks string

	entry          *entry
	shared         int
	src, registers []byte           // shared memory before wgmma, or the tensor of a copy; those of A
	tensor         *cuda.TensorMap  // of a copy; its address is that of src
	out            int              // bytes of the result
	want           func([]byte) int // first byte of a result that is wrong, or -1
	// columns is how many columns a result of wgmma has that must equal those of the other probes
	// with such columns in every bit, of the first 16.
	columns int
}

// probeLayout is a way in which a tile lies in shared memory: rows of width bytes that are swizzled
// over as many, or core matrices of 8 rows of 16 bytes that are not. A row is along K, or along the
// rows of A or columns of B (mn).
type probeLayout struct {
	width int
	mn    bool
}

func (l probeLayout) String() string {
	major := "K"
	if l.mn {
		major = "MN"
	}
	if l.width == 16 {
		return fmt.Sprintf("%s-major, no swizzle", major)
	}
	return fmt.Sprintf("%s-major, %d-byte swizzle", major, l.width)
}

// strides returns the leading and the stride byte offset of a tile of 16 of K.
func (l probeLayout) strides() (leading, stride int) {
	switch {
	case l.width == 16:
		return 128, 256
	case l.mn:
		return 16 * l.width, 8 * l.width
	}
	return 16, 8 * l.width // leading is not used
}

// bytes is the size of a tile of so many rows of A or columns of B.
func (l probeLayout) bytes(rows int) int {
	if l.mn {
		return ceilDiv(rows, l.width/2) * 16 * l.width
	}
	return rows * max(l.width, 32)
}

// at returns where the tile has an element.
func (l probeLayout) at(row, k int) int {
	leading, stride := l.strides()
	switch {
	case l.mn:
		per := l.width / 2
		return swizzled(row%per*2+row/per*leading+k%8*l.width+k/8*stride, l.width)
	case l.width == 16:
		return row/8*stride + row%8*16 + k/8*leading + k%8*2
	}
	return swizzled(row/8*stride+row%8*l.width+2*k, l.width)
}

// descriptor returns the constant bits of the descriptor.
func (l probeLayout) descriptor() (low, high int) {
	leading, stride := l.strides()
	kind := map[int]int{16: 0, 32: 3, 64: 2, 128: 1}[l.width]
	return leading >> 4 << 16, kind<<30 | stride>>4
}

// swizzled returns an address under the swizzle of so many bytes: the number of a 16-byte chunk in
// a row is XORed with the number of the row of 128 bytes (CuTe, Swizzle<B,4,3>).
func swizzled(address, width int) int { return address ^ address>>3&(width-1)&^15 }

// fragmentA returns the element that half i of register q of a thread has.
func fragmentA(thread, q, i int) (row, k int) {
	w, l := thread/32, thread%32
	return 16*w + l/4 + 8*(q&1), 2*(l%4) + 8*(q>>1) + i
}

// fragmentD returns the element that register i of a thread has.
func fragmentD(thread, i int) (row, col int) {
	w, l := thread/32, thread%32
	return 16*w + l/4 + i/2%2*8, i/4*8 + 2*(l%4) + i%2
}

// probeColumns are the widths of tiles. What a column is must not depend on them: the tile of a matmul
// depends on the size of the batch.
var probeColumns = []int{16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256}

// Probes returns all probes.
func Probes() []Probe {
	var out []Probe
	layouts := []probeLayout{{16, false}, {32, false}, {64, false}, {128, false}, {32, true}, {64, true}, {128, true}}
	plain := probeLayout{128, false}
	for i, l := range layouts {
		out = append(out, productProbe(fmt.Sprintf("wgmma_b%d", i), "registers of A and D, B "+l.String(), nil, l, 64, 1, false))
		out = append(out, productProbe(fmt.Sprintf("wgmma_a%d", i), "A "+l.String(), &l, plain, 64, 1, false))
	}
	for _, n := range probeColumns {
		out = append(out, productProbe(fmt.Sprintf("wgmma_n%d", n), fmt.Sprintf("%d columns, four steps of K", n), &plain, plain, n, maxK16, false))
		out = append(out, productProbe(fmt.Sprintf("wgmma_sum%d", n), fmt.Sprintf("the rounding of sums, %d columns", n), &plain, plain, n, maxK16, true))
	}
	for _, span := range []int{0, 32, 64, 128} {
		out = append(out, copyProbe(span))
	}
	return append(out, poolProbe())
}

// productProbe multiplies a tile of 64 rows, from registers where a is nil, and n columns, in steps
// of K that are 32 bytes apart. Its numbers are integers, or such that sums are rounded.
func productProbe(name, asks string, a *probeLayout, b probeLayout, n, steps int, rounded bool) Probe {
	const rows = 64
	r := rand.New(rand.NewPCG(1, uint64(steps)))
	draw := func(count int) []float32 {
		v := make([]float32, count)
		for i := range v {
			v[i] = float32(r.IntN(255) - 127)
			if rounded {
				v[i] = math.Float32frombits(math.Float32bits(float32(r.NormFloat64())) &^ 0xffff)
			}
		}
		return v
	}
	k := 16 * steps
	av, bv := draw(rows*k), draw(n*k)
	put := func(to []byte, at int, v float32) { // v is a bf16
		binary.LittleEndian.PutUint16(to[at:], uint16(math.Float32bits(v)>>16))
	}

	// A lies at 0, B at the next multiple of what a swizzle repeats after.
	bAt := ceilDiv(probeLayout{128, false}.bytes(rows), swizzleAtom) * swizzleAtom
	p := Probe{Name: name, Asks: asks, src: make([]byte, bAt+b.bytes(n)), registers: make([]byte, warpgroup*16), out: warpgroup * n / 2 * 4}
	for i, v := range bv {
		put(p.src, bAt+b.at(i/k, i%k), v)
	}
	if a != nil {
		for i, v := range av {
			put(p.src, a.at(i/k, i%k), v)
		}
	} else {
		for i := range warpgroup * 8 {
			row, at := fragmentA(i/8, i/2%4, i%2)
			put(p.registers, 2*i, av[row*k+at])
		}
	}
	// Sums of integers are exact; of others each of k additions may be cut, a unit of the sizes.
	sums, bounds := make([]float64, warpgroup*n/2), make([]float64, warpgroup*n/2)
	for i := range sums {
		row, col := fragmentD(i/(n/2), i%(n/2))
		for j := range k {
			product := float64(av[row*k+j]) * float64(bv[col*k+j])
			sums[i] += product
			bounds[i] += math.Abs(product)
		}
		bounds[i] *= float64(k) * 0x1p-23
		if !rounded {
			bounds[i] = 0
		}
	}
	p.want = func(got []byte) int {
		for i, sum := range sums {
			v := math.Float32frombits(binary.LittleEndian.Uint32(got[4*i:]))
			if !(math.Abs(float64(v)-sum) <= bounds[i]) {
				return 4 * i
			}
		}
		return -1
	}
	if rounded {
		p.columns = n
	}
	p.shared = len(p.src) + sharedSlack

	e := newEntry(name, warpgroup)
	p.entry = e
	src, regs, dst := e.pointer(cuda.OperandSrc), e.pointer(cuda.OperandW), e.pointer(cuda.OperandDst)
	base, tid := e.shared(), e.r("mov.u32", "%tid.x")
	chunk := e.r("shl.b32", tid, 4)
	offset := e.r("mov.u32", chunk)
	e.loop(offset, len(p.src), warpgroup*16, func() {
		v := many(4, e.b32)
		e.do("ld.global.v4.b32", vec(v...), at(e.rd("mad.wide.u32", offset, 1, src), 0))
		e.do("st.shared.v4.b32", at(e.r("add.u32", base, offset), 0), vec(v...))
	})
	e.do("fence.proxy.async.shared::cta")
	e.do("bar.sync", 0)
	fragment := many(4, e.b32)
	e.do("ld.global.v4.b32", vec(fragment...), at(e.rd("mad.wide.u32", chunk, 1, regs), 0))
	tile := func(l probeLayout, offset int) func(step int) reg {
		low, high := l.descriptor()
		start := e.r("or.b32", e.r("shr.u32", e.r("add.u32", base, offset), 4), low)
		return func(step int) reg { return e.descriptor(start, step*kStep, high) }
	}
	trans := func(l probeLayout) int {
		if l.mn {
			return 1
		}
		return 0
	}
	d := many(n/2, e.f32)
	descB := tile(b, bAt)
	e.do("wgmma.fence.sync.aligned")
	for step := range steps {
		op := fmt.Sprintf("wgmma.mma_async.sync.aligned.m64n%dk16.f32.bf16.bf16", n)
		if a == nil {
			e.do(op, vec(d...), vec(fragment...), descB(step), min(step, 1), 1, 1, trans(b))
		} else {
			e.do(op, vec(d...), tile(*a, 0)(step), descB(step), min(step, 1), 1, 1, trans(*a), trans(b))
		}
	}
	e.do("wgmma.commit_group.sync.aligned")
	e.do("wgmma.wait_group.sync.aligned", 0)
	row := e.rd("mad.wide.u32", tid, 4*n/2, dst)
	for i := 0; i < len(d); i += 4 {
		e.do("st.global.v4.f32", at(row, 4*i), vec(d[i:i+4]...))
	}
	e.do("ret")
	return p
}

// copyProbe copies a box that reaches beyond its tensor on two sides, and shows the shared memory
// and whether the bytes of the whole box were counted.
func copyProbe(span int) Probe {
	const rows, cols, boxRows = 21, 88, 16
	width := max(span, 32) // bytes of a row of the box
	first := cols - width/2 + 8
	p := Probe{
		Name: fmt.Sprintf("tma_%d", span), Asks: fmt.Sprintf("a box beyond its tensor, %d-byte swizzle", span),
		src: make([]byte, rows*cols*2), registers: make([]byte, 16), out: boxRows*width + 16,
		tensor: &cuda.TensorMap{Dims: []uint64{cols, rows}, Strides: []uint64{2 * cols}, Box: []uint32{uint32(width / 2), boxRows}, Swizzle: span},
	}
	for i := range rows * cols {
		binary.LittleEndian.PutUint16(p.src[2*i:], uint16(i+1))
	}
	const firstRow = rows - boxRows + 3
	want := make([]byte, p.out)
	for r := range boxRows {
		for c := range width / 2 {
			if row, col := firstRow+r, first+c; row < rows && col < cols {
				to := r*width + 2*c
				if span > 0 {
					to = swizzled(to, span)
				}
				binary.LittleEndian.PutUint16(want[to:], uint16(row*cols+col+1))
			}
		}
	}
	want[boxRows*width] = 1 // the phase completed
	p.want = func(got []byte) int { return firstDifference(got, want) }
	data := swizzleAtom
	p.shared = data + boxRows*width + sharedSlack

	e := newEntry(p.Name, 32)
	p.entry = e
	tensor := e.param(cuda.Param{Kind: cuda.ParamMap})
	dst := e.pointer(cuda.OperandDst)
	base, lane := e.shared(), e.r("mov.u32", "%tid.x")
	box := e.r("add.u32", base, data)
	e.when(e.p("setp.eq.u32", lane, 0), func() {
		e.do("mbarrier.init.shared::cta.b64", at(base, 0), 1)
		e.do("fence.mbarrier_init.release.cluster")
		e.do("mbarrier.arrive.expect_tx.shared::cta.b64", "_", at(base, 0), boxRows*width)
		e.copyBox(box, tensor, base, nil, e.r("mov.u32", first), e.r("mov.u32", firstRow))
	})
	e.do("bar.sync", 0)
	// A wait with an end: the count may never be reached.
	done, complete := e.pred(), e.r("mov.u32", 0)
	try := e.r("mov.u32", 0)
	zero := e.r("mov.u32", 0)
	e.loop(try, 1<<16, 1, func() {
		e.do("mbarrier.try_wait.parity.shared::cta.b64", done, at(base, 0), zero)
		e.doIf(done, "mov.u32", complete, 1)
		e.doIf(done, "mov.u32", try, 1<<16-1)
	})
	offset := e.r("shl.b32", lane, 4)
	e.loop(offset, boxRows*width, 32*16, func() {
		v := many(4, e.b32)
		e.do("ld.shared.v4.b32", vec(v...), at(e.r("add.u32", box, offset), 0))
		e.do("st.global.v4.b32", at(e.rd("mad.wide.u32", offset, 1, dst), 0), vec(v...))
	})
	e.doIf(e.p("setp.eq.u32", lane, 0), "st.global.v4.b32", at(dst, boxRows*width), vec(complete, zero, zero, zero))
	e.do("ret")
	return p
}

// poolProbe asks for more registers than a CTA has: of 3·168 for each of 128 threads, one warpgroup keeps 40
// and two want 240, so that at least one of their eight warps has to wait (PTX ISA, "setmaxnreg"). The first
// warpgroup counts who got them after 10 ms, then gives up 16 more, which is enough for all.
func poolProbe() Probe {
	const warps, least = 8, 24
	p := Probe{Name: "setmaxnreg", Asks: "a warp waits for registers that the CTA lacks",
		src: make([]byte, 16), registers: make([]byte, 16), out: 8, shared: sharedSlack + 16}
	p.want = func(got []byte) int {
		switch before, after := binary.LittleEndian.Uint32(got), binary.LittleEndian.Uint32(got[4:]); {
		case before >= warps:
			return 0
		case after != warps:
			return 4
		}
		return -1
	}
	e := newEntry(p.Name, 3*warpgroup)
	e.minCTAs = 1
	p.entry = e
	e.pointer(cuda.OperandSrc)
	e.pointer(cuda.OperandW)
	dst := e.pointer(cuda.OperandDst)
	got, tid := e.shared(), e.r("mov.u32", "%tid.x")
	first := e.p("setp.eq.u32", tid, 0)
	e.doIf(first, "st.shared.b32", at(got, 0), 0)
	e.do("bar.sync", 0)
	wants, done := e.label("wants"), e.label("done")
	count := func(offset int) {
		e.doIf(first, "st.global.b32", at(dst, offset), e.r("atom.shared.add.u32", at(got, 0), 0))
	}
	e.doIf(e.p("setp.ge.u32", tid, warpgroup), "bra", wants)
	e.do("setmaxnreg.dec.sync.aligned.u32", producerRegs)
	e.loop(e.r("mov.u32", 0), 1000, 1, func() { e.do("nanosleep.u32", 10_000) })
	count(0)
	e.do("bar.sync", 1, warpgroup) // nobody gives up registers before they are counted
	e.do("setmaxnreg.dec.sync.aligned.u32", least)
	e.do("bra", done)
	e.bind(wants)
	e.do("setmaxnreg.inc.sync.aligned.u32", 240)
	e.doIf(e.p("setp.eq.u32", e.r("and.b32", tid, 31), 0), "red.shared.add.u32", at(got, 0), 1)
	e.bind(done)
	e.do("bar.sync", 0)
	count(4)
	e.do("ret")
	return p
}

func firstDifference(got, want []byte) int {
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			return i
		}
	}
	return -1
}

// RunProbes loads the probes and runs them. It returns what each found, in order: nil, or an error
// that says where its result differs. The other error is of a call of the device that failed.
func RunProbes(d cuda.Driver, probes []Probe) (found []error, err error) {
	var texts []string
	for _, p := range probes {
		texts = append(texts, p.entry.text())
	}
	if err := d.Load(Module(texts...)); err != nil {
		return nil, err
	}
	s, err := d.NewStream()
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := s.Close(); err == nil {
			err = e
		}
	}()
	var columns []byte
	for _, p := range probes {
		got, err := p.run(d, s)
		if err != nil {
			return nil, fmt.Errorf("probe %s: %w", p.Name, err)
		}
		var wrong error
		if i := p.want(got); i >= 0 {
			wrong = fmt.Errorf("the result is wrong from byte %d on", i)
		}
		if p.columns > 0 {
			first := firstColumns(got, p.columns)
			if columns == nil {
				columns = first
			}
			if i := firstDifference(first, columns); i >= 0 && wrong == nil {
				wrong = fmt.Errorf("columns have other bits than in a tile of %d", probeColumns[0])
			}
		}
		found = append(found, wrong)
	}
	return found, nil
}

// firstColumns returns the registers of the first 16 columns of all threads: eight of each.
func firstColumns(d []byte, n int) []byte {
	var out []byte
	for row := range slices.Chunk(d, n/2*4) {
		out = append(out, row[:8*4]...)
	}
	return out
}

// run returns the result of a probe.
func (p Probe) run(d cuda.Driver, s cuda.Stream) (got []byte, err error) {
	f, err := d.Function(p.Name, p.shared)
	if err != nil {
		return nil, err
	}
	memory, err := d.Alloc(len(p.src), len(p.registers), p.out)
	if err != nil {
		return nil, err
	}
	defer func() {
		if e := d.Free(memory); err == nil {
			err = e
		}
	}()
	for i, content := range [][]byte{p.src, p.registers} {
		if err := d.Upload(memory[i], content); err != nil {
			return nil, err
		}
	}
	var params []byte
	var offsets []int
	if p.tensor != nil {
		t := *p.tensor
		t.Address = memory[0]
		m, err := d.EncodeTiled(t)
		if err != nil {
			return nil, err
		}
		params, offsets = m[:], []int{0}
	} else {
		params, offsets = addPointer(addPointer(nil, memory[0]), memory[1]), []int{0, 8}
	}
	offsets = append(offsets, len(params))
	params = addPointer(params, memory[2])
	if err := s.Launch(f, cuda.LaunchSize{Grid: 1, Threads: p.entry.threads, Shared: p.shared}, params, offsets); err != nil {
		return nil, err
	}
	got = make([]byte, p.out)
	if err := s.CopyOut(got, memory[2]); err != nil {
		return nil, err
	}
	return got, s.Sync()
}

func addPointer(params []byte, p cuda.Pointer) []byte {
	return binary.LittleEndian.AppendUint64(params, uint64(p))
}
