package emu

import (
	"strings"
	"testing"
)

// run launches a kernel without parameters but an output of n words, and returns them.
func runWords(t *testing.T, seed uint64, text string, c Config, n int) ([]uint32, error) {
	t.Helper()
	m := mustParse(t, text)
	h := newHost(t, seed)
	out := h.alloc(4 * n)
	if err := h.launch(m.Kernels[0], c, out); err != nil {
		return nil, err
	}
	v := make([]uint32, n)
	h.download(out, v)
	return v, nil
}

// TestNamedBarriers: two warps hand a value back and forth with bar.arrive and bar.sync.
func TestNamedBarriers(t *testing.T) {
	text := header + `
.entry k(.param .u64 out) {
	.shared .align 4 .b8 box[4];
	.reg .pred %p<3>; .reg .b32 %r<8>; .reg .b64 %rd<2>;
	mov.u32 %r0, %tid.x; mov.u32 %r1, box; mov.u32 %r2, 0; mov.u32 %r5, 0; and.b32 %r6, %r0, 31;
	setp.eq.u32 %p2, %r6, 0;
	setp.ge.u32 %p0, %r0, 32;
	@%p0 bra CONSUMER;
PRODUCER:
	bar.sync 2, 64;
	add.u32 %r3, %r2, 5;
	@%p2 st.shared.u32 [%r1], %r3;
	bar.arrive 1, 64;
	add.u32 %r2, %r2, 1;
	setp.lt.u32 %p1, %r2, 10;
	@%p1 bra PRODUCER;
	ret;
CONSUMER:
	bar.arrive 2, 64;
	bar.sync 1, 64;
	ld.shared.u32 %r4, [%r1];
	add.u32 %r5, %r5, %r4;
	add.u32 %r2, %r2, 1;
	setp.lt.u32 %p1, %r2, 10;
	@%p1 bra CONSUMER;
	ld.param.u64 %rd0, [out];
	@%p2 st.global.u32 [%rd0], %r5;
}`
	for seed := range uint64(seeds) {
		v, err := runWords(t, seed, text, Config{Block: [3]int{64}}, 1)
		if err != nil || v[0] != 95 {
			t.Fatalf("seed %d: %v, %v, want 95", seed, v, err)
		}
	}
}

// TestAtomics: all threads of several CTAs count; the last CTA, found by a counter, reads the sum.
func TestAtomics(t *testing.T) {
	m := mustParse(t, header+`
.global .u32 sum;
.global .u32 done;
.entry k(.param .u64 out) {
	.shared .align 4 .b8 last[4];
	.reg .pred %p<3>; .reg .b32 %r<8>; .reg .b64 %rd<4>;
	mov.u64 %rd0, sum; mov.u64 %rd1, done; ld.param.u64 %rd2, [out];
	mov.u32 %r0, %tid.x; mov.u32 %r4, last;
	red.global.add.u32 [%rd0], 1;
	fence.acq_rel.gpu;
	bar.sync 0;
	setp.ne.u32 %p0, %r0, 0;
	@%p0 bra DONE;
	atom.acq_rel.gpu.global.add.u32 %r1, [%rd1], 1;
	mov.u32 %r2, %nctaid.x;
	sub.u32 %r2, %r2, 1;
	setp.ne.u32 %p1, %r1, %r2;
	@%p1 bra DONE;
	ld.acquire.gpu.global.u32 %r3, [%rd0];
	st.global.u32 [%rd2], %r3;
DONE:
	ret;
}`)
	for seed := range uint64(seeds) {
		h := newHost(t, seed)
		out := h.alloc(4)
		h.must(h.launch(m.Kernels[0], Config{Grid: [3]int{7}, Block: [3]int{96}}, out))
		v := make([]uint32, 1)
		h.download(out, v)
		if v[0] != 7*96 {
			t.Fatalf("seed %d: %d, want %d", seed, v[0], 7*96)
		}
	}
}

