package bert

// This file owns the decisions that config.json may leave to the tensors.

import (
	"fmt"
	"slices"
)

// Canonical tensor names that decide. The first layer speaks for all; that the others agree is
// seen when the checkpoint is compared with Config.Tensors.
const (
	wordEmbeddings     = "embeddings.word_embeddings.weight"
	positionEmbeddings = "embeddings.position_embeddings.weight"
	decoderWeight      = "cls.predictions.decoder.weight"
	decoderBias        = "cls.predictions.bias"
	headDense          = "cls.predictions.transform.dense"
	headNorm           = "cls.predictions.transform.LayerNorm"
	firstLayer         = "encoder.layer.0."
)

func (r *reader) has(name string) bool {
	_, ok := r.tensors.Shape(name)
	return ok
}

// bias decides whether a linear map has a bias. said is the value of a config field that covers
// it, nil where the config is silent.
func (r *reader) bias(to *bool, field, said string, value *bool, name string) {
	switch {
	case value != nil:
		*to = *value
		if r.tensors == nil {
			return
		}
		if has := r.has(name); has != *value {
			r.fail("%s is %t, but %s", said, *value, r.presence(name, has))
		}
	case r.tensors != nil:
		*to = r.has(name)
		r.decide(field, *to, tensorIs(name, *to))
	default:
		*to = true
		r.decide(field, true, "default")
	}
}

// presence says where a tensor is, or that it is missing.
func (r *reader) presence(name string, has bool) string {
	if has {
		return "there is " + r.tensors.Where(name)
	}
	return r.tensors.Where(name) + " is missing"
}

func tensorIs(name string, present bool) string {
	if present {
		return fmt.Sprintf("tensor %q is there", name)
	}
	return fmt.Sprintf("tensor %q is not there", name)
}

// rows returns the first dimension of a tensor of the given rank.
func (r *reader) rows(name string, rank int) (int, bool) {
	if r.tensors == nil {
		return 0, false
	}
	shape, ok := r.tensors.Shape(name)
	if !ok || len(shape) != rank {
		return 0, false
	}
	return shape[0], true
}

func (r *reader) embeddings() {
	c := &r.c
	c.EmbeddingRows = c.VocabSize
	rows, ok := r.rows(wordEmbeddings, 2)
	if !ok {
		r.decide("embedding rows", c.VocabSize, "vocab_size")
		return
	}
	if rows < c.VocabSize || rows > 1<<24 {
		r.fail("vocab_size is %d, but %s has %d rows", c.VocabSize, r.tensors.Where(wordEmbeddings), rows)
		return
	}
	c.EmbeddingRows = rows
	r.decide("embedding rows", rows, fmt.Sprintf("tensor %q", wordEmbeddings))
}

func (r *reader) attention() {
	c := &r.c
	var ok bool
	if c.HeadDim, ok = r.integer("head_dim", 1, 1<<10); !ok {
		if c.HiddenSize%c.NumAttentionHeads != 0 {
			r.fail("hidden_size %d is not a multiple of num_attention_heads %d", c.HiddenSize, c.NumAttentionHeads)
			return
		}
		if c.HeadDim = c.HiddenSize / c.NumAttentionHeads; c.HeadDim > 1<<10 {
			r.fail("hidden_size %d over num_attention_heads %d gives heads of %d, expected at most %d", c.HiddenSize, c.NumAttentionHeads, c.HeadDim, 1<<10)
			return
		}
		r.decide("head_dim", c.HeadDim, "hidden_size / num_attention_heads")
	}
	r.keyValueHeads()
	if r.err != nil {
		return
	}
	if c.NumAttentionHeads%c.NumKeyValueHeads != 0 {
		r.fail("num_attention_heads %d is not a multiple of num_key_value_heads %d", c.NumAttentionHeads, c.NumKeyValueHeads)
		return
	}
	var value *bool
	if b, ok := r.flag("attention_bias"); ok {
		value = &b
	}
	const self = firstLayer + "attention.self."
	r.bias(&c.QueryBias, "query bias", "attention_bias", value, self+"query.bias")
	r.bias(&c.KeyBias, "key bias", "attention_bias", value, self+"key.bias")
	r.bias(&c.ValueBias, "value bias", "attention_bias", value, self+"value.bias")
	r.bias(&c.OutputBias, "attention output bias", "attention_bias", value, firstLayer+"attention.output.dense.bias")
}

