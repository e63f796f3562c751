package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/bertc/bertc/autotune"
	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/passes"
)

const tiny = "../../models/tiny"

// bertc runs the command in this process.
func bertc(t testing.TB, stdin string, args ...string) (out string, err error) {
	t.Helper()
	c := root()
	var stdout, stderr bytes.Buffer
	c.SetArgs(args)
	c.SetIn(strings.NewReader(stdin))
	c.SetOut(&stdout)
	c.SetErr(&stderr)
	err = c.ExecuteContext(context.Background())
	return stdout.String(), err
}

// binary builds the command once.
var command = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bertc-test-*")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "bertc")
	out, err := exec.Command("go", "build", "-o", bin, ".").CombinedOutput()
	if err != nil {
		os.Stderr.Write(out)
	}
	return bin, err
})

// tinyPackage compiles the tiny model once.
var tinyPackage = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bertc-test-*")
	if err != nil {
		return "", err
	}
	c := root()
	c.SetArgs([]string{"compile", "--model", tiny, "--out", filepath.Join(dir, "tinybert")})
	c.SetOut(io.Discard)
	return filepath.Join(dir, "tinybert"), c.ExecuteContext(context.Background())
})

func TestMain(m *testing.M) {
	code := m.Run()
	for _, made := range []func() (string, error){command, tinyPackage} {
		if path, err := made(); err == nil {
			os.RemoveAll(filepath.Dir(path))
		}
	}
	os.Exit(code)
}

// copyModel copies the tiny model, for spoiling.
func copyModel(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "model")
	if err := os.CopyFS(dir, os.DirFS(tiny)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func edit(t *testing.T, file string, f func([]byte) []byte) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, f(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// header rewrites the JSON header of a safetensors file.
func header(f func(map[string]any)) func([]byte) []byte {
	return func(data []byte) []byte {
		n := binary.LittleEndian.Uint64(data)
		var h map[string]any
		if json.Unmarshal(data[8:8+n], &h) != nil {
			panic("not a header")
		}
		f(h)
		text, _ := json.Marshal(h)
		out := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
		return append(append(out, text...), data[8+n:]...)
	}
}

func config(old, new string) func([]byte) []byte {
	return func(data []byte) []byte { return bytes.Replace(data, []byte(old), []byte(new), 1) }
}

// TestCompileErrors: each defect of a model directory is one sentence that names the file and
// what was found, and leaves nothing behind.
func TestCompileErrors(t *testing.T) {
	tests := []struct {
		name, file string
		spoil      func([]byte) []byte // nil removes the file
		want       []string
	}{
		{"missing config", "config.json", nil, []string{"config.json", "no such file"}},
		{"missing tensors", "model.safetensors", nil, []string{"model.safetensors"}},
		{"truncated", "model.safetensors", func(b []byte) []byte { return b[:len(b)-1000] }, []string{"model.safetensors", "truncated"}},
		{"empty", "model.safetensors", func([]byte) []byte { return nil }, []string{"model.safetensors"}},
		{"header of 2^60 bytes", "model.safetensors", func(b []byte) []byte {
			return append(binary.LittleEndian.AppendUint64(nil, 1<<60), b[8:]...)
		}, []string{"model.safetensors", "1152921504606846976"}},
		{"overlap", "model.safetensors", header(func(h map[string]any) {
			h["bert.encoder.ln.weight"].(map[string]any)["data_offsets"] = h["bert.encoder.layer.0.ln.weight"].(map[string]any)["data_offsets"]
		}), []string{"model.safetensors", "overlap"}},
		{"wrong shape", "model.safetensors", header(func(h map[string]any) {
			h["bert.encoder.layer.1.mlp.down_proj.weight"].(map[string]any)["shape"] = []int{512, 192}
		}), []string{"bert.encoder.layer.1.mlp.down_proj.weight", "[192 512]", "[512 192]"}},
		{"wrong dtype", "model.safetensors", header(func(h map[string]any) {
			e := h["bert.encoder.ln.weight"].(map[string]any)
			e["dtype"] = "I16"
		}), []string{"bert.encoder.ln.weight", "I16"}},
		{"unknown tensor", "model.safetensors", header(func(h map[string]any) {
			h["bert.encoder.lnn.weight"] = h["bert.encoder.ln.weight"]
			delete(h, "bert.encoder.ln.weight")
		}), []string{"bert.encoder.lnn.weight", "bert.encoder.ln.weight"}},
		{"unknown architecture", "config.json", config("RetrievaBertForMaskedLM", "T5ForConditionalGeneration"), []string{"T5ForConditionalGeneration", "RetrievaBertForMaskedLM"}},
		{"unknown model type", "config.json", config("retrieva-bert", "gpt2"), []string{"gpt2", "retrieva-bert"}},
		{"missing field", "config.json", config(`"hidden_size": 192,`, ""), []string{"config.json", "hidden_size", "missing"}},
		{"field of a wrong type", "config.json", config(`"hidden_size": 192`, `"hidden_size": "large"`), []string{"hidden_size", "large"}},
		{"huge field", "config.json", config(`"hidden_size": 192`, `"hidden_size": 1e300`), []string{"hidden_size"}},
		{"not JSON", "config.json", config("{", "["), []string{"config.json", "JSON"}},
		{"unsupported tokenizer", "tokenizer.json", config(`"Unigram"`, `"BPE"`), []string{"tokenizer.json", "BPE", "Unigram"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := copyModel(t)
			file := filepath.Join(dir, tt.file)
			if tt.spoil == nil {
				os.Remove(file)
			} else {
				edit(t, file, tt.spoil)
			}
			parent := t.TempDir()
			_, err := bertc(t, "", "compile", "--model", dir, "--out", filepath.Join(parent, "out"))
			sentence(t, err, tt.want...)
			nothingIn(t, parent)
		})
	}
}

// sentence checks that err is one line that holds all words.
func sentence(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	text := err.Error()
	t.Log(text)
	if strings.ContainsRune(text, '\n') || len(text) > 400 {
		t.Errorf("not one sentence: %q", text)
	}
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("error %q does not name %q", text, w)
		}
	}
}

