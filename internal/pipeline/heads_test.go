package pipeline

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
)

// The heads are random checkpoints on one encoder, with what an independent implementation in
// PyTorch gives for them in float64 (testdata/heads).

const headsDir = root + "/testdata/heads"

// headDir makes a model directory of a head: its tensors and those of the encoder in one file.
func headDir(t testing.TB, name string) string {
	dir := t.TempDir()
	var infos []checkpoint.Info
	var data [][]byte
	for _, file := range slices.Compact([]string{"encoder.safetensors", name + ".safetensors"}) {
		f, err := checkpoint.OpenFile(filepath.Join(headsDir, file))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		for _, info := range f.Tensors() {
			x, err := f.Tensor(info.Name)
			if err != nil {
				t.Fatal(err)
			}
			infos, data = append(infos, info), append(data, x.Data)
		}
	}
	writeTensors(t, filepath.Join(dir, "model.safetensors"), infos, data)
	for from, to := range map[string]string{
		filepath.Join(headsDir, name+".config.json"):      "config.json",
		filepath.Join(root, "models/tiny/tokenizer.json"): "tokenizer.json",
	} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, to), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// headCase is a call and its result.
type headCase struct {
	Input   json.RawMessage
	Options map[string]any
	Result  any
}

func headCases(t testing.TB, name string) (task string, cases []headCase) {
	data, err := os.ReadFile(filepath.Join(headsDir, name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Task  string
		Cases []headCase
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	return file.Task, file.Cases
}

// differ returns where two JSON values differ: numbers by more than tolerance, others at all. An
// empty list and none are the same.
func differ(path string, got, want any, tolerance float64) string {
	switch want := want.(type) {
	case float64:
		if x, ok := got.(float64); !ok || !(math.Abs(x-want) <= tolerance) {
			return fmt.Sprintf("%s: %v, want %v", path, got, want)
		}
		return ""
	case []any:
		list, _ := got.([]any)
		if len(list) != len(want) {
			return fmt.Sprintf("%s: %v, want %v", path, got, want)
		}
		for i := range want {
			if d := differ(fmt.Sprintf("%s[%d]", path, i), list[i], want[i], tolerance); d != "" {
				return d
			}
		}
		return ""
	case map[string]any:
		object, _ := got.(map[string]any)
		if len(object) != len(want) {
			return fmt.Sprintf("%s: %v, want %v", path, got, want)
		}
		for key := range want {
			if d := differ(path+"."+key, object[key], want[key], tolerance); d != "" {
				return d
			}
		}
		return ""
	}
	if got != want {
		return fmt.Sprintf("%s: %v, want %v", path, got, want)
	}
	return ""
}

// TestHeads holds the logits and the typed results of every head against the reference, on every
// tier. Offsets, labels and order are exact. Logits differ by at most tolerance32; a score is a
// softmax or a product of two, which change by no more than that.
func TestHeads(t *testing.T) {
	for _, name := range []string{"encoder", "single", "multi", "regression", "tags", "qa", "choice"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, dir := compile(t, headDir(t, name), ir.F32)
			task, cases := headCases(t, name)
			b := built(t, dir)
			for _, tier := range tiers(ir.F32) {
				t.Run(tier, func(t *testing.T) {
					d := start(t, b, tier, 0)
					if name != "encoder" {
						checkLogits(t, d, name)
					}
					for i, c := range cases {
						results, _, err := d.Call(task, []json.RawMessage{c.Input}, c.Options)
						if err != nil {
							t.Fatal(err)
						}
						if results[0].Err != nil {
							t.Errorf("case %d, %s: %v", i, c.Input, results[0].Err)
							continue
						}
						var got any
						if err := json.Unmarshal(results[0].JSON, &got); err != nil {
							t.Fatal(err)
						}
						if diff := differ("result", got, c.Result, tolerance32); diff != "" {
							t.Errorf("case %d, %s with %v: %s", i, c.Input, c.Options, diff)
						}
					}
					checkBatches(t, d, task, cases)
				})
			}
		})
	}
}