// TestRaces: small kernels that differ in one synchronization, with and without a fault.
func TestRaces(t *testing.T) {
	kernel := func(body string) string {
		return header + `
.entry k(.param .u64 out) {
	.shared .align 16 .b8 buf[1024];
	.shared .align 8 .b8 bar[8];
	.reg .pred %p<4>; .reg .b32 %r<12>; .reg .b64 %rd<4>;
	mov.u32 %r0, %tid.x; mov.u32 %r1, buf; mov.u32 %r2, bar; ld.param.u64 %rd0, [out];
	mul.wide.u32 %rd1, %r0, 4; add.u64 %rd1, %rd0, %rd1;
	mad.lo.u32 %r3, %r0, 4, %r1;       // own word
	xor.b32 %r4, %r0, 32; mad.lo.u32 %r4, %r4, 4, %r1; // a word of the other warp
	setp.eq.u32 %p0, %r0, 0;
	` + strings.ReplaceAll(body, "; ", ";\n") + "\n}"
	}
	for _, c := range []struct {
		name, body string
		want       Kind
	}{
		{"exchange", "st.shared.u32 [%r3], %r0; bar.sync 0; ld.shared.u32 %r5, [%r4]; st.global.u32 [%rd1], %r5;", ""},
		{"exchange without a barrier", "st.shared.u32 [%r3], %r0; ld.shared.u32 %r5, [%r4]; st.global.u32 [%rd1], %r5;", "any"},
		{"write after read", "st.shared.u32 [%r3], %r0; bar.sync 0; ld.shared.u32 %r5, [%r4]; st.shared.u32 [%r3], %r5; st.global.u32 [%rd1], %r5;", Race},
		{"bytes of one word by two warps", "shr.u32 %r6, %r0, 5; add.u32 %r6, %r6, %r1; st.shared.u8 [%r6], %r0; st.global.u32 [%rd1], %r0;", ""},
		{"lanes of one warp", "xor.b32 %r6, %r0, 1; mad.lo.u32 %r6, %r6, 4, %r1; st.shared.u32 [%r3], %r0; bar.warp.sync -1; ld.shared.u32 %r5, [%r6]; st.global.u32 [%rd1], %r5;", ""},
		{"lanes of one warp without bar.warp.sync", "xor.b32 %r6, %r0, 1; mad.lo.u32 %r6, %r6, 4, %r1; st.shared.u32 [%r3], %r0; ld.shared.u32 %r5, [%r6]; st.global.u32 [%rd1], %r5;", Race},
		{"one lane's own word", "st.shared.u32 [%r3], %r0; ld.shared.u32 %r5, [%r3]; st.shared.u32 [%r3], %r5; st.global.u32 [%rd1], %r5;", ""},
		{"write after the read of another lane", "xor.b32 %r6, %r0, 1; mad.lo.u32 %r6, %r6, 4, %r1; st.shared.u32 [%r3], %r0; bar.warp.sync -1; ld.shared.u32 %r5, [%r6]; st.shared.u32 [%r3], %r5; st.global.u32 [%rd1], %r5;", Race},
		{"mbarrier orders", `@%p0 mbarrier.init.shared::cta.b64 [%r2], 64; bar.sync 0; st.shared.u32 [%r3], %r0; mbarrier.arrive.shared::cta.b64 _, [%r2];
W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W; ld.shared.u32 %r5, [%r4]; st.global.u32 [%rd1], %r5;`, ""},
		{"relaxed arrivals do not order", `@%p0 mbarrier.init.shared::cta.b64 [%r2], 64; bar.sync 0; st.shared.u32 [%r3], %r0; mbarrier.arrive.relaxed.cluster.shared::cta.b64 _, [%r2];
W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W; ld.shared.u32 %r5, [%r4]; st.global.u32 [%rd1], %r5;`, Race},
		{"state of an arrival", `@%p0 mbarrier.init.shared::cta.b64 [%r2], 64; bar.sync 0; st.shared.u32 [%r3], %r0; mbarrier.arrive.shared::cta.b64 %rd2, [%r2];
W: mbarrier.test_wait.shared::cta.b64 %p1, [%r2], %rd2; @!%p1 bra W; ld.shared.u32 %r5, [%r4]; st.global.u32 [%rd1], %r5;`, ""},
		{"expect and complete", `@%p0 mbarrier.init.shared::cta.b64 [%r2], 1; bar.sync 0; @%p0 mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 8; setp.eq.u32 %p2, %r0, 40; @%p2 mbarrier.complete_tx.shared::cta.relaxed.cta.b64 [%r2], 8;
W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W; st.global.u32 [%rd1], %r0;`, ""},
		{"an mbarrier ends", `@%p0 mbarrier.init.shared::cta.b64 [%r2], 1; @%p0 mbarrier.inval.shared::cta.b64 [%r2]; @%p0 st.shared.u64 [%r2], %rd0; @%p0 mbarrier.arrive.shared::cta.b64 _, [%r2];`, Barrier},
		{"copies arrive", `@%p0 mbarrier.init.shared::cta.b64 [%r2], 64; st.global.u32 [%rd1], %r0; bar.sync 0; cp.async.ca.shared.global [%r3], [%rd1], 4; cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%r2];
W: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r2], 0; @!%p1 bra W; ld.shared.u32 %r5, [%r4]; st.global.u32 [%rd1], %r5;`, ""},
		{"cp.async of 0 bytes is zeros", "cp.async.ca.shared.global [%r3], [%rd1], 4, 0; cp.async.wait_all; ld.shared.u32 %r5, [%r3]; setp.ne.u32 %p1, %r5, 0; @%p1 trap;", ""},
		{"a divergent barrier", "setp.lt.u32 %p1, %r0, 5; @%p1 bra L; bar.sync 0; L: ret;", Convergence},
		{"a barrier that only the other half needs", "setp.lt.u32 %p1, %r0, 5; @%p1 bra L; add.u32 %r5, %r0, 1; L: bar.sync 0;", ""},
		{"a barrier that a warp never reaches", "setp.lt.u32 %p1, %r0, 32; @%p1 bar.sync 1, 64; ", Barrier},
		{"17 barriers", "bar.sync 16;", Barrier},
		{"a count that is no warp", "bar.sync 1, 33;", Barrier},
		{"a predicate that nobody wrote", "@%p3 mov.u32 %r5, 1;", Uninitialised},
		{"a cluster address without a cluster", "mapa.shared::cluster.u32 %r5, %r1, 1;", OutOfBounds},
		{"the own rank", "mapa.shared::cluster.u32 %r5, %r3, 0; st.shared::cluster.u32 [%r5], %r0; ld.shared.u32 %r6, [%r3]; st.global.u32 [%rd1], %r6;", ""},
		{"generic addresses", "cvt.u64.u32 %rd2, %r3; cvta.shared.u64 %rd2, %rd2; st.u32 [%rd2], %r0; ld.shared.u32 %r6, [%r3]; st.u32 [%rd1], %r6;", ""},
		{"parity of 2", "@%p0 mbarrier.init.shared::cta.b64 [%r2], 1; bar.sync 0; mbarrier.test_wait.parity.shared::cta.b64 %p1, [%r2], 2;", Operand},
		{"trap", "trap;", Operand},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(seeds) {
				_, err := runWords(t, seed, kernel(c.body), Config{Block: [3]int{64}}, 64)
				switch {
				case c.want == "" && err != nil:
					t.Fatalf("seed %d: %v", seed, err)
				case c.want == "any" && err == nil:
					t.Fatalf("seed %d: no report", seed)
				case c.want != "" && c.want != "any":
					wantReport(t, err, c.want)
				}
			}
		})
	}
}

