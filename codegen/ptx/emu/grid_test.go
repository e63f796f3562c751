package emu

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// gridKernel is a kernel of 64 threads with two pointers, a and b, in %rd0 and %rd1, the warp in %p0 and %p1, the first
// lane of a warp in %p2, and an mbarrier for one arrival at %r1. %r2 is the address of 256 bytes of
// shared memory.
func gridKernel(body string) string {
	return header + `
.visible .entry k(.param .u64 a, .param .u64 b)
{
	.shared .align 128 .b8 stage[256];
	.shared .align 8 .b8 box[8];
	.reg .pred %p<4>; .reg .b32 %r<8>; .reg .b64 %rd<2>; .reg .b16 %h<2>;
	mov.u32 %r0, %tid.x; mov.u32 %r1, box; mov.u32 %r2, stage;
	ld.param.u64 %rd0, [a]; ld.param.u64 %rd1, [b];
	setp.lt.u32 %p0, %r0, 32; setp.ge.u32 %p1, %r0, 32;
	and.b32 %r3, %r0, 31; setp.eq.u32 %p2, %r3, 0; setp.eq.u32 %p3, %r0, 0;
	@%p3 mbarrier.init.shared::cta.b64 [%r1], 1;
	@%p3 fence.mbarrier_init.release.cluster;
	mad.lo.u32 %r4, %r0, 4, %r2; st.shared.u32 [%r4], %r0;
	fence.proxy.async.shared::cta;
	bar.sync 0;
` + body + `
	ret;
}`
}

// TestGrids: which launches of a queue may still run is found for every chain of launches. Each is a list
// of what its threads do: trigger, wait, read or write (a byte of) memory a.
func TestGrids(t *testing.T) {
	code := map[string]string{
		"trigger": "griddepcontrol.launch_dependents;",
		"wait":    "griddepcontrol.wait;",
		"read":    "ld.global.u8 %r4, [%rd0];",
		"write":   "st.global.u8 [%rd0], %r3;",
		"add":     "red.global.add.u32 [%rd0], 1;",
		"other":   "st.global.u8 [%rd0+1], %r3;",
		"nothing": "",
	}
	for _, c := range []struct {
		chain string // ";" behind a launch, "|" where the host waits; "!" is a launch that does not depend
		want  string // the fault of the last launch names these
	}{
		{"write; wait read", ""},
		{"write; read wait", "reads byte 0, launch 1, wrote, nothing has waited"},
		{"write trigger; trigger wait read", ""},
		{"write; write", "writes byte 0, launch 1, wrote"},
		{"read; write", "writes byte 0, launch 1, read"},
		{"read; read", ""},
		{"write; other", ""},
		{"add; read", "launch 1, wrote"},
		{"read; add", "launch 1, read"},
		{"add; add", "launch 1, wrote"},
		{"other; add", "reads byte 1, launch 1, wrote"},
		{"write; !read", ""},
		{"write | read", ""},
		{"write; nothing | read", ""},
		{"write; nothing; !read", ""},

		// The launch in the middle decides when the third may start, and what its wait means.
		{"write; trigger wait; wait read", ""},
		{"write; trigger wait; read", "launch 1, nothing has waited"},
		{"write; wait trigger; read", ""},
		{"write; wait; read", ""},
		{"write; nothing; read", "launch 1, griddepcontrol.wait waits for launch 2"},
		{"write; nothing; wait read", "launch 1, wrote, griddepcontrol.wait waits for launch 2"},
		{"read; trigger; wait write", "launch 1, read, griddepcontrol.wait waits for launch 2"},
		{"write; trigger wait; trigger wait; trigger wait; read", "launch 1"},
		{"write; trigger wait; trigger wait; wait trigger; read", ""},
		{"write; nothing; wait; wait read", "launch 1, waits for launch 3"},
		{"nothing; write; trigger wait; wait read", ""},
	} {
		var number uint64
		h := newHost(t, 1)
		s := h.NewStream()
		a := h.upload(make([]uint32, 64))
		chain := strings.FieldsFunc(strings.ReplaceAll(c.chain, "|", ";|"), func(r rune) bool { return r == ';' })
		for i, launch := range chain {
			if strings.Contains(launch, "|") {
				s.Sync()
			}
			var body []string
			for _, word := range strings.Fields(strings.Trim(launch, "!| ")) {
				if _, ok := code[word]; !ok {
					t.Fatalf("%s: %q is not known", c.chain, word)
				}
				body = append(body, code[word])
			}
			k := mustParse(t, gridKernel(strings.Join(body, "\n"))).Kernels[0]
			params, err := k.Pack(a, a)
			h.must(err)
			number++
			err = s.Launch(k, Config{Block: [3]int{64}, Dependent: !strings.Contains(launch, "!")}, params)
			if i < len(chain)-1 || c.want == "" {
				if err != nil {
					t.Errorf("%s: launch %d: %v", c.chain, number, err)
				}
				continue
			}
			r := wantReport(t, err, Dependency)
			for want := range strings.SplitSeq(c.want, ", ") {
				if !strings.Contains(r.Msg, want) {
					t.Errorf("%s: %q does not say %q", c.chain, r.Msg, want)
				}
			}
		}
	}
}