func nothingIn(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		t.Errorf("%s is left behind", e.Name())
	}
}

// TestMissingFile: every command names the file that is not there.
func TestMissingFile(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	for _, args := range [][]string{
		{"compile", "--model", missing, "--out", missing + ".out"},
		{"fill-mask", "--model", missing, "x"},
		{"fill-mask", "--package", missing, "x"},
		{"run", "--model", tiny, "--in", missing, "--out", missing + ".out"},
		{"tokenize", "--tokenizer", missing},
		{"tokenize", "--model", missing},
		{"inspect", missing},
		{"init", "--config", missing, "--out", missing + ".out"},
		{"dump", "--model", missing},
		{"html", "--model", missing, "-o", missing + ".out"},
	} {
		_, err := bertc(t, "", args...)
		sentence(t, err, missing)
	}
	nothingIn(t, filepath.Dir(missing))
}

func TestTextErrors(t *testing.T) {
	dir, err := tinyPackage()
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("私は学校に行きます。", 400) + "<MASK|LLM-jp>"
	for name, tt := range map[string]struct {
		text string
		want []string
	}{
		"no mask":       {"マスクのない文です。", []string{"text 1", "mask"}},
		"empty":         {"", []string{"text 1", "empty"}},
		"invalid UTF-8": {"私\xff<MASK|LLM-jp>", []string{"text 1", "UTF-8", "byte 3"}},
		"too long":      {long, []string{"text 1", "2048"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := bertc(t, "", "fill-mask", "--package", dir, tt.text)
			sentence(t, err, tt.want...)
		})
	}
}

