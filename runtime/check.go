package rt

import "fmt"

// This file checks the tables of a Module once, at Open, so that the loops around the kernels
// index and address without checks.

// checker collects the first defect of a module.
type checker struct {
	mod *Module
	err error
	// spoiled are the inputs whose memory a step has used for something else.
	spoiled map[BufferID]bool
}

func (c *checker) fail(format string, args ...any) {
	if c.err == nil {
		c.err = ErrModule{c.mod.Name, fmt.Sprintf(format, args...)}
	}
}

// want fails with the message unless ok.
func (c *checker) want(ok bool, format string, args ...any) {
	if !ok {
		c.fail(format, args...)
	}
}

// checkModule returns the first defect of the tables that do not depend on a tier.
func checkModule(mod *Module) error {
	c := &checker{mod: mod, spoiled: map[BufferID]bool{}}
	c.want(mod.VocabSize > 0 && mod.MaxPositions > 0 && mod.MaxTokens > 0 && mod.HiddenSize > 0, "a size of the model is not positive")
	for i, b := range mod.Buffers {
		c.want(b.Extent <= Picked && b.DType <= I8 && b.Cols > 0 && b.RowBytes >= b.Cols*b.DType.Size() && b.Offset >= 0 && b.Offset%4 == 0,
			"buffer %d %q: rows of %d bytes for %d columns at offset %d", i, b.Name, b.RowBytes, b.Cols, b.Offset)
	}
	for i, w := range mod.Weights {
		c.want(w.Bytes >= 0, "weight %d %q has %d bytes", i, w.Name, w.Bytes)
	}
	for i := range mod.Kernels {
		c.kernel(&mod.Kernels[i])
	}
	if c.err != nil {
		return c.err
	}
	c.roles()
	c.want(mod.EncodeSteps >= 0 && mod.EncodeSteps <= len(mod.Steps), "%d of %d steps encode", mod.EncodeSteps, len(mod.Steps))
	for i := range mod.Steps {
		if c.err == nil {
			c.step(i, &mod.Steps[i])
		}
	}
	c.decoder()
	return c.err
}

func (c *checker) kernel(k *Kernel) {
	float := func(d DType) bool { return d == F32 || d == BF16 }
	factor := func(d DType) bool { return float(d) || d == I8 && (k.Kind == Gemm || k.Kind == Gather) }
	c.want(float(k.In) && float(k.Out) && factor(k.Math) && factor(k.WeightType), "kernel %q: a dtype is neither f32 nor bf16, nor that of a factor i8", k.Name)
	c.want(k.Norm <= LayerNorm, "kernel %q: unknown norm %d", k.Name, k.Norm)
	switch k.Kind {
	case Gemm:
		c.want(k.K > 0 && k.KPad >= k.K && k.Panels > 0 && k.Group > 0 && k.Group <= k.Panels, "kernel %q: K=%d KPad=%d Panels=%d Group=%d", k.Name, k.K, k.KPad, k.Panels, k.Group)
		c.want((k.Math == I8) == (k.WeightType == I8) && (k.Math != I8 || k.KPad%64 == 0 && k.KPad <= 1<<17), "kernel %q: codes of a row of %d and factors %d and %d", k.Name, k.KPad, k.Math, k.WeightType)
		c.want(k.WeightType == F32 || k.KPad%panelN == 0, "kernel %q: KPad %d is not a multiple of %d", k.Name, k.KPad, panelN)
		c.want(k.PanelBytes == panelN*k.KPad*k.WeightType.Size(), "kernel %q: panels have %d bytes", k.Name, k.PanelBytes)
		out := panelN
		if k.GLU {
			out = gluN
		}
		c.want(k.PanelOut == out && k.N > 0 && CeilDiv(k.N, out) == k.Panels, "kernel %q: N=%d PanelOut=%d Panels=%d", k.Name, k.N, k.PanelOut, k.Panels)
		if k.Rope {
			c.want(k.Heads > 0 && k.KVHeads > 0 && k.HeadDim > 0 && k.HeadDim%2 == 0 && (k.Heads+k.KVHeads)*k.HeadDim <= k.N, "kernel %q: %d+%d heads of %d", k.Name, k.Heads, k.KVHeads, k.HeadDim)
			c.want(k.Group == k.Panels || k.HeadDim > 0 && k.Group*panelN%k.HeadDim == 0, "kernel %q: a group of %d panels cuts heads of %d", k.Name, k.Group, k.HeadDim)
		}
	case Attention:
		c.want(k.Heads > 0 && k.KVHeads > 0 && k.HeadDim > 0 && k.Heads%k.KVHeads == 0, "kernel %q: %d heads, %d key heads of %d", k.Name, k.Heads, k.KVHeads, k.HeadDim)
	case Rowwise:
		c.want(k.K > 0 && k.Norm != NoNorm, "kernel %q: K=%d without a norm", k.Name, k.K)
	case Gather:
		c.want(k.K > 0 && (!k.PanelTable || k.KPad >= k.K && !k.Activations), "kernel %q: K=%d KPad=%d", k.Name, k.K, k.KPad)
	default:
		c.fail("kernel %q: unknown kind %d", k.Name, k.Kind)
	}
}

