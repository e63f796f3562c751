package irtest

import (
	"math"
	"testing"

	"github.com/bertc/bertc/ir"
)

const seeds = 400

func TestEveryOpIsReached(t *testing.T) {
	reached := map[string]int{}
	for seed := range uint64(seeds) {
		for _, v := range Random(seed).Values {
			reached[v.Op.Name]++
		}
	}
	makers := makers()
	for _, op := range ir.Ops() {
		if makers[op.Name] == nil {
			t.Errorf("op %s has no maker", op.Name)
		}
		if reached[op.Name] < 10 {
			t.Errorf("op %s occurs %d times in %d graphs", op.Name, reached[op.Name], seeds)
		}
	}
}

func TestDeterministic(t *testing.T) {
	for seed := range uint64(20) {
		first, second := Random(seed).String(), Random(seed).String()
		if first != second {
			t.Fatalf("seed %d gives two graphs", seed)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(seeds) {
		text := Random(seed).String()
		g, err := ir.Parse(text)
		if err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, text)
		}
		if got := g.String(); got != text {
			t.Fatalf("seed %d: printed after parsing:\n%s\nwant:\n%s", seed, got, text)
		}
		if err := ir.Verify(g); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// TestExpandKeepsMeaning expands composites in place. Values of f32 are not
// rounded, so even this must agree to the last bit.
func TestExpandKeepsMeaning(t *testing.T) {
	for seed := range uint64(seeds) {
		before := Random(seed)
		after := before.Clone()
		for again := true; again; {
			again = false
			for _, v := range after.Values {
				if v.Op.Kind == ir.Composite {
					if _, err := after.Expand(v); err != nil {
						t.Fatalf("seed %d: %v", seed, err)
					}
					after.Prune()
					again = true
					break
				}
			}
		}
		if err := ir.Verify(after); err != nil {
			t.Fatalf("seed %d: %v\n%s", seed, err, after)
		}
		CheckSame(t, before, after, Inputs(before, seed, nil), 0)
	}
}

func TestShuffleKeepsMeaning(t *testing.T) {
	moved := 0
	for seed := range uint64(seeds) {
		g := Random(seed)
		s := Shuffle(g, seed)
		if err := ir.Verify(s); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if s.String() != g.String() {
			moved++
		}
		CheckSame(t, g, s, Inputs(g, seed, nil), 0)
	}
	if moved < seeds*9/10 {
		t.Errorf("only %d of %d graphs changed", moved, seeds)
	}
}

// TestModerate checks that outputs are finite and not huge.
func TestModerate(t *testing.T) {
	wild := 0
	for seed := range uint64(seeds) {
		g := Random(seed)
		out, err := ir.Eval(g, Inputs(g, seed, nil))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, o := range out {
			for _, x := range o.Data {
				if !(math.Abs(x) < 1e6) {
					wild++
					break
				}
			}
		}
	}
	if wild > seeds/100 {
		t.Errorf("%d outputs in %d graphs are not moderate", wild, seeds)
	}
}

func TestOffsets(t *testing.T) {
	for seed := range uint64(50) {
		g := Random(seed)
		env := Env(g, seed)
		o := Inputs(g, seed, env)["offsets"].Data
		if len(o) != env["B"]+1 {
			t.Fatalf("seed %d: %d offsets for %d sequences", seed, len(o), env["B"])
		}
	}
}
