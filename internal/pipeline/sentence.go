package pipeline

// This file owns what a directory of Sentence Transformers says beside the checkpoint: pooling, a
// dense layer, normalization and the longest text.

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/heads"
)

// Sentence is how a model makes embeddings. The zero value is for a model that does not say.
type Sentence struct {
	Pooling   heads.Pooling
	Normalize bool
	MaxLength int // tokens of the longest text; 0: the model's limit
	// Dense is the layer after pooling: its outputs, whether it has a tanh, and its image, which is
	// nil without one.
	Outputs int
	Tanh    bool
	Dense   []byte
}

// The types of modules, by the last element of their Python names.
const (
	moduleTransformer = "Transformer"
	modulePooling     = "Pooling"
	moduleDense       = "Dense"
	moduleNormalize   = "Normalize"
)

// readSentence reads modules.json and what it names, where dir has it. width is the elements of a
// hidden state, positions the model's limit.
func readSentence(dir string, width, positions int) (s Sentence, err error) {
	file := filepath.Join(dir, "modules.json")
	var modules []struct{ Path, Type string }
	if err := readJSON(file, &modules); errors.Is(err, fs.ErrNotExist) {
		return s, nil
	} else if err != nil {
		return s, err
	}
	at := -1
	order := []string{moduleTransformer, modulePooling, moduleDense, moduleNormalize}
	for _, m := range modules {
		kind := m.Type[strings.LastIndexByte(m.Type, '.')+1:]
		next := at + 1
		for next < len(order) && order[next] != kind {
			next++
		}
		if next == len(order) {
			return s, fmt.Errorf("%s: module %q is not supported here (supported, in this order: %s)", file, m.Type, strings.Join(order, ", "))
		}
		at = next
		sub := filepath.Join(dir, filepath.FromSlash(m.Path))
		if !filepath.IsLocal(filepath.Join(".", filepath.FromSlash(m.Path))) {
			return s, fmt.Errorf("%s: path %q leaves the directory", file, m.Path)
		}
		switch kind {
		case moduleTransformer:
			if m.Path != "" && m.Path != "." {
				return s, fmt.Errorf("%s: the checkpoint is in %s: move its files up, where bertc looks for them", file, sub)
			}
			err = s.readLength(filepath.Join(dir, "sentence_bert_config.json"), positions)
		case modulePooling:
			err = s.readPooling(filepath.Join(sub, "config.json"), width)
		case moduleDense:
			err = s.readDense(sub, width)
		case moduleNormalize:
			s.Normalize = true
		}
		if err != nil {
			return s, err
		}
	}
	if s.Pooling == "" {
		return s, fmt.Errorf("%s: no module is a Pooling", file)
	}
	return s, nil
}

func readJSON(file string, to any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, to); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

func (s *Sentence) readLength(file string, positions int) error {
	var c struct {
		Length *int `json:"max_seq_length"`
	}
	if err := readJSON(file, &c); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if c.Length == nil {
		return nil
	}
	if *c.Length < 1 {
		return fmt.Errorf("%s: max_seq_length %d: must be 1 or more", file, *c.Length)
	}
	s.MaxLength = min(*c.Length, positions)
	return nil
}

// poolingModes are the flags of a pooling module.
var poolingModes = map[string]heads.Pooling{
	"pooling_mode_cls_token":           heads.PoolCLS,
	"pooling_mode_mean_tokens":         heads.PoolMean,
	"pooling_mode_max_tokens":          heads.PoolMax,
	"pooling_mode_lasttoken":           heads.PoolLast,
	"pooling_mode_weightedmean_tokens": heads.PoolWeightedMean,
}

func (s *Sentence) readPooling(file string, width int) error {
	var c map[string]any
	if err := readJSON(file, &c); err != nil {
		return err
	}
	if n, ok := c["word_embedding_dimension"].(float64); ok && int(n) != width {
		return fmt.Errorf("%s: word_embedding_dimension is %v, the model has %d", file, n, width)
	}
	if mode, ok := c["pooling_mode"].(string); ok {
		s.Pooling = heads.Pooling(mode)
		if err := s.Pooling.Check(); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	}
	for flag, on := range c {
		if on != true || !strings.HasPrefix(flag, "pooling_mode_") {
			continue
		}
		mode, ok := poolingModes[flag]
		if !ok {
			return fmt.Errorf("%s: %s is not supported (supported: cls, mean, max, lasttoken, weightedmean)", file, flag)
		}
		if s.Pooling != "" {
			return fmt.Errorf("%s: two poolings are on, %s and %s; one is supported", file, s.Pooling, mode)
		}
		s.Pooling = mode
	}
	if s.Pooling == "" {
		return fmt.Errorf("%s: no pooling mode is on", file)
	}
	return nil
}

// activations are what may follow the dense layer, and whether it is a tanh.
var activations = map[string]bool{"Tanh": true, "Identity": false}

func (s *Sentence) readDense(dir string, width int) error {
	file := filepath.Join(dir, "config.json")
	c := struct {
		In         int    `json:"in_features"`
		Out        int    `json:"out_features"`
		Bias       bool   `json:"bias"`
		Activation string `json:"activation_function"`
	}{Bias: true, Activation: "torch.nn.modules.activation.Tanh"}
	if err := readJSON(file, &c); err != nil {
		return err
	}
	tanh, ok := activations[c.Activation[strings.LastIndexByte(c.Activation, '.')+1:]]
	if !ok {
		return fmt.Errorf("%s: activation_function %q is not supported (supported: Tanh, Identity)", file, c.Activation)
	}
	if c.In != width || c.Out < 1 {
		return fmt.Errorf("%s: the layer is from %d to %d elements, the model has %d", file, c.In, c.Out, width)
	}
	weights := filepath.Join(dir, "model.safetensors")
	f, err := checkpoint.OpenFile(weights)
	if err != nil {
		return err
	}
	defer f.Close()
	read := func(name string, n int) error {
		t, err := f.Tensor(name)
		if err != nil {
			return err
		}
		values := t.Float32s()
		if len(values) != n {
			return fmt.Errorf("%s: tensor %q: expected %d elements, found %d", weights, name, n, len(values))
		}
		for _, x := range values {
			s.Dense = binary.LittleEndian.AppendUint32(s.Dense, math.Float32bits(x))
		}
		return nil
	}
	s.Outputs, s.Tanh = c.Out, tanh
	if err := read("linear.weight", c.Out*c.In); err != nil {
		return err
	}
	if !c.Bias {
		s.Dense = append(s.Dense, make([]byte, 4*c.Out)...)
		return nil
	}
	return read("linear.bias", c.Out)
}
