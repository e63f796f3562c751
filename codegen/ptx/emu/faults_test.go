package emu

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/filetest"
)

// wrongValues is what a fault is caught as when nothing is reported but the result is not right.
const wrongValues Kind = "wrong values"

// fault is a mutation of a known-good kernel that must be caught.
type fault struct {
	what     string
	file     string
	old, new string // every occurrence is replaced
	want     Kind
	swizzle  Swizzle // of the tensor maps of gemm.ptx, 0: as the kernel wants
}

// faults is the table of planted faults; docs/ptx-emulator.md lists it.
var faults = []fault{
	{what: "expect_tx of fewer bytes than arrive", file: "gemm.ptx", old: "[%r12], 32768;", new: "[%r12], 32752;", want: Deadlock},
	{what: "expect_tx of more bytes than arrive", file: "gemm.ptx", old: "[%r12], 32768;", new: "[%r12], 32784;", want: Deadlock},
	{what: "the producer's phase is not inverted", file: "gemm.ptx", old: "xor.b32 %r14, %r10, 1;", new: "mov.b32 %r14, %r10;", want: Deadlock},
	{what: "empty barriers count more arrivals than there are", file: "gemm.ptx", old: "[%r4+8], 8;", new: "[%r4+8], 9;", want: Deadlock},
	{what: "consumers never release a stage", file: "gemm.ptx", old: "	@%p6 mbarrier.arrive.shared::cta.b64 _, [%r13];\n", new: "", want: Deadlock},
	{what: "setmaxnreg asks for more than the pool has", file: "gemm.ptx", old: ".u32 232;", new: ".u32 240;", want: Deadlock},
	{what: "the phase does not flip", file: "gemm.ptx", old: "	@%p3 xor.b32 %r10, %r10, 1;\n", new: "", want: Race},
	{what: "one warp of a CTA misses a barrier", file: "gemm.ptx", old: "INIT_DONE:\n	bar.sync 0;", new: "INIT_DONE:\n	shr.u32 %r30, %r0, 5;\n	setp.eq.u32 %p7, %r30, 3;\n	@!%p7 bar.sync 0;", want: Barrier},

	{what: "the consumer does not wait for the full barrier", file: "gemm.ptx", old: "	@!%p2 bra WAIT_FULL;\n", new: "", want: Race},
	{what: "the producer does not wait for the empty barrier", file: "gemm.ptx", old: "	@!%p2 bra WAIT_EMPTY;\n", new: "", want: Race},
	{what: "empty barriers count one warp instead of all", file: "gemm.ptx", old: ", 8;   // consumer warps", new: ", 1;", want: Race},
	{what: "a stage is released before the wgmma that read it are done", file: "gemm.ptx",
		old: "	wgmma.wait_group.sync.aligned 0;\n	@%p6 mbarrier.arrive.shared::cta.b64 _, [%r13];\n", new: "	@%p6 mbarrier.arrive.shared::cta.b64 _, [%r13];\n	wgmma.wait_group.sync.aligned 0;\n", want: Race},
	{what: "mbarriers are used without a barrier behind their init", file: "gemm.ptx", old: "INIT_DONE:\n	bar.sync 0;", new: "INIT_DONE:", want: Barrier},
	{what: "tiles of two CTAs overlap", file: "gemm.ptx", old: "mov.u32 %r6, %ctaid.x;\n	shl.b32 %r6, %r6, 7;", new: "mov.u32 %r6, %ctaid.x;\n	shl.b32 %r6, %r6, 6;", want: Race},
	{what: "no bar.sync between keys: K and V are loaded while other warps use them", file: "attention.ptx", old: "	bar.sync 1, 128;                  // all warps are done with K and V\n", new: "", want: Race},
	{what: "no bar.sync at the end of the loop of mma.sync", file: "mma.ptx", old: "	bar.sync 0;\n	mov.u32 %r22, %r23;", new: "	mov.u32 %r22, %r23;", want: Race},
	{what: "no bar.sync behind cp.async.wait_group", file: "mma.ptx", old: "wait_group 1;\n	bar.sync 0;", new: "wait_group 1;", want: Race},
	{what: "no cp.async.wait_group", file: "mma.ptx", old: "	cp.async.wait_group 1;\n", new: "", want: Race},
	{what: "cp.async.wait_group one too high", file: "mma.ptx", old: "wait_group 1;", new: "wait_group 2;", want: Race},
	{what: "no cp.async.commit_group", file: "mma.ptx", old: "	cp.async.commit_group;\n", new: "", want: Race},

	{what: "no wgmma.fence at all", file: "gemm.ptx", old: "	wgmma.fence.sync.aligned;\n", new: "", want: WgmmaOrder},
	{what: "no wgmma.fence behind the write of A registers", file: "attention.ptx", old: "%s30;\n	wgmma.fence.sync.aligned;\n", new: "%s30;\n", want: WgmmaOrder},
	{what: "wgmma without commit_group", file: "gemm.ptx", old: "	wgmma.commit_group.sync.aligned;\n", new: "", want: Race},
	{what: "no wait_group before the accumulators are read", file: "attention.ptx", old: "	wgmma.wait_group.sync.aligned 0;\n	mov.f32 %x0, %m0;", new: "	mov.f32 %x0, %m0;", want: InFlight},
	{what: "wait_group leaves the newest group pending and reads it", file: "attention.ptx", old: "	wgmma.wait_group.sync.aligned 0;\n	mov.f32 %x0, %m0;", new: "	wgmma.wait_group.sync.aligned 1;\n	mov.f32 %x0, %m0;", want: InFlight},
	{what: "A registers are overwritten while a wgmma reads them", file: "attention.ptx", old: "	wgmma.commit_group.sync.aligned;\n	wgmma.wait_group.sync.aligned 0;\n	bar.sync 1, 128;", new: "	wgmma.commit_group.sync.aligned;\n	mov.b32 %a0, 0;\n	wgmma.wait_group.sync.aligned 0;\n	bar.sync 1, 128;", want: InFlight},
	{what: "warps of a warpgroup issue different wgmma", file: "gemm.ptx", old: "or.b64 %rd3, %rd3, 0x4000004000010000;", new: "or.b64 %rd3, %rd3, 0x4000004000010000;\n	shr.u32 %r30, %r0, 5;\n	and.b32 %r30, %r30, 1;\n	cvt.u64.u32 %rd9, %r30;\n	add.u64 %rd3, %rd3, %rd9;", want: WgmmaOrder},
	{what: "wgmma by a part of the warp", file: "gemm.ptx", old: "	wgmma.commit_group.sync.aligned;\n", new: "	@%p6 wgmma.commit_group.sync.aligned;\n", want: Convergence},

	{what: "descriptor of K-major A with SBO 512", file: "gemm.ptx", old: "or.b64 %rd2, %rd2, 0x4000004000010000;", new: "or.b64 %rd2, %rd2, 0x4000002000010000;", want: wrongValues},
	{what: "descriptor with 64-byte swizzle where the tile has 128", file: "gemm.ptx", old: "or.b64 %rd3, %rd3, 0x4000004000010000;", new: "or.b64 %rd3, %rd3, 0x8000004000010000;", want: wrongValues},
	{what: "descriptor with bits that must be zero", file: "gemm.ptx", old: "or.b64 %rd3, %rd3, 0x4000004000010000;", new: "or.b64 %rd3, %rd3, 0x4010004000010000;", want: Operand},
	{what: "K advances by 3 instead of 2", file: "gemm.ptx", old: "add.u64 %rd2, %rd2, 2; ", new: "add.u64 %rd2, %rd2, 3; ", want: wrongValues},
	{what: "a descriptor beyond the shared memory", file: "gemm.ptx", old: "add.u32 %r16, %r15, 16384;\n	mad", new: "add.u32 %r16, %r15, 131072;\n	mad", want: OutOfBounds},
	{what: "a tensor map without the swizzle of the kernel", file: "gemm.ptx", old: "ret;", new: "ret; ", want: wrongValues, swizzle: SwizzleNone + 100},
	{what: "the first wgmma adds to what was never written", file: "gemm.ptx", old: "setp.ne.u32 %p5, %r8, 0; ", new: "setp.eq.u32 %p5, %r8, 0; ", want: Uninitialised},
	{what: "a wgmma in the middle does not add", file: "gemm.ptx", old: "	setp.eq.u32 %p5, %r0, %r0;\n", new: "", want: wrongValues},
	{what: "halves of a bf16x2 swapped", file: "gemm.ptx", old: "cvt.rn.bf16x2.f32 %h0, %f5, %f4;", new: "cvt.rn.bf16x2.f32 %h0, %f4, %f5;", want: wrongValues},
	{what: "V advances by 2 as K does", file: "attention.ptx", old: "add.u64 %rd12, %rd5, 128;", new: "add.u64 %rd12, %rd5, 2;", want: wrongValues},
	{what: "V without trans-b", file: "attention.ptx", old: "%rd5, 1, 1, 1, 1;", new: "%rd5, 1, 1, 1, 0;", want: wrongValues},
	{what: "A registers swapped", file: "attention.ptx", old: "{%a0, %a1, %a2, %a3}", new: "{%a0, %a2, %a1, %a3}", want: wrongValues},
	{what: "the output is not rescaled", file: "attention.ptx", old: "	mul.f32 %o4, %o4, %c0;      // rescale\n", new: "", want: wrongValues},
	{what: "the row maximum misses two lanes", file: "attention.ptx", old: "	shfl.sync.bfly.b32 %t0, %l0, 2, 31, 0xffffffff;\n	add.f32 %l0, %l0, %t0;\n", new: "", want: wrongValues},
	{what: "ldmatrix without .trans where it is wanted, and the reverse", file: "mma.ptx", old: "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%a0,", new: "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%a0,", want: wrongValues},
	{what: "B fragments in the wrong order", file: "mma.ptx", old: "{%b0, %b1}", new: "{%b1, %b0}", want: wrongValues},

	{what: "a row beyond the matrix", file: "mma.ptx", old: "mul.wide.u32 %rd3, %r2, 64; ", new: "mul.wide.u32 %rd3, %r2, 1000000; ", want: OutOfBounds},
	{what: "a shared address beyond the tile", file: "mma.ptx", old: "xor.b32 %r23, %r22, 10240;", new: "add.u32 %r23, %r22, 10240;", want: OutOfBounds},
	{what: "rows of shared memory that break the alignment of ldmatrix", file: "mma.ptx", old: "80, %r8;", new: "72, %r8;", want: Misaligned},
	{what: "a TMA destination that is not 128-byte aligned", file: "gemm.ptx", old: "add.u32 %r16, %r15, 16384;\n	shl", new: "add.u32 %r16, %r15, 16448;\n	shl", want: Misaligned},
	{what: "a store of two floats at 4-byte alignment", file: "attention.ptx", old: "mul.wide.u32 %rd18, %r14, 8;", new: "mul.wide.u32 %rd18, %r14, 4;", want: Misaligned},
	{what: "an accumulator that is never cleared", file: "mma.ptx", old: "	mov.f32 %f5, 0f00000000;\n", new: "", want: Uninitialised},
	{what: "a tile that is read beyond what was copied", file: "mma.ptx", old: "	cp.async.cg.shared.global [%r20+7680], [%rd5], 16;\n", new: "", want: Uninitialised},
	{what: "an mbarrier that was never initialised", file: "gemm.ptx", old: "	mbarrier.init.shared::cta.b64 [%r4+16], 8;   // consumer warps\n", new: "", want: Barrier},
	{what: "an mbarrier that is initialised twice", file: "gemm.ptx", old: "[%r4+16], 8;", new: "[%r4+8], 8;", want: Barrier},
	{what: "data over an mbarrier", file: "gemm.ptx", old: "	mov.u32 %r8, 0;                   // tile of K", new: "	st.shared.u32 [%r3], %r0;\n	mov.u32 %r8, 0;", want: Barrier},
	{what: "all lanes arrive where the mbarrier counts warps", file: "gemm.ptx", old: "@%p6 mbarrier.arrive.shared::cta.b64 _, [%r13];", new: "mbarrier.arrive.shared::cta.b64 _, [%r13];", want: Deadlock},
	{what: "warps give different counts for a barrier", file: "attention.ptx", old: "bar.sync 1, 128; ", new: "shr.u32 %r30, %r0, 5;\n	and.b32 %r30, %r30, 1;\n	mad.lo.u32 %r30, %r30, 32, 96;\n	bar.sync 1, %r30; ", want: Barrier},
	{what: "a warp exits before a barrier for all", file: "attention.ptx", old: "INIT_DONE:\n	bar.sync 0;", new: "INIT_DONE:\n	setp.ge.u32 %p3, %r0, 96;\n	@%p3 ret;\n	bar.sync 0;", want: Barrier},
	{what: "a tx-count beyond its limit", file: "gemm.ptx", old: "[%r12], 32768;", new: "[%r12], 1048576;", want: TxCount},
	{what: "setmaxnreg.dec to more registers than the warp has", file: "gemm.ptx", old: "setmaxnreg.dec.sync.aligned.u32 40;", new: "setmaxnreg.dec.sync.aligned.u32 176;", want: Registers},
	{what: "warps of a warpgroup ask for different registers", file: "gemm.ptx", old: "	setmaxnreg.dec.sync.aligned.u32 40;", new: "	setp.ge.u32 %p0, %r0, 32;\n	@%p0 bra OTHERS;\n	setmaxnreg.dec.sync.aligned.u32 40;\n	bra SAME;\nOTHERS:\n	setmaxnreg.dec.sync.aligned.u32 32;\nSAME:", want: Registers},
	{what: "shfl with a member mask that names lanes elsewhere", file: "attention.ptx", old: "shfl.sync.bfly.b32 %t0, %l1, 2, 31, 0xffffffff;", new: "shfl.sync.bfly.b32 %t0, %l1, 2, 31, 0x0fffffff;", want: Convergence},
	{what: "the kernel ends while TMA still writes", file: "attention.ptx", old: "EPILOGUE:\n", new: "EPILOGUE:\n	@%p0 bra SKIP;\n	mbarrier.arrive.expect_tx.shared::cta.b64 _, [%r2], 8192;\n	cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%r1], [%rd0, {0, %r5}], [%r2];\nSKIP:\n", want: InFlight},
	{what: "shared memory is written and TMA reads it without fence.proxy.async", file: "exchange.ptx", old: "	fence.proxy.async.shared::cta;\n	@%p1", new: "	@%p1", want: Race},
	{what: "TMA reads shared memory that other warps write, without a barrier", file: "exchange.ptx", old: "%p1 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r8];\n	bar.sync 0;", new: "%p1 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r8];", want: Uninitialised},
	{what: "the result is overwritten while a TMA store reads it", file: "exchange.ptx", old: "	@%p0 cp.async.bulk.wait_group.read 0; ", new: "	// ", want: Race},
	{what: "cp.async.bulk.commit_group is missing", file: "exchange.ptx", old: "	cp.async.bulk.commit_group;\n", new: "", want: Race},
	{what: "the kernel ends while a TMA store reads shared memory", file: "exchange.ptx", old: "	@%p0 cp.async.bulk.wait_group 0;\n", new: "", want: InFlight},
	{what: "no fence behind the init of mbarriers that TMA uses", file: "exchange.ptx", old: "	fence.mbarrier_init.release.cluster;\n	fence.proxy.async.shared::cta;\n", new: "", want: Race},
	{what: "a CTA releases only its own copy of a multicast box", file: "exchange.ptx", old: "	@%p1 mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%r8];\n", new: "", want: Deadlock},
	{what: "empty barriers of a multicast count the warps of one CTA", file: "exchange.ptx", old: "[%r3], 8; ", new: "[%r3], 4; ", want: Race},
	{what: "no cluster barrier behind the init of mbarriers", file: "exchange.ptx", old: "INIT_DONE:\n	barrier.cluster.arrive.release.aligned;\n	barrier.cluster.wait.acquire.aligned;\n", new: "INIT_DONE:\n	bar.sync 0;\n", want: Race},
	{what: "a wait at the cluster barrier without an arrive", file: "exchange.ptx", old: "INIT_DONE:\n	barrier.cluster.arrive.release.aligned;\n", new: "INIT_DONE:\n", want: Barrier},
	{what: "a CTA ends while the other arrives at its mbarriers", file: "exchange.ptx", old: "	barrier.cluster.arrive.release.aligned;     // a CTA must not end while the other may arrive at its mbarriers\n	barrier.cluster.wait.acquire.aligned;\n", new: "", want: OutOfBounds},
	{what: "expect_tx of one of two multicast boxes", file: "exchange.ptx", old: "[%r2], 16384;", new: "[%r2], 8192;", want: Race},
	{what: "a multicast to a CTA that the cluster does not have", file: "exchange.ptx", old: "mov.b16 %mask, 3;", new: "mov.b16 %mask, 7;", want: Operand},
	{what: "mapa of a rank that the cluster does not have", file: "exchange.ptx", old: "%r8, %r3, 1;", new: "%r8, %r3, 2;", want: OutOfBounds},
	{what: "a bound that is one too high", file: "axpb.ptx", old: "setp.ge.u32", new: "setp.gt.u32", want: OutOfBounds},
	{what: "two CTAs write one element", file: "axpb.ptx", old: "mad.lo.u32 %r3, %r1, %r2, %r0;", new: "mad.lo.u32 %r3, %r1, 32, %r0;", want: Race},
	{what: "ld.global.nc of what the kernel wrote", file: "axpb.ptx", old: "	ret;\n}", new: "	ld.global.nc.f32 %f0, [%rd1];\n	ret;\n}", want: Race},
	{what: "a loop that never ends", file: "axpb.ptx", old: "	ret;\n}", new: "FOREVER:\n	bra FOREVER;\n}", want: Livelock},

	{what: "the thread that copies does not wait for the launch ahead", file: "chain.ptx", old: "	griddepcontrol.wait;                    // the thread that copies\n", new: "", want: Dependency},
	{what: "the threads that compute do not wait for the launch ahead", file: "chain.ptx", old: "	griddepcontrol.wait;                    // the threads that compute\n", new: "", want: Dependency},
	{what: "a launch in the middle does not wait, and the next reads what the launch before it wrote", file: "chain.ptx", old: "	@%p0 griddepcontrol.wait;\n", new: "", want: Dependency},
	{what: "rows are copied before griddepcontrol.wait", file: "chain.ptx", old: "	griddepcontrol.wait;                    // the thread that copies\n	cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2+128], [%rd0], 128, [%r3];\n", new: "	cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%r2+128], [%rd0], 128, [%r3];\n	griddepcontrol.wait;\n", want: Dependency},
	{what: "rows are prefetched before griddepcontrol.wait", file: "chain.ptx", old: "prefetch.L2.global [%rd1]", new: "prefetch.L2.global [%rd0]", want: Dependency},
	{what: "rows are loaded before griddepcontrol.wait", file: "chain.ptx", old: "	add.u64 %rd3, %rd3, %rd4;\n", new: "	add.u64 %rd3, %rd3, %rd4;\n	ld.global.f32 %f2, [%rd2];\n", want: Dependency},
	{what: "the result is written before griddepcontrol.wait, where an earlier launch may still read", file: "chain.ptx", old: "	add.u64 %rd3, %rd3, %rd4;\n", new: "	add.u64 %rd3, %rd3, %rd4;\n	mov.f32 %f3, 0f00000000;\n	st.global.f32 [%rd3], %f3;\n", want: Dependency},
	{what: "one CTA waits for the launch ahead, the others do not", file: "chain.ptx", old: "	griddepcontrol.wait;                    // the threads that compute\n", new: "	setp.eq.u32 %p0, %r1, 0;\n	@%p0 griddepcontrol.wait;\n", want: Dependency},
	{what: "one lane waits for the launch ahead, the others do not", file: "chain.ptx", old: "	griddepcontrol.wait;                    // the threads that compute\n", new: "	setp.eq.u32 %p0, %r6, 0;\n	@%p0 griddepcontrol.wait;\n", want: Dependency},
}