// TestBehindWait: a thread that does not wait itself is behind a wait where a barrier orders it so, and nowhere
// else. Before the body another launch writes a.
func TestBehindWait(t *testing.T) {
	const read = "\n@%p1 ld.global.u32 %r4, [%rd0];"
	for _, c := range []struct {
		what, body string
		cluster    int
		legal      bool
	}{
		{what: "all threads wait", body: "griddepcontrol.wait;" + read, legal: true},
		{what: "another warp waits", body: "@%p0 griddepcontrol.wait;" + read},
		{what: "another warp waits, then a barrier", body: "@%p0 griddepcontrol.wait; bar.sync 0;" + read, legal: true},
		{what: "another warp waits behind the barrier", body: "bar.sync 0; @%p0 griddepcontrol.wait;" + read},
		{what: "another warp arrives behind its wait", body: "@%p1 bra OTHER; griddepcontrol.wait; bar.arrive 1, 64; bra END; OTHER: bar.sync 1, 64;" + read + " END: bar.sync 0;", legal: true},
		{what: "another warp arrives before its wait", body: "@%p1 bra OTHER; bar.arrive 1, 64; griddepcontrol.wait; bra END; OTHER: bar.sync 1, 64;" + read + " END: bar.sync 0;"},
		{what: "one lane waits", body: "@%p2 griddepcontrol.wait;" + read},
		{what: "one lane waits, then the warp meets", body: "@%p2 griddepcontrol.wait; bar.warp.sync -1;" + read, legal: true},
		{what: "one lane waits, then a shuffle", body: "@%p2 griddepcontrol.wait; shfl.sync.idx.b32 %r5, %r3, 0, 31, -1;" + read},
		{what: "an mbarrier, arrived at behind the wait", body: "@%p1 bra OTHER; griddepcontrol.wait; @%p3 mbarrier.arrive.shared::cta.b64 _, [%r1]; ret; OTHER: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r1], 0; @!%p3 bra OTHER;" + read, legal: true},
		{what: "an mbarrier, arrived at before the wait", body: "@%p1 bra OTHER; @%p3 mbarrier.arrive.shared::cta.b64 _, [%r1]; griddepcontrol.wait; ret; OTHER: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r1], 0; @!%p3 bra OTHER;" + read},
		{what: "an mbarrier, arrived at by a lane that has not waited", body: "@%p1 bra OTHER; @!%p2 griddepcontrol.wait; @%p3 mbarrier.arrive.shared::cta.b64 _, [%r1]; ret; OTHER: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r1], 0; @!%p3 bra OTHER;" + read},
		{what: "an mbarrier, at which another lane has waited", body: "@%p1 bra OTHER; griddepcontrol.wait; @%p3 mbarrier.arrive.shared::cta.b64 _, [%r1]; ret; OTHER: @!%p2 bra READ; WAIT: mbarrier.try_wait.parity.shared::cta.b64 %p3, [%r1], 0; @!%p3 bra WAIT; READ:" + read},
		{what: "another CTA waits", body: "mov.u32 %r6, %ctaid.x; setp.eq.u32 %p3, %r6, 0; @%p3 griddepcontrol.wait;" + read, cluster: 2},
		{what: "another CTA of the cluster waits", cluster: 2, legal: true,
			body: "mov.u32 %r6, %ctaid.x; setp.eq.u32 %p3, %r6, 0; @%p3 griddepcontrol.wait; barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;" + read},
		{what: "another CTA of the cluster waits, and its arrive is relaxed", cluster: 2,
			body: "mov.u32 %r6, %ctaid.x; setp.eq.u32 %p3, %r6, 0; @%p3 griddepcontrol.wait; barrier.cluster.arrive.relaxed.aligned; barrier.cluster.wait.aligned;" + read},
	} {
		write := mustParse(t, gridKernel("@%p3 st.global.u32 [%rd0], %r0;")).Kernels[0]
		k := mustParse(t, gridKernel(c.body)).Kernels[0]
		for seed := range uint64(seeds) {
			h := newHost(t, seed)
			a := h.upload(make([]uint32, 64))
			h.must(h.launch(write, Config{Block: [3]int{64}}, a, a))
			n := max(c.cluster, 1)
			err := h.launch(k, Config{Grid: [3]int{n}, Cluster: [3]int{n}, Block: [3]int{64}, Dependent: true}, a, a)
			if c.legal && err != nil {
				t.Errorf("%s: seed %d: %v", c.what, seed, err)
			}
			if !c.legal {
				t.Run(c.what, func(t *testing.T) { wantReport(t, err, Dependency) })
			}
		}
	}
}

