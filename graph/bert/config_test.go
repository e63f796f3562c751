package bert_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/graph/bert"
	"github.com/google/go-cmp/cmp"
)

// fields is the smallest complete config.json.
func fields() map[string]any {
	return map[string]any{
		"model_type": "retrieva-bert", "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 2,
		"num_attention_heads": 4, "intermediate_size": 80, "max_position_embeddings": 32,
	}
}

// edited returns a config.json with fields set, or left out where the value is "-".
func edited(t testing.TB, changes map[string]any) []byte {
	t.Helper()
	m := fields()
	maps.Copy(m, changes)
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == "-" })
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// view is a checkpoint in memory: the shapes of its tensors.
type view struct {
	shapes map[string][]int
	tied   bool
}

func (v view) Shape(name string) ([]int, bool) { s, ok := v.shapes[name]; return s, ok }
func (v view) Same(a, b string) (bool, error)  { return v.tied, nil }
func (v view) Where(name string) string        { return fmt.Sprintf("DIR/model.safetensors: tensor %q", name) }

// viewOf has the tensors of the config that the changes make.
func viewOf(t testing.TB, changes map[string]any) view {
	t.Helper()
	c, err := bert.ParseConfig("config.json", edited(t, changes), nil)
	if err != nil {
		t.Fatal(err)
	}
	v := view{map[string][]int{}, true}
	for _, s := range c.Tensors() {
		if !s.Optional {
			v.shapes[s.Name] = s.Shape
		}
	}
	return v
}

func TestParseConfigErrors(t *testing.T) {
	type m = map[string]any
	tests := []struct {
		change m
		want   string
	}{
		{m{"model_type": "bert"}, `model_type "bert" is not supported (supported: retrieva-bert)`},
		{m{"model_type": "-"}, `field "model_type" is missing (supported: retrieva-bert)`},
		{m{"architectures": []string{"LlamaForCausalLM"}}, `architecture "LlamaForCausalLM" is not supported (supported: RetrievaBertModel, RetrievaBertForMaskedLM, RetrievaBertForPreTraining, RetrievaBertForSequenceClassification, RetrievaBertForTokenClassification, RetrievaBertForQuestionAnswering, RetrievaBertForMultipleChoice)`},
		{m{"architectures": "RetrievaBertModel"}, `field "architectures": expected a list of strings, found "RetrievaBertModel"`},
		{m{"hidden_size": "-"}, `field "hidden_size" is missing`},
		{m{"hidden_size": nil}, `field "hidden_size" is missing`},
		{m{"vocab_size": "-"}, `field "vocab_size" is missing`},
		{m{"num_hidden_layers": "-"}, `field "num_hidden_layers" is missing`},
		{m{"num_attention_heads": "-"}, `field "num_attention_heads" is missing`},
		{m{"intermediate_size": "-"}, `field "intermediate_size" is missing`},
		{m{"max_position_embeddings": "-"}, `field "max_position_embeddings" is missing`},
		{m{"hidden_size": "64"}, `field "hidden_size": expected a whole number, found "64"`},
		{m{"hidden_size": 64.5}, `field "hidden_size": expected a whole number, found 64.5`},
		{m{"hidden_size": true}, `field "hidden_size": expected a whole number, found true`},
		{m{"hidden_size": 0}, `field "hidden_size": expected 1 to 65536, found 0`},
		{m{"hidden_size": 1 << 20}, `field "hidden_size": expected 1 to 65536, found 1048576`},
		{m{"vocab_size": -1}, `field "vocab_size": expected 1 to 16777216, found -1`},
		{m{"num_hidden_layers": 1001}, `field "num_hidden_layers": expected 1 to 1000, found 1001`},
		{m{"hidden_size": 66}, `hidden_size 66 is not a multiple of num_attention_heads 4`},
		{m{"hidden_size": 8192}, `hidden_size 8192 over num_attention_heads 4 gives heads of 2048, expected at most 1024`},
		{m{"num_key_value_heads": 3}, `num_attention_heads 4 is not a multiple of num_key_value_heads 3`},
		{m{"num_key_value_heads": 8}, `field "num_key_value_heads": expected 1 to 4, found 8`},
		{m{"num_key_value_heads": 2, "multi_query": true}, `multi_query is true, but num_key_value_heads is 2`},
		{m{"position_embedding_type": "rope", "head_dim": 17}, `rotary positions need an even head_dim, found 17`},
		{m{"position_embedding_type": "relative_key"}, `position_embedding_type "relative_key" is not supported (supported: absolute, rope, rotary)`},
		{m{"norm_type": "batchnorm"}, `norm_type "batchnorm" is not supported (supported: layernorm, rmsnorm)`},
		{m{"hidden_act": "gelu"}, `hidden_act "gelu" is not supported (supported: silu, swish, swiglu)`},
		{m{"layer_norm_eps": 0}, `field "layer_norm_eps": expected a number above 0 and at most 0.1, found 0`},
		{m{"rms_norm_eps": "1e-5"}, `field "rms_norm_eps": expected a number, found "1e-5"`},
		{m{"layer_norm_eps": 1e-5, "rms_norm_eps": 1e-6}, `fields "layer_norm_eps" (0.00001) and "rms_norm_eps" (0.000001) contradict each other`},
		{m{"rope_theta": -1}, `field "rope_theta": expected a number above 0 and at most 1e+30, found -1`},
		{m{"rope_parameters": m{"rope_theta": "x"}}, `field "rope_theta": expected a number, found "x"`},
		{m{"rope_scaling": m{"type": "linear", "factor": 2}}, `rope_scaling: type is "linear", only "default" is supported`},
		{m{"attention_bias": 1}, `field "attention_bias": expected true or false, found 1`},
		{m{"is_decoder": true}, `is_decoder is true, only false is supported`},
		{m{"partial_rotary_factor": 0.5}, `partial_rotary_factor is 0.5, only 1 is supported`},
		{m{"quantization_config": m{"bits": 4}}, `quantization_config is {"bits":4}, only null is supported`},
		{m{"mask_token_id": 100}, `field "mask_token_id": expected 0 to 99, found 100`},
		{m{"initializer_range": 2}, `field "initializer_range": expected a number above 0 and at most 1, found 2`},
	}
	for _, tt := range tests {
		_, err := bert.ParseConfig("DIR/config.json", edited(t, tt.change), nil)
		if want := "DIR/config.json: " + tt.want; err == nil || err.Error() != want {
			t.Errorf("%v\n got %v\nwant %s", tt.change, err, want)
		}
	}
	for data, want := range map[string]string{
		"":     "DIR/config.json: not a JSON object: unexpected end of JSON input",
		"null": "DIR/config.json: not a JSON object: null",
		"{}x":  "DIR/config.json: not a JSON object: invalid character 'x' after top-level value",
	} {
		if _, err := bert.ParseConfig("DIR/config.json", []byte(data), nil); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", data, err, want)
		}
	}
}

