package kernel

import (
	"fmt"

	"github.com/bertc/bertc/ir"
)

// This file owns the plans of wgmma: which are legal, and what they are predicted to take. The
// kernels are codegen/ptx/wgmma.go and flash.go.

// Limits of the kernels on wgmma.
const (
	wgmmaRows     = 64  // of A, that one instruction multiplies
	wgmmaRopeHead = 128 // elements of the largest head that is rotated: its angles are in registers
	wgmmaHead     = 64  // elements of a head of attention
	wgmmaGroup    = 192 // rows of a block of attention, whole queries of all heads of a group
	wgmmaKeys     = 128 // keys of a block of attention
	wgmmaStages   = 8
)

// wgmmaBarriers are bytes of shared memory beside the stages: the barriers, and what aligning to
// the swizzle takes.
const wgmmaBarriers = 2048

// checkWgmma returns why plan p by wgmma cannot do s, "" if it can.
func checkWgmma(s Spec, p Plan) string {
	if s.Kind == Attention {
		switch g := s.Heads / s.KVHeads; {
		case s.HeadDim != wgmmaHead:
			return fmt.Sprintf("wgmma needs heads of %d elements, found %d", wgmmaHead, s.HeadDim)
		case s.In != ir.BF16 || s.Out != ir.BF16:
			return "wgmma reads and writes attention in bf16"
		case wgmmaGroup%g != 0:
			return fmt.Sprintf("groups of %d heads do not divide %d rows", g, wgmmaGroup)
		case p.BlockM != wgmmaGroup || p.BlockN != wgmmaKeys:
			return fmt.Sprintf("wgmma takes blocks of %d rows and %d keys", wgmmaGroup, wgmmaKeys)
		}
		return ""
	}
	unit := PanelN
	switch rope := s.Epilogue.Has(Rope); {
	case s.Weight != ir.BF16:
		return "wgmma needs bf16 weights"
	case rope && (s.HeadDim%16 != 0 || s.HeadDim > wgmmaRopeHead || s.N%s.HeadDim != 0):
		return fmt.Sprintf("wgmma rotates heads of a multiple of 16 elements up to %d, found %d", wgmmaRopeHead, s.HeadDim)
	case rope && (s.Out != ir.BF16 || s.Epilogue.Has(Residual)):
		return "wgmma writes rotated heads as bf16, without a residual"
	case rope:
		unit = 16
	case s.Epilogue.Has(GLU) && s.Out != ir.BF16:
		return "wgmma writes gated columns as bf16"
	case s.Epilogue.Has(Residual) && s.N%4 != 0, s.Out == ir.F32 && s.N%2 != 0:
		return fmt.Sprintf("rows of %d columns do not align the stores of wgmma", s.N)
	}
	cluster := p.BlockM / max(p.MicroM, 1)
	switch {
	case p.MicroM != wgmmaRows && p.MicroM != 2*wgmmaRows:
		return fmt.Sprintf("tile of %d rows is not %d or %d", p.MicroM, wgmmaRows, 2*wgmmaRows)
	case p.BlockM != p.MicroM && p.BlockM != 2*p.MicroM:
		return "a cluster has one or two tiles"
	case p.MicroN < unit || p.MicroN > 256 || p.MicroN%unit != 0:
		return fmt.Sprintf("tile of %d columns is not a multiple of %d in %d..256", p.MicroN, unit, unit)
	case p.MicroN%(8*cluster) != 0:
		return fmt.Sprintf("%d columns cannot be shared out to a cluster", p.MicroN)
	case p.BlockN < 2 || p.BlockN > wgmmaStages:
		return fmt.Sprintf("%d stages are not in 2..%d", p.BlockN, wgmmaStages)
	case p.wgmmaShared() > DeviceShared:
		return fmt.Sprintf("%d stages take %d bytes of shared memory, there are %d", p.BlockN, p.wgmmaShared(), DeviceShared)
	}
	return ""
}

// wgmmaShared returns the bytes of shared memory of a CTA of a matmul.
func (p Plan) wgmmaShared() int {
	return wgmmaBarriers + p.BlockN*(p.MicroM+p.MicroN)*2*deviceK
}

