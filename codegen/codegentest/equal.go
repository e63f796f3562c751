package codegentest

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/kernel"
)

// Equal checks that two backends of one architecture, with the plans that are chosen for them, give
// the same bits, for every other Spec without -long. Gathers are left out: Run compares them
// exactly with the interpreter. The backends may be one that is executed in two ways.
func Equal(t *testing.T, a, b codegen.Backend, runA, runB Exec) {
	m := newModule(a.Target())
	var pairs [][2]unitUnderTest
	for i, s := range specsFor(a.Target()) {
		if s.Kind == kernel.Gather || i%2 == 1 && !*long {
			continue
		}
		var pair [2]unitUnderTest
		for i, backend := range []codegen.Backend{a, b} {
			plan, ok := kernel.Choose(s, backend.Target().Name)
			if !ok {
				t.Fatalf("spec %s: no plan for %s", s, backend.Target().Name)
			}
			k := kernel.Kernel{Spec: s, Plan: plan}
			u, err := backend.Emit(fmt.Sprintf("k%d_%d", len(pairs), i), k)
			if err != nil {
				t.Fatal(err)
			}
			pair[i] = unitUnderTest{k, m.add(u)}
		}
		pairs = append(pairs, pair)
	}
	path, err := m.build(t.TempDir(), buildProgram) // Run vets the same functions
	if err != nil {
		t.Fatal(err)
	}
	p := [2]*program{start(t, runA(path)), start(t, runB(path))}
	for _, u := range pairs {
		s := u[0].Spec
		t.Run(s.String(), func(t *testing.T) {
			r := rand.New(rand.NewPCG(6, 0))
			switch s.Kind {
			case kernel.Gemm:
				samePlans(t, p[0], p[1], u[0], u[1])
			case kernel.Attention:
				const tokens = 77
				qkv := normal(r, s.In, tokens*s.QKVCols(), 2)
				var out [2][]float32
				for i := range u {
					out[i] = runAttention(t, p[i], u[i], qkv, 0, tokens, max(u[i].Plan.BlockM/(s.Heads/s.KVHeads), 1))
				}
				same(t, "attention", out[1], out[0])
			case kernel.Rowwise:
				x, gamma, beta := rowwiseInput(r, s, 3)
				same(t, "rows", runRowwise(t, p[1], u[1], x, gamma, beta), runRowwise(t, p[0], u[0], x, gamma, beta))
			}
		})
	}
}
