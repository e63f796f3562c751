package pipeline

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/bertc/bertc/emit"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/passes"
	"github.com/bertc/bertc/program"
)

// TestBits: a sequence alone, in a batch, in any order, with one or two threads: the same bytes,
// of hidden states and of logits. The longest makes items of attention of several calls over several blocks of keys
// with one thread, and of one call with two.
func TestBits(t *testing.T) {
	m, dir := compile(t, filepath.Join(root, "models/tiny"), 0)
	for _, tier := range tiers(m.DType()) {
		t.Run(tier, func(t *testing.T) {
			checkBits(t, driver(t, dir, tier, 1), driver(t, dir, tier, 2), 33, 1, 2, 7, 400, 19, 64)
		})
	}
}

// checkBits runs sequences of the given lengths on a package with one thread and with two.
func checkBits(t *testing.T, one, two *Driver, lengths ...int) {
	r := rand.New(rand.NewPCG(1, 2))
	var seqs [][]int32
	for _, n := range lengths {
		ids := make([]int32, n)
		for i := range ids {
			ids[i] = int32(r.IntN(one.Hello.VocabSize))
		}
		seqs = append(seqs, ids)
	}
	// encode runs the sequences in the given order as one batch and returns the hidden states
	// and the logits of each, by its number.
	encode := func(d *Driver, order ...int) (hidden, logits map[int][]float32) {
		var req Request
		req.Offsets = []int32{0}
		for _, s := range order {
			for i := range seqs[s] {
				req.Positions = append(req.Positions, int32(i))
				req.Rows = append(req.Rows, int32(len(req.Rows)))
			}
			req.IDs = append(req.IDs, seqs[s]...)
			req.Offsets = append(req.Offsets, int32(len(req.IDs)))
		}
		var h, l []float32
		err := d.Do(req, func(r Response) error {
			h = append(h, r.Hidden...)
			l = append(l, r.Logits...)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		hidden, logits = map[int][]float32{}, map[int][]float32{}
		for i, s := range order {
			lo, hi := int(req.Offsets[i]), int(req.Offsets[i+1])
			hidden[s] = h[lo*d.Hello.HiddenSize : hi*d.Hello.HiddenSize]
			logits[s] = l[lo*d.Hello.VocabSize : hi*d.Hello.VocabSize]
		}
		return hidden, logits
	}
	wantHidden, wantLogits := encode(one, 0, 1, 2, 3, 4, 5, 6)
	check := func(what string, d *Driver, order ...int) {
		hidden, logits := encode(d, order...)
		for _, s := range order {
			if !slices.Equal(hidden[s], wantHidden[s]) || !slices.Equal(logits[s], wantLogits[s]) {
				t.Errorf("%s: sequence %d has other bits", what, s)
			}
		}
	}
	check("two threads", two, 0, 1, 2, 3, 4, 5, 6)
	check("another order", one, 6, 3, 1, 0, 5, 4, 2)
	check("another order, two threads", two, 5, 2, 6, 4, 3, 1, 0)
	for s := range seqs {
		check("alone", two, s)
	}
	check("a pair", one, 4, 1)
}

// TestDeterministic: compiling twice gives the same bytes.
func TestDeterministic(t *testing.T) {
	_, a := compile(t, filepath.Join(root, "models/tiny"), 0)
	_, b := compile(t, filepath.Join(root, "models/tiny"), 0)
	files := func(dir string) (names []string) {
		filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				rel, _ := filepath.Rel(dir, path)
				names = append(names, rel)
			}
			return err
		})
		return names
	}
	if !slices.Equal(files(a), files(b)) {
		t.Fatalf("other files: %v and %v", files(a), files(b))
	}
	for _, f := range files(a) {
		x, _ := os.ReadFile(filepath.Join(a, f))
		y, _ := os.ReadFile(filepath.Join(b, f))
		if !bytes.Equal(x, y) {
			t.Errorf("%s differs", f)
		}
	}
}