// TestDistributedSharedMemory: each CTA of a cluster of 4 writes into the next one.
func TestDistributedSharedMemory(t *testing.T) {
	text := header + `
.entry k(.param .u64 out) .reqnctapercluster 4 {
	.shared .align 4 .b8 box[128];
	.reg .b32 %r<10>; .reg .b64 %rd<4>;
	mov.u32 %r0, %tid.x; mov.u32 %r1, box; mad.lo.u32 %r1, %r0, 4, %r1;
	mov.u32 %r2, %cluster_ctarank; add.u32 %r3, %r2, 1; and.b32 %r3, %r3, 3;
	mapa.shared::cluster.u32 %r4, %r1, %r3;
	mov.u32 %r5, %ctaid.x; mad.lo.u32 %r6, %r5, 100, %r0;
	st.shared::cluster.u32 [%r4], %r6;
	barrier.cluster.arrive.aligned; barrier.cluster.wait.aligned;
	ld.shared.u32 %r7, [%r1];
	ld.param.u64 %rd0, [out]; mad.lo.u32 %r8, %r5, 32, %r0; mul.wide.u32 %rd1, %r8, 4; add.u64 %rd0, %rd0, %rd1;
	st.global.u32 [%rd0], %r7;
}`
	v, err := runWords(t, 2, text, Config{Grid: [3]int{8}, Block: [3]int{32}}, 256)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range v {
		cta := i / 32
		if from := cta&^3 | (cta+3)&3; got != uint32(100*from+i%32) {
			t.Fatalf("word %d is %d", i, got)
		}
	}
}