// TestContradictions checks config.json against tensors that say something else.
func TestContradictions(t *testing.T) {
	type m = map[string]any
	const where = `DIR/model.safetensors: tensor `
	tests := []struct {
		config, tensors m
		want            string
	}{
		{m{"position_embedding_type": "rope"}, m{"position_embedding_type": "absolute"},
			`position_embedding_type says rotary positions, but there is ` + where + `"embeddings.position_embeddings.weight"`},
		{m{"position_embedding_type": "absolute"}, m{"position_embedding_type": "rope"},
			`position_embedding_type says absolute positions, but ` + where + `"embeddings.position_embeddings.weight" is missing`},
		{m{"norm_type": "rmsnorm"}, m{"norm_type": "layernorm"},
			`norm_type is rmsnorm, but there is ` + where + `"encoder.layer.0.attention.ln.bias"`},
		{m{"attention_bias": false}, m{"attention_bias": true},
			`attention_bias is false, but there is ` + where + `"encoder.layer.0.attention.self.query.bias"`},
		{m{"mlp_bias": true}, m{"mlp_bias": false},
			`mlp_bias is true, but ` + where + `"encoder.layer.0.mlp.gate_proj.bias" is missing`},
		{m{"num_key_value_heads": 2}, m{"num_key_value_heads": 1},
			`num_key_value_heads is 2 and head_dim is 16, but ` + where + `"encoder.layer.0.attention.self.key.weight" has 16 rows`},
		{m{"vocab_size": 101}, m{},
			`vocab_size is 101, but ` + where + `"embeddings.word_embeddings.weight" has 100 rows`},
	}
	for _, tt := range tests {
		_, err := bert.ParseConfig("DIR/config.json", edited(t, tt.config), viewOf(t, tt.tensors))
		if want := "DIR/config.json: " + tt.want; err == nil || err.Error() != want {
			t.Errorf("%v with %v\n got %v\nwant %s", tt.config, tt.tensors, err, want)
		}
	}
	untied := viewOf(t, map[string]any{"tie_word_embeddings": false})
	untied.tied = false
	_, err := bert.ParseConfig("DIR/config.json", edited(t, m{"tie_word_embeddings": true}), untied)
	if want := `DIR/config.json: tie_word_embeddings is true, but ` + where + `"cls.predictions.decoder.weight" differs from the word embeddings`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// TestTensorsDecide checks that a silent config.json gives the model that the tensors show.
func TestTensorsDecide(t *testing.T) {
	type m = map[string]any
	for _, made := range []m{
		{"norm_type": "rmsnorm", "position_embedding_type": "rope", "num_key_value_heads": 1},
		{"norm_type": "layernorm", "position_embedding_type": "absolute", "num_key_value_heads": 2, "attention_bias": false},
		{"norm_type": "rmsnorm", "position_embedding_type": "absolute", "mlp_bias": false, "architectures": []string{"RetrievaBertModel"}},
		{"norm_type": "layernorm", "position_embedding_type": "rope", "tie_word_embeddings": false},
	} {
		want, err := bert.ParseConfig("config.json", edited(t, made), nil)
		if err != nil {
			t.Fatal(err)
		}
		v := viewOf(t, made)
		v.tied = made["tie_word_embeddings"] == nil
		got, err := bert.ParseConfig("config.json", edited(t, nil), v)
		if err != nil {
			t.Fatal(err)
		}
		got.Decisions, want.Decisions = nil, nil
		got.Architectures, want.Architectures = nil, nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v: %s", made, diff)
		}
	}
}

