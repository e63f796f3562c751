package pipeline

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emu"
	"github.com/bertc/bertc/ir"
	rt "github.com/bertc/bertc/runtime"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file tests generated packages with code for the GPU.

// compileGPU compiles a model directory for the GPU alone.
func compileGPU(t testing.TB, dir string) (Result, string) {
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	out := filepath.Join(t.TempDir(), "model")
	r, err := Compile(context.Background(), m, Options{Out: out, Math: ir.BF16, Architectures: []string{gpuArchitecture}})
	if err != nil {
		t.Fatal(err)
	}
	return r, out
}

// TestTinyEmulated fills masks with the tiny model on the emulator, through the methods of its
// package. Scores are those of f32; in bf16 they are off by less than 0.01.
func TestTinyEmulated(t *testing.T) {
	_, dir := compileGPU(t, filepath.Join(root, "models/tiny"))
	d, err := StartDriver(context.Background(), dir, DriverOptions{Device: DeviceEmulator})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if !strings.HasPrefix(d.Hello.Kernels, "emulated GPU") {
		t.Errorf("it runs on %q", d.Hello.Kernels)
	}
	data, err := os.ReadFile(filepath.Join(root, "models/tiny/golden/fill_mask.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Results []struct {
			Text string          `json:"text"`
			Top5 json.RawMessage `json:"top5"`
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Results[:3] {
		var want []Candidate
		if json.Unmarshal(g.Top5, &want) != nil {
			continue // several masks
		}
		masks, _, err := d.FillMask(g.Text, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := masks[0][0]; got.Token != want[0].Token || math.Abs(got.Score-want[0].Score) > 0.01 {
			t.Errorf("%s: %+v, want %+v", g.Text, got, want[0])
		}
	}
}

// TestNoGPU: a package runs on the CPU where the GPU cannot be used and the caller leaves the choice,
// and says why; where the caller asks for the GPU, that is the error. A package without code for it
// says so.
func TestNoGPU(t *testing.T) {
	_, dir := compileGPU(t, modelDir(t, "ln_abs_mha_bias", "model.bf16.safetensors"))
	t.Setenv("CUDA_VISIBLE_DEVICES", "") // also where there is one
	d, err := StartDriver(context.Background(), dir, DriverOptions{Device: "auto", MaxTokens: 64})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if d.Hello.NoDevice == "" || d.Hello.Kernels != rt.PortableTier {
		t.Errorf("it runs on %q, because of %q", d.Hello.Kernels, d.Hello.NoDevice)
	}
	if err := d.Do(Request{IDs: []int32{1, 2}, Offsets: []int32{0, 2}}, func(Response) error { return nil }); err != nil {
		t.Error(err)
	}
	_, err = StartDriver(context.Background(), dir, DriverOptions{Device: gpuDevice})
	if want := "options: device \"cuda\": " + d.Hello.NoDevice; err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
	_, cpu := compile(t, modelDir(t, "ln_abs_mha_bias", "model.bf16.safetensors"), ir.BF16)
	if _, err := StartDriver(context.Background(), cpu, DriverOptions{Device: DeviceEmulator}); err == nil || !strings.Contains(err.Error(), "has no kernels for a GPU") {
		t.Errorf("a package for the CPU: %v", err)
	}
	d, err = StartDriver(context.Background(), cpu, DriverOptions{Device: rt.DeviceAuto})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if want := "the package has " + noGPU; d.Hello.NoDevice != want {
		t.Errorf("a package for the CPU runs there because of %q, want %q", d.Hello.NoDevice, want)
	}
}

// TestGPUBuilds vets a package with code for the GPU without the build tag and, where there is a C
// compiler, with it. Without the tag the package has neither cgo nor a dependency.
func TestGPUBuilds(t *testing.T) {
	_, dir := compileGPU(t, modelDir(t, "ln_abs_mha_bias", "model.bf16.safetensors"))
	command := func(args ...string) string {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	command("vet", "./...")
	for _, path := range strings.Fields(command("list", "-deps", ".")) {
		if first, _, _ := strings.Cut(path, "/"); path == "runtime/cgo" || strings.Contains(first, ".") && !strings.HasPrefix(path, "bertc.local/") && first != "vendor" {
			t.Errorf("the package depends on %s", path)
		}
	}
	if _, err := exec.LookPath("gcc"); err != nil || runtime.GOOS != "linux" {
		t.Skip("SKIP: the build tag cuda needs Linux and a C compiler")
	}
	command("vet", "-tags", "cuda", "./...")
}

// TestGPULaunches: what a package does on a GPU is what its program says. A driver that logs its
// calls (runtime/cuda/testdata/mock.c) runs the package as a user builds it; the same calls of
// package rt, with the tables of the compiler instead of the package's source, on a device that logs
// in Go must give the same lines: allocations, uploads, tensor maps, the arguments of every launch,
// and the nodes of every graph.
func TestGPULaunches(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil || runtime.GOOS != "linux" {
		t.Skip("SKIP: the build tag cuda needs Linux and a C compiler")
	}
	r, dir := compileGPU(t, modelDir(t, "rms_rope_mqa_bias", "model.bf16.safetensors"))
	lib := t.TempDir()
	mock := filepath.Join(root, "runtime/cuda/testdata/mock.c")
	if out, err := exec.Command("gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", filepath.Join(lib, "libcuda.so.1"), mock).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Setenv("LD_LIBRARY_PATH", lib)
	t.Setenv("CUDA_MOCK_LOG", filepath.Join(lib, "log"))

	const maxTokens = 64
	ids, offsets, rows := []int32{5, 6, 7, 8, 9}, []int32{0, 2, 5}, []int32{1, 4}
	d, err := StartDriver(context.Background(), dir, DriverOptions{Device: gpuDevice, MaxTokens: maxTokens})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := d.Do(Request{IDs: ids, Offsets: offsets, Rows: rows}, func(Response) error { return nil }); err != nil {
			t.Fatal(err)
		}
	}
	d.Close()
	log, err := os.ReadFile(filepath.Join(lib, "log"))
	if err != nil {
		t.Fatal(err)
	}

	rec := &recorder{next: 0x700000000000}
	m, err := rt.Open(&r.Tables, filepath.Join(dir, WeightFile), rt.Options{Device: gpuDevice, Accelerator: &rt.Accelerator{
		Name: gpuDevice, Open: func(m *rt.Model) (rt.Device, error) { return cuda.Open(rec, m, &r.Tables, &r.GPU.Program, r.GPU.PTX) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := m.NewSession(rt.SessionOptions{MaxTokens: maxTokens})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Logits(context.Background(), rows); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	m.Close()

	got := strings.Split(strings.TrimSpace(string(log)), "\n")
	for i := range max(len(got), len(rec.lines)) {
		var a, b string
		if i < len(got) {
			a = got[i]
		}
		if i < len(rec.lines) {
			b = rec.lines[i]
		}
		if a != b {
			t.Fatalf("call %d of the package is\n%s\nthe program says\n%s", i, a, b)
		}
	}
	for _, word := range []string{"launch", "node", "graph 1", "graph 2", "map"} {
		if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, word+" ") || line == word }) {
			t.Errorf("no call is a %s", word)
		}
	}
}

// recorder is a device that computes nothing and writes lines as the mock driver does.
type recorder struct {
	lines     []string
	next      cuda.Pointer
	module    *emu.Module
	functions []*emu.Kernel
	maps      int
	graphs    int
	capturing bool
}

func (r *recorder) say(format string, args ...any) error {
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
	return nil
}

func (r *recorder) copied(what string, at cuda.Pointer, data []byte) error {
	h := fnv.New64a()
	h.Write(data)
	return r.say("%s %#x %d %016x", what, uint64(at), len(data), h.Sum64())
}

func (r *recorder) Info() cuda.DeviceInfo { return cuda.DeviceInfo{Major: 9, SMs: 4} }

func (r *recorder) Load(ptx string) (err error) {
	r.module, err = emu.Parse(ptx)
	return err
}

func (r *recorder) Function(entry string, shared int) (cuda.Function, error) {
	r.functions = append(r.functions, r.module.Kernel(entry))
	return cuda.Function(len(r.functions) - 1), r.say("function %s attribute 8 = %d", entry, shared)
}

func (r *recorder) Alloc(sizes ...int) (out []cuda.Pointer, err error) {
	total := 0
	for _, n := range sizes {
		out = append(out, r.next+cuda.Pointer(total))
		total += (n + 255) / 256 * 256
	}
	r.say("alloc %d", total)
	r.say("memset %#x 0 %d", uint64(r.next), total)
	r.say("wait")
	r.next += cuda.Pointer((total + 4095) / 4096 * 4096)
	return out, nil
}

func (r *recorder) Free(p []cuda.Pointer) error { return r.say("free %#x", uint64(p[0])) }

func (r *recorder) Upload(dst cuda.Pointer, src []byte) error {
	r.copied("upload", dst, src)
	return r.say("wait")
}

func (r *recorder) EncodeTiled(m cuda.TensorMap) (out [cuda.TensorMapBytes]byte, err error) {
	list := func(values any) string { return strings.Trim(fmt.Sprint(values), "[]") }
	typ, swizzle := 9, map[int]int{0: 0, 32: 1, 64: 2, 128: 3}[m.Swizzle]
	if m.F32 {
		typ = 7
	}
	steps := slices.Repeat([]int{1}, len(m.Dims))
	binary.LittleEndian.PutUint64(out[:], uint64(r.maps))
	r.maps++
	return out, r.say("map %d type %d rank %d at %#x dims %s strides %s box %s steps %s interleave 0 swizzle %d l2 3 fill 0",
		r.maps-1, typ, len(m.Dims), uint64(m.Address), list(m.Dims), list(m.Strides), list(m.Box), list(steps), swizzle)
}

func (r *recorder) HostAlloc(n int) ([]byte, error) { return make([]byte, n), r.say("host %d", n) }
func (r *recorder) HostFree([]byte) error           { return nil }
func (r *recorder) NewStream() (cuda.Stream, error) { return recorderStream{r}, r.say("stream 1") }
func (r *recorder) Close() error                    { r.say("unload"); return r.say("release") }

type recorderStream struct{ *recorder }

func (s recorderStream) CopyIn(dst cuda.Pointer, src []byte) error { return s.copied("in", dst, src) }

// CopyOut reads memory that no kernel wrote: zeros.
func (s recorderStream) CopyOut(dst []byte, src cuda.Pointer) error {
	clear(dst)
	return s.copied("out", src, dst)
}

func (s recorderStream) Launch(f cuda.Function, l cuda.LaunchSize, params []byte, offsets []int) error {
	k := s.functions[f]
	what, cluster, policy, dependent := "launch", l.Cluster, 0, 0
	if s.capturing {
		what = "node"
	}
	if cluster == 1 {
		cluster = 0
	}
	if cluster > 1 {
		policy = 1
	}
	if l.Dependent {
		dependent = 1
	}
	line := fmt.Sprintf("%s %s grid %d,1,1 block %d,1,1 shared %d cluster %d policy %d dependent %d params",
		what, k.Name, l.Grid, l.Threads, l.Shared, cluster, policy, dependent)
	for i, p := range k.Params {
		line += fmt.Sprintf(" %x", params[offsets[i]:][:p.Size])
	}
	return s.say("%s", line)
}

func (s recorderStream) Capture(record func() error) (cuda.Graph, error) {
	s.say("capture mode 2")
	s.capturing = true
	err := record()
	s.capturing = false
	s.say("captured")
	s.say("graph done")
	s.graphs++
	return cuda.Graph(s.graphs), err
}

func (s recorderStream) LaunchGraph(g cuda.Graph) error { return s.say("graph %d", g) }
func (s recorderStream) FreeGraph(g cuda.Graph) error   { return s.say("graph free %d", g) }
func (s recorderStream) Sync() error                    { return s.say("sync") }
func (s recorderStream) Close() error                   { return nil }
