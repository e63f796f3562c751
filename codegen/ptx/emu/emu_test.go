package emu

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/num"
)

// seeds are the schedules that each kernel must survive.
const seeds = 4

func mustParse(t testing.TB, text string) *Module {
	t.Helper()
	m, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func read(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// host helps a test to talk to a device.
type host struct {
	t testing.TB
	*Device
}

func newHost(t testing.TB, seed uint64) *host {
	return &host{t, New(Options{Seed: seed})}
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) alloc(n int) uint64 {
	h.t.Helper()
	p, err := h.Alloc(n)
	h.must(err)
	return p
}

// upload copies a slice of fixed-size values to new memory.
func (h *host) upload(v any) uint64 {
	h.t.Helper()
	b, err := binary.Append(nil, binary.LittleEndian, v)
	h.must(err)
	p := h.alloc(len(b))
	h.must(h.CopyIn(p, b))
	return p
}

// download fills a slice.
func (h *host) download(p uint64, v any) {
	h.t.Helper()
	b := make([]byte, binary.Size(v))
	h.must(h.CopyOut(b, p))
	_, err := binary.Decode(b, binary.LittleEndian, v)
	h.must(err)
}

func (h *host) launch(k *Kernel, c Config, values ...any) error {
	h.t.Helper()
	params, err := k.Pack(values...)
	h.must(err)
	return h.Launch(k, c, params)
}

func wantReport(t testing.TB, err error, kind Kind) *Report {
	t.Helper()
	var r *Report
	if !errors.As(err, &r) || r.Kind != kind {
		t.Fatalf("got %v, want a report of %q", err, kind)
	}
	return r
}

// random are reproducible numbers in [-1, 1), as bf16.
func randomBF16(n int, seed uint64) ([]uint16, []float64) {
	r := rng(seed)
	out, vals := make([]uint16, n), make([]float64, n)
	for i := range out {
		out[i] = num.BF16(float32(r.next()>>40)/(1<<23) - 1)
		vals[i] = float64(num.FromBF16(out[i]))
	}
	return out, vals
}

const header = ".version 8.0\n.target sm_90a\n.address_size 64\n"

func TestVectorAdd(t *testing.T) {
	m := mustParse(t, header+`
.visible .entry add(.param .u64 a, .param .u64 b, .param .u64 c, .param .u32 n) {
	.reg .pred %p;
	.reg .u32 %r<6>;
	.reg .u64 %rd<8>;
	.reg .f32 %f<4>;
	mov.u32 %r0, %tid.x;
	mov.u32 %r1, %ctaid.x;
	mov.u32 %r2, %ntid.x;
	mad.lo.u32 %r3, %r1, %r2, %r0;
	ld.param.u32 %r4, [n];
	setp.ge.u32 %p, %r3, %r4;
	@%p ret;
	ld.param.u64 %rd0, [a];
	ld.param.u64 %rd1, [b];
	ld.param.u64 %rd2, [c];
	mul.wide.u32 %rd3, %r3, 4;
	add.u64 %rd4, %rd0, %rd3;
	add.u64 %rd5, %rd1, %rd3;
	add.u64 %rd6, %rd2, %rd3;
	ld.global.f32 %f0, [%rd4];
	ld.global.f32 %f1, [%rd5];
	add.f32 %f2, %f0, %f1;
	st.global.f32 [%rd6], %f2;
	ret;
}`)
	const n = 200
	a, b, c := make([]float32, n), make([]float32, n), make([]float32, n)
	for i := range a {
		a[i], b[i] = float32(i), float32(math.Sqrt(float64(i)))
	}
	h := newHost(t, 1)
	pa, pb, pc := h.upload(a), h.upload(b), h.alloc(4*n)
	k := m.Kernel("add")
	h.must(h.launch(k, Config{Grid: [3]int{4}, Block: [3]int{64}}, pa, pb, pc, uint32(n)))
	h.download(pc, c)
	for i := range c {
		if c[i] != a[i]+b[i] {
			t.Fatalf("c[%d] = %v", i, c[i])
		}
	}
	wantReport(t, h.launch(k, Config{Grid: [3]int{4}, Block: [3]int{64}}, pa, pb, pc, uint32(n+1)), OutOfBounds)
	empty := h.alloc(4 * n)
	r := wantReport(t, h.launch(k, Config{Grid: [3]int{4}, Block: [3]int{64}}, pa, empty, pc, uint32(n)), Uninitialised)
	if !strings.Contains(r.Text, "ld.global.f32 %f1") {
		t.Errorf("the report is about %q", r.Text)
	}
}
