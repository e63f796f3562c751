package kernel

import (
	"fmt"
	"slices"

	"github.com/bertc/bertc/ir"
)

// Check reports why plan p cannot do Spec s. It is the only legality rule: the enumerator, the
// plan parser, the verifier and the tests all ask it.
func Check(s Spec, p Plan) error {
	if err := s.Valid(); err != nil {
		return err
	}
	bad := func(format string, args ...any) error {
		return fmt.Errorf("plan %s: %s", p, fmt.Sprintf(format, args...))
	}
	if p.Kind != s.Kind {
		return bad("does a %s, the spec is a %s", p.Kind, s.Kind)
	}
	t, ok := LookupTarget(p.Target)
	if !ok {
		return bad("unknown target %q (known: %v)", p.Target, Targets())
	}
	if t.Device() {
		return checkDevice(s, p, t)
	}
	if p.BlockM < 1 || p.BlockM > 4096 {
		return bad("block of %d rows is not in 1..4096", p.BlockM)
	}
	if s.Kind == Rowwise || s.Kind == Gather {
		if p != (Plan{Kind: p.Kind, Target: p.Target, BlockM: p.BlockM}) {
			return bad("a %s kernel has a block of rows and nothing else", s.Kind)
		}
		return nil
	}
	inst, ok := t.Inst(p.Inst)
	if !ok {
		return bad("%s has no instruction %q", t.Name, p.Inst)
	}
	if !slices.Contains(inst.Math, s.Math) {
		return bad("%s does not multiply %s", inst.Name, s.Math)
	}
	if (inst.Pairs || inst.Rows > 1 || inst.Tile > 0) && s.Kind == Gemm && s.Weight == ir.F32 {
		return bad("%s needs bf16 weights", inst.Name)
	}
	if inst.Rows > 1 && s.Kind == Attention && s.HeadDim%4 != 0 {
		return bad("%s needs heads of a multiple of 4 elements, found %d", inst.Name, s.HeadDim)
	}
	if p.MicroN != PanelN {
		return bad("micro has %d columns, a weight panel has %d", p.MicroN, PanelN)
	}
	if inst.Tile > 0 && p.MicroM != inst.Tile && p.MicroM != 2*inst.Tile {
		return bad("micro has %d rows, %s allows %d and %d", p.MicroM, inst.Name, inst.Tile, 2*inst.Tile)
	}
	if inst.Tile == 0 && (p.MicroM < 1 || p.MicroM > t.MaxMicroM) {
		return bad("micro has %d rows, %s allows 1..%d", p.MicroM, t.Name, t.MaxMicroM)
	}
	if inst.Rows > 1 && p.MicroM%inst.Rows != 0 {
		return bad("micro has %d rows, %s takes %d at a time", p.MicroM, inst.Name, inst.Rows)
	}
	if inst.Lanes == 4 && inst.TileVectors(s.Weight, p.MicroM) == 0 {
		return bad("a tile of %d rows does not fit the registers", p.MicroM)
	}
	if p.BlockM%p.MicroM != 0 {
		return bad("block of %d rows is not a multiple of micro %d", p.BlockM, p.MicroM)
	}
	switch s.Kind {
	case Gemm:
		if p.BlockN < 1 || p.BlockN%s.Group() != 0 {
			return bad("block of %d panels is not a multiple of the epilogue group %d", p.BlockN, s.Group())
		}
		if bytes := p.BlockM * (Kernel{s, p}).RowBytes(); bytes > t.L2 && p.BlockM > p.MicroM {
			return bad("block of %d rows keeps %d bytes of activations, %s has %d of cache for them", p.BlockM, bytes, t.Name, t.L2)
		}
	case Attention:
		if p.BlockN < PanelN || p.BlockN%PanelN != 0 || p.BlockN > 1024 {
			return bad("block of %d keys is not a multiple of %d in %d..1024", p.BlockN, PanelN, PanelN)
		}
	}
	return nil
}

// Space yields legal plans of s on a target, those worth a try, in a fixed order.
func Space(s Spec, target string) func(yield func(Plan) bool) {
	return func(yield func(Plan) bool) {
		t, ok := LookupTarget(target)
		if !ok {
			return
		}
		try := func(p Plan) bool { return Check(s, p) != nil || yield(p) }
		if t.Device() {
			for _, p := range deviceSpace(s, t) {
				if !try(p) {
					return
				}
			}
			return
		}
		if s.Kind == Rowwise || s.Kind == Gather {
			for _, m := range []int{4, 8, 16, 32, 64} {
				if !try(Plan{Kind: s.Kind, Target: t.Name, BlockM: m}) {
					return
				}
			}
			return
		}
		blockN := []int{32, 64, 128, 256}
		if s.Kind == Gemm {
			blockN = nil
			for _, g := range []int{1, 2, 4, 8, 16, 32} {
				blockN = append(blockN, g*s.Group())
			}
		}
		for _, inst := range t.Insts {
			heights, multiples := max(t.MaxMicroM, 2*inst.Tile), []int{1, 2, 4, 8, 16}
			if inst.Tile > 0 {
				multiples = []int{1, 2, 3, 4, 6, 8, 12, 16}
			}
			for microM := 1; microM <= heights; microM++ {
				for _, tiles := range multiples {
					for _, n := range blockN {
						p := Plan{Kind: s.Kind, Target: t.Name, Inst: inst.Name,
							MicroM: microM, MicroN: PanelN, BlockM: tiles * microM, BlockN: n}
						if !try(p) {
							return
						}
					}
				}
			}
		}
	}
}
