package pipeline

import (
	"fmt"
	"time"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/passes"
)

// Eval runs a batch through the interpreter: the graph in float64, with the roundings that the
// numerics policy math puts into it. It returns hidden states [tokens × hidden_size] and, when
// head is set, logits of every token.
func (m *Model) Eval(b Batch, math ir.DType, head bool) (hidden, logits []float32, err error) {
	g, err := m.GraphAfter("assign-precision", math)
	if err != nil {
		return nil, nil, err
	}
	if !head && m.Task() != bert.Encoder {
		g.Outputs = g.Outputs[:1]
		g.Prune()
	} else if head && m.Task() == bert.Encoder {
		return nil, nil, fmt.Errorf("the model has no head: it makes no logits")
	}
	if err := b.Check(m.Config.EmbeddingRows, m.Config.MaxPositionEmbeddings); err != nil {
		return nil, nil, err
	}
	rows := make([]int32, len(b.IDs))
	for i := range rows {
		rows[i] = int32(i)
	}
	in := map[string]*ir.Tensor{}
	for name, data := range map[string][]int32{"ids": b.IDs, "positions": b.Positions, "offsets": b.Offsets, "rows": rows} {
		in[name] = &ir.Tensor{DType: ir.I32, Shape: []int{len(data)}, Data: floats(data)}
	}
	out, err := ir.Eval(g, in, ir.WithWeights(m.Weight))
	if err != nil {
		return nil, nil, err
	}
	hidden = narrow(out[0].Data)
	if head {
		logits = narrow(out[1].Data)
	}
	return hidden, logits, nil
}

// GraphAfter returns the graph as it is after a pass before choose-plans.
func (m *Model) GraphAfter(pass string, math ir.DType) (*ir.Graph, error) {
	g, err := bert.Build(m.Config, m.Task())
	if err != nil {
		return nil, err
	}
	var after *ir.Graph
	_, err = passes.Run(g, passes.Options{Math: math, Quant: m.quant(math), After: pass, MaxPositions: m.Config.MaxPositionEmbeddings,
		Observe: func(_ passes.Pass, s *passes.State, _ time.Duration) { after = s.Graph }})
	return after, err
}

// Weight returns a tensor of the checkpoint for the interpreter, by canonical name, or a vector of
// Quant.
func (m *Model) Weight(name string, t ir.Type) (*ir.Tensor, error) {
	if v := m.Quant.Vector(name); v != nil {
		return &ir.Tensor{DType: t.DType, Shape: []int{len(v)}, Data: floats(v)}, nil
	}
	tensor, err := m.Checkpoint.Tensor(name)
	if err != nil {
		return nil, err
	}
	return &ir.Tensor{DType: t.DType, Shape: tensor.Shape, Data: floats(tensor.Float32s())}, nil
}

func floats[T int32 | float32](xs []T) []float64 {
	out := make([]float64, len(xs))
	for i, x := range xs {
		out[i] = float64(x)
	}
	return out
}

func narrow(xs []float64) []float32 {
	out := make([]float32, len(xs))
	for i, x := range xs {
		out[i] = float32(x)
	}
	return out
}
