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
)

// DeviceStep is a prediction for one step.
type DeviceStep struct {
	Plan    Plan    // what runs for so many rows
	Seconds float64 // predicted
	Floor   float64 // of products at the full rate, or of reading and writing everything once
	Memory  bool    // the floor is that of memory
}

// PredictDevice predicts a step of plan p on sequences of these lengths.
func PredictDevice(s Spec, p Plan, lengths []int) DeviceStep {
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
	cycles := wgmmaStart + memory
	switch {
	case s.Kind == Attention:
		cycles = wgmmaStart + max(s.attentionCycles(p, lengths), memory)
	case s.Kind == Gemm && p.Inst == "wgmma":
		if few := WgmmaPlan(s, p.Target, rows); WgmmaCycles(s, few, rows) < WgmmaCycles(s, p, rows) {
			d.Plan = few
		}
		cycles = WgmmaCycles(s, d.Plan, rows)
	case s.Kind == Gemm:
		tiles := (rows + p.MicroM - 1) / p.MicroM * ((s.WeightRows() + p.MicroN - 1) / p.MicroN)
		tile := float64(p.MicroM*roundUp(p.MicroN, PanelN)) * float64(s.KPad()) / (mmaRate * wgmmaMACs)
		cycles = wgmmaStart + max(float64((tiles+deviceSMs-1)/deviceSMs)*tile, memory)
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
// about what the sum of both gives.
func (s Spec) attentionCycles(p Plan, lengths []int) float64 {
	rate, head := float64(wgmmaMACs), s.HeadDim
	if p.Inst != "wgmma" {
		rate, head = rate*mmaRate, roundUp(s.HeadDim, 16)
	}
	cycles, longest := 0.0, 0.0
	for _, n := range lengths {
		blocks := (n*s.Heads/s.KVHeads + p.BlockM - 1) / p.BlockM * s.KVHeads
		keys := (n + p.BlockN - 1) / p.BlockN * p.BlockN
		scores := float64(p.BlockM * keys)
		item := 2*scores*float64(head)/rate + scores/exponentials
		cycles += float64(blocks) * item
		longest = max(longest, item)
	}
	return max(cycles/deviceSMs, longest)
}
