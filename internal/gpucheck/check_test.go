package gpucheck

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emulator"
	"github.com/bertc/bertc/runtime/cuda"
)

// TestRun runs the check on the emulator, against the emulator with another schedule: all is well,
// and every step has the same bits.
func TestRun(t *testing.T) {
	var out strings.Builder
	report, err := Run(context.Background(), &out, Options{
		Open:     func() (cuda.Driver, error) { return emulator.Open(1, 4), nil },
		Emulator: func() (cuda.Driver, error) { return emulator.Open(2, 3), nil },
	})
	t.Logf("\n%s", &out)
	if err != nil || report.Failed() != 0 || len(report.Checks) != 1+5*len(small) || report.Device == "" {
		t.Errorf("%v, %+v", err, report)
	}
	if n := strings.Count(out.String(), "ok "); n != 1+5*len(small) {
		t.Errorf("%d checks are fine, want %d", n, 1+5*len(small))
	}
	if strings.Contains(out.String(), "worst ") && strings.Count(out.String(), "worst 0.0e+00") != len(small) {
		t.Error("two schedules give other bits")
	}
}

// hanging is a device on which a kernel hangs, which makes somebody interrupt the check.
type hanging struct {
	cuda.Driver
	entry     string // its entries begin so
	functions map[cuda.Function]bool
	interrupt func()
}

func (h hanging) Function(entry string, shared int) (cuda.Function, error) {
	f, err := h.Driver.Function(entry, shared)
	h.functions[f] = strings.HasPrefix(entry, h.entry)
	return f, err
}

func (h hanging) NewStream() (cuda.Stream, error) {
	s, err := h.Driver.NewStream()
	return hangingStream{s, h}, err
}

type hangingStream struct {
	cuda.Stream
	device hanging
}

func (s hangingStream) Launch(f cuda.Function, l cuda.LaunchSize, params []byte, offsets []int) error {
	if s.device.functions[f] {
		s.device.interrupt()
		select {}
	}
	return s.Stream.Launch(f, l, params, offsets)
}

// TestHang: where a kernel hangs, an interrupt ends the check, which names the step and keeps what was
// found before.
func TestHang(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	report, err := Run(ctx, io.Discard, Options{
		Open: func() (cuda.Driver, error) {
			return hanging{emulator.Open(1, 4), "gate_up", map[cuda.Function]bool{}, cancel}, nil
		},
		Emulator: func() (cuda.Driver, error) { return emulator.Open(2, 3), nil },
	})
	if want := small[0].name + ", step 4, layer.0.gate_up"; !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if len(report.Checks) != 1 || report.Failed() != 0 || report.Device == "" {
		t.Errorf("it found %+v", report)
	}
}

// TestFullSize runs what is for the full size on the emulator, with a model of no size.
func TestFullSize(t *testing.T) {
	var out strings.Builder
	c := &checker{Options: Options{Open: func() (cuda.Driver, error) { return emulator.Open(1, 4), nil }}, w: &out}
	m, err := compile(context.Background(), t.TempDir(), config{"none", 64, 64, 1, 1, 1, 128, 512, "rmsnorm", "rope", true, true})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := c.fullSize(context.Background(), m, 1); err != nil {
		t.Fatal(err)
	}
	if err := c.times(context.Background(), m, [][2]int{{2, 20}, {1, 3}}, 2); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &out)
	if c.report.Failed() != 0 || strings.Count(out.String(), "ok ") != 3 {
		t.Error("the model is not the same as on the CPU")
	}
	for _, name := range []string{"2×20", "embed", "qkv", "attention", "attention_output", "gate_up", "down", "hidden"} {
		if !strings.Contains(out.String(), " "+name+" ") {
			t.Errorf("no time of %s", name)
		}
	}
	t.Run("peers", func(t *testing.T) { peers(t, &c.report) })
}

// peers runs bench/h100/gpu_peers.py on the report, on the CPU, where there is PyTorch.
func peers(t *testing.T, r *Report) {
	dir := t.TempDir()
	ours, out := filepath.Join(dir, "ours.json"), filepath.Join(dir, "out.json")
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ours, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if exec.Command("python3", "-c", "import torch").Run() != nil {
		t.Skip("SKIP: gpu_peers.py is tested where there is python3 with PyTorch")
	}
	printed, err := exec.Command("python3", "../../bench/h100/gpu_peers.py", "--device", "cpu", "--repeats", "2", "--calls", "2", "--ours", ours, "--out", out).CombinedOutput()
	t.Logf("%s", printed)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"THESE ARE TIMES OF A CPU", "| gate_up, 2×20 |", "| attention, 1×3 |", "| all matmuls, 2×20 |", "600 TFLOP/s | NO |", "| reading the weights |", "| torch.compile |", "1.3× |", " of 10 targets are met"} {
		if !strings.Contains(string(printed), want) {
			t.Errorf("it does not print %q", want)
		}
	}
	if _, err := exec.LookPath("g++"); err == nil && strings.Contains(string(printed), ": not measured: ") {
		t.Error("a part was not measured")
	}
	var found struct {
		Rows []json.RawMessage `json:"rows"`
		Ours Report            `json:"ours"`
	}
	if text, err = os.ReadFile(out); err == nil {
		err = json.Unmarshal(text, &found)
	}
	if err != nil || len(found.Rows) != 4*2+1+2+1+2 || len(found.Ours.Times.Shapes) != 2 {
		t.Errorf("it wrote %s, %v", text, err)
	}
}
