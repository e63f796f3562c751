package pipeline

import (
	"cmp"
	"context"
	"errors"
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emulator"
	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/num"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	rt "github.com/bertc/bertc/runtime"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file runs models on devices in the test's own process.

// opener puts a model on a device.
type opener func(*rt.Model, *Result) (rt.Device, error)

// onEmulator puts a model on the emulator.
func onEmulator(m *rt.Model, r *Result) (rt.Device, error) {
	return cuda.Open(emulator.Open(1, 4), m, &r.Tables, &r.GPU.Program, r.GPU.PTX)
}

// deviceModel compiles a model directory and opens its weights on a device.
func deviceModel(t testing.TB, dir string, plans func(kernel.Spec, string) (kernel.Plan, string, bool), open opener) (*Model, *rt.Model, *rt.Module) {
	m, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	out := filepath.Join(t.TempDir(), "model")
	r, err := Compile(context.Background(), m, Options{Out: out, Math: ir.BF16, Architectures: []string{gpuArchitecture}, Plans: plans})
	if err != nil {
		t.Fatal(err)
	}
	model, err := rt.Open(&r.Tables, filepath.Join(out, WeightFile), rt.Options{Device: "test", Accelerator: &rt.Accelerator{
		Name: "test", Open: func(m *rt.Model) (rt.Device, error) { return open(m, &r) },
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := model.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, model, &r.Tables
}

func deviceSession(t testing.TB, m *rt.Model, o rt.SessionOptions) *rt.Session {
	s, err := m.NewSession(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// sessionEncoder is a session as an Encoder.
func sessionEncoder(s *rt.Session, mod *rt.Module) Encoder {
	return Encoder{
		HiddenSize: mod.HiddenSize, VocabSize: mod.VocabSize, LogitsSize: mod.LogitsSize, MaxTokens: bert.MaxTokens,
		Encode: func(b Batch) ([]float32, error) {
			err := s.Encode(context.Background(), b.IDs, b.Positions, b.Offsets)
			return s.Hidden(), err
		},
		Logits: func(b Batch, f func([]float32) error) error {
			for at := 0; at < len(b.IDs); at += 64 {
				var rows []int32
				for r := at; r < min(at+64, len(b.IDs)); r++ {
					rows = append(rows, int32(r))
				}
				logits, err := s.Logits(context.Background(), rows)
				if err == nil {
					err = f(logits)
				}
				if err != nil {
					return err
				}
			}
			return nil
		},
	}
}

// TestDeviceModel runs every variant on a device whose kernels are written from the contract of the
// launch table: weights, norms, shadows, statistics, items and graphs are right when the results
// are. The reference is the interpreter with the rounding of bf16.
func TestDeviceModel(t *testing.T) {
	for _, v := range variants {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			var d *hostDevice
			m, model, mod := deviceModel(t, modelDir(t, v, "model.safetensors"), nil, func(m *rt.Model, r *Result) (rt.Device, error) {
				d = &hostDevice{mod: &r.Tables, weights: m}
				return cuda.Open(d, m, &r.Tables, hostProgram(&r.Tables), "")
			})
			s := deviceSession(t, model, rt.SessionOptions{MaxTokens: 512})
			for _, c := range goldenCases(t, filepath.Join(root, "testdata/variants", v, "golden.safetensors")) {
				checkDevice(t, m, s, mod, c)
			}
			checkAlone(t, s, mod)
			checkBest(t, s, mod)
			if d.captured == 0 || d.launches == 0 {
				t.Errorf("%d launches ran one by one and %d in graphs", d.launches, d.captured)
			}
		})
	}
}

// checkDevice compares a case with the interpreter in bf16.
func checkDevice(t *testing.T, m *Model, s *rt.Session, mod *rt.Module, c goldenCase) {
	t.Helper()
	b, err := ReadBatch(c.in)
	if err != nil {
		t.Fatal(err)
	}
	wantHidden, wantLogits, err := m.Eval(b, ir.BF16, mod.Logits != 0)
	if err != nil {
		t.Fatal(err)
	}
	hidden, logits := run(t, sessionEncoder(s, mod), c)
	e := num.RelL2(visible(hidden, c.mask), num.Float64s(wantHidden))
	if t.Logf("%s: hidden states are apart by %.4f", c.name, e); !(e <= bf16Error) {
		t.Errorf("%s: hidden states are apart by %.4f", c.name, e)
	}
	if mod.Logits == 0 {
		return
	}
	if e := num.RelL2(visible(logits, c.mask), num.Float64s(wantLogits)); !(e <= bf16Error) {
		t.Errorf("%s: logits are apart by %.4f", c.name, e)
	}
}

// checkAlone checks that sequences have the same bits alone, together, and in another order.
func checkAlone(t *testing.T, s *rt.Session, mod *rt.Module) {
	t.Helper()
	var seqs [][]int32
	for i, n := range []int{3, 40, 1, 17} {
		seq := make([]int32, n)
		for j := range seq {
			seq[j] = int32((i*131 + j*37 + 5) % mod.VocabSize)
		}
		seqs = append(seqs, seq)
	}
	encode := func(order ...int) (out [][]float32) {
		var ids []int32
		offsets := []int32{0}
		for _, i := range order {
			ids = append(ids, seqs[i]...)
			offsets = append(offsets, int32(len(ids)))
		}
		if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
			t.Fatal(err)
		}
		for i := range order {
			out = append(out, slices.Clone(s.Hidden()[int(offsets[i])*mod.HiddenSize:int(offsets[i+1])*mod.HiddenSize]))
		}
		return out
	}
	all, turned := encode(0, 1, 2, 3), encode(3, 1, 0, 2)
	for i, at := range []int{2, 1, 3, 0} {
		if alone := encode(i)[0]; !slices.Equal(alone, all[i]) || !slices.Equal(alone, turned[at]) {
			t.Errorf("sequence %d of %d tokens has other bits alone than in a batch", i, len(seqs[i]))
		}
	}
}

// checkBest holds TopK against the logits: the higher first, then the lower id. The device finds
// some, the host all.
func checkBest(t *testing.T, s *rt.Session, mod *rt.Module) {
	t.Helper()
	if mod.Logits == 0 {
		return
	}
	if err := s.Encode(context.Background(), []int32{1, 2, 3, 4, 5}, nil, []int32{0, 3, 5}); err != nil {
		t.Fatal(err)
	}
	rows := []int32{4, 0, 2}
	logits, err := s.Logits(context.Background(), rows)
	if err != nil {
		t.Fatal(err)
	}
	logits = slices.Clone(logits)
	for _, k := range []int{1, 5, cuda.MaxTopK, mod.LogitsSize} {
		ids, probabilities, err := s.TopK(context.Background(), rows, k)
		if err != nil {
			t.Fatal(err)
		}
		k = min(k, mod.LogitsSize)
		for r := range rows {
			row := logits[r*mod.LogitsSize:][:mod.LogitsSize]
			want := make([]int32, len(row))
			top, sum := slices.Max(row), 0.0
			for i, x := range row {
				want[i] = int32(i)
				sum += math.Exp(float64(x - top))
			}
			slices.SortStableFunc(want, func(a, b int32) int { return cmp.Compare(row[b], row[a]) })
			if got := ids[r*k:][:k]; !slices.Equal(got, want[:k]) {
				t.Errorf("the best %d of row %d are %v, want %v", k, r, got, want[:k])
			}
			for i, id := range want[:k] {
				p := math.Exp(float64(row[id]-top)) / sum
				if got := probabilities[r*k+i]; math.Abs(got-p) > 1e-5*p { // the device sums in f32
					t.Errorf("entry %d of row %d has probability %g, want %g", id, r, got, p)
				}
			}
		}
	}
}

// TestDeviceCalls: what a session does with its device beside the numbers: no heap objects in a
// call, an observer that sees every step, memory that is given back, and errors that say where.
func TestDeviceCalls(t *testing.T) {
	var d *hostDevice
	_, model, mod := deviceModel(t, modelDir(t, "rms_rope_mqa_bias", "model.safetensors"), nil, func(m *rt.Model, r *Result) (rt.Device, error) {
		d = &hostDevice{mod: &r.Tables, weights: m}
		return cuda.Open(d, m, &r.Tables, hostProgram(&r.Tables), "")
	})
	ctx := context.Background()
	ids, offsets, rows := []int32{7, 8, 9, 10}, []int32{0, 1, 4}, []int32{3, 1}
	s := deviceSession(t, model, rt.SessionOptions{MaxTokens: 100, MaxPicked: 20})
	call := func() {
		if err := s.Encode(ctx, ids, nil, offsets); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Logits(ctx, rows); err != nil {
			t.Fatal(err)
		}
	}
	call()
	hidden := slices.Clone(s.Hidden())
	d.idle = true // from the second call of a size on there are graphs
	call()
	if n := testing.AllocsPerRun(20, call); n != 0 {
		t.Errorf("a call allocates %v times", n)
	}
	d.idle = false

	var names []string
	var last []byte
	watched := deviceSession(t, model, rt.SessionOptions{MaxTokens: 100, Observe: func(step int, name string, rows int, dst []byte) {
		if step != len(names) || name != mod.Steps[step].Name || rows != len(ids) {
			t.Errorf("the observer sees step %d, %s of %d rows", step, name, rows)
		}
		names, last = append(names, name), slices.Clone(dst)
	}})
	if err := watched.Encode(ctx, ids, nil, offsets); err != nil {
		t.Fatal(err)
	}
	if len(names) != mod.EncodeSteps || !slices.Equal(hostView[float32](last), hidden) {
		t.Errorf("the observer saw %d steps of %d, or other hidden states", len(names), mod.EncodeSteps)
	}

	d.failure = errors.New("the device fell off")
	err := watched.Encode(ctx, ids, nil, offsets)
	if want := "step " + mod.Steps[0].Name + ": the device fell off"; err == nil || err.Error() != want {
		t.Errorf("a failed launch: %v, want %q", err, want)
	}
	d.failure = nil

	// A call that fails waits for what it began, and the session goes on.
	failing := deviceSession(t, model, rt.SessionOptions{MaxTokens: 100})
	if err := failing.Encode(ctx, ids, nil, offsets); err != nil {
		t.Fatal(err)
	}
	d.failure = errors.New("the device fell off")
	for i, call := range []func() error{
		func() error { _, _, err := failing.TopK(ctx, rows, 2); return err },
		func() error { _, err := failing.Logits(ctx, rows); return err },
		func() error { return failing.Encode(ctx, slices.Repeat(ids, 10), nil, []int32{0, 40}) },
	} {
		if err := call(); err == nil || d.reading {
			t.Errorf("call %d: %v, and a copy under way: %v", i, err, d.reading)
		}
	}
	d.failure = nil
	if err := failing.Encode(ctx, ids, nil, offsets); err != nil || !slices.Equal(failing.Hidden(), hidden) {
		t.Errorf("after failed calls: %v, or other hidden states", err)
	}
}

// TestEmulator runs every variant and its head on the emulator: the PTX that a GPU would load, its
// launch table, and everything of runtime/cuda.
func TestEmulator(t *testing.T) {
	for _, v := range variants {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			m, model, mod := deviceModel(t, modelDir(t, v, "model.safetensors"), nil, onEmulator)
			s := deviceSession(t, model, rt.SessionOptions{MaxTokens: 512})
			for _, c := range goldenCases(t, filepath.Join(root, "testdata/variants", v, "golden.safetensors")) {
				checkDevice(t, m, s, mod, c)
			}
			checkAlone(t, s, mod)
			checkBest(t, s, mod)
		})
	}
}

// TestEmulatorPlain runs a variant of each norm by the kernels of mma.sync, which have no code in
// common with those of wgmma but the epilogues.
func TestEmulatorPlain(t *testing.T) {
	plain := func(s kernel.Spec, target string) (kernel.Plan, string, bool) {
		for p := range kernel.Space(s, target) {
			if p.Inst == "mma.sync" {
				return p, "test", true
			}
		}
		return kernel.Plan{}, "", false
	}
	for _, v := range []string{"rms_rope_mqa_bias", "ln_abs_mha_bias"} {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			m, model, mod := deviceModel(t, modelDir(t, v, "model.safetensors"), plain, onEmulator)
			s := deviceSession(t, model, rt.SessionOptions{MaxTokens: 512})
			for _, c := range goldenCases(t, filepath.Join(root, "testdata/variants", v, "golden.safetensors")) {
				if c.name == "padded" || c.name == "one" {
					checkDevice(t, m, s, mod, c)
				}
			}
			checkAlone(t, s, mod)
		})
	}
}