// keyValueHeads takes num_key_value_heads, else multi_query, else the rows of the key weight,
// else as many as there are heads.
func (r *reader) keyValueHeads() {
	c := &r.c
	n, said := r.integer("num_key_value_heads", 1, c.NumAttentionHeads)
	multiQuery, saidMulti := r.flag("multi_query")
	key := firstLayer + "attention.self.key.weight"
	rows, seen := r.rows(key, 2)
	switch {
	case said && saidMulti && multiQuery != (n == 1):
		r.fail("multi_query is %t, but num_key_value_heads is %d", multiQuery, n)
	case said:
		c.NumKeyValueHeads = n
	case saidMulti && multiQuery:
		c.NumKeyValueHeads = 1
		r.decide("num_key_value_heads", 1, "multi_query")
	case seen && rows > 0 && rows%c.HeadDim == 0 && rows/c.HeadDim <= c.NumAttentionHeads:
		c.NumKeyValueHeads = rows / c.HeadDim
		r.decide("num_key_value_heads", c.NumKeyValueHeads, fmt.Sprintf("tensor %q has %d rows of head_dim %d", key, rows, c.HeadDim))
	default:
		c.NumKeyValueHeads = c.NumAttentionHeads
		r.decide("num_key_value_heads", c.NumKeyValueHeads, "default: num_attention_heads")
	}
	if r.err == nil && seen && rows != c.NumKeyValueHeads*c.HeadDim {
		r.fail("num_key_value_heads is %d and head_dim is %d, but %s has %d rows", c.NumKeyValueHeads, c.HeadDim, r.tensors.Where(key), rows)
	}
}

func (r *reader) positions() {
	c := &r.c
	p, said := word(r, "position_embedding_type", "absolute, rope, rotary", map[string]Positions{
		"absolute": Absolute, "learned_absolute": Absolute, "rope": Rotary, "rotary": Rotary,
	})
	switch {
	case said:
		if c.Positions = p; r.tensors != nil {
			if has := r.has(positionEmbeddings); has != (p == Absolute) {
				r.fail("position_embedding_type says %s positions, but %s", p, r.presence(positionEmbeddings, has))
			}
		}
	case r.tensors != nil:
		has := r.has(positionEmbeddings)
		if c.Positions = Rotary; has {
			c.Positions = Absolute
		}
		r.decide("position_embedding_type", c.Positions, tensorIs(positionEmbeddings, has))
	default:
		c.Positions = Absolute
		r.decide("position_embedding_type", c.Positions, "default")
	}
	r.theta()
	if c.Positions == Rotary && c.HeadDim%2 != 0 {
		r.fail("rotary positions need an even head_dim, found %d", c.HeadDim)
	}
}

// theta takes rope_theta, else the field of that name in rope_parameters, else 10000.
func (r *reader) theta() {
	var ok bool
	if r.c.RopeTheta, ok = r.number("rope_theta", 0, 1e30); ok {
		return
	}
	inner := &reader{file: r.file, fields: r.object("rope_parameters")}
	if r.c.RopeTheta, ok = inner.number("rope_theta", 0, 1e30); ok || inner.err != nil {
		r.decide("rope_theta", r.c.RopeTheta, "rope_parameters")
		if r.err == nil {
			r.err = inner.err
		}
		return
	}
	r.c.RopeTheta = 10000
	if r.c.Positions == Rotary {
		r.decide("rope_theta", "10000", "default")
	}
}

