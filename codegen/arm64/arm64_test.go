package arm64

import (
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/bertc/bertc/codegen/codegentest"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

// emulated runs programs under qemu on a processor model. Asynchronous preemption is off: an
// emulated signal cannot interrupt assembly, and costs much.
func emulated(t *testing.T, cpu string) codegentest.Exec {
	t.Helper()
	qemu, err := exec.LookPath("qemu-aarch64")
	if err != nil {
		t.Skip("SKIP: qemu-aarch64 (Debian: qemu-user) is not installed")
	}
	return func(path string) *exec.Cmd {
		c := exec.Command(qemu, "-cpu", cpu, path)
		c.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
		return c
	}
}

// TestConformance runs each tier on a model of the least processor that has its features.
func TestConformance(t *testing.T) {
	for _, tier := range []struct {
		backend *Backend
		cpu     string
	}{
		{New(), "cortex-a53"},
		{NewDotProd(), "cortex-a76"},
		{NewBF16(), "max,sve=off"},
	} {
		t.Run(tier.backend.Target().Name, func(t *testing.T) {
			codegentest.Run(t, tier.backend, emulated(t, tier.cpu))
		})
	}
}

// TestFeatures: a kernel needs the features of its instructions and no others.
func TestFeatures(t *testing.T) {
	bf16 := kernel.Spec{Kind: kernel.Gemm, In: ir.BF16, Out: ir.F32, Math: ir.BF16, Weight: ir.BF16, N: 64, K: 64}
	f32 := kernel.Spec{Kind: kernel.Gemm, In: ir.F32, Out: ir.F32, Math: ir.F32, Weight: ir.F32, N: 64, K: 64}
	codes := kernel.Spec{Kind: kernel.Gemm, In: ir.F32, Out: ir.F32, Math: ir.I8, Weight: ir.I8, N: 64, K: 64}
	for _, tt := range []struct {
		b    *Backend
		s    kernel.Spec
		want string
	}{
		{New(), f32, "[]"}, {New(), bf16, "[]"},
		{NewDotProd(), f32, "[]"}, {NewDotProd(), bf16, "[]"}, {NewDotProd(), codes, "[FEAT_DotProd]"},
		{NewBF16(), f32, "[]"}, {NewBF16(), bf16, "[FEAT_BF16]"}, {NewBF16(), codes, "[FEAT_I8MM]"},
	} {
		p, _ := kernel.Choose(tt.s, tt.b.Target().Name)
		u, err := tt.b.Emit("k", kernel.Kernel{Spec: tt.s, Plan: p})
		if err != nil || fmt.Sprint(u.Features) != tt.want {
			t.Errorf("%s, %s: features %v, want %s (%v)", tt.b.Target().Name, tt.s, u.Features, tt.want, err)
		}
	}
}

// TestErrors: Emit refuses what it cannot do, and does not panic.
func TestErrors(t *testing.T) {
	s := kernel.Spec{Kind: kernel.Gemm, In: ir.F32, Out: ir.F32, Math: ir.F32, Weight: ir.F32, N: 32, K: 8}
	p, ok := kernel.Choose(s, "arm64/bf16")
	if !ok {
		t.Fatal("no plan")
	}
	other, tall, odd := p, p, p
	other.Target = "generic"
	tall.MicroM, tall.BlockM = 10, 10
	odd.Inst, odd.MicroM, odd.BlockM = "bfmmla", 3, 3
	bf16, heads := s, kernel.Spec{Kind: kernel.Attention, In: ir.BF16, Out: ir.BF16, Math: ir.BF16, Heads: 1, KVHeads: 1, HeadDim: 6, Scale: 1}
	bf16.Math, bf16.Weight = ir.BF16, ir.BF16
	table := kernel.Spec{Kind: kernel.Gather, Weight: ir.F32, Out: ir.F32, K: 8, Table: "[n/4][k][n4]"}
	for name, k := range map[string]kernel.Kernel{
		"target":        {Spec: s, Plan: other},
		"micro":         {Spec: s, Plan: tall},
		"odd rows":      {Spec: bf16, Plan: odd},
		"f32 weights":   {Spec: s, Plan: kernel.Plan{Kind: kernel.Gemm, Target: p.Target, Inst: "bfmmla", MicroM: 2, MicroN: 32, BlockM: 2, BlockN: 1}},
		"head elements": {Spec: heads, Plan: kernel.Plan{Kind: kernel.Attention, Target: p.Target, Inst: "bfmmla", MicroM: 2, MicroN: 32, BlockM: 2, BlockN: 32}},
		"zero":          {},
		"kind":          {Spec: table, Plan: p},
		"table layout":  {Spec: table, Plan: kernel.Plan{Kind: kernel.Gather, Target: p.Target, BlockM: 8}},
		"invalid spec":  {Spec: kernel.Spec{Kind: kernel.Gemm}, Plan: p},
	} {
		if _, err := NewBF16().Emit("k", k); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