func TestHeadNorm(t *testing.T) {
	v := viewOf(t, map[string]any{"norm_type": "rmsnorm", "position_embedding_type": "rope"})
	v.shapes["cls.predictions.transform.LayerNorm.bias"] = []int{64}
	c, err := bert.ParseConfig("config.json", edited(t, map[string]any{"norm_type": "rmsnorm"}), v)
	if err != nil {
		t.Fatal(err)
	}
	if c.NormType != bert.RMSNorm || c.NormBias || c.HeadNormType != bert.LayerNorm || !c.HeadNormBias {
		t.Errorf("got %+v", c)
	}
}

func TestSynonymsAndDecisions(t *testing.T) {
	c, err := bert.ParseConfig("config.json", edited(t, map[string]any{
		"intermediate_size": "-", "ffn_hidden_size": 96, "multi_query": true, "rms_norm_eps": 1e-6, "normalization": "RMSNorm",
		"rope_parameters": map[string]any{"rope_theta": 5e5, "rope_type": "default"}, "position_embedding_type": "rotary",
		"hidden_activation": "swiglu", "mask_token_id": 3, "pad_token_id": nil,
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	if c.IntermediateSize != 96 || c.NumKeyValueHeads != 1 || c.NormEps != 1e-6 || c.NormType != bert.RMSNorm || c.RopeTheta != 5e5 ||
		c.Positions != bert.Rotary || c.HiddenAct != "silu" || *c.MaskTokenID != 3 || c.PadTokenID != nil {
		t.Errorf("got %+v", c)
	}
	for _, want := range []bert.Decision{
		{"intermediate_size", "96", "config.json"},
		{"num_key_value_heads", "1", "multi_query"},
		{"rope_theta", "500000", "rope_parameters"},
		{"initializer_range", "0.02", "default"},
	} {
		if !slices.Contains(c.Decisions, want) {
			t.Errorf("no decision %v in %v", want, c.Decisions)
		}
	}
}

// TestVariants reads the checkpoints of all variants of the architecture, with their
// config.json and with one that is silent about what the tensors show.
func TestVariants(t *testing.T) {
	dirs, err := filepath.Glob("../../testdata/variants/*/config.json")
	if err != nil || len(dirs) < 5 {
		t.Fatalf("%d variants, %v", len(dirs), err)
	}
	for _, config := range append(dirs, "../../models/tiny/config.json") {
		dir := filepath.Dir(config)
		c, err := checkpoint.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		file, data, err := c.Config()
		if err != nil {
			t.Fatal(err)
		}
		said, err := bert.ParseConfig(file, data, c)
		if err != nil {
			t.Fatal(err)
		}
		var wants []checkpoint.Want
		for _, s := range said.Tensors() {
			wants = append(wants, checkpoint.Want(s))
		}
		if err := c.Check(wants); err != nil {
			t.Error(err)
		}
		if len(c.Warnings()) > 0 {
			t.Error(c.Warnings())
		}
		var m map[string]any
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"num_key_value_heads", "norm_type", "position_embedding_type", "attention_bias", "mlp_bias", "architectures"} {
			delete(m, field)
		}
		data, err = json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		silent, err := bert.ParseConfig(file, data, c)
		if err != nil {
			t.Fatal(err)
		}
		said.Decisions, silent.Decisions, said.Architectures = nil, nil, nil
		if diff := cmp.Diff(said, silent); diff != "" {
			t.Errorf("%s: %s", dir, diff)
		}
	}
}

// FuzzConfig checks that no config.json makes the parser panic, that errors name the file, and
// that a Config that is accepted describes tensors of positive sizes.
func FuzzConfig(f *testing.F) {
	paths, _ := filepath.Glob("../../testdata/variants/*/config.json")
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(edited(f, map[string]any{"rope_parameters": map[string]any{"rope_theta": 5e5}, "multi_query": true, "head_dim": 8}))
	f.Add([]byte(`{"hidden_size":1e400,"vocab_size":"x"}`))
	v := viewOf(f, map[string]any{"norm_type": "layernorm"})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, tensors := range []bert.TensorView{nil, v} {
			c, err := bert.ParseConfig("config.json", data, tensors)
			if err != nil {
				if !strings.HasPrefix(err.Error(), "config.json: ") {
					t.Errorf("error without the file: %q", err)
				}
				continue
			}
			c.NumHiddenLayers = min(c.NumHiddenLayers, 2)
			for _, s := range c.Tensors() {
				for _, d := range s.Shape {
					if d < 1 {
						t.Errorf("tensor %q: shape %v", s.Name, s.Shape)
					}
				}
			}
		}
	})
}