// TestHeadsEmulated runs heads of every shape on the emulator: logits of one column and of some,
// tanh and no activation before them.
func TestHeadsEmulated(t *testing.T) {
	for _, name := range []string{"single", "multi", "regression", "tags", "qa"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, model, mod := deviceModel(t, headDir(t, name), nil, onEmulator)
			s := deviceSession(t, model, rt.SessionOptions{MaxTokens: 512})
			c := goldenCase{name: name, in: filepath.Join(headsDir, name+".golden.safetensors"), logits: []float64{}}
			b, err := ReadBatch(c.in)
			if err != nil {
				t.Fatal(err)
			}
			c.mask = make([]bool, b.Rows*b.Cols)
			for _, cell := range b.Cell {
				c.mask[cell] = true
			}
			checkDevice(t, m, s, mod, c)
			checkBest(t, s, mod)
		})
	}
	t.Run("encoder", func(t *testing.T) {
		t.Parallel()
		_, model, mod := deviceModel(t, headDir(t, "encoder"), nil, onEmulator)
		s := deviceSession(t, model, rt.SessionOptions{MaxTokens: 512})
		checkAlone(t, s, mod)
		if _, err := s.Logits(context.Background(), []int32{0}); err != rt.ErrNoHead {
			t.Errorf("logits of an encoder: %v", err)
		}
	})
}