// caught runs the text of a kernel until a schedule shows a fault.
func (k testKernel) caught(t *testing.T, text string) (Kind, string) {
	m, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(seeds) {
		e, err := k.run(t, m, seed)
		var r *Report
		if errors.As(err, &r) {
			return r.Kind, r.Error()
		}
		if err != nil {
			t.Fatal(err)
		}
		if !(e <= k.tol) {
			return wrongValues, fmt.Sprintf("relative error %.3g", e)
		}
	}
	return "nothing", ""
}

// caught runs a fault.
func (f fault) caught(t *testing.T) (Kind, string) {
	text := read(t, f.file)
	if !strings.Contains(text, f.old) {
		t.Fatalf("%s does not have %q", f.file, f.old)
	}
	k := testKernels[slices.IndexFunc(testKernels, func(k testKernel) bool { return k.file == f.file })]
	if f.swizzle != 0 {
		k.run = func(t testing.TB, m *Module, seed uint64) (float64, error) { return runGEMM(t, m, seed, f.swizzle-100) }
	}
	return k.caught(t, strings.ReplaceAll(text, f.old, f.new))
}

func TestPlantedFaults(t *testing.T) {
	for _, f := range faults {
		t.Run(f.file+"/"+f.what, func(t *testing.T) {
			if got, msg := f.caught(t); got != f.want {
				t.Errorf("caught as %q, want %q\n%s", got, f.want, msg)
			} else if testing.Verbose() {
				t.Log(msg)
			}
		})
	}
}

