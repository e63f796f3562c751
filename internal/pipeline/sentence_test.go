package pipeline

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/ir"
)

// sentenceFiles make a directory of Sentence Transformers of the encoder.
var sentenceFiles = map[string]string{
	"modules.json": `[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
{"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"},
{"idx":2,"name":"2","path":"2_Dense","type":"sentence_transformers.models.Dense"},
{"idx":3,"name":"3","path":"3_Normalize","type":"sentence_transformers.models.Normalize"}]`,
	"sentence_bert_config.json": `{"max_seq_length": 60, "do_lower_case": false}`,
	"1_Pooling/config.json":     `{"word_embedding_dimension":48,"pooling_mode_cls_token":false,"pooling_mode_mean_tokens":true}`,
	"2_Dense/config.json":       `{"in_features":48,"out_features":5,"bias":true,"activation_function":"torch.nn.modules.activation.Tanh"}`,
}

// denseWeight is element (n, k) of the dense layer; k = 48 is the bias.
func denseWeight(n, k int) float32 { return float32((n*53+k*17)%23-11) / 64 }

func sentenceDir(t *testing.T, files map[string]string) string {
	dir := headDir(t, "encoder")
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	var weights, bias []byte
	for n := range 5 {
		for k := range 48 {
			weights = binary.LittleEndian.AppendUint32(weights, math.Float32bits(denseWeight(n, k)))
		}
		bias = binary.LittleEndian.AppendUint32(bias, math.Float32bits(denseWeight(n, 48)))
	}
	writeTensors(t, filepath.Join(dir, "2_Dense/model.safetensors"),
		[]checkpoint.Info{{Name: "linear.weight", DType: checkpoint.F32, Shape: []int{5, 48}}, {Name: "linear.bias", DType: checkpoint.F32, Shape: []int{5}}},
		[][]byte{weights, bias})
	return dir
}

// TestSentenceTransformers: the defaults of a package follow the directory's modules. The pooled
// vectors are the reference's; the layer after them is computed here.
func TestSentenceTransformers(t *testing.T) {
	_, dir := compile(t, sentenceDir(t, sentenceFiles), ir.F32)
	d := driver(t, dir, "portable", 0)
	_, cases := headCases(t, "encoder")
	tested := 0
	for _, c := range cases {
		if c.Options["pooling"] != "mean" || c.Options["dimensions"] != nil {
			continue
		}
		tested++
		mean := c.Result.(map[string]any)["vector"].([]any)
		want, length := make([]float64, 5), 0.0
		for n := range want {
			sum := float64(denseWeight(n, 48))
			for k, x := range mean {
				sum += float64(denseWeight(n, k)) * x.(float64)
			}
			want[n] = math.Tanh(sum)
			length += want[n] * want[n]
		}
		for _, raw := range []bool{false, true} {
			results, _, err := d.Call("embed", []json.RawMessage{c.Input}, map[string]any{"raw": raw})
			if err != nil || results[0].Err != nil {
				t.Fatal(err, results[0].Err)
			}
			var got struct{ Vector []float64 }
			if err := json.Unmarshal(results[0].JSON, &got); err != nil || len(got.Vector) != len(want) {
				t.Fatalf("%s, %v", results[0].JSON, err)
			}
			for n, x := range want {
				if !raw {
					x /= math.Sqrt(length)
				}
				if !(math.Abs(got.Vector[n]-x) <= 2*tolerance32) {
					t.Errorf("raw %v, element %d: %v, want %v", raw, n, got.Vector[n], x)
				}
			}
		}
	}
	if tested == 0 {
		t.Error("no case has the mean")
	}
	long, _ := json.Marshal(strings.Repeat("雨が降る。", 20))
	results, _, err := d.Call("embed", []json.RawMessage{long}, map[string]any{})
	if err != nil || results[0].Err == nil || !strings.Contains(results[0].Err.Error(), "at most 60") {
		t.Errorf("a long text: %v, %v", results, err)
	}
	if _, _, err := d.Call("embed", []json.RawMessage{long}, map[string]any{"dimensions": 6}); err == nil || !strings.Contains(err.Error(), "1 to 5") {
		t.Errorf("dimensions: %v", err)
	}
}

func TestSentenceErrors(t *testing.T) {
	for _, c := range []struct{ file, text, want string }{
		{"modules.json", `{`, "modules.json: "},
		{"modules.json", `[{"path":"","type":"m.Transformer"},{"path":"1","type":"m.WordWeights"}]`, `"m.WordWeights"`},
		{"modules.json", `[{"path":"0_Transformer","type":"m.Transformer"}]`, "0_Transformer"},
		{"modules.json", `[{"path":"","type":"m.Transformer"}]`, "no module is a Pooling"},
		{"modules.json", `[{"path":"../x","type":"m.Pooling"}]`, "leaves the directory"},
		{"modules.json", `[{"path":"1_Pooling","type":"m.Pooling"},{"path":"","type":"m.Transformer"}]`, `"m.Transformer"`},
		{"1_Pooling/config.json", `{"word_embedding_dimension":47,"pooling_mode_mean_tokens":true}`, "word_embedding_dimension is 47, the model has 48"},
		{"1_Pooling/config.json", `{"pooling_mode_mean_sqrt_len_tokens":true}`, "pooling_mode_mean_sqrt_len_tokens"},
		{"1_Pooling/config.json", `{"pooling_mode_mean_tokens":true,"pooling_mode_cls_token":true}`, "two poolings"},
		{"1_Pooling/config.json", `{}`, "no pooling mode"},
		{"1_Pooling/config.json", `{"pooling_mode":"sum"}`, `"sum"`},
		{"2_Dense/config.json", `{"in_features":47,"out_features":5}`, "from 47 to 5"},
		{"2_Dense/config.json", `{"in_features":48,"out_features":6}`, "expected 288 elements, found 240"},
		{"2_Dense/config.json", `{"in_features":48,"out_features":5,"activation_function":"x.ReLU"}`, `"x.ReLU"`},
		{"sentence_bert_config.json", `{"max_seq_length":0}`, "max_seq_length 0"},
	} {
		files := map[string]string{}
		for name, text := range sentenceFiles {
			files[name] = text
		}
		files[c.file] = c.text
		if _, err := Open(sentenceDir(t, files)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %s: %v, want %q", c.file, c.text, err, c.want)
		}
	}
}