// TestUsesGlobal: every instruction that uses global memory is seen, as a read or a write. A launch ahead has
// read a and written b, a word of each. They are tensor maps.
func TestUsesGlobal(t *testing.T) {
	ahead := mustParse(t, gridKernel("ld.global.u32 %r4, [%rd0];\nld.global.u32 %r4, [%rd1];\n@%p3 st.global.u32 [%rd1], %r4;")).Kernels[0]
	for _, c := range []struct {
		text  string
		write bool
	}{
		{"ld.global.u32 %r4, [AT];", false},
		{"ld.global.nc.v4.b32 {%r3, %r4, %r5, %r6}, [AT];", false},
		{"ld.relaxed.gpu.global.u32 %r4, [AT];", false},
		{"cp.async.ca.shared.global [%r2+128], [AT], 4; cp.async.wait_all;", false},
		{"cp.async.bulk.prefetch.L2.global [AT], 16;", false},
		{"prefetch.tensormap [AT];", false},
		{"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 16; cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2+128], [AT], 16, [%r1]; W: mbarrier.try_wait.parity.shared::cta.b64 %p0, [%r1], 0; @!%p0 bra W;", false},
		{"st.global.u32 [AT], %r0;", true},
		{"st.release.gpu.global.u32 [AT], %r0;", true},
		{"atom.global.add.u32 %r4, [AT], 1;", true},
		{"red.global.or.b32 [AT], 1;", true},
		{"cp.async.bulk.global.shared::cta.bulk_group [AT], [%r2], 16; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;", true},
		{"cp.reduce.async.bulk.global.shared::cta.bulk_group.add.u32 [AT], [%r2], 16; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;", true},
	} {
		for at, fault := range map[string]bool{"%rd0": c.write, "%rd1": true, "%rd1+128": false} {
			for _, wait := range []string{"", "griddepcontrol.wait;"} {
				what := fmt.Sprintf("%s of %s %s", c.text, at, wait)
				h := newHost(t, 1)
				tm := h.encode(tensor2D(h.upload(make([]uint16, 64)), 1, 64, 1, SwizzleNone))
				a, b := h.upload([][128]byte{tm, tm}), h.upload([][128]byte{tm, tm})
				h.must(h.launch(ahead, Config{Block: [3]int{64}}, a, b))
				k := mustParse(t, gridKernel("@!%p3 ret;"+wait+strings.ReplaceAll(c.text, "AT", at))).Kernels[0]
				err := h.launch(k, Config{Block: [3]int{64}, Dependent: true}, a, b)
				if wait == "" && fault {
					t.Run(what, func(t *testing.T) { wantReport(t, err, Dependency) })
				} else if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
		}
	}
}

// TestUsesBox: of a tensor the rows of the box count. A launch ahead has written row 2, 32 bytes.
func TestUsesBox(t *testing.T) {
	ahead := mustParse(t, gridKernel("@%p3 st.global.v4.u32 [%rd0+64], {%r0, %r0, %r0, %r0};")).Kernels[0]
	for _, instruction := range []string{
		"cp.async.bulk.prefetch.tensor.2d.L2.global [%rd0, {0, %r0}];",
		"mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r1], 64; cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r2], [%rd0, {0, %r0}], [%r1]; W: mbarrier.try_wait.parity.shared::cta.b64 %p, [%r1], 0; @!%p bra W;",
		"cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd0, {0, %r0}], [%r2]; cp.async.bulk.commit_group; cp.async.bulk.wait_group 0;",
	} {
		k := mustParse(t, header+`
.visible .entry k(.param .align 64 .b8 map[128], .param .u32 row)
{
	.shared .align 128 .b8 stage[64];
	.shared .align 8 .b8 box[8];
	.reg .pred %p; .reg .b32 %r<5>; .reg .b64 %rd0;
	mov.b64 %rd0, map; cvta.param.u64 %rd0, %rd0;
	mov.u32 %r1, box; mov.u32 %r2, stage; mov.u32 %r3, %tid.x;
	mad.lo.u32 %r4, %r3, 2, %r2; st.shared.u16 [%r4], 0;
	fence.proxy.async.shared::cta; bar.warp.sync -1;
	setp.ne.u32 %p, %r3, 0; @%p ret;
	ld.param.u32 %r0, [row]; mbarrier.init.shared::cta.b64 [%r1], 1; fence.mbarrier_init.release.cluster;
`+instruction+"\n	ret;\n}").Kernels[0]
		for row, fault := range []bool{false, true, true, false} {
			h := newHost(t, 1)
			p := h.upload(make([]uint16, 5*16))
			h.must(h.launch(ahead, Config{Block: [3]int{64}}, p, p))
			tm := h.encode(TensorMap{Type: BFloat16, Address: p, Dims: []uint64{16, 5}, Strides: []uint64{32}, Box: []uint32{16, 2}})
			err := h.launch(k, Config{Block: [3]int{32}, Dependent: true}, tm, uint32(row))
			if fault {
				wantReport(t, err, Dependency)
			} else if err != nil {
				t.Errorf("row %d: %s: %v", row, instruction, err)
			}
		}
	}
}

// TestHostWaits: copies of the host, and a launch that failed, end what dependent launches may overlap with. Then
// nothing is kept of the grids before.
func TestHostWaits(t *testing.T) {
	write := mustParse(t, gridKernel("st.global.u8 [%rd0], %r3;")).Kernels[0]
	read := mustParse(t, gridKernel("ld.global.u8 %r4, [%rd0];")).Kernels[0]
	for what, wait := range map[string]func(h *host, a uint64){
		"CopyIn":  func(h *host, a uint64) { h.must(h.CopyIn(a, make([]byte, 1))) },
		"CopyOut": func(h *host, a uint64) { h.must(h.CopyOut(make([]byte, 1), a)) },
		"Memset":  func(h *host, a uint64) { h.must(h.Memset(a, 0, 1)) },
		"failure": func(h *host, a uint64) {
			if h.launch(read, Config{Block: [3]int{33}, Dependent: true}, a, a) == nil {
				t.Error("a block of 33 threads runs")
			}
		},
	} {
		h := newHost(t, 1)
		a := h.upload(make([]byte, 64))
		for range 3 {
			h.must(h.launch(write, Config{Block: [3]int{64}, Dependent: true}, a, a))
			wait(h, a)
			if err := h.launch(read, Config{Block: [3]int{64}, Dependent: true}, a, a); err != nil {
				t.Errorf("%s: %v", what, err)
			}
			wait(h, a)
		}
		if n := len(h.find(a).prints); n != 1 {
			t.Errorf("%s: %d grids are remembered", what, n)
		}
	}
}

// TestBitmap compares with a slice of booleans.
func TestBitmap(t *testing.T) {
	const size = 200
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		b, want := make(bitmap, (size+63)/64), make([]bool, size)
		for range r.IntN(3) {
			off := r.IntN(size)
			n := 1 + r.IntN(min(size-off, 80))
			b.set(off, n)
			for i := off; i < off+n; i++ {
				want[i] = true
			}
		}
		for range 50 {
			off := r.IntN(size)
			n := 1 + r.IntN(size-off)
			first := slices.Index(want[off:off+n], true)
			if first >= 0 {
				first += off
			}
			if got := b.first(off, n); got != first {
				t.Fatalf("the first of %d from %d is %d, want %d", n, off, got, first)
			}
		}
	}
}
