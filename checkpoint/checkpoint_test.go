package checkpoint

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// given is a tensor of a test checkpoint. Its elements are all equal to value.
type given struct {
	name  string
	shape []int
	value byte
}

func writeTensors(t *testing.T, path string, dtype DType, tensors []given) {
	t.Helper()
	infos := make([]Info, len(tensors))
	for i, g := range tensors {
		infos[i] = Info{g.name, dtype, g.shape}
	}
	err := WriteFile(path, infos, func(i int, w io.Writer) error {
		n, _ := byteSize(dtype, infos[i].Shape)
		_, err := w.Write(bytes.Repeat([]byte{tensors[i].value}, int(n)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestNames(t *testing.T) {
	tests := []struct{ name, want string }{
		{"bert.encoder.layer.0.attention.self.query.weight", "encoder.layer.0.attention.self.query.weight"},
		{"encoder.layer.47.attention.self.key.bias", "encoder.layer.47.attention.self.key.bias"},
		{"model.layers.12.self_attn.q_proj.weight", "encoder.layer.12.attention.self.query.weight"},
		{"layers.3.mlp.gate_proj.bias", "encoder.layer.3.mlp.gate_proj.bias"},
		{"model.norm.weight", "encoder.ln.weight"},
		{"model.embed_tokens.weight", "embeddings.word_embeddings.weight"},
		{"lm_head.weight", "cls.predictions.decoder.weight"},
		{"lm_head.bias", "cls.predictions.bias"},
		{"cls.predictions.decoder.bias", "cls.predictions.bias"},
		{"bert.encoder.layer.5.intermediate.up_proj.weight", "encoder.layer.5.mlp.up_proj.weight"},
		{"bert.embeddings.position_ids", "ignored"},
		{"model.layers.0.self_attn.rotary_emb.inv_freq", "ignored"},
		{"bert.pooler.dense.weight", "pooler.dense.weight"},
		{"classifier.bias", "classifier.bias"},
		{"qa_outputs.weight", "qa_outputs.weight"},
		{"bert.cls.seq_relationship.weight", "ignored"},
		{"bert.encoder.layer.0.intermediate.dense.weight", "unknown"},
		{"bert.encoder.layer.{N}.ln.weight", "unknown"},
		{"encoder.layer.01.ln.weight", "unknown"},
		{"encoder.layer.-1.ln.weight", "unknown"},
		{"encoder.ln.gain", "unknown"},
		{"", "unknown"},
	}
	for _, tt := range tests {
		got, row, ok := lookupName(tt.name)
		switch {
		case !ok:
			got = "unknown"
		case row.ignored != "":
			got = "ignored"
		}
		if got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestNameTable checks that every row is reachable, and that every canonical name of the table
// maps to itself.
func TestNameTable(t *testing.T) {
	spellings := map[string]bool{}
	for _, r := range names {
		if spellings[r.spelling] {
			t.Errorf("%q occurs twice", r.spelling)
		}
		spellings[r.spelling] = true
		if (r.canonical == "") == (r.ignored == "") {
			t.Errorf("%q: exactly one of canonical and ignored must be set", r.spelling)
		}
		if r.canonical != "" && strings.HasSuffix(r.spelling, "*") != strings.HasSuffix(r.canonical, "*") {
			t.Errorf("%q: the star must be on both sides", r.spelling)
		}
		canonical := strings.NewReplacer("{N}", "7", "*", "bias").Replace(r.canonical)
		if got, _, _ := lookupName(canonical); canonical != "" && got != canonical {
			t.Errorf("canonical %q maps to %q", canonical, got)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	word := given{"bert.embeddings.word_embeddings.weight", []int{4, 2}, 1}
	single := func(tensors ...given) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			writeTensors(t, filepath.Join(dir, singleFile), BF16, tensors)
		}
	}
	files := func(list map[string]string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			for name, text := range list {
				writeRaw(t, dir, name, []byte(text))
			}
		}
	}
	sharded := func(index string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			writeRaw(t, dir, indexFile, []byte(index))
			writeTensors(t, filepath.Join(dir, "a.safetensors"), BF16, []given{word})
			writeTensors(t, filepath.Join(dir, "b.safetensors"), BF16, []given{{"bert.encoder.ln.weight", []int{2}, 1}})
		}
	}
	tests := []struct {
		name  string
		setup func(t *testing.T, dir string)
		want  string
	}{
		{"nothing", files(nil), "DIR: neither model.safetensors nor model.safetensors.index.json is there"},
		{"unknown", single(word,
			given{"bert.encoder.layer.0.attention.self.querry.weight", []int{2, 2}, 1},
			given{"bert.encoder.layer.1.attention.self.querry.weight", []int{2, 2}, 1},
			given{"head.weight", []int{2}, 1}),
			`DIR: 3 tensors have a name that the table in checkpoint/names.go does not know: ` +
				`"bert.encoder.layer.{N}.attention.self.querry.weight" (2 times), nearest known name "bert.encoder.layer.{N}.attention.self.query.weight"; ` +
				`"head.weight", nearest known name "lm_head.weight"`},
		{"two spellings", single(word, given{"model.embed_tokens.weight", []int{4, 2}, 2}),
			`DIR: tensors "bert.embeddings.word_embeddings.weight" and "model.embed_tokens.weight" are both "embeddings.word_embeddings.weight" and differ`},
		{"dtype", func(t *testing.T, dir string) {
			writeTensors(t, filepath.Join(dir, singleFile), "I64", []given{word})
		}, `DIR/model.safetensors: tensor "bert.embeddings.word_embeddings.weight": dtype I64, expected F32, BF16 or F16`},
		{"no index", func(t *testing.T, dir string) {
			writeTensors(t, filepath.Join(dir, "model-00001-of-00002.safetensors"), BF16, []given{word})
		}, `DIR/model.safetensors.index.json: no such file, but there are shards such as model-00001-of-00002.safetensors`},
		{"index not JSON", sharded(`{`), `DIR/model.safetensors.index.json: the JSON text ends too early`},
		{"index without map", sharded(`{"metadata":{}}`), `DIR/model.safetensors.index.json: field "weight_map" is missing or empty`},
		{"index path", sharded(`{"weight_map":{"a":"../a.safetensors"}}`), `DIR/model.safetensors.index.json: tensor "a": "../a.safetensors" is not the name of a safetensors file beside the index`},
		{"index twice", sharded(`{"weight_map":{"a":"a.safetensors","a":"b.safetensors"}}`), `DIR/model.safetensors.index.json: tensor "a" occurs twice`},
		{"no shard", sharded(`{"weight_map":{"a":"c.safetensors"}}`), `DIR/c.safetensors: no such file or directory`},
		{"extra tensor", sharded(`{"weight_map":{"a":"a.safetensors"}}`), `DIR/a.safetensors: tensor "bert.embeddings.word_embeddings.weight" is not listed in model.safetensors.index.json`},
		{"wrong shard", sharded(`{"weight_map":{"bert.embeddings.word_embeddings.weight":"b.safetensors","bert.encoder.ln.weight":"a.safetensors"}}`),
			`DIR/a.safetensors: tensor "bert.embeddings.word_embeddings.weight" belongs to b.safetensors according to model.safetensors.index.json`},
		{"missing tensor", sharded(`{"weight_map":{"bert.embeddings.word_embeddings.weight":"a.safetensors","bert.encoder.ln.weight":"b.safetensors","x":"b.safetensors"}}`),
			`DIR/b.safetensors: tensor "x" is missing, model.safetensors.index.json lists it`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.setup(t, dir)
			_, err := Open(dir)
			wantError(t, err, dir, tt.want)
		})
	}
	_, err := Open("no/such/dir")
	wantError(t, err, "no/such/dir", "DIR: no such file or directory")
}

// TestPickle runs the command that the error shows, with stand-ins for torch and safetensors.
func TestPickle(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's a model")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	writeRaw(t, dir, "pytorch_model-00001-of-00002.bin", nil)
	writeRaw(t, dir, "pytorch_model-00002-of-00002.bin", nil)
	_, err := Open(dir)
	if err == nil {
		t.Fatal("no error")
	}
	head, command, ok := strings.Cut(err.Error(), "convert it with: ")
	if want := filepath.Join(dir, "pytorch_model-00001-of-00002.bin") + ": pickle files are not read, because reading one runs code from it; "; !ok || head != want {
		t.Errorf("got %q", err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 to try the command with")
	}
	modules := t.TempDir()
	writeRaw(t, modules, "torch.py", []byte(`
class T:
    def __init__(self, f): self.f = f
    def clone(self): return self
    def contiguous(self): return self
def load(f, map_location, weights_only): return {f: T(f)}
`))
	if err := os.Mkdir(filepath.Join(modules, "safetensors"), 0o755); err != nil {
		t.Fatal(err)
	}
	writeRaw(t, modules, "safetensors/__init__.py", nil)
	writeRaw(t, modules, "safetensors/torch.py", []byte("def save_file(t, path, metadata): print(len(t), path, metadata)\n"))
	c := exec.Command("sh", "-c", command)
	c.Env = append(os.Environ(), "PYTHONPATH="+modules, "PYTHONDONTWRITEBYTECODE=1", "PATH="+filepath.Dir(python)+":/bin:/usr/bin")
	out, err := c.CombinedOutput()
	if want := fmt.Sprintf("2 %s/model.safetensors {'format': 'pt'}\n", dir); err != nil || string(out) != want {
		t.Errorf("%v: got %q, want %q", err, out, want)
	}
}

func TestSharded(t *testing.T) {
	dir := t.TempDir()
	writeTensors(t, filepath.Join(dir, "a.safetensors"), BF16, []given{
		{"model.embed_tokens.weight", []int{4, 2}, 1}, {"model.layers.10.input_layernorm.weight", []int{2}, 2}})
	writeTensors(t, filepath.Join(dir, "b.safetensors"), F32, []given{
		{"model.layers.2.input_layernorm.weight", []int{2}, 3}, {"model.rotary_emb.inv_freq", []int{1}, 4}})
	writeRaw(t, dir, indexFile, []byte(`{"metadata":{"total_size":1},"weight_map":{
		"model.embed_tokens.weight":"a.safetensors","model.layers.10.input_layernorm.weight":"a.safetensors",
		"model.layers.2.input_layernorm.weight":"b.safetensors","model.rotary_emb.inv_freq":"b.safetensors"}}`))
	writeRaw(t, dir, "config.json", []byte("{}"))
	for _, open := range []func() (*Checkpoint, error){
		func() (*Checkpoint, error) { return Open(dir) },
		func() (*Checkpoint, error) { return OpenFS(os.DirFS(dir), ".") },
	} {
		c, err := open()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		want := []string{"embeddings.word_embeddings.weight", "encoder.layer.2.attention.ln.weight", "encoder.layer.10.attention.ln.weight"}
		if diff := cmp.Diff(want, c.Names()); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]Ignored{{"model.rotary_emb.inv_freq", "it is computed from rope_theta"}}, c.Ignored()); diff != "" {
			t.Error(diff)
		}
		tensor, err := c.Tensor("encoder.layer.2.attention.ln.weight")
		if err != nil || tensor.DType != F32 || len(tensor.Data) != 8 || tensor.Data[7] != 3 {
			t.Errorf("got %v, %v", tensor, err)
		}
		if _, data, err := c.Config(); err != nil || string(data) != "{}" {
			t.Errorf("config %q, %v", data, err)
		}
	}
}

// FuzzIndex checks that no index makes the parser panic or names a file outside the directory.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":1},"weight_map":{"a":"a.safetensors","b":"b.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"../a.safetensors"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		shardOf, err := parseIndex(data)
		for _, shard := range shardOf {
			if err == nil && (filepath.Base(shard) != shard || shard == "..") {
				t.Errorf("accepted %q", shard)
			}
		}
	})
}

