package kernel

import (
	"fmt"
	"slices"

	"github.com/bertc/bertc/ir"
)

// This file owns the plans of the GPU: NVIDIA H100, sm_90a.
//
// A plan means there: MicroM×MicroN is the tile of a CTA, rows × rows of the weight matrix. BlockM
// is the rows of a cluster, whose CTAs share the weights that they read. BlockN is the stages of the
// pipeline that loads both factors, deviceK columns of K each. Attention has no tile but blocks:
// BlockM packed rows (queries × heads of a group) and BlockN keys of a CTA. BlockM of a rowwise or
// gather kernel is the rows of a CTA.
//
// A plan says what runs for many rows. The emitter adds smaller tiles of the same instruction for
// few rows: sums over K have one order in all of them.

var deviceTarget = Target{
	Name:   "ptx/sm90a",
	GOARCH: deviceArch,
	Insts: []Inst{
		{Name: "wgmma", Math: []ir.DType{ir.BF16}, Mul: fused},
		{Name: "mma.sync", Math: []ir.DType{ir.BF16}, Mul: fused},
	},
}

// deviceArch is no GOARCH, so that no processor runs the target.
const deviceArch = "ptx"

// Device reports whether the target is a GPU.
func (t *Target) Device() bool { return t.GOARCH == deviceArch }

// Limits of a CTA and of the kernels.
const (
	deviceK        = 64  // elements of K of a stage: 128 bytes, the span of the swizzle
	deviceHead     = 128 // elements of the largest head of attention
	deviceStatCols = 32  // output columns of a slot of row statistics (runtime/cuda)
)

// DeviceShared is the bytes of shared memory that a CTA may have (CUDA C Programming Guide, compute
// capability 9.0).
const DeviceShared = 232448

// checkDevice is Check for a GPU.
func checkDevice(s Spec, p Plan, t *Target) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("plan %s: %s", p, fmt.Sprintf(format, args...))
	}
	if s.Kind == Rowwise || s.Kind == Gather {
		if s.Kind == Gather && s.Weight != ir.F32 && s.Weight != ir.BF16 {
			return bad("no table of %s", s.Weight)
		}
		if p.BlockM < 1 || p.BlockM > 32 {
			return bad("block of %d rows is not in 1..32", p.BlockM)
		}
		if p != (Plan{Kind: p.Kind, Target: p.Target, BlockM: p.BlockM}) {
			return bad("a %s kernel has a block of rows and nothing else", s.Kind)
		}
		return nil
	}
	inst, ok := t.Inst(p.Inst)
	if !ok {
		return bad("%s has no instruction %q", t.Name, p.Inst)
	}
	if !slices.Contains(inst.Math, s.Math) {
		return bad("%s does not multiply %s", inst.Name, s.Math)
	}
	if s.Kind == Attention && (p.MicroM != 0 || p.MicroN != 0) {
		return bad("attention has blocks and no tile")
	}
	if inst.Name == "wgmma" {
		if why := checkWgmma(s, p); why != "" {
			return bad("%s", why)
		}
		return nil
	}
	if s.Kind == Attention {
		if s.HeadDim > deviceHead {
			return bad("heads of %d elements are larger than %d", s.HeadDim, deviceHead)
		}
		if !slices.Contains([]int{16, 32, 64, 128}, p.BlockM) {
			return bad("block of %d rows is not 16, 32, 64 or 128", p.BlockM)
		}
		if p.BlockN < 16 || p.BlockN > 128 || p.BlockN%16 != 0 {
			return bad("block of %d keys is not a multiple of 16 in 16..128", p.BlockN)
		}
		return nil
	}
	if s.Weight != ir.BF16 {
		return bad("%s needs bf16 weights", inst.Name)
	}
	if !slices.Contains([]int{16, 32, 64, 128}, p.MicroM) {
		return bad("tile of %d rows is not 16, 32, 64 or 128", p.MicroM)
	}
	if p.BlockM != p.MicroM {
		return bad("%s has no clusters", inst.Name)
	}
	if p.MicroN < 16 || p.MicroN > 256 {
		return bad("tile of %d columns is not in 16..256", p.MicroN)
	}
	if unit := s.TileUnit(); p.MicroN%unit != 0 {
		return bad("tile of %d columns is not a multiple of %d", p.MicroN, unit)
	}
	if p.BlockN < 2 || p.BlockN > 8 {
		return bad("%d stages are not in 2..8", p.BlockN)
	}
	if bytes := p.deviceStages(); bytes > DeviceShared {
		return bad("%d stages take %d bytes of shared memory, there are %d", p.BlockN, bytes, DeviceShared)
	}
	return nil
}

