package ptx

import (
	"fmt"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns matmuls by mma.sync: stages of both factors come by cp.async, fragments by ldmatrix
// (PTX ISA, "Matrix Fragments for mma.m16n8k16"). The sums of a tile are then put into shared memory,
// from where the epilogue reads whatever columns it needs together (gemm_epilogue.go). Sums over K
// are those of m16n8k16 from 0 on, whatever the tile.

const (
	stageK   = 64            // elements of K of a stage
	stageRow = 2*stageK + 16 // bytes from one row of a stage to the next: eight rows lie in all banks
)

// fewRows are the tiles for calls of few rows: narrow ones, so that many multiprocessors read weights,
// with enough stages, where they fit, that what each has under way covers the latency of the memory.
var fewRows = []struct{ rows, m, n, stages int }{
	{16, 16, 32, 8},
	{32, 32, 32, 8},
	{128, 64, 64, 4},
}

// mmaTile is the shape of a tile by mma.sync.
type mmaTile struct {
	m, n           int // rows, and columns that are used
	width          int // columns that are multiplied
	stages         int
	warpsM, warpsN int // warps along rows and columns
}

func newMMATile(m, n, stages int) mmaTile {
	t := mmaTile{m: m, n: n, width: ceilDiv(n, 32) * 32, stages: stages, warpsM: 2, warpsN: 2}
	switch m {
	case 16:
		t.warpsM, t.warpsN = 1, 4
	case 128:
		t.warpsM = 4
	}
	return t
}

func (t mmaTile) warps() int { return t.warpsM * t.warpsN }

// stageBytes are those of a step of stageK: rows of A, then of B.
func (t mmaTile) stageBytes() int { return (t.m + t.width) * stageRow }

// sumsRow returns the bytes from one row of sums to the next: what 16 lanes write to four rows at a
// time lies in all banks.
func (t mmaTile) sumsRow() int { return 4 * (t.width + 8) }

// normAt returns where the scales and means of the rows lie in shared memory, behind the stages and
// the sums, which take the same place in turn.
func (t mmaTile) normAt() int { return max(t.stages*t.stageBytes(), t.m*t.sumsRow()) }

func (t mmaTile) shared() int { return t.normAt() + 8*t.m }

// gemm returns the tiles for few rows and that of the plan.
func gemm(symbol string, k kernel.Kernel) []variant {
	var out []variant
	for _, f := range fewRows {
		if f.m < k.Plan.MicroM {
			out = append(out, variant{f.rows, []part{newMMAGemm(symbol, k.Spec, narrowTile(k.Spec, f.m, f.n, f.stages))}})
		}
	}
	t := newMMATile(k.Plan.MicroM, k.Plan.MicroN, k.Plan.BlockN)
	return append(out, variant{0, []part{newMMAGemm(symbol, k.Spec, t)}})
}

// narrowTile returns a tile of at least n columns that s allows, with as many stages as fit.
func narrowTile(s kernel.Spec, m, n, stages int) mmaTile {
	unit := s.TileUnit()
	t := newMMATile(m, ceilDiv(n, unit)*unit, stages)
	for t.shared() > kernel.DeviceShared {
		t.stages--
	}
	return t
}

// mmaGemm writes the entry of one tile.
type mmaGemm struct {
	*entry
	mmaTile
	spec kernel.Spec

	a, w, bias, colSum, stats, res, pos, cos, sin reg // parameters, "" where the Spec has none
	out                                           result

	tid, rows, smem  reg
	row0, col0       reg // of the tile in the matrix of sums
	warpRow, warpCol reg // of the warp in the tile
}

// newMMAGemm writes the entry of tile t and returns it with its launch.
func newMMAGemm(symbol string, s kernel.Spec, t mmaTile) part {
	g := &mmaGemm{entry: newEntry(fmt.Sprintf("%s_%dx%d", symbol, t.m, t.n), 32*t.warps()), mmaTile: t, spec: s}
	g.minCTAs = 1
	g.declare()
	g.place()
	g.epilogue(g.products())
	g.do("ret")
	grid := cuda.Grid{Kind: cuda.GridTiles, TileM: t.m, TileN: t.n, N: s.WeightRows()}
	return part{g.entry, g.launch(t.shared(), 0, grid)}
}

func (g *mmaGemm) declare() {
	s := g.spec
	src := cuda.Param{Kind: cuda.ParamPointer, Operand: cuda.OperandSrc}
	if s.In == ir.F32 {
		src.Kind = cuda.ParamShadow
	}
	g.a, g.w = g.param(src), g.pointer(cuda.OperandW)
	if s.Epilogue.Has(kernel.Bias) || s.Beta {
		g.bias = g.pointer(cuda.OperandBias)
	}
	if s.Prologue == kernel.LayerNorm {
		g.colSum = g.param(cuda.Param{Kind: cuda.ParamColSum, Operand: cuda.OperandW})
	}
	if s.Prologue != kernel.NoPrologue {
		g.stats = g.param(cuda.Param{Kind: cuda.ParamStats, Operand: cuda.OperandSrc})
	}
	if s.Epilogue.Has(kernel.Residual) {
		g.res = g.pointer(cuda.OperandRes)
	}
	if s.Epilogue.Has(kernel.Rope) {
		g.pos, g.cos, g.sin = g.pointer(cuda.OperandPos), g.pointer(cuda.OperandCos), g.pointer(cuda.OperandSin)
	}
	g.out = g.result(s.Out, s.N)
	g.rows = g.entry.rows()
}

// place computes the tile of the CTA: those of the same columns follow each other, so that they share
// the weights in the second-level cache. A CTA without a tile ends.
func (g *mmaGemm) place() {
	id := g.r("mov.u32", "%ctaid.x")
	high := g.r("div.u32", g.r("add.u32", g.rows, g.m-1), g.m)
	g.retIf(g.p("setp.eq.u32", high, 0))
	col := g.r("div.u32", id, high)
	g.retIf(g.p("setp.ge.u32", col, ceilDiv(g.spec.WeightRows(), g.n)))
	row := g.r("sub.u32", id, g.r("mul.lo.u32", col, high))
	g.row0, g.col0 = g.r("mul.lo.u32", row, g.m), g.r("mul.lo.u32", col, g.n)

	g.tid, g.smem = g.r("mov.u32", "%tid.x"), g.r("mov.u32", "smem")
	warp := g.r("shr.u32", g.tid, 5)
	g.warpRow = g.r("mul.lo.u32", g.r("div.u32", warp, g.warpsN), g.m/g.warpsM)
	g.warpCol = g.r("mul.lo.u32", g.r("rem.u32", warp, g.warpsN), g.width/g.warpsN)
}

// source is one factor as a thread copies it: 16 bytes of some rows of each stage.
type source struct {
	from    []reg // addresses, of K = 0
	to      int   // offset of the factor in a stage
	columns int   // of a row; what is behind them becomes zero
}

// products returns the sums of the warp, fragments by rows of 16 and columns of 8.
func (g *mmaGemm) products() [][][]reg {
	s := g.spec
	chunk := g.r("and.b32", g.tid, 7) // 16 bytes of the row of a stage
	first := g.r("shr.u32", g.tid, 3) // row of a stage
	step := 4 * g.warps()
	rows := func(base, from reg, last any, n, pitch int) []reg {
		var out []reg
		for i := 0; i < n; i += step {
			// Rows that the matrix does not have are multiplied as its last one, and left out later.
			r := g.r("min.u32", g.r("add.u32", from, g.r("add.u32", first, i)), last)
			out = append(out, g.rd("mad.wide.u32", chunk, 16, g.rd("mad.wide.u32", r, pitch, base)))
		}
		return out
	}
	kPad := ceilDiv(s.K, 32) * 32
	a := source{rows(g.a, g.row0, g.r("sub.u32", g.rows, 1), g.m, cuda.Pitch(s.K, true)), 0, s.K}
	b := source{rows(g.w, g.col0, s.WeightRows()-1, g.width, 2*kPad), g.m * stageRow, kPad}
	to := g.r("mad.lo.u32", first, stageRow, g.r("mad.lo.u32", chunk, 16, g.smem))

	stages := ceilDiv(s.K, stageK)
	k := g.r("shl.b32", chunk, 3) // of the next copy
	fill := g.r("mov.u32", 0)     // offset of the stage that is filled next
	end := g.stages * g.stageBytes()
	advance := func(offset reg) {
		g.do("add.u32", offset, offset, g.stageBytes())
		g.doIf(g.p("setp.eq.u32", offset, end), "mov.u32", offset, 0)
	}
	load := func() {
		for _, f := range []source{a, b} {
			size := reg("")
			if s.K%stageK != 0 {
				// Bytes that exist: 0 to 16.
				left := g.r("max.s32", g.r("sub.s32", f.columns, k), 0)
				size = g.r("shl.b32", g.r("min.s32", left, 8), 1)
			}
			dst := g.r("add.u32", to, fill)
			for i, from := range f.from {
				operands := []any{at(dst, f.to+i*step*stageRow), at(from, 0), 16}
				if size != "" {
					operands = append(operands, size)
				}
				g.do("cp.async.cg.shared.global", operands...)
				g.do("add.u64", from, from, 2*stageK)
			}
		}
		g.do("add.u32", k, k, stageK)
		advance(fill)
	}
	for i := range g.stages - 1 {
		if i < stages {
			load()
		}
		g.do("cp.async.commit_group")
	}
	g.norms()

	acc := make([][][]reg, g.m/g.warpsM/16)
	for i := range acc {
		for range g.width / g.warpsN / 8 {
			acc[i] = append(acc[i], []reg{g.f("mov.f32", 0.0), g.f("mov.f32", 0.0), g.f("mov.f32", 0.0), g.f("mov.f32", 0.0)})
		}
	}
	lane := g.r("and.b32", g.tid, 31)
	row := g.r("add.u32", g.warpRow, g.r("and.b32", lane, 15))
	aAt := g.r("mad.lo.u32", row, stageRow, g.r("mad.lo.u32", g.r("shr.u32", lane, 4), 16, g.smem))
	bAt := g.fragmentB(lane, g.warpCol, stageRow, g.r("add.u32", g.smem, g.m*stageRow))

	turn, use := g.r("mov.u32", 0), g.r("mov.u32", 0)
	g.loop(turn, stages, 1, func() {
		g.do("cp.async.wait_group", g.stages-2)
		g.do("bar.sync", 0)
		g.when(g.p("setp.lt.u32", g.r("add.u32", turn, g.stages-1), stages), load)
		g.do("cp.async.commit_group")
		a, b := g.r("add.u32", aAt, use), g.r("add.u32", bAt, use)
		for ks := range stageK / 16 {
			var left [][]reg
			for i := range acc {
				left = append(left, g.ldmatrix(4, "", at(a, i*16*stageRow+32*ks)))
			}
			for j := 0; j < len(acc[0]); j += 2 {
				n := min(2, len(acc[0])-j)
				right := g.ldmatrix(2*n, "", at(b, j*8*stageRow+32*ks))
				for i := range acc {
					for c := range n {
						g.mma(acc[i][j+c], left[i], right[2*c:2*c+2])
					}
				}
			}
		}
		advance(use)
	})
	g.do("cp.async.wait_group", 0)
	g.do("bar.sync", 0)
	return acc
}

// fragmentB returns the address from which a lane reads its row of the four matrices of two columns of
// 8 by 16 of K, of a factor whose columns are rows in shared memory.
func (e *entry) fragmentB(lane, col reg, pitch int, base reg) reg {
	r := e.r("add.u32", e.r("and.b32", lane, 7), e.r("shl.b32", e.r("shr.u32", lane, 4), 3))
	half := e.r("and.b32", e.r("shr.u32", lane, 3), 1)
	return e.r("mad.lo.u32", e.r("add.u32", col, r), pitch, e.r("mad.lo.u32", half, 16, base))
}

// ldmatrix returns n matrices of 8×8.
func (e *entry) ldmatrix(n int, trans, address string) []reg {
	d := many(n, e.b32)
	e.do(fmt.Sprintf("ldmatrix.sync.aligned.m8n8.x%d%s.shared.b16", n, trans), vec(d...), address)
	return d
}

// mma adds the product of two fragments.
func (e *entry) mma(acc, a, b []reg) {
	e.do("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", vec(acc...), vec(a...), vec(b...), vec(acc...))
}
