package pipeline

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/emit"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
	"github.com/bertc/bertc/quant"
	"github.com/bertc/bertc/tokenizer/hf"
)

// Model is an opened and checked model directory: configuration, tensors and tokenizer.
type Model struct {
	Name       string // last element of the directory's path
	Checkpoint *checkpoint.Checkpoint
	Config     bert.Config
	// Tokenizer is the image for the weight file, nil when the directory has no tokenizer.json.
	Tokenizer []byte
	// Sentence is how embeddings are made.
	Sentence Sentence
	// Quant says how matmuls are quantised where the math is ir.I8; nil is the default.
	Quant *quant.Config
}

// Open opens the model directory dir and checks everything but the data of the tensors.
func Open(dir string) (*Model, error) { return OpenTask(dir, "") }

// OpenTask is Open for a task other than the one that config.json names; "" is that one.
func OpenTask(dir string, task bert.Task) (*Model, error) {
	c, err := checkpoint.Open(dir)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	image, err := hf.Load(filepath.Join(dir, "tokenizer.json"))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	m, err := newModel(filepath.Base(abs), c, task, image, err)
	if err != nil {
		return nil, err
	}
	if m.Sentence, err = readSentence(dir, m.Config.HiddenSize, m.Config.MaxPositionEmbeddings); err != nil {
		m.Close()
		return nil, err
	}
	return m, nil
}

// OpenFS opens the model directory dir of fsys.
func OpenFS(fsys fs.FS, dir string) (*Model, error) {
	c, err := checkpoint.OpenFS(fsys, dir)
	if err != nil {
		return nil, err
	}
	tok, err := fs.ReadFile(fsys, dir+"/tokenizer.json")
	if err != nil {
		return newModel(dir, c, "", nil, nil)
	}
	conf, _ := fs.ReadFile(fsys, dir+"/tokenizer_config.json")
	image, err := hf.Parse(tok, conf)
	return newModel(dir, c, "", image, err)
}

func newModel(name string, c *checkpoint.Checkpoint, task bert.Task, tokenizer []byte, err error) (*Model, error) {
	m := &Model{Name: name, Checkpoint: c, Tokenizer: tokenizer}
	if err == nil {
		err = m.configure(task)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return m, nil
}

func (m *Model) configure(task bert.Task) error {
	file, data, err := m.Checkpoint.Config()
	if err != nil {
		return err
	}
	if m.Config, err = bert.ParseConfigFor(task, file, data, m.Checkpoint); err != nil {
		return err
	}
	for _, name := range slices.Clone(m.Checkpoint.Names()) {
		if m.Config.Unused(name) {
			m.Checkpoint.LeaveOut(name, fmt.Sprintf("task %s does not use it", m.Config.Task))
		}
	}
	return m.Checkpoint.Check(Wants(m.Config))
}

// Wants returns the tensors that a configuration needs, as the checkpoint package takes them.
func Wants(c bert.Config) []checkpoint.Want {
	var wants []checkpoint.Want
	for _, t := range c.Tensors() {
		wants = append(wants, checkpoint.Want(t))
	}
	return wants
}

// Close unmaps the checkpoint.
func (m *Model) Close() error { return m.Checkpoint.Close() }

// Task returns what the model is compiled for.
func (m *Model) Task() bert.Task { return m.Config.Task }

// DType returns the default numerics policy: bf16 when the checkpoint's matrices are stored in a
// 16-bit type, f32 otherwise.
func (m *Model) DType() ir.DType {
	if i, ok := m.Checkpoint.Info("embeddings.word_embeddings.weight"); ok && i.DType == checkpoint.F32 {
		return ir.F32
	}
	return ir.BF16
}

// Size returns the sizes of the configuration in words.
func (m *Model) Size() string {
	c := m.Config
	return fmt.Sprintf("%d layers, hidden %d, feed-forward %d, %d heads on %d key/value heads, vocabulary %d, %d positions",
		c.NumHiddenLayers, c.HiddenSize, c.IntermediateSize, c.NumAttentionHeads, c.NumKeyValueHeads, c.EmbeddingRows, c.MaxPositionEmbeddings)
}

// Parameters returns the number of parameters.
func (m *Model) Parameters() int64 {
	n := int64(0)
	for _, name := range m.Checkpoint.Names() {
		shape, _ := m.Checkpoint.Shape(name)
		size := int64(1)
		for _, d := range shape {
			size *= int64(d)
		}
		n += size
	}
	return n
}

// DTypeName returns what --dtype calls the numerics.
func DTypeName(math ir.DType) string {
	if math == ir.I8 {
		return "int8"
	}
	return math.String()
}

// quant returns Quant where it says something.
func (m *Model) quant(math ir.DType) *quant.Config {
	if math != ir.I8 {
		return nil
	}
	return m.Quant
}

// Program compiles the model's graph. Targets, math dtype, plans and observers come from o; the
// tokenizer's image becomes the last weight.
func (m *Model) Program(o passes.Options) (*program.Program, error) {
	g, err := bert.Build(m.Config, m.Task())
	if err != nil {
		return nil, err
	}
	o.MaxPositions = m.Config.MaxPositionEmbeddings
	o.Quant = m.quant(o.Math)
	p, err := passes.Run(g, o)
	if err != nil || p == nil {
		return nil, err
	}
	if m.Tokenizer != nil {
		p.Weights = append(p.Weights, blobWeight(emit.TokenizerBlob, m.Tokenizer))
	}
	if m.Tokenizer != nil && m.Sentence.Dense != nil {
		p.Weights = append(p.Weights, blobWeight(emit.DenseBlob, m.Sentence.Dense))
	}
	return p, program.Verify(p)
}