// wgmmaSpace yields the plans by wgmma that Check may find legal. A pipeline is as deep as fits.
func wgmmaSpace(s Spec, target string) []Plan {
	p := Plan{Kind: s.Kind, Target: target, Inst: "wgmma"}
	if s.Kind == Attention {
		p.BlockM, p.BlockN = wgmmaGroup, wgmmaKeys
		return []Plan{p}
	}
	var plans []Plan
	for _, p.MicroM = range []int{wgmmaRows, 2 * wgmmaRows} {
		for p.MicroN = 16; p.MicroN <= 256; p.MicroN += 16 {
			for _, cluster := range []int{1, 2} {
				p.BlockM = cluster * p.MicroM
				p.BlockN = wgmmaStages
				for p.wgmmaShared() > DeviceShared {
					p.BlockN--
				}
				plans = append(plans, p)
			}
		}
	}
	return plans
}

// What an H100 SXM does in a cycle of about 1.755 GHz, and a multiprocessor of it.
const (
	deviceSMs    = 132
	wgmmaMACs    = 2048 // of a multiprocessor: 989 TFLOP/s of all (NVIDIA H100 data sheet)
	sharedBytes  = 128  // from its shared memory
	l2Bytes      = 56   // from the second-level cache and by multicast: 64 at most
	l2Total      = 4224 // 7.4 TB/s from that cache to all of them, an estimate
	memoryBytes  = 1909 // 3.35 TB/s from memory (data sheet)
	wgmmaStart   = 1500 // cycles from the launch to the first product, an estimate
	wgmmaPerCols = 6    // cycles of the epilogue for a column of the tile, an estimate
)

// WgmmaCycles predicts the cycles of a matmul of so many rows: of its waves of tiles, each bound by
// products, by shared memory or by the copies to it, or of reading everything once. It is the model
// of DeepGEMM's choice of tiles (deepseek-ai/DeepGEMM, sm90.hpp), with the epilogue.
func WgmmaCycles(s Spec, p Plan, rows int) float64 {
	cluster := p.BlockM / p.MicroM
	tiles := cluster * ((rows + p.BlockM - 1) / p.BlockM) * ((s.WeightRows() + p.MicroN - 1) / p.MicroN)
	waves := (tiles + deviceSMs - 1) / deviceSMs
	steps := (s.K + deviceK - 1) / deviceK
	multiply := float64(p.MicroM*p.MicroN*deviceK) / wgmmaMACs
	read := float64(p.MicroM/wgmmaRows*(wgmmaRows+p.MicroN)*2*deviceK) / sharedBytes
	copied := min(p.MicroM, rows) // of A
	load := max(float64((copied+p.MicroN)*2*deviceK)/l2Bytes,
		float64((copied+p.MicroN/cluster)*2*deviceK)*float64(min(tiles, deviceSMs))/l2Total)
	tile := float64(steps)*max(multiply, read, load) + float64(wgmmaPerCols*p.MicroN)
	return wgmmaStart + max(float64(waves)*tile, float64(s.deviceBytes(rows))/memoryBytes)
}

// wgmmaCost is Cost: the share of the cycles of a few sizes of large batches that are not products.
func wgmmaCost(s Spec, p Plan) float64 {
	if s.Kind == Attention {
		return 0
	}
	cycles, products := 0.0, 0.0
	for rows := 8192; rows <= 16384; rows *= 2 {
		cycles += WgmmaCycles(s, p, rows) / float64(rows)
		products += float64(s.WeightRows()) * float64(s.K) / (wgmmaMACs * deviceSMs)
	}
	return 1 - products/cycles
}

// WgmmaPlan returns the plan by wgmma that is predicted to be the fastest for so many rows.
func WgmmaPlan(s Spec, target string, rows int) Plan {
	var best Plan
	cost := 0.0
	for _, p := range wgmmaSpace(s, target) {
		if checkWgmma(s, p) != "" {
			continue
		}
		if c := WgmmaCycles(s, p, rows); best == (Plan{}) || c < cost {
			best, cost = p, c
		}
	}
	return best
}
