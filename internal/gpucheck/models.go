package gpucheck

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	rt "github.com/bertc/bertc/runtime"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the models of the check: configurations with random weights.

// config is the fields of config.json in which the models differ.
type config struct {
	name string

	Vocab        int    `json:"vocab_size"`
	Hidden       int    `json:"hidden_size"`
	Layers       int    `json:"num_hidden_layers"`
	Heads        int    `json:"num_attention_heads"`
	KVHeads      int    `json:"num_key_value_heads"`
	Intermediate int    `json:"intermediate_size"`
	Positions    int    `json:"max_position_embeddings"`
	Norm         string `json:"norm_type"`
	Embedding    string `json:"position_embedding_type"`
	Bias         bool   `json:"attention_bias"`
	MLPBias      bool   `json:"mlp_bias"`
}

// small are the kinds of architecture, at sizes that the interpreter and the emulator do in
// seconds: both norms, both kinds of positions, one, some and all key/value heads, sizes that are
// no multiple of a tile, and the head size of the full model.
var small = []config{
	{"rms rope mqa", 300, 256, 2, 4, 1, 320, 128, "rmsnorm", "rope", true, true},
	{"rms rope gqa", 200, 96, 2, 6, 2, 170, 128, "rmsnorm", "rope", false, false},
	{"ln absolute mha", 300, 96, 2, 6, 6, 256, 128, "layernorm", "absolute", true, true},
	{"ln rope mqa", 130, 128, 1, 2, 1, 128, 128, "layernorm", "rope", false, true},
}

// full is the full size with so many layers and a vocabulary.
func full(layers, vocab int) config {
	return config{"full size", vocab, 1536, layers, 24, 1, 4096, 2048, "rmsnorm", "rope", true, true}
}

// text is the config.json.
func (c config) text() ([]byte, error) {
	return json.Marshal(struct {
		config
		Architectures []string `json:"architectures"`
		ModelType     string   `json:"model_type"`
		Activation    string   `json:"hidden_act"`
		Eps           float64  `json:"layer_norm_eps"`
		Theta         float64  `json:"rope_theta"`
		Mask          int      `json:"mask_token_id"`
		Pad           int      `json:"pad_token_id"`
	}{c, []string{"RetrievaBertForMaskedLM"}, "retrieva-bert", "silu", 1e-5, 10000, 3, 4})
}

// compiled is a model with random weights in bf16, compiled for the GPU.
type compiled struct {
	*pipeline.Model
	pipeline.Result
	config []byte // config.json
}

// compile makes a model in a directory of its own below work.
func compile(ctx context.Context, work string, c config) (*compiled, error) {
	dir, err := os.MkdirTemp(work, "model-*")
	if err != nil {
		return nil, err
	}
	text, err := c.text()
	if err != nil {
		return nil, err
	}
	parsed, err := bert.ParseConfig(c.name, text, nil)
	if err != nil {
		return nil, err
	}
	weights := filepath.Join(dir, "checkpoint")
	// A standard deviation that keeps the residual stream near 1 at these widths.
	if err := checkpoint.Init(ctx, weights, text, pipeline.Wants(parsed), checkpoint.InitOptions{Seed: 1, DType: checkpoint.BF16, Std: 0.05}); err != nil {
		return nil, err
	}
	m, err := pipeline.Open(weights)
	if err != nil {
		return nil, err
	}
	r, err := pipeline.Compile(ctx, m, pipeline.Options{Out: filepath.Join(dir, "package"), Package: "check", Math: ir.BF16, Architectures: []string{"ptx"}})
	if err != nil {
		m.Close()
		return nil, err
	}
	return &compiled{m, r, text}, nil
}

// onDevice opens the model on a device.
func (c *compiled) onDevice(open func() (cuda.Driver, error)) (*rt.Model, error) {
	return rt.Open(&c.Tables, filepath.Join(c.Dir, pipeline.WeightFile), rt.Options{Device: "gpu", Accelerator: &rt.Accelerator{
		Name: "gpu", Open: func(m *rt.Model) (rt.Device, error) {
			d, err := open()
			if err != nil {
				return nil, err
			}
			return cuda.Open(d, m, &c.Tables, &c.GPU.Program, c.GPU.PTX)
		},
	}})
}

// onCPU opens the model with the kernels in Go.
func (c *compiled) onCPU() (*rt.Model, error) {
	return rt.Open(&c.Tables, filepath.Join(c.Dir, pipeline.WeightFile), rt.Options{})
}

// batch is sequences of arbitrary tokens of the model's vocabulary.
func (c *compiled) batch(lengths ...int) (ids, positions, offsets []int32) {
	offsets = []int32{0}
	for s, n := range lengths {
		for i := range n {
			ids = append(ids, int32((s*7919+i*104729+i*i*31)%c.Config.VocabSize))
			positions = append(positions, int32(i))
		}
		offsets = append(offsets, int32(len(ids)))
	}
	return ids, positions, offsets
}

// stepName names a step of the encoder for messages, and what follows the last.
func stepName(m *rt.Module, step int) string {
	if step >= m.EncodeSteps {
		return "behind the last step"
	}
	return fmt.Sprintf("step %d, %s", step, m.Steps[step].Name)
}
