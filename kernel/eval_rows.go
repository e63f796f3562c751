package kernel

import (
	"fmt"
	"math"

	"github.com/bertc/bertc/ir"
)

// This file owns the interpretation of rowwise and gather kernels.

// normRow normalises a row in place, as the Spec's prologue says.
func normRow(s Spec, row, gamma, beta []float32) {
	if s.Prologue == NoPrologue {
		return
	}
	mean := float32(0)
	if s.Prologue == LayerNorm {
		sum := 0.0
		for _, v := range row {
			sum += float64(v)
		}
		mean = float32(sum / float64(len(row)))
	}
	sum := 0.0
	for _, v := range row {
		d := float64(v - mean)
		sum += d * d
	}
	scale := float32(1 / math.Sqrt(sum/float64(len(row))+s.Eps))
	for i, v := range row {
		row[i] = (v - mean) * scale * gamma[i]
		if s.Beta {
			row[i] += beta[i]
		}
	}
}

// EvalRowwise interprets a norm of the rows of x, [M][K], and returns as many. gamma and beta are [K], and
// beta is read where the norm has one. Other sizes are an error.
func EvalRowwise(k Kernel, x, gamma, beta []float32) ([]float32, error) {
	if err := checkKind(k, Rowwise); err != nil {
		return nil, err
	}
	s := k.Spec
	if len(x)%s.K != 0 || len(gamma) != s.K || s.Beta && len(beta) != s.K {
		return nil, fmt.Errorf("eval rowwise: sizes %d, %d, %d do not fit k=%d", len(x), len(gamma), len(beta), s.K)
	}
	out := append([]float32(nil), x...)
	for r := 0; r < len(out); r += s.K {
		row := out[r : r+s.K]
		normRow(s, row, gamma, beta)
		for i := range row {
			row[i] = round(s.Out, row[i])
		}
	}
	return out, nil
}

// GatherInput is what a gather reads.
type GatherInput struct {
	Index    []int32
	Rows     int       // rows of the table
	Table    []float32 // [Rows][K] in the order of the Spec's Table layout, padding included
	Scale    []float32 // of the rows of a table of codes, [Rows] and perhaps more
	Pos      []int32   // as many as Index
	PosTable []float32 // [positions][K]
}

// EvalGather interprets a gather and returns [len(Index)][K]. Sizes that do not fit the Spec are an error, and
// so is an index or a position outside of its table.
func EvalGather(k Kernel, in GatherInput) ([]float32, error) {
	if err := checkKind(k, Gather); err != nil {
		return nil, err
	}
	s := k.Spec
	if want := s.Table.Len(in.Rows, s.K); len(in.Table) != want {
		return nil, fmt.Errorf("eval gather: table has %d elements, want %d", len(in.Table), want)
	}
	if s.Weight == ir.I8 && len(in.Scale) < in.Rows {
		return nil, fmt.Errorf("eval gather: %d scales for a table of %d rows", len(in.Scale), in.Rows)
	}
	if s.Positions && len(in.Pos) != len(in.Index) {
		return nil, fmt.Errorf("eval gather: %d positions for %d indices", len(in.Pos), len(in.Index))
	}
	offN, offK := s.Table.Offsets(0, in.Rows, s.K), s.Table.Offsets(1, in.Rows, s.K)
	out := make([]float32, 0, len(in.Index)*s.K)
	for i, n := range in.Index {
		if n < 0 || int(n) >= in.Rows {
			return nil, fmt.Errorf("eval gather: index %d is outside the table of %d rows", n, in.Rows)
		}
		for c := range s.K {
			v := in.Table[offN[n]+offK[c]]
			if s.Weight == ir.I8 {
				v *= in.Scale[n]
			}
			if s.Positions {
				at := int(in.Pos[i])*s.K + c
				if at < 0 || at >= len(in.PosTable) {
					return nil, fmt.Errorf("eval gather: position %d is outside its table", in.Pos[i])
				}
				v += in.PosTable[at]
			}
			out = append(out, round(s.Out, v))
		}
	}
	return out, nil
}
