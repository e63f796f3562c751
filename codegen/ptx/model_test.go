package ptx

import (
	"testing"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

// fullSize returns the program of the full size (examples/fullsize/config.json) with its head.
func fullSize(t *testing.T) *program.Program {
	t.Helper()
	g, err := bert.Build(bert.Config{
		VocabSize: 99584, EmbeddingRows: 99584, HiddenSize: 1536, NumHiddenLayers: 48,
		NumAttentionHeads: 24, NumKeyValueHeads: 1, HeadDim: 64,
		IntermediateSize: 4096, MaxPositionEmbeddings: 2048, HiddenAct: "silu",
		NormType: bert.RMSNorm, NormEps: 1e-5, Positions: bert.Rotary, RopeTheta: 10000,
		TieWordEmbeddings: true, HasMLMHead: true, HeadNormType: bert.RMSNorm,
		QueryBias: true, KeyBias: true, ValueBias: true, OutputBias: true, GateBias: true, UpBias: true, DownBias: true,
		HeadDenseBias: true, DecoderBias: true,
	}, bert.MaskedLM)
	if err != nil {
		t.Fatal(err)
	}
	p, err := passes.Run(g, passes.Options{Math: ir.BF16, Targets: []string{TargetName}, MaxPositions: 2048})
	if err != nil {
		t.Fatal(err)
	}
	return p
}
