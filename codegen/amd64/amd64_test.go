package amd64

import (
	"fmt"
	"testing"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/codegen/codegentest"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

var testFunc = codegen.Func{Name: "tBlock", Role: "Block", Args: "GemmArgs"}

// backends are those of all tiers.
func backends() []*Backend { return []*Backend{NewAMX(), NewBF16(), NewVNNI(), New(), NewAVX2()} }

func TestConformance(t *testing.T) {
	for _, b := range backends() {
		t.Run(b.Target().Name, func(t *testing.T) {
			t.Parallel()
			execute := codegentest.Native
			if b.Target().Insts[0].Tile > 0 {
				execute = codegentest.EmulatedAMX
			}
			codegentest.Run(t, b, execute(t, b.Target()), disassembled(b.Target()))
		})
	}
}

// TestHardwareAMX: the emulator gives the bits of a processor with AMX.
func TestHardwareAMX(t *testing.T) {
	b := NewAMX()
	codegentest.Equal(t, b, b, codegentest.NativeAMX(t, b.Target()), codegentest.EmulatedAMX(t, b.Target()))
}

// TestFeatures: a kernel needs the features of its instructions and no others.
func TestFeatures(t *testing.T) {
	attention := kernel.Spec{Kind: kernel.Attention, In: ir.BF16, Out: ir.BF16, Math: ir.BF16, Heads: 2, KVHeads: 1, HeadDim: 64, Scale: 0.125}
	bf16 := kernel.Spec{Kind: kernel.Gemm, In: ir.F32, Out: ir.BF16, Math: ir.BF16, Weight: ir.BF16, N: 64, K: 64}
	codes := kernel.Spec{Kind: kernel.Gemm, In: ir.BF16, Out: ir.F32, Math: ir.I8, Weight: ir.I8, N: 64, K: 64}
	for _, tt := range []struct {
		b    *Backend
		s    kernel.Spec
		want string
	}{
		{NewBF16(), attention, "[AVX512BW AVX512DQ AVX512F AVX512_BF16]"}, {NewBF16(), bf16, "[AVX512F AVX512_BF16]"}, {NewBF16(), codes, "[AVX512F AVX512VNNI]"},
		{NewVNNI(), attention, "[AVX512F]"}, {NewVNNI(), bf16, "[AVX512F]"}, {NewVNNI(), codes, "[AVX512F AVX512VNNI]"},
		{New(), attention, "[AVX512F]"}, {New(), bf16, "[AVX512F]"}, {New(), codes, "[AVX512BW AVX512F]"},
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
	p, ok := kernel.Choose(s, New().Target().Name)
	if !ok {
		t.Fatal("no plan")
	}
	other := p
	other.Target = "generic"
	tall := p
	tall.MicroM, tall.BlockM = 13, 13
	table := kernel.Spec{Kind: kernel.Gather, Weight: ir.F32, Out: ir.F32, K: 8, Table: "[n/4][k][n4]"}
	for name, k := range map[string]kernel.Kernel{
		"target":        {Spec: s, Plan: other},
		"micro":         {Spec: s, Plan: tall},
		"zero":          {},
		"kind":          {Spec: table, Plan: p},
		"table layout":  {Spec: table, Plan: kernel.Plan{Kind: kernel.Gather, Target: p.Target, BlockM: 8}},
		"invalid spec":  {Spec: kernel.Spec{Kind: kernel.Gemm}, Plan: p},
		"huge distance": {Spec: hugeSpec(s), Plan: p},
	} {
		if _, err := New().Emit("k", k); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// hugeSpec has panels that lie further apart than 32 bits can say.
func hugeSpec(s kernel.Spec) kernel.Spec {
	s.K = 1 << 26
	return s
}

// FuzzEmit: what kernel.Check allows is emitted or refused, without a panic.
func FuzzEmit(f *testing.F) {
	for _, s := range []kernel.Spec{
		{Kind: kernel.Gemm, In: ir.F32, Out: ir.BF16, Math: ir.BF16, Weight: ir.BF16, N: 200, K: 170, Epilogue: "bias+rope+residual", Heads: 2, KVHeads: 1, HeadDim: 24},
		{Kind: kernel.Attention, In: ir.F32, Out: ir.F32, Math: ir.F32, Heads: 2, KVHeads: 1, HeadDim: 8, Scale: 0.3},
		{Kind: kernel.Rowwise, In: ir.F32, Out: ir.F32, K: 51, Prologue: kernel.LayerNorm, Eps: 1e-6},
		{Kind: kernel.Gather, Weight: ir.BF16, Out: ir.F32, K: 51, Table: kernel.PanelBF16},
	} {
		for _, b := range backends() {
			p, _ := kernel.Choose(s, b.Target().Name)
			f.Add(s.String(), p.String())
		}
	}
	f.Fuzz(func(t *testing.T, spec, plan string) {
		s, err := kernel.ParseSpec(spec)
		if err != nil {
			return
		}
		p, err := kernel.ParsePlan(plan)
		if err != nil {
			return
		}
		for _, b := range backends() {
			u, err := b.Emit("k", kernel.Kernel{Spec: s, Plan: p})
			if err == nil && (len(u.Funcs) == 0 || u.Asm == "") {
				t.Errorf("spec %s\nplan %s: no code and no error", s, p)
			}
		}
	})
}