func TestTiedTwice(t *testing.T) {
	dir := t.TempDir()
	writeTensors(t, filepath.Join(dir, singleFile), F32, []given{
		{"bert.embeddings.word_embeddings.weight", []int{4, 2}, 1},
		{"cls.predictions.decoder.weight", []int{4, 2}, 1},
		{"cls.predictions.bias", []int{4}, 2}, {"cls.predictions.decoder.bias", []int{4}, 2}})
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if same, err := c.Same("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"); !same || err != nil {
		t.Errorf("same %t, %v", same, err)
	}
	if same, _ := c.Same("cls.predictions.bias", "embeddings.word_embeddings.weight"); same {
		t.Error("bias and embeddings are the same")
	}
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	writeTensors(t, filepath.Join(dir, singleFile), F32, []given{
		{"bert.embeddings.word_embeddings.weight", []int{4, 2}, 1}, {"bert.encoder.ln.weight", []int{2}, 1}})
	c, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	word, ln := Want{Name: "embeddings.word_embeddings.weight", Shape: []int{4, 2}}, Want{Name: "encoder.ln.weight", Shape: []int{2}}
	tests := []struct {
		wants []Want
		want  string
	}{
		{[]Want{word, {Name: "encoder.ln.weight", Shape: []int{3}}}, `DIR/model.safetensors: tensor "bert.encoder.ln.weight": expected shape [3], found [2]`},
		{[]Want{word, ln, {Name: "encoder.ln.bias", Shape: []int{2}}}, `DIR: tensor "encoder.ln.bias" is missing, expected shape [2]`},
		{[]Want{word}, `DIR/model.safetensors: tensor "bert.encoder.ln.weight" has no place in the model that config.json describes`},
	}
	for _, tt := range tests {
		wantError(t, c.Check(tt.wants), dir, tt.want)
	}
	if err := c.Check([]Want{word, ln, {Name: "cls.predictions.decoder.weight", Shape: []int{4, 2}, Optional: true}}); err != nil {
		t.Error(err)
	}
	_, err = c.Tensor("encoder.ln.bias")
	wantError(t, err, dir, `DIR: tensor "encoder.ln.bias" is missing`)
}