func (r *reader) norms() {
	c := &r.c
	const ln = firstLayer + "attention.ln.bias"
	t, said := word(r, "norm_type", "layernorm, rmsnorm", map[string]NormType{
		"layernorm": LayerNorm, "LayerNorm": LayerNorm, "layer_norm": LayerNorm,
		"rmsnorm": RMSNorm, "RMSNorm": RMSNorm, "rms_norm": RMSNorm,
	})
	hasBias := r.tensors != nil && r.has(ln)
	switch {
	case said:
		if c.NormType = t; t == RMSNorm && hasBias {
			r.fail("norm_type is rmsnorm, but there is %s", r.tensors.Where(ln))
		}
	case r.tensors != nil:
		if c.NormType = RMSNorm; hasBias {
			c.NormType = LayerNorm
		}
		r.decide("norm_type", c.NormType, tensorIs(ln, hasBias))
	default:
		c.NormType = LayerNorm
		r.decide("norm_type", c.NormType, "default")
	}
	c.NormBias = hasBias || r.tensors == nil && c.NormType == LayerNorm
	var ok bool
	if c.NormEps, ok = r.number("layer_norm_eps", 0, 0.1); !ok {
		c.NormEps = 1e-5
		r.decide("layer_norm_eps", "1e-05", "default")
	}
}

func (r *reader) mlp() {
	c := &r.c
	var value *bool
	if b, ok := r.flag("mlp_bias"); ok {
		value = &b
	}
	const mlp = firstLayer + "mlp."
	r.bias(&c.GateBias, "gate bias", "mlp_bias", value, mlp+"gate_proj.bias")
	r.bias(&c.UpBias, "up bias", "mlp_bias", value, mlp+"up_proj.bias")
	r.bias(&c.DownBias, "down bias", "mlp_bias", value, mlp+"down_proj.bias")
}

// head decides about the masked-language head. A checkpoint with any of its tensors has it.
func (r *reader) head() {
	c := &r.c
	tie, saidTie := r.flag("tie_word_embeddings")
	c.TieWordEmbeddings = tie || !saidTie
	r.hasHead()
	if !c.HasMLMHead {
		return
	}
	r.bias(&c.HeadDenseBias, "head dense bias", "", nil, headDense+".bias")
	r.bias(&c.DecoderBias, "decoder bias", "", nil, decoderBias)
	c.HeadNormType, c.HeadNormBias = c.NormType, c.NormBias
	if r.tensors != nil {
		if c.HeadNormBias = r.has(headNorm + ".bias"); c.HeadNormBias {
			c.HeadNormType = LayerNorm
		}
		r.decide("head norm", c.HeadNormType, tensorIs(headNorm+".bias", c.HeadNormBias))
	}
	if r.tensors == nil || !r.has(decoderWeight) {
		return
	}
	same, err := r.tensors.Same(decoderWeight, wordEmbeddings)
	if err != nil {
		r.fail("%v", err)
	}
	if saidTie && tie && !same {
		r.fail("tie_word_embeddings is true, but %s differs from the word embeddings", r.tensors.Where(decoderWeight))
	}
	c.TieWordEmbeddings = same
	r.decide("tie_word_embeddings", same, fmt.Sprintf("tensor %q is compared with the word embeddings", decoderWeight))
}

func (r *reader) hasHead() {
	c := &r.c
	for _, name := range []string{headDense + ".weight", headNorm + ".weight", decoderWeight, decoderBias} {
		if r.tensors != nil && r.has(name) {
			c.HasMLMHead = true
			r.decide("masked-language head", true, tensorIs(name, true))
			return
		}
	}
	if r.tensors != nil {
		r.decide("masked-language head", false, "no tensor of it is there")
		return
	}
	c.HasMLMHead = len(c.Architectures) == 0 || slices.ContainsFunc(architectures, func(a architecture) bool {
		return a.task == MaskedLM && slices.Contains(c.Architectures, a.name)
	})
	r.decide("masked-language head", c.HasMLMHead, "architectures")
}
