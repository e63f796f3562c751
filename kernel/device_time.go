package kernel

// This file owns what a step is predicted to take on an H100, and the least that its roofline allows.
// Nothing here is measured: the rates are those of the data sheet and of the estimates beside
// WgmmaCycles.

const (
	deviceClock = 1.755e9 // cycles in a second, at which wgmmaMACs are the rate of the data sheet
	// sustained is the rate of products that the limit of power leaves: 795 TFLOP/s of cuBLAS at 8192³
	// (README of pranjalssh/fast.cu).
	sustained = 0.8
	// mmaRate is the rate of mma.sync relative to wgmma, an estimate: it cannot keep the tensor cores of
	// sm_90 busy.
	mmaRate = 0.6
	// exponentials of a multiprocessor in a cycle (CUDA C Programming Guide, arithmetic instructions,
	// compute capability 9.0).
	exponentials = 16
	// streamed is the share of the rate of memory at which kernels of few rows stream weights: 3000 GB/s of
	// an H800 SXM5 (README of deepseek-ai/FlashMLA), whose memory is that of the H100.
	streamed = 0.9
)

// DeviceStep is a prediction for one step.
type DeviceStep struct {
	Plan    Plan    // what runs for so many rows
	Seconds float64 // predicted, from the end of the step before to its own end
	Floor   float64 // of products at the full rate, or of reading and writing everything once
	Memory  bool    // the floor is that of memory

	// What the next step may use, where this one lets it start early and leaves it room (wgmmaFewRows): cycles in
	// which memory was idle, and the CTAs that were there then.
	idle float64
	ctas int
}

// PredictDevice predicts a step of plan p on sequences of these lengths, after another one. A matmul of few
// rows fetches weights while the step before leaves memory idle (WgmmaAhead), and attention of few rows,
// which has no weights, passes on what the step before it left, if the CTAs of both take one of the two
// places of a multiprocessor at most, and leave the other to the next. The step before must be of few rows
// too: the CTAs of other tiles fill a multiprocessor. Nothing else of two steps overlaps.
func PredictDevice(s Spec, p Plan, lengths []int, before DeviceStep) DeviceStep {
	rows, flops := 0, 0.0
	for _, n := range lengths {
		rows += n
		if s.Kind == Attention {
			flops += float64(s.Flops(n))
		}
	}
	if s.Kind == Gemm {
		flops = float64(s.Flops(rows))
	}
	memory := float64(s.deviceBytes(rows)) / memoryBytes
	products := flops / 2 / (wgmmaMACs * deviceSMs)
	d := DeviceStep{Plan: p, Floor: max(products, memory) / deviceClock, Memory: memory > products}
	busy, passed := 0.0, 0.0
	wgmma, few := p.Inst == "wgmma", false
	if wgmma {
		d.Plan = wgmmaVariant(s, p, wgmmaBatch(rows))
	}
	switch {
	case s.Kind == Attention:
		busy = s.attentionCycles(d.Plan, lengths)
		few = wgmma && wgmmaFewRows(d.Plan.BlockM)
		for _, n := range lengths {
			d.ctas += s.attentionItems(d.Plan, n)
		}
		if d.ctas += before.ctas; few && d.ctas <= deviceSMs {
			passed = before.idle
		}
	case wgmma:
		busy = wgmmaBusy(s, d.Plan, rows)
		few = wgmmaFewRows(d.Plan.MicroM)
		tiles := wgmmaTiles(s, d.Plan, rows)
		d.ctas = min(tiles, deviceSMs)
		if few {
			memory /= streamed
			// The CTAs of the first wave fetch the weights of their columns.
			fetched := float64(WgmmaAhead(s, d.Plan)*2*deviceK*s.WeightRows()) * float64(d.ctas) / float64(tiles)
			memory -= min(before.idle, fetched/memoryBytes/streamed)
		}
	case s.Kind == Gemm:
		tiles := (rows + p.MicroM - 1) / p.MicroM * ((s.WeightRows() + p.MicroN - 1) / p.MicroN)
		tile := float64(p.MicroM*roundUp(p.MicroN, PanelN)) * float64(s.KPad()) / (mmaRate * wgmmaMACs)
		busy = float64((tiles+deviceSMs-1)/deviceSMs) * tile
	}
	cycles := wgmmaStart + max(busy, memory)
	if few {
		d.idle = cycles - memory + passed
	}
	d.Seconds = cycles / deviceClock
	if !d.Memory && s.Kind == Gemm {
		d.Seconds /= sustained
	}
	return d
}

// deviceBytes returns what a kernel of so many rows reads and writes, everything once.
func (s Spec) deviceBytes(rows int) int {
	switch s.Kind {
	case Gemm:
		row := 2*s.K + s.N*s.Out.Size() // f32 rows are read by their bf16 copy
		if s.Epilogue.Has(Residual) {
			row += 4*s.N + 2*s.N // read, and the copy that is written
		}
		return 2*s.WeightRows()*s.K + rows*row
	case Attention:
		return rows * (s.QKVCols()*s.In.Size() + s.Heads*s.HeadDim*s.Out.Size())
	case Gather:
		return rows * s.K * (s.Weight.Size() + s.Out.Size())
	}
	return rows * s.K * (s.In.Size() + s.Out.Size())
}

// attentionCycles returns the cycles of the items of attention on all multiprocessors: of each, two
// products and the exponentials between them, which overlap only in part: FlashAttention-3 reaches 46 %
// of the rate of the products at heads of 64 (assets/flash3_fp16_fwd.png in its repository),
// about what the sum of both gives. One item alone also waits for its queries, and for the keys and values
// of its first block.
func (s Spec) attentionCycles(p Plan, lengths []int) float64 {
	rate, head, rows := mmaRate*wgmmaMACs, roundUp(s.HeadDim, 16), p.BlockM
	if p.Inst == "wgmma" {
		rate, head, rows = wgmmaMACs, s.HeadDim, roundUp(p.BlockM, wgmmaRows)
	}
	cycles, longest := 0.0, 0.0
	for _, n := range lengths {
		keys := roundUp(n, p.BlockN)
		if p.Inst == "wgmma" && n <= wgmmaShort {
			keys = roundUp(n, 32)
		}
		scores := float64(rows * keys)
		item := 2*scores*float64(head)/rate + scores/exponentials
		cycles += float64(s.attentionItems(p, n)) * item
		copied := float64((p.BlockM+2*min(keys, p.BlockN))*2*s.HeadDim) / l2Bytes
		longest = max(longest, copied+item)
	}
	return max(cycles/deviceSMs, longest)
}

// attentionItems is how many blocks of rows a sequence of n tokens has.
func (s Spec) attentionItems(p Plan, n int) int {
	return (n*s.Heads/s.KVHeads + p.BlockM - 1) / p.BlockM * s.KVHeads
}