// TestDeterminism: a seed fixes the run, and seeds differ.
func TestDeterminism(t *testing.T) {
	m := mustParse(t, read(t, "gemm.ptx"))
	broken := mustParse(t, header+`
.entry k(.param .u64 out) {
	.shared .align 4 .b8 x[4];
	.reg .b32 %r<4>; .reg .b64 %rd<2>;
	mov.u32 %r0, x; mov.u32 %r1, %tid.x; shr.u32 %r1, %r1, 5; mul.lo.u32 %r1, %r1, 0;
	atom.shared.exch.b32 %r2, [%r0], %r1;
}`)
	var messages []string
	for _, seed := range []uint64{1, 1, 2, 3, 4, 5, 6} {
		if _, err := runGEMM(t, m, seed, Swizzle128B); err != nil {
			t.Fatal(err)
		}
		h := newHost(t, seed)
		err := h.launch(broken.Kernels[0], Config{Grid: [3]int{8}, Block: [3]int{128}}, uint64(0))
		messages = append(messages, wantReport(t, err, Uninitialised).Error())
	}
	if messages[0] != messages[1] {
		t.Errorf("one seed, two runs:\n%s\n%s", messages[0], messages[1])
	}
	other := false
	for _, m := range messages[2:] {
		other = other || m != messages[0]
	}
	if !other {
		t.Error("six seeds find the same warp first")
	}
}