// TestGeneratedPackage: it depends on the standard library alone, is vetted on every platform that
// it is promised for, passes its own tests, and belongs to the module around it.
func TestGeneratedPackage(t *testing.T) {
	m, err := Open(filepath.Join(root, "models/tiny"))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	mod := t.TempDir()
	if err := os.WriteFile(filepath.Join(mod, "go.mod"), []byte("module example.com/server\n\ngo 1.24\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(mod, "models", "ja")
	r, err := Compile(context.Background(), m, Options{Out: dir, Package: "tinybert"})
	if err != nil {
		t.Fatal(err)
	}
	if r.ImportPath != "example.com/server/models/ja" || r.OwnModule {
		t.Errorf("import path %q, own module %v", r.ImportPath, r.OwnModule)
	}
	run := func(env []string, args ...string) string {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), env...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v go %v: %v\n%s", env, args, err, out)
		}
		return string(out)
	}
	for _, imp := range strings.Fields(run(nil, "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".")) {
		if !strings.HasPrefix(imp, "example.com/server/models/ja") {
			t.Errorf("the package depends on %s", imp)
		}
	}
	for _, goos := range []string{"linux", "darwin", "windows"} {
		for _, goarch := range []string{"amd64", "arm64"} {
			run([]string{"GOOS=" + goos, "GOARCH=" + goarch, "CGO_ENABLED=0"}, "vet", "./...")
		}
	}
	run(nil, "test", "./...")
}

// TestPlanText: plan.txt is the program, parses back, and names the memory that a session takes.
func TestPlanText(t *testing.T) {
	m, dir := compile(t, filepath.Join(root, "models/tiny"), 0)
	text, err := os.ReadFile(filepath.Join(dir, "plan.txt"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := program.Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Verify(p); err != nil {
		t.Fatal(err)
	}
	if p.String() != string(text) {
		t.Error("the text does not print as it was parsed")
	}
	q, err := m.Program(passes.Options{Math: m.DType(), Targets: Targets(m.DType())})
	if err != nil {
		t.Fatal(err)
	}
	if q.String() != string(text) {
		t.Error("the program of the model is another one than plan.txt")
	}
	if p.Weight(emit.TokenizerBlob) == nil {
		t.Error("the program has no tokenizer")
	}
}

// TestInfo: a package says how large its weight file is and, on Linux, what huge pages map of it.
func TestInfo(t *testing.T) {
	_, dir := compile(t, filepath.Join(root, "models/tiny"), 0)
	file, err := os.Stat(filepath.Join(dir, WeightFile))
	if err != nil {
		t.Fatal(err)
	}
	err = driver(t, dir, "", 0).Do(Request{Info: true}, func(r Response) error {
		if r.WeightBytes != int(file.Size()) || r.HugeKnown != (runtime.GOOS == "linux") || r.HugeBytes < 0 || r.HugeBytes > r.WeightBytes {
			t.Errorf("%+v, the file has %d bytes", r, file.Size())
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestMemoryPlan: what inspect prints is what the runtime takes.
func TestMemoryPlan(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("SKIP: the test builds a program for the machine that it runs on, linux only")
	}
	m, dir := compile(t, filepath.Join(root, "models/tiny"), 0)
	p, err := m.Program(passes.Options{Math: m.DType(), Targets: Targets(m.DType())})
	if err != nil {
		t.Fatal(err)
	}
	test := `package model

import "testing"

func TestPlan(t *testing.T) {
	m, err := Open("model.weights")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 512, 8192} {
		t.Logf("tokens %d bytes %d", n, m.MemoryPlan(SessionOptions{MaxTokens: n}).Tokens)
	}
	t.Logf("rows bytes %d", m.MemoryPlan(SessionOptions{MaxTokens: 512, MaxRows: 64}).Picked)
}
`
	if err := os.WriteFile(filepath.Join(dir, "plan_test.go"), []byte(test), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-v", "-run", "TestPlan", ".")
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	wants := []string{"rows bytes " + strconv.Itoa(p.AreaBytes(p.HeadSymbol(), 64))}
	for _, n := range []int{1, 512, 8192} {
		wants = append(wants, "tokens "+strconv.Itoa(n)+" bytes "+strconv.Itoa(p.AreaBytes(program.Tokens, n)))
	}
	for _, want := range wants {
		if !strings.Contains(string(out), want+"\n") {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestChoice says which kernel set of a package a kind of processor chooses by itself: the first whose
// features it has and that avoids no trait of it (TestAvoid of package runtime).
func TestChoice(t *testing.T) {
	const slow = "half-rate VDPBF16PS"
	for _, cpu := range []struct {
		name, has, trait string // has names a target: the CPU has its features
		f32, bf16, int8  string
	}{
		{"Sapphire Rapids", "amd64/amx", slow, "amx", "amx", "amx"},
		{"the same without AMX", "amd64/avx512bf16", slow, "avx512f", "avx512f", "avx512vnni"},
		{"Zen 4", "amd64/avx512bf16", "", "avx512bf16", "avx512bf16", "avx512bf16"},
		{"Cascade Lake", "amd64/avx512vnni", slow, "avx512f", "avx512f", "avx512vnni"},
		{"Skylake-SP", "amd64/avx512f", slow, "avx512f", "avx512f", "avx512f"},
		{"Zen 3", "amd64/avx2", "", "avx2", "avx2", "avx2"},
		{"Neoverse V1", "arm64/bf16", "", "bf16", "bf16", "bf16"},
		{"Neoverse N1", "arm64/dotprod", "", "neon", "neon", "dotprod"},
	} {
		has, _ := kernel.LookupTarget(cpu.has)
		runs := func(name string) bool {
			target, _ := kernel.LookupTarget(name)
			lacks := func(f string) bool { return !slices.Contains(has.Features, f) }
			return target.GOARCH == has.GOARCH && !slices.ContainsFunc(target.Features, lacks) && !slices.Contains(target.Avoid, cpu.trait)
		}
		for math, want := range map[ir.DType]string{ir.F32: cpu.f32, ir.BF16: cpu.bf16, ir.I8: cpu.int8} {
			targets := Targets(math)
			if i := slices.IndexFunc(targets, runs); i < 0 || targets[i] != has.GOARCH+"/"+want {
				t.Errorf("%s, %s: kernel set %d of %v, want %s", cpu.name, math, i, targets, want)
			}
		}
	}
}