// TileUnit is what the columns of a tile of a GPU by mma.sync are a multiple of: a panel, whole heads where they are
// rotated, and whole slots of statistics where a result is f32.
func (s Spec) TileUnit() int {
	unit := PanelN
	if s.Epilogue.Has(Rope) {
		unit = s.HeadDim
	}
	if s.Out == ir.F32 {
		slot := deviceStatCols
		if s.Epilogue.Has(GLU) {
			slot *= 2
		}
		unit = lcm(unit, slot)
	}
	return unit
}

// deviceStages returns the bytes of the stages of a matmul by mma.sync, whose rows of a stage are 16
// bytes apart, and which takes columns by 32; and of a scale and a mean for each row.
func (p Plan) deviceStages() int {
	return p.BlockN*(p.MicroM+roundUp(p.MicroN, 32))*(2*deviceK+16) + 8*p.MicroM
}

// deviceSpace yields the plans that Check may find legal.
func deviceSpace(s Spec, t *Target) []Plan {
	var plans []Plan
	if s.Kind == Gemm || s.Kind == Attention {
		plans = wgmmaSpace(s, t.Name)
	}
	switch s.Kind {
	case Gemm:
		for m := 16; m <= 128; m *= 2 {
			unit := s.TileUnit()
			for n := unit; n <= 256; n += unit {
				for stages := 2; stages <= 4; stages++ {
					plans = append(plans, Plan{Kind: s.Kind, Target: t.Name, Inst: "mma.sync", MicroM: m, MicroN: n, BlockM: m, BlockN: stages})
				}
			}
		}
	case Attention:
		for m := 16; m <= 128; m *= 2 {
			for n := 32; n <= 128; n += 32 {
				plans = append(plans, Plan{Kind: s.Kind, Target: t.Name, Inst: "mma.sync", BlockM: m, BlockN: n})
			}
		}
	default:
		for _, m := range []int{1, 2, 4, 8} {
			plans = append(plans, Plan{Kind: s.Kind, Target: t.Name, BlockM: m})
		}
	}
	return plans
}

// deviceCost is Cost for a GPU. That of wgmma is less than 1, and it is used wherever it can be; that
// of mma.sync is more: the factors that are loaded for a product, the columns that are multiplied
// and not used, and tiles of more sums than registers hold with room for the fragments.
func deviceCost(s Spec, p Plan) float64 {
	if p.Inst == "wgmma" {
		return wgmmaCost(s, p)
	}
	switch s.Kind {
	case Gemm:
		waste := float64(roundUp(p.MicroN, 32)) / float64(p.MicroN)
		return waste + 16/float64(p.MicroM) + 16/float64(p.MicroN) + max(0, float64(p.MicroM*p.MicroN)/(128*128)-1) + 0.1/float64(p.BlockN)
	case Attention:
		return 1 + 16/float64(p.BlockM) + 16/float64(p.BlockN) + float64(p.BlockM*p.BlockN)/(1<<14)
	case Gather:
		return float64(p.BlockM) // few rows are to occupy many multiprocessors
	}
	return 1/float64(p.BlockM) + float64(p.BlockM)/16
}
