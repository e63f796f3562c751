package ptx

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/codegen/ptx/emu"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/runtime/cuda"
)

// This file owns the tests of launches that may begin before the one ahead has ended.

// rewrite is a kernel of 1024 threads that writes what is there to so many words, when the grids ahead have completed.
const rewrite = `
.visible .entry rewrite(.param .u64 to, .param .u32 words)
{
	.reg .pred %p; .reg .b32 %r<8>; .reg .b64 %rd<2>;
	griddepcontrol.launch_dependents;
	griddepcontrol.wait;
	ld.param.u64 %rd0, [to]; ld.param.u32 %r1, [words];
	and.b32 %r2, %r1, -4; mov.u32 %r3, %tid.x; shl.b32 %r0, %r3, 2;
FOURS:
	setp.ge.u32 %p, %r0, %r2;
	@%p bra REST;
	mad.wide.u32 %rd1, %r0, 4, %rd0;
	ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%rd1];
	st.global.v4.u32 [%rd1], {%r4, %r5, %r6, %r7};
	add.u32 %r0, %r0, 4096;
	bra FOURS;
REST:
	add.u32 %r0, %r2, %r3;
	setp.ge.u32 %p, %r0, %r1;
	@%p ret;
	mad.wide.u32 %rd1, %r0, 4, %rd0;
	ld.global.u32 %r4, [%rd1];
	st.global.u32 [%rd1], %r4;
	ret;
}`

// activations are operands that launches ahead may have written.
var activations = []cuda.Operand{cuda.OperandSrc, cuda.OperandRes, cuda.OperandDst}

// ahead does launches that rewrite the activations, one each, so that a dependent launch behind them must not
// touch these before it has waited.
func (b *bench) ahead() {
	b.t.Helper()
	m, err := emu.Parse(Module(rewrite))
	if err != nil {
		b.t.Fatal(err)
	}
	k := m.Kernels[0]
	at := map[uint64]bool{}
	for bound, v := range b.values {
		if m, ok := v.(matrix); ok {
			v = m.addr
		}
		// From ParamRows on parameters are the host's, or have no operand.
		if p, ok := v.(uint64); ok && p != 0 && bound.kind < cuda.ParamRows && slices.Contains(activations, bound.operand) {
			at[p] = true
		}
	}
	for _, p := range slices.Sorted(maps.Keys(at)) {
		params, err := k.Pack(p, uint32(b.sizes[p]/4))
		if err == nil {
			err = b.dev.Launch(k, emu.Config{Block: [3]int{1024}, Dependent: true}, params)
		}
		if err != nil {
			b.t.Fatal(err)
		}
	}
}

// TestDependent: launches that may begin before the one ahead has ended touch nothing of it before their wait, and
// would without: the wait of the thread that copies, and that of the consumers where K ends before a
// stage is used again. A consumer that finds a stage which was filled behind the wait is behind it, too.
func TestDependent(t *testing.T) {
	const rows = 20
	for _, c := range []struct {
		spec   kernel.Spec
		plan   kernel.Plan
		needed int // waits of an entry, the first is that of the thread that copies
	}{
		{wgmmaSpec(64, 128, "", "bias+residual", ir.BF16, ir.F32), wgmmaPlan(64, 64, 2, 1), 2},
		{wgmmaSpec(96, 64, kernel.RMSNorm, "bias+glu", ir.F32, ir.BF16), wgmmaPlan(128, 96, 2, 2), 2},
		{flashSpec(24, 1), kernel.Plan{}, 1},
	} {
		if c.plan == (kernel.Plan{}) {
			c.plan, _ = kernel.Choose(c.spec, TargetName)
		}
		u, m := compile(t, kernel.Kernel{Spec: c.spec, Plan: c.plan})
		for i, v := range u.Kernel.Variants {
			l := v.Launches[0]
			if !l.Dependent {
				t.Errorf("%s waits for the launch ahead to end", l.Entry)
			}
			run := func(m *emu.Module) error {
				b := newBench(t, uint64(i), 4)
				count := func(n int) uint64 { return b.alloc(4, i32Bytes([]int32{int32(n)})) }
				b.bind(cuda.ParamRows, 0, count(rows))
				blocks := 0
				if c.spec.Kind == kernel.Gemm {
					newGemmCase(rand.New(rand.NewPCG(1, 1)), c.spec, rows).bind(b, order(l))
					b.output(c.spec.Out, rows, c.spec.N)
				} else {
					cols := c.spec.QKVCols()
					b.bind(cuda.ParamMap, cuda.OperandSrc, b.bf16Matrix(make([]float32, rows*cols), rows, cols))
					list := items(c.spec, []int{rows}, l.Grid.TileM)
					blocks = len(list) / 4
					b.bind(cuda.ParamItems, 0, b.alloc(4*len(list), i32Bytes(list)))
					b.bind(cuda.ParamItemCount, 0, count(blocks))
					b.output(c.spec.Out, rows, c.spec.Heads*c.spec.HeadDim)
				}
				return b.run(m, l, rows, blocks)
			}
			if err := run(m); err != nil {
				t.Fatal(err)
			}
			for n := range c.needed {
				err := run(parse(t, Unit{PTX: withoutWait(t, u.PTX, l.Entry, n)}))
				var r *emu.Report
				if !errors.As(err, &r) || r.Kind != emu.Dependency {
					t.Errorf("%s without wait %d: got %v, want a report of %q", l.Entry, n, err, emu.Dependency)
				}
			}
		}
	}
}

// withoutWait removes the n-th wait of an entry.
func withoutWait(t *testing.T, text, entry string, n int) string {
	t.Helper()
	const wait = "griddepcontrol.wait;"
	at := strings.Index(text, fmt.Sprintf(".entry %s(", entry))
	for range n + 1 {
		next := strings.Index(text[at+1:], wait)
		if at < 0 || next < 0 {
			t.Fatalf("%s does not wait %d times", entry, n+1)
		}
		at += 1 + next
	}
	return text[:at] + text[at+len(wait):]
}
