package emu

import "testing"

// TestPrefetch: prefetches into the second-level cache change nothing, and what they name must be memory
// and a tensor.
func TestPrefetch(t *testing.T) {
	const text = header + `
.entry fetch(.param .align 64 .b8 map[128], .param .u64 from, .param .u32 bytes) {
	.reg .b32 %r<4>; .reg .b64 %rd<2>;
	mov.b64 %rd0, map; cvta.param.u64 %rd0, %rd0; ld.param.u64 %rd1, [from]; ld.param.u32 %r0, [bytes];
	mov.u32 %r1, 8; mov.u32 %r2, -2;
	cp.async.bulk.prefetch.tensor.2d.L2.global [%rd0, {%r1, %r2}];
	cp.async.bulk.prefetch.L2.global [%rd1], %r0;
	ret;
}`
	m := mustParse(t, text)
	for _, c := range []struct {
		what   string
		dims   int
		offset uint64
		bytes  uint32
		freed  bool
		want   Kind // "" is no fault
	}{
		{what: "a box that sticks out, and all bytes", dims: 2, bytes: 256},
		{what: "bytes behind the end", dims: 2, offset: 16, bytes: 256, want: OutOfBounds},
		{what: "an odd number of bytes", dims: 2, bytes: 24, want: Misaligned},
		{what: "a tensor of other dimensions", dims: 1, bytes: 16, want: Operand},
		{what: "a tensor that was freed", dims: 2, bytes: 16, freed: true, want: OutOfBounds},
	} {
		h := newHost(t, 1)
		words := make([]uint16, 128)
		p, q := h.upload(words), h.upload(words)
		tm := TensorMap{Type: BFloat16, Address: p, Dims: []uint64{16, 8}, Strides: []uint64{32}, Box: []uint32{16, 4}}
		if c.dims == 1 {
			tm.Dims, tm.Strides, tm.Box = tm.Dims[:1], nil, tm.Box[:1]
		}
		param := h.encode(tm)
		if c.freed {
			h.must(h.Free(p))
		}
		err := h.launch(m.Kernels[0], Config{Block: [3]int{32}}, param, q+c.offset, c.bytes)
		if c.want == "" {
			h.must(err)
		} else {
			wantReport(t, err, c.want)
		}
	}
}
