package emit

import (
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
	rt "github.com/bertc/bertc/runtime"
)

// This file makes the tables that the runtime runs from a program.

// dtypes, kinds, norms: what package rt calls them.
var dtypes = map[ir.DType]rt.DType{ir.F32: rt.F32, ir.BF16: rt.BF16, ir.I32: rt.I32, ir.I8: rt.I8}

var kinds = map[kernel.Kind]rt.Kind{kernel.Gemm: rt.Gemm, kernel.Attention: rt.Attention, kernel.Rowwise: rt.Rowwise, kernel.Gather: rt.Gather}

var norms = map[kernel.Prologue]rt.Norm{kernel.RMSNorm: rt.RMSNorm, kernel.LayerNorm: rt.LayerNorm}

// Module returns the module of a program, without its tiers.
func Module(p *program.Program, o Options) rt.Module {
	m := rt.Module{
		Name: o.Package, ID: o.ID, VocabSize: o.VocabSize, MaxPositions: o.MaxPositions, MaxTokens: p.Symbols[0].Max,
		HiddenSize: p.Buffer("hidden").Cols(), LogitsSize: logitsSize(p), EncodeSteps: p.HeadStart(),
	}
	kernels, buffers, weights := map[string]int{}, map[string]rt.BufferID{}, map[string]rt.WeightID{}
	for i, k := range p.Kernels {
		kernels[k.Name] = i
		m.Kernels = append(m.Kernels, moduleKernel(k))
	}
	for i, b := range p.Buffers {
		buffers[b.Name] = rt.BufferID(i + 1)
		extent := rt.Tokens
		if b.Symbol() != program.Tokens {
			extent = rt.Picked
		}
		m.Buffers = append(m.Buffers, rt.Buffer{Name: b.Name, Extent: extent, RowBytes: b.RowBytes(), Offset: b.Offset, DType: dtypes[b.Type.DType], Cols: b.Cols()})
	}
	for i, w := range p.Weights {
		weights[w.Name] = rt.WeightID(i + 1)
		m.Weights = append(m.Weights, rt.Weight{Name: w.Name, Bytes: o.WeightBytes[i]})
	}
	m.Hidden, m.Logits = buffers["hidden"], buffers["logits"]
	m.IDs, m.Positions, m.Rows = buffers["ids"], buffers["positions"], buffers["rows"]
	for _, s := range p.Steps {
		step := rt.Step{Name: s.Name, Kernel: kernels[s.Kernel]}
		for _, a := range s.Args {
			if b, ok := stepBuffers(&step)[a.Operand]; ok {
				*b = buffers[a.Name]
			} else {
				*stepWeights(&step)[a.Operand] = weights[a.Name]
			}
		}
		m.Steps = append(m.Steps, step)
	}
	return m
}

// stepBuffers and stepWeights are the fields of a step by operand.
func stepBuffers(s *rt.Step) map[program.Operand]*rt.BufferID {
	return map[program.Operand]*rt.BufferID{
		program.Src: &s.Src, program.Dst: &s.Dst, program.Res: &s.Res, program.Index: &s.Index, program.Pos: &s.Pos,
	}
}

func stepWeights(s *rt.Step) map[program.Operand]*rt.WeightID {
	return map[program.Operand]*rt.WeightID{
		program.W: &s.W, program.WScale: &s.WScale, program.BiasW: &s.Bias, program.Gamma: &s.Gamma, program.Beta: &s.Beta,
		program.Cos: &s.Cos, program.Sin: &s.Sin, program.PosTable: &s.PosTable,
	}
}

// moduleKernel is what the runtime must know of a Spec.
func moduleKernel(k program.Kernel) rt.Kernel {
	s := k.Spec
	out := rt.Kernel{
		Name: k.Name, Kind: kinds[s.Kind],
		In: dtypes[s.In], Out: dtypes[s.Out], Math: dtypes[s.Math], WeightType: dtypes[s.Weight],
		N: s.N, K: s.K, Norm: norms[s.Prologue], Beta: s.Beta, Eps: float32(s.Eps),
		Bias: s.Epilogue.Has(kernel.Bias), Rope: s.Epilogue.Has(kernel.Rope), SiLU: s.Epilogue.Has(kernel.SiLU),
		Tanh: s.Epilogue.Has(kernel.Tanh), GLU: s.Epilogue.Has(kernel.GLU), Residual: s.Epilogue.Has(kernel.Residual),
		Heads: s.Heads, KVHeads: s.KVHeads, HeadDim: s.HeadDim, Scale: float32(s.Scale),
		AddPositions: s.Positions, Activations: s.Activations, PanelTable: s.Kind == kernel.Gather && s.Table != kernel.RowMajor,
	}
	if s.Kind == kernel.Gemm || s.Kind == kernel.Gather && !s.Activations {
		out.KPad, out.PanelBytes = s.KPad(), s.PanelBytes()
	}
	if s.Kind == kernel.Gemm {
		out.Panels, out.PanelOut, out.Group = s.Panels(), s.PanelOut(), s.Group()
	}
	return out
}

// logitsSize is the columns of the logits, 0 without a head.
func logitsSize(p *program.Program) int {
	if b := p.Buffer("logits"); b != nil {
		return b.Cols()
	}
	return 0
}