// ids writes an input file.
func ids(t *testing.T, name string, dtype checkpoint.DType, shape []int, data []byte) string {
	path := filepath.Join(t.TempDir(), "in.safetensors")
	err := checkpoint.WriteFile(path, []checkpoint.Info{{Name: name, DType: dtype, Shape: shape}}, func(_ int, w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func int32s(xs ...int32) []byte {
	var b []byte
	for _, x := range xs {
		b = binary.LittleEndian.AppendUint32(b, uint32(x))
	}
	return b
}

func TestRunErrors(t *testing.T) {
	dir, err := tinyPackage()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		in   string
		args []string
		want []string
	}{
		"id outside the vocabulary": {ids(t, "input_ids", "I32", []int{1, 3}, int32s(5, 4608, 6)), nil, []string{"in.safetensors", "id 4608", "[0, 1]", "0..4607"}},
		"negative id":               {ids(t, "input_ids", "I32", []int{1, 2}, int32s(5, -1)), nil, []string{"in.safetensors", "id -1", "[0, 1]"}},
		"3000 tokens":               {ids(t, "input_ids", "I32", []int{1, 3000}, make([]byte, 12000)), nil, []string{"in.safetensors", "row 0", "2048"}},
		"wrong dtype":               {ids(t, "input_ids", "F32", []int{1, 1}, make([]byte, 4)), nil, []string{"input_ids", "F32", "I32, I64"}},
		"wrong rank":                {ids(t, "input_ids", "I32", []int{2}, make([]byte, 8)), nil, []string{"input_ids", "[2]"}},
		"no tokens":                 {ids(t, "input_ids", "I32", []int{0, 4}, nil), nil, []string{"input_ids", "[0 4]"}},
		"another tensor":            {ids(t, "ids", "I32", []int{1, 1}, make([]byte, 4)), nil, []string{"input_ids", "missing"}},
		"unknown output":            {ids(t, "input_ids", "I32", []int{1, 1}, int32s(5)), []string{"--outputs", "pooler"}, []string{"pooler", "last_hidden_state"}},
		"no output":                 {ids(t, "input_ids", "I32", []int{1, 1}, int32s(5)), []string{"--outputs", ""}, []string{"--outputs", "last_hidden_state"}},
		"unknown kernels":           {ids(t, "input_ids", "I32", []int{1, 1}, int32s(5)), []string{"--kernels", "sse"}, []string{"sse", "portable"}},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			args := append([]string{"run", "--package", dir, "--in", tt.in, "--out", filepath.Join(parent, "out.safetensors")}, tt.args...)
			_, err := bertc(t, "", args...)
			sentence(t, err, tt.want...)
			nothingIn(t, parent)
		})
	}
}

// TestVersion: what a report of a defect needs is in one line.
func TestVersion(t *testing.T) {
	out, err := bertc(t, "", "--version")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{pipeline.Version(), runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH} {
		if !strings.Contains(out, part) || strings.Count(out, "\n") != 1 {
			t.Errorf("no %s in the one line %q", part, out)
		}
	}
}

// TestFlagErrors: unknown names suggest the nearest; bad values are named.
func TestFlagErrors(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"compil"}, []string{"compil", "compile"}},
		{[]string{"help", "compil"}, []string{"compil", "compile"}},
		{[]string{"bench", "modle"}, []string{"modle", "model"}},
		{[]string{"bench", "model", "--qqqqq"}, []string{"--qqqqq", "see bertc bench model --help"}},
		{[]string{"compile", "--modle", "x"}, []string{"--modle", "--model"}},
		{[]string{"compile"}, []string{"--out"}},
		{[]string{"compile", "--out", "x"}, []string{"--model"}},
		{[]string{"compile", "--model", tiny, "--out", t.TempDir() + "/x", "--dtype", "fp8"}, []string{"--dtype", "fp8", "bf16, f32"}},
		{[]string{"compile", "--model", tiny, "--out", t.TempDir() + "/x", "--targets", "riscv64"}, []string{"--targets", "riscv64", "amd64"}},
		{[]string{"compile", "--model", tiny, "--out", t.TempDir() + "/x", "--dtype", "f32", "--targets", "ptx"}, []string{"--targets ptx", "f32", "--dtype bf16"}},
		{[]string{"fill-mask", "--model", tiny, "--device", "tpu", "x"}, []string{"--device", "tpu", "cpu, cuda, auto, emulator"}},
		{[]string{"fill-mask", "--model", tiny, "--dtype", "f32", "--device", "emulator", "x"}, []string{"--device emulator: the GPU multiplies bf16, not f32"}},
		{[]string{"ptx", "check", "--device", "cpu"}, []string{"--device", "cpu", "cuda, emulator"}},
		{[]string{"ptx", "check", "--device", "emulator", "--layers", "-1"}, []string{"--layers -1"}},
		{[]string{"compile", "--model", tiny, "--out", t.TempDir() + "/x", "--package", "My-Pkg"}, []string{"--package", "My-Pkg"}},
		{[]string{"fill-mask", "x"}, []string{"--model", "--package"}},
		{[]string{"fill-mask", "--model", tiny, "--top-k", "0", "x"}, []string{"--top-k"}},
		{[]string{"dump", "--model", tiny, "--after", "nothing"}, []string{"nothing", "form-groups"}},
		{[]string{"dump", "--model", tiny, "--asm", "sparc"}, []string{"--asm", "sparc", "ptx"}},
		{[]string{"dump", "--model", tiny, "--asm", "ptx", "--dtype", "f32"}, []string{"--asm ptx", "f32", "--dtype bf16"}},
		{[]string{"dump", "--model", tiny, "--asm", "ptx", "--dtype", "int8"}, []string{"--asm ptx: the GPU multiplies bf16, not int8 (--dtype bf16)"}},
		{[]string{"compile", "--model", tiny, "--targets", "ptx", "--dtype", "int8", "--out", t.TempDir() + "/x"}, []string{"--targets ptx: the GPU multiplies bf16, not int8 (--dtype bf16)"}},
		{[]string{"dump", "--model", tiny, "--asm", "ptx", "--after", "bind"}, []string{"--after"}},
		{[]string{"dump", "--model", tiny, "--kernel", "qkv"}, []string{"--kernel", "--asm"}},
		{[]string{"dump", "--model", tiny, "--dtype", "bf16", "--asm", "ptx", "--kernel", "nothing"}, []string{"nothing", "gate_up"}},
	} {
		_, err := bertc(t, "", tt.args...)
		sentence(t, err, tt.want...)
	}
}

