package rt

// This file is the portable tier: kernels in Go over the same packed weights as the assembly,
// for machines without a better tier and as the reference that every tier is compared with.

// The blocks of the portable kernels. The tile has all rows of a block, so that each part of a
// panel is widened once for all of them.
const (
	portableRows   = 32 // of a matmul or attention block
	portablePanels = 8  // of a work item, rounded up to groups
	portableKeys   = 64 // of a block of attention
	portableLines  = 16 // rows of a norm or gather
)

func portableTier(mod *Module) Tier {
	t := Tier{Name: PortableTier, Impls: make([]Impl, len(mod.Kernels))}
	for i := range mod.Kernels {
		k := &mod.Kernels[i]
		switch k.Kind {
		case Gemm:
			t.Impls[i] = Impl{MicroM: portableRows, BlockM: portableRows, BlockN: RoundUp(portablePanels, max(k.Group, 1)), RowBytes: portableRowBytes(k),
				Prologue: func(a *GemmArgs) { portablePrologue(k, a) },
				Block:    func(a *GemmArgs) { portableBlock(k, a) }}
		case Attention:
			t.Impls[i] = Impl{MicroM: 1, BlockM: portableRows, BlockN: portableKeys,
				PackQ:  func(a *AttentionArgs) { portablePackQ(k, a) },
				PackKV: func(a *AttentionArgs) { portablePackKV(k, a) },
				Attend: func(a *AttentionArgs) { portableAttend(k, a) },
				Finish: func(a *AttentionArgs) { portableFinish(k, a) }}
		case Rowwise:
			t.Impls[i] = Impl{BlockM: portableLines, Row: func(a *RowArgs) { portableRow(k, a) }}
		case Gather:
			t.Impls[i] = Impl{BlockM: portableLines, Gather: func(a *GatherArgs) { portableGather(k, a) }}
		}
	}
	return t
}