// document is where the emulator is described.
const document = "../../../docs/ptx-emulator.md"

// TestFaultsDocument: the document ends with the table of faults. The flag -update rewrites it.
func TestFaultsDocument(t *testing.T) {
	var b strings.Builder
	b.WriteString("| kernel | fault | caught as |\n|---|---|---|\n")
	for _, f := range faults {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimSuffix(f.file, ".ptx"), f.what, f.want)
	}
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	const mark = "`TestPlantedFaults` holds the table.\n\n"
	head, table, ok := strings.Cut(string(text), mark)
	if !ok {
		t.Fatalf("%s has no %q", document, mark)
	}
	if table == b.String() {
		return
	}
	if !*filetest.Update {
		t.Fatalf("the table of %s is not that of the test; rewrite it with -update", document)
	}
	if err := os.WriteFile(document, []byte(head+mark+b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestInstructionsDocument: the document names every instruction and every kind of report.
func TestInstructionsDocument(t *testing.T) {
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	words := strings.FieldsFunc(string(text), func(r rune) bool { return strings.ContainsRune(" `.,;|\n", r) })
	for name := range instructions {
		if !slices.Contains(words, name) {
			t.Errorf("%s does not name the instruction %s", document, name)
		}
	}
	for _, kind := range []Kind{Deadlock, Livelock, Race, Uninitialised, OutOfBounds, Misaligned, WgmmaOrder, InFlight, Barrier, TxCount, Registers, Convergence, Operand, Dependency} {
		if !strings.Contains(string(text), "| "+string(kind)+" |") {
			t.Errorf("%s does not explain %q", document, kind)
		}
		if !slices.ContainsFunc(faults, func(f fault) bool { return f.want == kind }) {
			t.Errorf("no planted fault is caught as %q", kind)
		}
	}
}

// synchronizing are the instructions that order, and waits for what they order.
var synchronizing = regexp.MustCompile(`\b(bar\.|barrier\.|mbarrier\.|fence\.|wgmma\.(fence|commit|wait)|cp\.async\.(commit|wait|bulk\.commit|bulk\.wait)|setmaxnreg|griddepcontrol\.wait|bra WAIT)`)

// harmless are the synchronizing lines that can go from a test kernel without a fault, and why.
var harmless = map[string]string{
	"fence.mbarrier_init.release.cluster;": "the fence.proxy.async behind it does as well",
	"fence.proxy.async.shared::cta;":       "the fence.mbarrier_init before it does as well; the fence before a TMA store has a planted fault",
	"setmaxnreg.inc.sync.aligned.u32 232;": "how many registers a thread uses is for ptxas",
}

// TestEverySynchronization deletes each synchronizing line of each test kernel by itself. Every deletion
// must be caught, unless the table says why it is harmless.
func TestEverySynchronization(t *testing.T) {
	for _, k := range testKernels {
		lines := strings.SplitAfter(read(t, k.file), "\n")
		for i, line := range lines {
			code := strings.TrimSpace(line)
			if !synchronizing.MatchString(line) || strings.HasPrefix(code, "//") {
				continue
			}
			text := strings.Join(lines[:i], "") + "\n" + strings.Join(lines[i+1:], "")
			if kind, _ := k.caught(t, text); kind == "nothing" && harmless[code] == "" {
				t.Errorf("%s: line %d can go and nothing is caught: %s", k.file, i+1, code)
			}
		}
	}
}