// TestDumpPTX: the kernels of the GPU as text, and as machine code where NVIDIA's tools are installed.
func TestDumpPTX(t *testing.T) {
	out, err := bertc(t, "", "dump", "--model", tiny, "--dtype", "bf16", "--asm", "ptx", "--kernel", "hidden")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, ".visible .entry hidden(") || strings.Contains(out, ".entry qkv") {
		t.Errorf("not the kernel hidden alone:\n%s", out)
	}
	_, noPtxas := exec.LookPath("ptxas")
	_, noNvdisasm := exec.LookPath("nvdisasm")
	if sass := strings.Contains(out, "EXIT"); sass != (noPtxas == nil && noNvdisasm == nil) {
		t.Errorf("machine code %v, ptxas: %v, nvdisasm: %v", sass, noPtxas, noNvdisasm)
	}
}

// TestOutDirectory: what bertc did not write is not replaced.
func TestOutDirectory(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	os.Mkdir(out, 0o755)
	if _, err := bertc(t, "", "compile", "--model", tiny, "--out", out); err != nil {
		t.Fatalf("an empty directory is not replaced: %v", err)
	}
	if _, err := bertc(t, "", "compile", "--model", tiny, "--out", out); err != nil {
		t.Fatalf("a generated package is not replaced: %v", err)
	}
	for name, text := range map[string]string{"mine.go": "package out\n", "notes.txt": "mine", "internal/mine/mine.go": "package mine\n"} {
		file := filepath.Join(out, filepath.FromSlash(name))
		os.MkdirAll(filepath.Dir(file), 0o755)
		os.WriteFile(file, []byte(text), 0o644)
		_, err := bertc(t, "", "compile", "--model", tiny, "--out", out)
		sentence(t, err, name)
		if data, err := os.ReadFile(file); err != nil || string(data) != text {
			t.Errorf("%s was touched: %q, %v", name, data, err)
		}
		os.Remove(file)
	}
	mod := filepath.Join(out, "go.mod")
	if err := os.WriteFile(mod, []byte("module example.com/mine\n\ngo 1.25\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := bertc(t, "", "compile", "--model", tiny, "--out", out); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(mod); err != nil || !bytes.Contains(data, []byte("example.com/mine")) {
		t.Errorf("the package's go.mod is not kept: %q, %v", data, err)
	}
	if data, _ := os.ReadFile(filepath.Join(out, "model.go")); !bytes.Contains(data, []byte(`"example.com/mine/internal/rt"`)) {
		t.Error("the import path does not follow from the package's go.mod")
	}
	inside := t.TempDir()
	os.WriteFile(filepath.Join(inside, "go.mod"), []byte("module example.com/server\n\ngo 1.24\n"), 0o644)
	_, err := bertc(t, "", "compile", "--model", tiny, "--out", filepath.Join(inside, "my model"))
	sentence(t, err, "--out", "my model")
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o644)
	_, err = bertc(t, "", "compile", "--model", tiny, "--out", file)
	sentence(t, err, file, "not a directory")
}

