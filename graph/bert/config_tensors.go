package bert

// This file owns the list of tensors that a model consists of.

import "fmt"

// TensorSpec is one tensor of a model, by canonical name.
type TensorSpec struct {
	Name  string
	Shape []int
	// Optional tensors may be missing: the decoder's weight where it is tied to the embeddings.
	Optional bool
}

// Tensors lists every tensor of the model with its shape. Checking, making and showing
// checkpoints are all driven by this list.
func (c Config) Tensors() []TensorSpec {
	var list []TensorSpec
	add := func(name string, shape ...int) { list = append(list, TensorSpec{Name: name, Shape: shape}) }
	linear := func(name string, bias bool, out, in int) {
		add(name+".weight", out, in)
		if bias {
			add(name+".bias", out)
		}
	}
	norm := func(name string, bias bool) {
		add(name+".weight", c.HiddenSize)
		if bias {
			add(name+".bias", c.HiddenSize)
		}
	}
	q, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim

	add(wordEmbeddings, c.EmbeddingRows, c.HiddenSize)
	if c.Positions == Absolute {
		add(positionEmbeddings, c.MaxPositionEmbeddings, c.HiddenSize)
	}
	for i := range c.NumHiddenLayers {
		layer := fmt.Sprintf("encoder.layer.%d.", i)
		norm(layer+"attention.ln", c.NormBias)
		linear(layer+"attention.self.query", c.QueryBias, q, c.HiddenSize)
		linear(layer+"attention.self.key", c.KeyBias, kv, c.HiddenSize)
		linear(layer+"attention.self.value", c.ValueBias, kv, c.HiddenSize)
		linear(layer+"attention.output.dense", c.OutputBias, c.HiddenSize, q)
		norm(layer+"ln", c.NormBias)
		linear(layer+"mlp.gate_proj", c.GateBias, c.IntermediateSize, c.HiddenSize)
		linear(layer+"mlp.up_proj", c.UpBias, c.IntermediateSize, c.HiddenSize)
		linear(layer+"mlp.down_proj", c.DownBias, c.HiddenSize, c.IntermediateSize)
	}
	norm("encoder.ln", c.NormBias)
	c.headTensors(linear)
	if c.Task != MaskedLM {
		return list
	}
	linear(headDense, c.HeadDenseBias, c.HiddenSize, c.HiddenSize)
	norm(headNorm, c.HeadNormBias)
	if c.DecoderBias {
		add(decoderBias, c.EmbeddingRows)
	}
	return append(list, TensorSpec{decoderWeight, []int{c.EmbeddingRows, c.HiddenSize}, c.TieWordEmbeddings})
}
