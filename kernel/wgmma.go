package kernel

import (
	"fmt"
	"slices"

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
	wgmmaShort    = 96  // tokens of a sequence up to which it works on a multiple of 32 keys instead
	wgmmaStages   = 8
	wgmmaLeast    = 4 // stages of a plan of Space: fewer do not cover the way from memory, an estimate
	// wgmmaHalf is the shared memory of a CTA of which a multiprocessor holds two: of its 233472 bytes
	// each takes 1024 for the system (CUDA C Programming Guide, compute capability 9.0).
	wgmmaHalf = 233472/2 - 1024
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
		case p.BlockM != wgmmaGroup && (p.BlockM != wgmmaFewItem(s) || p.BlockM == 0), p.BlockN != wgmmaKeys:
			return fmt.Sprintf("wgmma takes blocks of %d or %d rows and %d keys", wgmmaGroup, wgmmaFewItem(s), wgmmaKeys)
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
	case !slices.Contains(wgmmaTileRows, p.MicroM):
		return fmt.Sprintf("tile of %d rows is not one of %d", p.MicroM, wgmmaTileRows)
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

// wgmmaTileRows are the rows that a tile may have. One of fewer than an instruction multiplies has its
// own rows of A in shared memory, and zeros.
var wgmmaTileRows = []int{16, 32, wgmmaRows, 2 * wgmmaRows}

// wgmmaFewRows reports whether a tile of so many rows is one for small batches, which wait for the launch
// ahead and for weights, and not for products: two of its CTAs share a multiprocessor, so that the next
// launch is there before this one has ended, and fetches its weights ahead.
func wgmmaFewRows(rows int) bool { return rows <= wgmmaRows }

// wgmmaShared returns the bytes of shared memory of a CTA of a matmul.
func (p Plan) wgmmaShared() int {
	return wgmmaBarriers + p.BlockN*(roundUp(p.MicroM, wgmmaRows)+p.MicroN)*2*deviceK
}

// wgmmaSpace yields the plans by wgmma that Check may find legal. A pipeline is as deep as fits.
func wgmmaSpace(s Spec, target string) []Plan {
	p := Plan{Kind: s.Kind, Target: target, Inst: "wgmma"}
	if s.Kind == Attention {
		p.BlockM, p.BlockN = wgmmaGroup, wgmmaKeys
		return []Plan{p}
	}
	var plans []Plan
	for _, p.MicroM = range wgmmaTileRows {
		room := DeviceShared
		if wgmmaFewRows(p.MicroM) {
			room = wgmmaHalf
		}
		for p.MicroN = 16; p.MicroN <= 256; p.MicroN += 16 {
			for _, cluster := range []int{1, 2} {
				p.BlockM = cluster * p.MicroM
				p.BlockN = wgmmaStages
				for p.wgmmaShared() > room {
					p.BlockN--
				}
				if p.BlockN >= wgmmaLeast {
					plans = append(plans, p)
				}
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

// aheadBytes are weights that a launch fetches into the second-level cache before the one ahead has
// ended: about what memory gives in the 1500 cycles of a start and the 2800 of the shortest matmul of
// the full size, and a sixth of that cache.
const aheadBytes = 8 << 20

// wgmmaBusy predicts the cycles of the tiles of a matmul of so many rows, one wave of them after the
// other, each bound by products, by shared memory or by the copies to it, with the epilogue. It is the
// model of DeepGEMM's choice of tiles (deepseek-ai/DeepGEMM, sm90.hpp).
func wgmmaBusy(s Spec, p Plan, rows int) float64 {
	cluster := p.BlockM / p.MicroM
	tiles := wgmmaTiles(s, p, rows)
	waves := (tiles + deviceSMs - 1) / deviceSMs
	multiplied := roundUp(p.MicroM, wgmmaRows)
	multiply := float64(multiplied*p.MicroN*deviceK) / wgmmaMACs
	read := float64(multiplied/wgmmaRows*(wgmmaRows+p.MicroN)*2*deviceK) / sharedBytes
	load := max(float64((p.MicroM+p.MicroN)*2*deviceK)/l2Bytes,
		float64((p.MicroM+p.MicroN/cluster)*2*deviceK)*float64(min(tiles, deviceSMs))/l2Total)
	tile := float64(s.deviceSteps())*max(multiply, read, load) + float64(wgmmaPerCols*p.MicroN)
	return float64(waves) * tile
}

// wgmmaTiles is how many tiles a matmul of so many rows has.
func wgmmaTiles(s Spec, p Plan, rows int) int {
	cluster := p.BlockM / p.MicroM
	return cluster * ((rows + p.BlockM - 1) / p.BlockM) * ((s.WeightRows() + p.MicroN - 1) / p.MicroN)
}

// deviceSteps is how many stages a sum over K takes.
func (s Spec) deviceSteps() int { return (s.K + deviceK - 1) / deviceK }

// WgmmaCycles predicts the cycles of a matmul of so many rows: of its tiles, or of reading everything
// once.
func WgmmaCycles(s Spec, p Plan, rows int) float64 {
	return wgmmaStart + max(wgmmaBusy(s, p, rows), float64(s.deviceBytes(rows))/memoryBytes)
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

// WgmmaPlan returns the plan by wgmma that is predicted to be the fastest for so many rows; of those that
// wait for memory, the one whose tiles take least.
func WgmmaPlan(s Spec, target string, rows int) Plan {
	var best Plan
	var cost [2]float64
	for _, p := range wgmmaSpace(s, target) {
		if checkWgmma(s, p) != "" {
			continue
		}
		c := [2]float64{WgmmaCycles(s, p, rows), wgmmaBusy(s, p, rows)}
		if best == (Plan{}) || slices.Compare(c[:], cost[:]) < 0 {
			best, cost = p, c
		}
	}
	return best
}

// WgmmaVariant is the plan that runs for batches of at most MaxRows rows, 0 for any number.
type WgmmaVariant struct {
	MaxRows int
	Plan    Plan
}

// wgmmaBatches are the sizes of batches that may have a tile of their own, besides the largest.
var wgmmaBatches = []int{32, 64, 128, 256, 512, 1024, 4096}

// wgmmaFewItem is the rows of a block of attention for few rows, whole queries as far as one instruction
// multiplies them; 0 where a query has more.
func wgmmaFewItem(s Spec) int {
	g := s.Heads / s.KVHeads
	return wgmmaRows / g * g
}

// WgmmaVariants returns the plans by rows: p for large batches, and before it those for fewer.
func WgmmaVariants(s Spec, p Plan) []WgmmaVariant {
	var out []WgmmaVariant
	for _, rows := range append(slices.Clone(wgmmaBatches), 0) {
		v := WgmmaVariant{rows, wgmmaVariant(s, p, rows)}
		if n := len(out); n > 0 && out[n-1].Plan == v.Plan {
			out = out[:n-1]
		}
		out = append(out, v)
	}
	return out
}

// wgmmaVariant returns the plan for batches of at most so many rows, one of wgmmaBatches: that of a matmul is
// predicted to be the fastest. Attention has small blocks where two for each multiprocessor are enough. For
// 0, any number of rows, it is p.
func wgmmaVariant(s Spec, p Plan, rows int) Plan {
	if rows == 0 {
		return p
	}
	if s.Kind == Gemm {
		return WgmmaPlan(s, p.Target, rows)
	}
	if n := wgmmaFewItem(s); rows*s.Heads <= 2*deviceSMs*n {
		p.BlockM = n
	}
	return p
}

// wgmmaBatch returns the size of wgmmaBatches that a batch of so many rows belongs to, 0 above the largest.
func wgmmaBatch(rows int) int {
	for _, n := range wgmmaBatches {
		if rows <= n {
			return n
		}
	}
	return 0
}

// WgmmaAhead returns how many steps of K have their weights fetched before the launch ahead has ended, by
// the CTAs of the first wave: as many as there are stages, and with a tile for few rows those that
// aheadBytes of all weights are.
func WgmmaAhead(s Spec, p Plan) int {
	ahead := p.BlockN
	if wgmmaFewRows(p.MicroM) {
		ahead = max(ahead, aheadBytes/(2*deviceK*s.WeightRows()))
	}
	return min(ahead, s.deviceSteps())
}