// TestExitStatus: a failure of the command itself exits with 2 and one line on standard error.
func TestExitStatus(t *testing.T) {
	bin, err := command()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "compile", "--model", "missing", "--out", filepath.Join(t.TempDir(), "x"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.Run()
	if got := cmd.ProcessState.ExitCode(); got != exitError {
		t.Errorf("exit status %d, want %d", got, exitError)
	}
	if text := stderr.String(); strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "bertc: missing") {
		t.Errorf("standard error is %q", text)
	}
}

// TestFullDisk compiles into a file system of 1 MiB.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, "size=1m")
	_, err := bertc(t, "", "compile", "--model", tiny, "--out", filepath.Join(dir, "out"))
	sentence(t, err, "no space left on device")
	nothingIn(t, dir)
	_, err = bertc(t, "", "init", "--config", tiny+"/config.json", "--out", filepath.Join(dir, "random"))
	sentence(t, err, "no space left on device")
	nothingIn(t, dir)
	// The package writes more than a pipe holds, and bertc stops reading it.
	pkg, err := tinyPackage()
	if err != nil {
		t.Fatal(err)
	}
	in := ids(t, "input_ids", "I32", []int{1, 512}, make([]byte, 4*512))
	_, err = bertc(t, "", "run", "--package", pkg, "--in", in, "--out", filepath.Join(dir, "y.safetensors"), "--outputs", "last_hidden_state,logits")
	sentence(t, err, "no space left on device")
	nothingIn(t, dir)
	// A job that could not begin is not one that could go on.
	fill := filepath.Join(dir, "fill")
	if os.WriteFile(fill, make([]byte, 2<<20), 0o600) == nil {
		t.Fatal("the file system has more than 1 MiB")
	}
	_, err = bertc(t, "", "run", "embed", "--package", pkg, "--in", tiny+"/config.json", "--format", "txt", "--out", filepath.Join(dir, "y.npy"))
	sentence(t, err, "no space left on device")
	os.Remove(fill)
	nothingIn(t, dir)
}