// checkLogits compares logits of a padded batch: of every token, or of the first one where the
// head is for sequences.
func checkLogits(t *testing.T, d *Driver, name string) {
	f, err := checkpoint.OpenFile(filepath.Join(headsDir, name+".golden.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	golden, err := f.Tensor("logits")
	if err != nil {
		t.Fatal(err)
	}
	b, err := ReadBatch(filepath.Join(headsDir, name+".golden.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out.safetensors")
	if err := Run(d.Encoder(bert.MaxTokens), b, []string{OutLogits}, out); err != nil {
		t.Fatal(err)
	}
	_, logits := readOutputs(t, out)
	n := golden.Shape[len(golden.Shape)-1]
	want := num.Float64s(golden.Float32s())
	worst := 0.0
	for _, cell := range b.Cell {
		at := cell
		if len(golden.Shape) == 2 {
			if cell%b.Cols != 0 {
				continue
			}
			at = cell / b.Cols
		}
		e, _ := num.MaxAbs(logits[cell*n:][:n], want[at*n:][:n])
		worst = max(worst, e)
	}
	if t.Logf("logits differ by %.3g", worst); !(worst <= tolerance32) {
		t.Errorf("logits differ by %.3g", worst)
	}
}

// checkBatches: a batch of all inputs gives, byte for byte, what single calls give, in any order
// and however it is divided. An input that cannot be used fails alone.
func checkBatches(t *testing.T, d *Driver, task string, cases []headCase) {
	options := map[string]any{}
	var inputs []json.RawMessage
	var alone []string
	for _, c := range cases {
		results, _, err := d.Call(task, []json.RawMessage{c.Input}, options)
		if err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, c.Input)
		alone = append(alone, string(results[0].JSON)+fmt.Sprint(results[0].Err))
	}
	empty := map[string]string{"classify": `{"text":""}`, "answer": `{"question":"","context":"a"}`, "choose": `{"prompt":"a"}`}[task]
	if empty == "" {
		empty = `""`
	}
	inputs = slices.Insert(inputs, 1, json.RawMessage(empty))
	alone = slices.Insert(alone, 1, "")
	slices.Reverse(inputs)
	slices.Reverse(alone)
	for _, budget := range []int{1, 60, 2048} {
		options["batch_tokens"] = budget
		results, _, err := d.Call(task, inputs, options)
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range results {
			if i == len(results)-2 {
				if r.Err == nil {
					t.Errorf("the empty input gave %s", r.JSON)
				}
				continue
			}
			if got := string(r.JSON) + fmt.Sprint(r.Err); got != alone[i] {
				t.Errorf("batches of %d tokens, %s: %s, alone %s", budget, inputs[i], got, alone[i])
			}
		}
	}
}

// TestTaskOptions: options that cannot be are one sentence that names the value.
func TestTaskOptions(t *testing.T) {
	_, dir := compile(t, headDir(t, "tags"), ir.F32)
	d := driver(t, dir, "portable", 0)
	input := []json.RawMessage{json.RawMessage(`"私は学校に行きます。"`)}
	for _, c := range []struct {
		options map[string]any
		want    string
	}{
		{map[string]any{"long": "cut"}, `"cut"`},
		{map[string]any{"unit": "runes"}, `"runes"`},
		{map[string]any{"max_length": 129}, "129"},
		{map[string]any{"stride": -1}, "-1"},
		{map[string]any{"batch_tokens": -5}, "-5"},
		{map[string]any{"aggregation": "median"}, `"median"`},
		{map[string]any{"top_k": 3}, "top_k"},
	} {
		if _, _, err := d.Call("tag", input, c.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.options, err)
		}
	}
	for _, c := range []struct {
		options map[string]any
		want    string
	}{
		{map[string]any{"max_length": 5}, "the input has 10 tokens, at most 5 are allowed"},
		{map[string]any{"max_length": 5, "long": "window", "stride": 3}, "stride 3: a window has room for 3 tokens"},
		{map[string]any{"max_length": 2, "long": "window"}, "no room"},
		{map[string]any{"max_length": 1, "long": "truncate"}, "maximum length is too small"},
	} {
		results, _, err := d.Call("tag", input, c.options)
		if err != nil || results[0].Err == nil || !strings.Contains(results[0].Err.Error(), c.want) {
			t.Errorf("%v: %v, %v", c.options, results, err)
		}
	}
	if _, _, err := d.Call("classify", input, nil); err == nil || err.Error() != "the package has no task classify, it has embed, tag" {
		t.Errorf("another task: %v", err)
	}
}

// TestSentiment: the model that was really fine-tuned says of every held-out sentence what PyTorch
// says in float64.
func TestSentiment(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "models/sentiment/reference.json"))
	if err != nil {
		t.Fatal(err)
	}
	var want struct{ Logits [][]float64 }
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	dev, err := os.ReadFile(filepath.Join(root, "models/sentiment/dev.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var inputs []json.RawMessage
	for line := range strings.Lines(string(dev)) {
		var record struct{ Sentence string }
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		input, _ := json.Marshal(map[string]string{"text": record.Sentence})
		inputs = append(inputs, input)
	}
	_, dir := compile(t, filepath.Join(root, "models/sentiment"), ir.F32)
	d := driver(t, dir, "", 0)
	results, _, err := d.Call("classify", inputs, map[string]any{})
	if err != nil || len(results) != len(want.Logits) {
		t.Fatalf("%d results for %d, %v", len(results), len(want.Logits), err)
	}
	worst := 0.0
	for i, r := range results {
		var c struct {
			Labels []struct {
				Label string
				Score float64
			}
		}
		if err := json.Unmarshal(r.JSON, &c); err != nil {
			t.Fatal(err)
		}
		x := want.Logits[i]
		positive := 1 / (1 + math.Exp(x[0]-x[1]))
		score := c.Labels[0].Score
		if c.Labels[0].Label == "negative" {
			score = c.Labels[1].Score
		}
		worst = max(worst, math.Abs(score-positive))
		if (c.Labels[0].Label == "positive") != (x[1] > x[0]) {
			t.Errorf("%s: %s, the logits are %v", inputs[i], c.Labels[0].Label, x)
		}
	}
	if t.Logf("scores differ by %.3g", worst); !(worst <= tolerance32) {
		t.Errorf("scores differ by %.3g", worst)
	}
}

// TestTextAPI runs testdata/api_test.go.txt as a test of a generated package: what a Go program
// sees that a JSON line does not.
func TestTextAPI(t *testing.T) {
	m, err := Open(filepath.Join(root, "models/sentiment"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	dir := filepath.Join(t.TempDir(), "sentiment")
	if _, err := Compile(context.Background(), m, Options{Out: dir}); err != nil {
		t.Fatal(err)
	}
	test, err := os.ReadFile("testdata/api_test.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "api_test.go"), test, 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