// buffer returns the buffer of an operand after checking that it has rows of cols elements.
func (c *checker) buffer(what string, id BufferID, e Extent, d DType, cols int) *Buffer {
	if id < 1 || int(id) > len(c.mod.Buffers) {
		c.fail("%s: no buffer %d", what, id)
		return nil
	}
	b := &c.mod.Buffers[id-1]
	c.want(b.Extent == e && b.DType == d && b.Cols == cols, "%s: buffer %q does not fit", what, b.Name)
	return b
}

// dense is buffer, for buffers that are read as one block.
func (c *checker) dense(what string, id BufferID, e Extent, d DType, cols int) *Buffer {
	b := c.buffer(what, id, e, d, cols)
	c.want(b == nil || b.RowBytes == cols*d.Size(), "%s: rows have gaps", what)
	return b
}

// roles checks the buffers of inputs and results.
func (c *checker) roles() {
	m := c.mod
	c.dense("ids", m.IDs, Tokens, I32, 1)
	c.dense("hidden", m.Hidden, Tokens, F32, m.HiddenSize)
	if m.Positions != 0 {
		c.dense("positions", m.Positions, Tokens, I32, 1)
	}
	if m.Logits != 0 {
		c.dense("logits", m.Logits, Picked, F32, m.LogitsSize)
		c.dense("rows", m.Rows, Picked, I32, 1)
	}
}

// decoder checks that the last step can be streamed: a matmul with no more than a bias, whose
// groups are single panels.
func (c *checker) decoder() {
	m := c.mod
	if m.Logits == 0 || c.err != nil {
		return
	}
	if len(m.Steps) <= m.EncodeSteps {
		c.fail("no step makes the logits")
		return
	}
	last := &m.Steps[len(m.Steps)-1]
	k := &m.Kernels[last.Kernel]
	c.want(last.Dst == m.Logits && k.Kind == Gemm && k.Out == F32 && !k.GLU && !k.Rope && !k.Residual && !k.SiLU && !k.Tanh && k.Group == 1,
		"step %q: is not the matmul that makes the logits", last.Name)
}

// weight checks that a weight has at least the bytes that a kernel reads.
func (c *checker) weight(what string, id WeightID, bytes int) {
	if id < 1 || int(id) > len(c.mod.Weights) {
		c.fail("%s: no weight %d", what, id)
		return
	}
	w := c.mod.Weights[id-1]
	c.want(w.Bytes >= bytes, "%s: weight %q has %d bytes, needs %d", what, w.Name, w.Bytes, bytes)
}

func (c *checker) step(i int, s *Step) {
	m := c.mod
	if s.Kernel < 0 || s.Kernel >= len(m.Kernels) {
		c.fail("step %q: no kernel %d", s.Name, s.Kernel)
		return
	}
	k := &m.Kernels[s.Kernel]
	e := Tokens
	if i >= m.EncodeSteps {
		e = Picked
	}
	at := func(operand string) string { return fmt.Sprintf("step %q: %s", s.Name, operand) }
	if k.Norm != NoNorm {
		c.weight(at("gamma"), s.Gamma, 4*k.K)
		if k.Beta {
			c.weight(at("beta"), s.Beta, 4*k.K)
		}
	}
	var src, dst, res *Buffer
	switch k.Kind {
	case Gemm:
		src = c.buffer(at("src"), s.Src, e, k.In, k.K)
		dst = c.buffer(at("dst"), s.Dst, e, k.Out, k.N)
		c.weight(at("w"), s.W, k.Panels*k.PanelBytes)
		if k.WeightType == I8 {
			c.weight(at("wscale"), s.WScale, 4*panelN*k.Panels)
		}
		if k.Bias {
			c.weight(at("bias"), s.Bias, 4*panelN*k.Panels)
		}
		if k.Residual {
			res = c.buffer(at("res"), s.Res, e, F32, k.N)
		}
		if k.Rope {
			c.position(at("pos"), s.Pos, e)
			c.weight(at("cos"), s.Cos, 4*m.MaxPositions*k.HeadDim/2)
			c.weight(at("sin"), s.Sin, 4*m.MaxPositions*k.HeadDim/2)
		}
	case Attention:
		c.want(e == Tokens, "step %q: attention of selected rows", s.Name)
		src = c.buffer(at("src"), s.Src, e, k.In, (k.Heads+2*k.KVHeads)*k.HeadDim)
		dst = c.buffer(at("dst"), s.Dst, e, k.Out, k.Heads*k.HeadDim)
	case Rowwise:
		src = c.buffer(at("src"), s.Src, e, k.In, k.K)
		dst = c.buffer(at("dst"), s.Dst, e, k.Out, k.K)
	case Gather:
		src, dst = c.gather(at, k, s, e)
	}
	if c.err == nil {
		c.aliases(s, k, src, dst, res)
	}
}