// TestInterrupt interrupts a compile as soon as it has begun to write.
func TestInterrupt(t *testing.T) {
	bin, err := command()
	if err != nil {
		t.Fatal(err)
	}
	big := filepath.Join(t.TempDir(), "big")
	conf := filepath.Join(t.TempDir(), "config.json")
	data, _ := os.ReadFile(tiny + "/config.json")
	data = config(`"hidden_size": 192`, `"hidden_size": 960`)(data)
	data = config(`"intermediate_size": 512`, `"intermediate_size": 4096`)(data)
	os.WriteFile(conf, config(`"num_hidden_layers": 4`, `"num_hidden_layers": 12`)(data), 0o644)
	if _, err := bertc(t, "", "init", "--config", conf, "--out", big, "--dtype", "f32"); err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	cmd := exec.Command(bin, "compile", "--model", big, "--out", filepath.Join(parent, "out"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for begun := false; !begun && cmd.ProcessState == nil; time.Sleep(time.Millisecond) {
		filepath.WalkDir(parent, func(path string, e fs.DirEntry, err error) error {
			begun = begun || err == nil && !e.IsDir()
			return nil
		})
	}
	cmd.Process.Signal(os.Interrupt)
	cmd.Wait()
	if cmd.ProcessState.Success() {
		t.Skip("SKIP: the compile was complete before the interrupt reached it")
	}
	if got := cmd.ProcessState.ExitCode(); got != exitError || stderr.String() != "bertc: interrupted\n" {
		t.Errorf("exit status %d, standard error %q", got, stderr.String())
	}
	nothingIn(t, parent)
}

// TestTokenize: the command prints what the tokenizer's conformance file says.
func TestTokenize(t *testing.T) {
	out, err := bertc(t, "\"私は学校<MASK|LLM-jp>行きます。\"\n\"\"\n", "tokenize", "--model", tiny)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"ids":[5,31,305,290,544,3,31,563,302,289,6],"tokens":["<CLS|LLM-jp>","▁","私","は","学校","<MASK|LLM-jp>","▁","行き","ます","。","<SEP|LLM-jp>"],"offsets":[[0,0],[0,0],[0,1],[1,2],[2,4],[4,17],[17,17],[17,19],[19,21],[21,22],[0,0]]}
{"ids":[5,6],"tokens":["<CLS|LLM-jp>","<SEP|LLM-jp>"],"offsets":[[0,0],[0,0]]}
`
	if out != want {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	_, err = bertc(t, "\"a\"\nb\n", "tokenize", "--model", tiny, "--no-special")
	sentence(t, err, "line 2", "JSON")
	_, err = bertc(t, "\"a\"\n"+strings.Repeat("a", maxLine+1), "tokenize", "--model", tiny)
	sentence(t, err, "line 2", "longer than 16777216 bytes")
}

// TestDemo runs the first command of the README.
func TestDemo(t *testing.T) {
	out, err := bertc(t, "", "demo", "--out", filepath.Join(t.TempDir(), "tinybert"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"go build", "に\t私は学校に 行きます。", "雨\t昨日は雨 が降りました。", "tinybert"} {
		if !strings.Contains(out, want) {
			t.Errorf("the output has no %q:\n%s", want, out)
		}
	}
}

// TestInspect looks for each part of the report.
func TestInspect(t *testing.T) {
	out, err := bertc(t, "", "inspect", tiny)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2458688", "num_key_value_heads", "config.json", "bert.encoder.layer.3.mlp.up_proj.weight", "layer.3.gate_up.weight: bf16", "T = 16384"} {
		if !strings.Contains(out, want) {
			t.Errorf("the report has no %q", want)
		}
	}
}

// TestJSON: one line a text, a list for each mask.
func TestJSON(t *testing.T) {
	dir, err := tinyPackage()
	if err != nil {
		t.Fatal(err)
	}
	out, err := bertc(t, "私は学校<MASK|LLM-jp>行きます。\n<MASK|LLM-jp>は<MASK|LLM-jp>です。\n", "fill-mask", "--package", dir, "--json", "--top-k", "2")
	if err != nil {
		t.Fatal(err)
	}
	var masks []int
	for line := range strings.Lines(out) {
		var v [][]map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatal(err)
		}
		masks = append(masks, len(v))
		for _, key := range []string{"score", "token", "token_str", "sequence"} {
			if _, ok := v[0][1][key]; !ok {
				t.Errorf("%s: no %s", line, key)
			}
		}
	}
	if !slices.Equal(masks, []int{1, 2}) {
		t.Errorf("masks of the texts: %v", masks)
	}
}

// TestBench runs the harness on the tiny model: the formats, not the figures.
func TestBench(t *testing.T) {
	dir, err := tinyPackage()
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"model", "kernels"} {
		out, err := bertc(t, "", "bench", what, "--package", dir, "--kernels", "portable", "--shapes", "1x4,2+3", "--rounds", "2", "--no-ceiling", "--json")
		if err != nil {
			t.Fatal(err)
		}
		var results []map[string]any
		if err := json.Unmarshal([]byte(out), &results); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"shape", "tokens", "median_ms", "min_ms", "runs", "gflop", "gflops", "share_of_ceiling", "allocs"} {
			if _, ok := results[0][key]; !ok {
				t.Errorf("bench %s: no %s in %v", what, key, results[0])
			}
		}
	}
	out, err := bertc(t, "1x4\n", "bench", "model", "--package", dir, "--shapes", "-")
	if err != nil || strings.Count(out, "\n") != 1 {
		t.Errorf("shapes from standard input: %q, %v", out, err)
	}
	_, err = bertc(t, "", "bench", "model", "--package", dir, "--shapes", "1x4", "--no-ceiling", "--budget", "-1s")
	sentence(t, err, "--budget", "-1s")
	_, err = bertc(t, "", "bench", "model", "--package", dir, "--shapes", "8y2", "--no-ceiling")
	sentence(t, err, "--shapes", "8y2")
	_, err = bertc(t, "", "bench", "model", "--package", dir, "--shapes", "1x20000", "--no-ceiling")
	sentence(t, err, "--shapes", "20000", "16384")
}

// TestCompileTunedGPU: compile takes the plan of a record for the GPU, which need not be there.
func TestCompileTunedGPU(t *testing.T) {
	m, err := pipeline.Open(tiny)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p, err := m.Program(passes.Options{Math: ir.BF16, Targets: []string{pipeline.GPUTarget}})
	if err != nil {
		t.Fatal(err)
	}
	qkv := p.Kernel("qkv").Spec
	plan := autotune.Candidates(qkv, pipeline.GPUTarget, 2)[1]
	record, err := json.Marshal(autotune.Record{Machine: "NVIDIA sm_90-another H100-132-12.8", Target: pipeline.GPUTarget, Spec: qkv.String(),
		Plan: plan.String(), Tokens: 8192, MedianNS: 1, Verified: true})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "records.jsonl")
	if err := os.WriteFile(file, record, 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := bertc(t, "", "compile", "--model", tiny, "--dtype", "bf16", "--targets", "ptx", "--tuning", file, "--out", filepath.Join(t.TempDir(), "package"), "-v")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{plan.String() + " (measured on a machine of the same family)", "has plans for 1 of "} {
		if strings.Count(out, want) != 1 {
			t.Errorf("%q is not once in:\n%s", want, out)
		}
	}
}

// TestTuneFlags: a bad choice is named before any work, and leaves no file.
func TestTuneFlags(t *testing.T) {
	out := filepath.Join(t.TempDir(), "records.jsonl")
	for flag, value := range map[string]string{"--candidates": "-1", "--rounds": "0", "--tokens": "0", "--threads": "-2", "--spec": "[", "--kernels": "sse"} {
		_, err := bertc(t, "", "tune", "--model", tiny, "--out", out, flag, value)
		sentence(t, err, flag, value)
	}
	if amx, _ := kernel.LookupTarget("amd64/amx"); !pipeline.Supported(amx) {
		_, err := bertc(t, "", "tune", "--model", tiny, "--out", out, "--kernels", "amx")
		sentence(t, err, "--kernels", "amx")
	}
	if d, err := pipeline.OpenGPU(); err == nil {
		d.Close()
	} else {
		_, err := bertc(t, "", "tune", "--model", tiny, "--dtype", "bf16", "--out", out, "--kernels", "sm90a")
		sentence(t, err, "--kernels", "sm90a", "GPU")
	}
	for _, dtype := range []string{"f32", "int8"} {
		_, err := bertc(t, "", "tune", "--model", tiny, "--dtype", dtype, "--out", out, "--kernels", "sm90a")
		sentence(t, err, "--kernels", "sm90a", "not "+dtype)
	}
	for _, tokens := range []string{"2049", "9000"} {
		_, err := bertc(t, "", "tune", "--model", tiny, "--out", out, "--tokens", tokens)
		sentence(t, err, "--tokens", tokens, "2048")
	}
	nothingIn(t, filepath.Dir(out))
}

// TestHTML: the page is one file that names every pass.
func TestHTML(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.html")
	if _, err := bertc(t, "", "html", "--model", tiny, "-o", file); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"merge-siblings", "plan-memory", "layer.3.gate_up"} {
		if !bytes.Contains(data, []byte(want)) {
			t.Errorf("the page has no %q", want)
		}
	}
}

// TestDiff compares the portable kernels with the interpreter.
func TestDiff(t *testing.T) {
	in := ids(t, "input_ids", "I32", []int{1, 5}, int32s(5, 31, 305, 290, 6))
	file := filepath.Join(t.TempDir(), "step.safetensors")
	out, err := bertc(t, "", "diff", "--model", tiny, "--in", in, "--a", "eval", "--b", "portable", "-v", "--extract", file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"layer.3.down", "logits", "within their budgets"} {
		if !strings.Contains(out, want) {
			t.Errorf("the report has no %q:\n%s", want, out)
		}
	}
	out, err = bertc(t, "", "diff", "replay", file)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"kernel set portable", "plan ", "the interpreter of kernels", "ok"} {
		if !strings.Contains(out, want) {
			t.Errorf("the replay has no %q:\n%s", want, out)
		}
	}
	_, err = bertc(t, "", "diff", "--model", tiny, "--in", in, "--dtype", "int8", "--b", "emulator")
	sentence(t, err, "--b emulator: the GPU multiplies bf16, not int8")
	_, err = bertc(t, "", "diff", "replay", in)
	sentence(t, err, in)
	_, err = bertc(t, "", "diff", "replay")
	sentence(t, err, "arg")
}
