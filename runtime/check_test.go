package rt

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

func TestModuleDefects(t *testing.T) {
	shape := shapes["bf16/layernorm"]
	step := func(m *Module, name string) *Step {
		for i := range m.Steps {
			if m.Steps[i].Name == name {
				return &m.Steps[i]
			}
		}
		t.Fatalf("no step %q", name)
		return nil
	}
	kernel := func(m *Module, name string) *Kernel { return &m.Kernels[step(m, name).Kernel] }
	for _, c := range []struct {
		name   string
		damage func(m *Module)
		want   string
	}{
		{"sizes", func(m *Module) { m.VocabSize = 0 }, "not positive"},
		{"buffer offset", func(m *Module) { m.Buffers[2].Offset += 2 }, "at offset"},
		{"buffer row", func(m *Module) { m.Buffers[2].RowBytes = 4 }, "rows of 4 bytes"},
		{"weight", func(m *Module) { m.Weights[0].Bytes = -1 }, "has -1 bytes"},
		{"encode steps", func(m *Module) { m.EncodeSteps = 100 }, "100 of"},
		{"head among the encode steps", func(m *Module) { m.EncodeSteps++ }, "does not fit"},
		{"kernel index", func(m *Module) { m.Steps[1].Kernel = 99 }, "no kernel 99"},
		{"kind", func(m *Module) { m.Kernels[0].Kind = 9 }, "unknown kind"},
		{"norm", func(m *Module) { m.Kernels[1].Norm = 9 }, "unknown norm"},
		{"dtype", func(m *Module) { m.Kernels[0].Out = I8 }, "neither f32 nor bf16"},
		{"padding", func(m *Module) { kernel(m, "layer.0.o").KPad++ }, "not a multiple of 32"},
		{"codes of one factor", func(m *Module) { kernel(m, "layer.0.o").Math = I8 }, "codes of a row"},
		{"panels", func(m *Module) { kernel(m, "layer.0.o").Panels++ }, "Panels="},
		{"panel bytes", func(m *Module) { kernel(m, "layer.0.o").PanelBytes++ }, "panels have"},
		{"group", func(m *Module) { kernel(m, "layer.0.qkv").Group = 1 }, "cuts heads"},
		{"rope heads", func(m *Module) { kernel(m, "layer.0.qkv").Heads = 40 }, "heads"},
		{"heads", func(m *Module) { kernel(m, "layer.0.attention").KVHeads = 3 }, "key heads"},
		{"norm without", func(m *Module) { kernel(m, "final").Norm = NoNorm }, "without a norm"},
		{"src", func(m *Module) { step(m, "layer.0.o").Src = 99 }, "no buffer 99"},
		{"src type", func(m *Module) { step(m, "layer.0.o").Src = m.IDs }, "does not fit"},
		{"src is dst", func(m *Module) {
			o := step(m, "layer.0.o")
			m.Buffers[o.Src-1].Offset = m.Buffers[o.Dst-1].Offset
		}, "share memory"},
		{"residual in part", func(m *Module) {
			b := m.Buffers[step(m, "layer.0.o").Dst-1]
			b.Offset += 4
			m.Buffers = append(m.Buffers, b)
			step(m, "layer.0.o").Res = BufferID(len(m.Buffers))
		}, "in part"},
		{"w", func(m *Module) { step(m, "layer.0.o").W = 0 }, "no weight 0"},
		{"w too small", func(m *Module) { step(m, "layer.0.o").W = step(m, "layer.0.o").Bias }, "needs"},
		{"bias", func(m *Module) { step(m, "layer.0.o").Bias = -1 }, "no weight -1"},
		{"gamma", func(m *Module) { step(m, "final").Gamma = 0 }, "no weight 0"},
		{"beta", func(m *Module) { step(m, "final").Beta = 0 }, "no weight 0"},
		{"pos", func(m *Module) { step(m, "layer.0.qkv").Pos = m.IDs }, "buffer of the positions"},
		{"index", func(m *Module) { step(m, "embed").Index = m.Positions }, "buffer of the ids"},
		{"rows", func(m *Module) { step(m, "pick").Index = m.IDs }, "buffer of the selected rows"},
		{"hidden", func(m *Module) { m.Hidden = m.IDs }, "hidden"},
		{"logits", func(m *Module) { m.Logits = m.Rows }, "logits"},
		{"input spoiled", func(m *Module) { m.Buffers[m.Positions-1].Offset = m.Buffers[step(m, "layer.0.o").Dst-1].Offset }, "overwrites its input"},
		{"attention in the head", func(m *Module) {
			m.Steps[len(m.Steps)-1] = *step(m, "layer.0.attention")
		}, "attention of selected rows"},
	} {
		m := newTestModel(shape, 20)
		path := writeFile(t, m.file())
		c.damage(&m.mod)
		_, err := Open(&m.mod, path, Options{})
		var module ErrModule
		if !errors.As(err, &module) || !strings.Contains(module.Reason, c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestTiers(t *testing.T) {
	m := newTestModel(shapes["f32/rmsnorm"], 21)
	fast, never := portableTier(&m.mod), portableTier(&m.mod)
	fast.Name, never.Name, never.Features = "fast", "never", []string{"NO_SUCH_FEATURE"}
	m.mod.Tiers = []Tier{never, fast}
	if info := m.open(t, Options{}).Info(); info.Tier != "fast" || len(info.Rejected) != 2 ||
		info.Rejected[0].String() != "never: the CPU or the operating system lacks NO_SUCH_FEATURE" || info.Rejected[1].String() != "portable: fast is better" {
		t.Errorf("got %+v", info)
	}
	if info := m.open(t, Options{Kernels: PortableTier}).Info(); info.Tier != PortableTier || len(info.Rejected) != 2 {
		t.Errorf("got %+v", info)
	}
	path := writeFile(t, m.file())
	_, err := Open(&m.mod, path, Options{Kernels: "never"})
	want := `options: no kernels "never", available are fast, portable (never: the CPU or the operating system lacks NO_SUCH_FEATURE)`
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	m.mod.Tiers[1].Impls[1].Block = nil
	if _, err := Open(&m.mod, path, Options{}); err == nil || !strings.Contains(err.Error(), "a function of") {
		t.Errorf("got %v", err)
	}
	m.mod.Tiers[1].Impls = m.mod.Tiers[1].Impls[1:]
	if _, err := Open(&m.mod, path, Options{}); err == nil || !strings.Contains(err.Error(), "entries for") {
		t.Errorf("got %v", err)
	}
}

func TestInfo(t *testing.T) {
	m := newTestModel(shapes["f32/rmsnorm"], 22)
	info := m.open(t, Options{Threads: 1}).Info()
	if info.Threads != 1 || info.WeightBytes != len(m.file()) || info.HugeKnown != (runtime.GOOS == "linux") {
		t.Errorf("got %+v", info)
	}
}

// The levels of amd64 include each other.
func TestFeatures(t *testing.T) {
	if hasFeature("NO_SUCH_FEATURE") {
		t.Error("an unknown feature is present")
	}
	if hasFeature("AVX512BW") && !(hasFeature("AVX512F") && hasFeature("AVX2") && hasFeature("FMA3") && hasFeature("F16C")) {
		t.Error("AVX-512 without AVX2")
	}
	for _, f := range []string{"AVX512F", "AVX512BW", "AVX512DQ", "AVX512VL", "AVX512VBMI", "AVX512VNNI", "AVX512_BF16", "AMX_TILE", "AMX_BF16", "AMX_INT8", "AVX2", "FMA3", "F16C"} {
		t.Logf("%s %v", f, hasFeature(f))
	}
}
