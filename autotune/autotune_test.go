package autotune

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/graph/bert"
	"github.com/bertc/bertc/internal/hw"
	"github.com/bertc/bertc/internal/pipeline"
	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
)

const target = "amd64/avx512f"

var spec = kernel.Spec{Kind: kernel.Gemm, In: ir.F32, Out: ir.F32, Math: ir.F32, Weight: ir.F32, N: 64, K: 64}

func plan(microM, blockM, blockN int) kernel.Plan {
	return kernel.Plan{Kind: kernel.Gemm, Target: target, Inst: "vfmadd231ps", MicroM: microM, MicroN: 32, BlockM: blockM, BlockN: blockN}
}

func line(machine string, p kernel.Plan, tokens int, ns int64, verified bool) string {
	b, _ := json.Marshal(Record{Machine: machine, Target: target, Spec: spec.String(), Plan: p.String(), Tokens: tokens, MedianNS: ns, Verified: verified})
	return string(b) + "\n"
}

func records(t *testing.T, lines ...string) *Records {
	r := &Records{}
	if err := r.add("test", []byte(strings.Join(lines, ""))); err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLookup: the exact machine before the family; the best over all lengths; nothing that was
// not verified, not measured everywhere, or is not legal.
func TestLookup(t *testing.T) {
	a, b, c := plan(4, 8, 1), plan(8, 16, 1), plan(12, 24, 1)
	r := records(t,
		line("X 6-1-1", a, 1, 100, true), line("X 6-1-1", a, 128, 1000, true),
		line("X 6-1-1", b, 1, 110, true), line("X 6-1-1", b, 128, 500, true),
		line("X 6-1-1", c, 1, 1, false), line("X 6-1-1", c, 128, 1, false),
		line("X 6-2-9", a, 1, 50, true), line("X 6-2-9", a, 128, 50, true),
		line("X 6-1-1", plan(9, 18, 1), 1, 1, true),
		line("X 6-1-1", plan(13, 26, 1), 1, 1, true), line("X 6-1-1", plan(13, 26, 1), 128, 1, true),
	)
	for _, tt := range []struct {
		machine string
		want    kernel.Plan
		from    string
		ok      bool
	}{
		{"X 6-1-1", b, "this machine class", true},
		{"X 6-2-9", a, "this machine class", true},
		{"X 6-7-7", a, "same family", true},
		{"X 7-1-1", kernel.Plan{}, "", false},
		{"Y 6-1-1", kernel.Plan{}, "", false},
	} {
		got, from, ok := r.Lookup(spec, target, tt.machine)
		if got != tt.want || ok != tt.ok || !strings.Contains(from, tt.from) {
			t.Errorf("%s: %v from %q, %v; want %v from %q, %v", tt.machine, got, from, ok, tt.want, tt.from, tt.ok)
		}
	}
}

// TestLookupThreads: a plan is not better for having been measured with more threads.
func TestLookupThreads(t *testing.T) {
	a, b := plan(4, 8, 1), plan(8, 16, 1)
	var lines []string
	for _, rec := range []Record{
		{Threads: 1, Plan: a.String(), MedianNS: 100}, {Threads: 1, Plan: b.String(), MedianNS: 200},
		{Threads: 16, Plan: a.String(), MedianNS: 10}, {Threads: 16, Plan: b.String(), MedianNS: 9},
	} {
		rec.Machine, rec.Target, rec.Spec, rec.Tokens, rec.Verified = "X 6-1-1", target, spec.String(), 1, true
		text, _ := json.Marshal(rec)
		lines = append(lines, string(text)+"\n")
	}
	if got, _, _ := records(t, lines...).Lookup(spec, target, "X 6-1-1"); got != a {
		t.Errorf("found %v, want %v: twice as fast on one thread, a ninth slower on 16", got, a)
	}
}

// TestLookupOtherTarget: a kernel set has the plans that were measured for another one, where both have
// the instruction that it would choose, and no others.
func TestLookupOtherTarget(t *testing.T) {
	codes := kernel.Spec{Kind: kernel.Gemm, In: ir.BF16, Out: ir.F32, Math: ir.I8, Weight: ir.I8, N: 64, K: 64}
	bf16 := kernel.Spec{Kind: kernel.Attention, In: ir.BF16, Out: ir.BF16, Math: ir.BF16, Heads: 2, KVHeads: 1, HeadDim: 64, Scale: 0.125}
	norm := kernel.Spec{Kind: kernel.Rowwise, In: ir.F32, Out: ir.F32, K: 64, Prologue: kernel.RMSNorm, Eps: 1e-5}
	r := &Records{}
	for _, rec := range []Record{
		{Target: "amd64/avx512bf16", Spec: codes.String(), Plan: "gemm amd64/avx512bf16 inst=vpdpbusd micro=4x32 block=8x1", MedianNS: 100},
		{Target: "amd64/avx512bf16", Spec: codes.String(), Plan: "gemm amd64/avx512bf16 inst=vpdpbusd micro=8x32 block=8x1", MedianNS: 200},
		{Target: "amd64/avx512f", Spec: codes.String(), Plan: "gemm amd64/avx512f inst=vpmaddwd micro=8x32 block=8x1", MedianNS: 1},
		{Target: "amd64/avx512bf16", Spec: bf16.String(), Plan: "attention amd64/avx512bf16 inst=vdpbf16ps micro=8x32 block=64x64", MedianNS: 1},
		{Target: "amd64/avx512bf16", Spec: norm.String(), Plan: "rowwise amd64/avx512bf16 block=8x0", MedianNS: 1},
		{Target: "amd64/avx512f", Spec: norm.String(), Plan: "rowwise amd64/avx512f block=16x0", MedianNS: 2},
	} {
		rec.Machine, rec.Threads, rec.Tokens, rec.Verified = "X 6-1-1", 1, 1, true
		r.list = append(r.list, rec)
	}
	for _, tt := range []struct {
		s            kernel.Spec
		target, want string // "": none
	}{
		{codes, "amd64/avx512vnni", "gemm amd64/avx512vnni inst=vpdpbusd micro=4x32 block=8x1"},
		{codes, "amd64/avx512f", "gemm amd64/avx512f inst=vpmaddwd micro=8x32 block=8x1"},
		{codes, "amd64/amx", ""},  // has vpdpbusd, would choose tdpbssd
		{codes, "amd64/avx2", ""}, // has a vpmaddwd of other width
		{bf16, "amd64/avx512vnni", ""},
		{norm, "amd64/avx512vnni", "rowwise amd64/avx512vnni block=8x0"},
		{norm, "amd64/avx512f", "rowwise amd64/avx512f block=16x0"}, // its own comes first
		{norm, "amd64/avx2", ""},
		{norm, "arm64/neon", ""},
	} {
		plan, from, ok := r.Lookup(tt.s, tt.target, "X 6-1-1")
		if ok != (tt.want != "") || ok && plan.String() != tt.want {
			t.Errorf("%s, %s: %s from %q, want %q", tt.target, tt.s, plan, from, tt.want)
		}
	}
}

func TestRecordErrors(t *testing.T) {
	for text, want := range map[string]string{
		"{}\n": "test:1: ",
		line("X", plan(4, 8, 1), 1, 1, true) + "x\n": "test:2: not a tuning record",
		strings.Repeat("x", 2<<20):                   "test:1: not a tuning record",
	} {
		if err := (&Records{}).add("test", []byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", text, err, want)
		}
	}
}

// TestBuiltin: the records that ship parse, and every plan that they choose is legal.
func TestBuiltin(t *testing.T) {
	r, err := Builtin()
	if err != nil {
		t.Fatal(err)
	}
	for _, rec := range r.list {
		s, err := kernel.ParseSpec(rec.Spec)
		if err != nil {
			t.Errorf("%s: %v", rec.Spec, err)
			continue
		}
		p, err := kernel.ParsePlan(rec.Plan)
		if err == nil {
			err = kernel.Check(s, p)
		}
		if err != nil {
			t.Errorf("%s: %v", rec.Plan, err)
		}
	}
}

func TestCandidates(t *testing.T) {
	got := Candidates(spec, target, 5)
	best, _ := kernel.Choose(spec, target)
	if len(got) != 5 || got[0] != best {
		t.Errorf("candidates %v, want 5 that begin with %v", got, best)
	}
	for i := 1; i < len(got); i++ {
		if kernel.Cost(spec, got[i]) < kernel.Cost(spec, got[i-1]) {
			t.Errorf("candidate %d is cheaper than the one before", i)
		}
	}
}

// TestTune tunes one kernel of a model of two small layers and looks the plans up.
func TestTune(t *testing.T) {
	tt, _ := kernel.LookupTarget(target)
	if !pipeline.Supported(tt) {
		t.Skipf("SKIP: this machine cannot run %s", target)
	}
	file := "../testdata/variants/rms_rope_mqa_bias/config.json"
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := bert.ParseConfig(file, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	err = Tune(context.Background(), data, cfg, Options{
		Target: target, Math: ir.BF16, Spec: "qkv", Candidates: 3, Tokens: []int{1, 20}, Rounds: 3,
	}, &out)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "records.jsonl")
	os.WriteFile(path, out.Bytes(), 0o644)
	r := &Records{}
	if err := r.AddFile(path); err != nil {
		t.Fatal(err)
	}
	if len(r.list) != 6 {
		t.Fatalf("%d records, want 3 plans at 2 lengths:\n%s", len(r.list), out.String())
	}
	for _, rec := range r.list {
		if !rec.Verified || len(rec.Samples) != 3 {
			t.Errorf("record %+v", rec)
		}
	}
	specs := r.Specs(target)
	if len(specs) != 1 {
		t.Fatalf("specs %v", specs)
	}
	if _, from, ok := r.Lookup(specs[0], target, hw.Fingerprint()); !ok {
		t.Errorf("no plan, from %q", from)
	}
}