func TestCopiedBias(t *testing.T) {
	gate, up := "bert.encoder.layer.%d.mlp.gate_proj.bias", "bert.encoder.layer.%d.mlp.up_proj.bias"
	tests := []struct {
		name   string
		values [4]byte // gate and up of two layers
		want   []string
	}{
		{"all equal", [4]byte{1, 1, 2, 2}, []string{"DIR: mlp.up_proj.bias equals mlp.gate_proj.bias in all 2 layers, the fault of RetrievaBERT v1.0: use the weights of v1.0.1 or later"}},
		{"one differs", [4]byte{1, 1, 2, 3}, nil},
		{"zero", [4]byte{0, 0, 0, 0}, nil},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		var list []given
		for i := range 2 {
			list = append(list, given{fmt.Sprintf(gate, i), []int{3}, tt.values[2*i]}, given{fmt.Sprintf(up, i), []int{3}, tt.values[2*i+1]})
		}
		writeTensors(t, filepath.Join(dir, singleFile), BF16, list)
		c, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, w := range c.Warnings() {
			got = append(got, strings.ReplaceAll(w, dir, "DIR"))
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
		c.Close()
	}
}

// TestTruncatedAnywhere cuts a good file at every length: each cut is an error and none a panic.
func TestTruncatedAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, singleFile)
	writeTensors(t, path, BF16, []given{{"bert.encoder.ln.weight", []int{5}, 1}, {"bert.encoder.ln.bias", []int{5}, 1}})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		writeRaw(t, dir, singleFile, whole[:n])
		if c, err := Open(dir); err == nil {
			c.Close()
			t.Errorf("cut at %d of %d bytes: no error", n, len(whole))
		} else if !strings.Contains(err.Error(), "truncated") {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
}