// position checks the positions of a step's rows: only tokens have them, and only when the
// caller's are copied into the arena, which is where their range is checked.
func (c *checker) position(what string, id BufferID, e Extent) {
	c.want(e == Tokens && id != 0 && id == c.mod.Positions, "%s: is not the buffer of the positions", what)
}

// gather checks a gather, whose indices must be inputs: they are checked when a batch arrives.
func (c *checker) gather(at func(string) string, k *Kernel, s *Step, e Extent) (src, dst *Buffer) {
	m := c.mod
	dst = c.buffer(at("dst"), s.Dst, e, k.Out, k.K)
	if k.Activations {
		c.want(e == Picked && s.Index != 0 && s.Index == m.Rows, "%s: is not the buffer of the selected rows", at("index"))
		src = c.dense(at("src"), s.Src, Tokens, k.In, k.K)
	} else {
		c.want(e == Tokens && s.Index == m.IDs, "%s: is not the buffer of the ids", at("index"))
		bytes := m.VocabSize * k.K * k.WeightType.Size()
		if k.PanelTable {
			bytes = RoundUp(m.VocabSize, panelN) * k.KPad * k.WeightType.Size()
		}
		c.weight(at("w"), s.W, bytes)
		if k.WeightType == I8 {
			c.weight(at("wscale"), s.WScale, 4*m.VocabSize)
		}
	}
	if k.AddPositions {
		c.position(at("pos"), s.Pos, e)
		c.weight(at("postable"), s.PosTable, 4*m.MaxPositions*k.K)
	}
	return src, dst
}

// overlap reports whether two buffers share memory.
func overlap(a, b *Buffer) bool {
	return a.Extent == b.Extent && a.Offset < b.Offset+b.RowBytes && b.Offset < a.Offset+a.RowBytes
}

// same reports whether two buffers have the same rows in the same memory.
func same(a, b *Buffer) bool {
	return a.Extent == b.Extent && a.Offset == b.Offset && a.RowBytes == b.RowBytes && a.DType == b.DType
}

// aliases checks that no work item reads what another one writes. A residual may be the result,
// because each element is read and written by one item; so may the rows of a norm.
func (c *checker) aliases(s *Step, k *Kernel, src, dst, res *Buffer) {
	if src != nil && overlap(src, dst) && !(k.Kind == Rowwise && same(src, dst)) {
		c.fail("step %q: src %q and dst %q share memory", s.Name, src.Name, dst.Name)
	}
	if res != nil && overlap(res, dst) && !same(res, dst) {
		c.fail("step %q: res %q and dst %q share memory in part", s.Name, res.Name, dst.Name)
	}
	for _, in := range [...]BufferID{s.Index, s.Pos} {
		c.want(in == 0 || !c.spoiled[in], "step %q: reads an input that an earlier step has overwritten", s.Name)
	}
	for _, in := range [...]BufferID{c.mod.IDs, c.mod.Positions, c.mod.Rows} {
		if in != 0 && overlap(&c.mod.Buffers[in-1], dst) {
			c.spoiled[in] = true
			c.want(in != s.Index && in != s.Pos, "step %q: overwrites its input", s.Name)
		}
	}
}

// checkTier returns the first defect of a kernel set.
func checkTier(mod *Module, t Tier) error {
	c := &checker{mod: mod}
	if len(t.Impls) != len(mod.Kernels) {
		c.fail("kernels %q have %d entries for %d kernels", t.Name, len(t.Impls), len(mod.Kernels))
		return c.err
	}
	for i := range t.Impls {
		k, im := &mod.Kernels[i], &t.Impls[i]
		has, blocks := false, im.BlockM > 0
		switch k.Kind {
		case Gemm:
			has = im.Prologue != nil && im.Block != nil
			blocks = blocks && im.MicroM > 0 && im.BlockM%im.MicroM == 0 && im.BlockN > 0 && im.BlockN%k.Group == 0
			least := k.KPad
			if k.Math == I8 {
				least += codesAt
			}
			c.want(im.RowBytes >= least && im.RowBytes%4 == 0, "kernels %q: packed rows of %q are %d bytes apart", t.Name, k.Name, im.RowBytes)
		case Attention:
			has = im.PackQ != nil && im.PackKV != nil && im.Attend != nil && im.Finish != nil
			blocks = blocks && im.MicroM > 0 && im.BlockN > 0 && im.BlockN%panelN == 0
		case Rowwise:
			has = im.Row != nil
		case Gather:
			has = im.Gather != nil
		}
		c.want(has, "kernels %q: a function of %q is missing", t.Name, k.Name)
		c.want(blocks, "kernels %q: %q has blocks %d×%d of tiles of %d rows", t.Name, k.Name, im.BlockM, im.BlockN, im.MicroM)
	}
	return c.err
}