// TestLaunchErrors: what the driver would refuse.
func TestLaunchErrors(t *testing.T) {
	m := mustParse(t, header+".entry k(.param .u32 n) .maxntid 64 .reqnctapercluster 2 { ret; }")
	k := m.Kernels[0]
	good := Config{Grid: [3]int{2}, Block: [3]int{64}}
	d := New(Options{})
	if err := d.Launch(k, good, make([]byte, 4)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(c *Config){
		"block":      func(c *Config) { c.Block[0] = 128 },
		"half warps": func(c *Config) { c.Block[0] = 48 },
		"grid":       func(c *Config) { c.Grid[0] = 3 },
		"cluster":    func(c *Config) { c.Cluster[0] = 1 },
		"shared":     func(c *Config) { c.Shared = 228 << 10 },
		"negative":   func(c *Config) { c.Grid[1] = -1 },
		"large grid": func(c *Config) { c.Grid = [3]int{1 << 30, 1 << 30, 1} },
		// The product is 2^64.
		"large block": func(c *Config) { c.Block = [3]int{1 << 30, 1 << 30, 16} },
	} {
		c := good
		change(&c)
		if err := d.Launch(k, c, make([]byte, 4)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if err := d.Launch(k, good, make([]byte, 8)); err == nil {
		t.Error("parameters of the wrong size are accepted")
	}
	if _, err := k.Pack(uint64(1)); err == nil {
		t.Error("a value of the wrong size is accepted")
	}
	if err := d.Free(123); err == nil {
		t.Error("Free of what was not allocated")
	}
	p, _ := d.Alloc(16)
	if err := d.Free(p); err != nil {
		t.Error(err)
	}
	if err := d.CopyIn(p, make([]byte, 4)); err == nil {
		t.Error("CopyIn to freed memory")
	}
}

// TestBulkCopies: each CTA of a pair copies a row from global memory to its own shared memory, from there
// to the other CTA, and adds it to the output, all by bulk copies.
func TestBulkCopies(t *testing.T) {
	m := mustParse(t, header+`
.entry k(.param .u64 in, .param .u64 out) .reqnctapercluster 2 {
	.shared .align 16 .b8 mine[512];
	.shared .align 16 .b8 theirs[512];
	.shared .align 8 .b8 bars[16];
	.reg .pred %p<3>; .reg .b32 %r<12>; .reg .b64 %rd<6>;
	mov.u32 %r0, %tid.x; mov.u32 %r1, mine; mov.u32 %r2, theirs; mov.u32 %r3, bars;
	ld.param.u64 %rd0, [in]; ld.param.u64 %rd1, [out];
	mov.u32 %r4, %ctaid.x; mul.wide.u32 %rd2, %r4, 512;
	add.u64 %rd0, %rd0, %rd2; add.u64 %rd1, %rd1, %rd2;
	mov.u32 %r5, %cluster_ctarank; xor.b32 %r5, %r5, 1;
	mapa.shared::cluster.u32 %r6, %r2, %r5;     // "theirs" and its mbarrier in the other CTA
	add.u32 %r7, %r3, 8;
	mapa.shared::cluster.u32 %r7, %r7, %r5;
	setp.eq.u32 %p0, %r0, 0;
	@%p0 mbarrier.init.shared::cta.b64 [%r3], 1;
	@%p0 mbarrier.init.shared::cta.b64 [%r3+8], 1;
	@%p0 fence.mbarrier_init.release.cluster;
	barrier.cluster.arrive.aligned;
	barrier.cluster.wait.aligned;
	@!%p0 bra DONE;
	mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3+8], 512;
	mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r3], 512;
	cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd0], 512, [%r3];
W1: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r3], 0;
	@!%p1 bra W1;
	cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%r6], [%r1], 512, [%r7];
W2: mbarrier.try_wait.parity.shared::cta.b64 %p1, [%r3+8], 0;
	@!%p1 bra W2;
	cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%rd1], [%r2], 512;
	cp.async.bulk.commit_group;
	cp.async.bulk.wait_group 0;
DONE:
	barrier.cluster.arrive.aligned;
	barrier.cluster.wait.aligned;
}`)
	in, out := make([]float32, 4*128), make([]float32, 4*128)
	for i := range in {
		in[i], out[i] = float32(i), float32(-2*i)
	}
	for seed := range uint64(seeds) {
		h := newHost(t, seed)
		pi, po := h.upload(in), h.upload(out)
		h.must(h.launch(m.Kernels[0], Config{Grid: [3]int{4}, Block: [3]int{32}}, pi, po))
		got := make([]float32, len(out))
		h.download(po, got)
		for i := range got {
			if want := out[i] + in[i^128]; got[i] != want {
				t.Fatalf("seed %d: element %d is %v, want %v", seed, i, got[i], want)
			}
		}
		empty := h.alloc(4 * len(in))
		wantReport(t, h.launch(m.Kernels[0], Config{Grid: [3]int{4}, Block: [3]int{32}}, empty, po), Uninitialised)
	}
}
