//go:build cuda && cgo && linux

package cuda

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"testing"
)

// This file has the tests that TestBinding (binding_test.go) runs with the mock driver.

const mockPTX = ".version 8.0\n.visible .entry one(\n\t.param .u64 a,\n\t.param .u32 n,\n\t.param .align 64 .b8 m[128]\n)\n{\n}\n"

// open opens the mock, or skips where the driver is not the mock.
func openMock(t *testing.T) Driver {
	t.Helper()
	if os.Getenv("CUDA_MOCK_LOG") == "" {
		t.Skip("SKIP: TestBinding runs this with the mock driver")
	}
	d, err := OpenDriver()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// hash is what the mock writes of bytes.
func hash(text string) string {
	h := fnv.New64a()
	h.Write([]byte(text))
	return fmt.Sprintf("%016x", h.Sum64())
}

// TestDriverCalls makes every call and compares what reaches the driver.
func TestDriverCalls(t *testing.T) {
	d := openMock(t)
	if want := (DeviceInfo{Name: "Mock H100", Major: 9, Minor: 0, SMs: 4, Memory: 1 << 32, Driver: 12080}); d.Info() != want {
		t.Errorf("the device is %+v, want %+v", d.Info(), want)
	}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(d.Load(mockPTX))
	f := must(d.Function("one", 1000))
	if _, err := d.Function("two", 0); err == nil || !strings.Contains(err.Error(), "entry two: cuModuleGetFunction") {
		t.Errorf("a missing entry: %v", err)
	}
	memory := must(d.Alloc(100, 300))
	const base = 0x700000000000
	if memory[0] != base || memory[1] != base+256 {
		t.Errorf("memory at %#x", memory)
	}
	check(d.Upload(memory[0], []byte("abc")))
	tensor := must(d.EncodeTiled(TensorMap{Address: memory[1], Dims: []uint64{64, 3, 7}, Strides: []uint64{128, 384}, Box: []uint32{32, 2, 5}, Swizzle: 64}))
	must(d.EncodeTiled(TensorMap{Address: memory[0], F32: true, Dims: []uint64{4, 5}, Strides: []uint64{16}, Box: []uint32{4, 1}, Swizzle: 128}))
	host := must(d.HostAlloc(40))
	s := must(d.NewStream())
	copy(host, "input")
	check(s.CopyIn(memory[1], host[:5]))
	back := make([]byte, 5)
	check(s.CopyOut(back, memory[1]))
	if !bytes.Equal(back, host[:5]) {
		t.Errorf("%q came back", back)
	}
	params := binary.LittleEndian.AppendUint64(nil, uint64(memory[1]))
	params = binary.LittleEndian.AppendUint32(params, 77)
	params = append(append(params, make([]byte, 64-len(params))...), tensor[:]...)
	launch := func(l LaunchSize) error { return s.Launch(f, l, params, []int{0, 8, 64}) }
	check(launch(LaunchSize{Grid: 12, Threads: 384, Shared: 1000}))
	g := must(s.Capture(func() error { return launch(LaunchSize{Grid: 4, Threads: 32, Cluster: 2, Dependent: true}) }))
	check(s.LaunchGraph(g))
	check(s.Sync())
	check(s.FreeGraph(g))
	if _, err := s.Capture(func() error { return fmt.Errorf("no launch") }); err == nil || err.Error() != "no launch" {
		t.Errorf("a capture that fails: %v", err)
	}
	if err := s.Launch(f, LaunchSize{}, params, make([]int, 65)); err == nil {
		t.Error("65 parameters are launched")
	}
	check(s.Close())
	check(d.HostFree(host))
	check(d.Free(memory))
	check(d.Close())

	packed := "0001000000700000 4d000000 " + strings.Repeat("00", 128)
	want := []string{
		"function one attribute 8 = 1000",
		"alloc 768",
		"memset 0x700000000000 0 768", "wait",
		"upload 0x700000000000 3 " + hash("abc"), "wait",
		"map 0 type 9 rank 3 at 0x700000000100 dims 64 3 7 strides 128 384 box 32 2 5 steps 1 1 1 interleave 0 swizzle 2 l2 3 fill 0",
		"map 1 type 7 rank 2 at 0x700000000000 dims 4 5 strides 16 box 4 1 steps 1 1 interleave 0 swizzle 3 l2 3 fill 0",
		"host 40",
		"stream 1",
		"in 0x700000000100 5 " + hash("input"),
		"out 0x700000000100 5 " + hash("input"),
		"launch one grid 12,1,1 block 384,1,1 shared 1000 cluster 0 policy 0 dependent 0 params " + packed,
		"capture mode 2",
		"node one grid 4,1,1 block 32,1,1 shared 0 cluster 2 policy 1 dependent 1 params " + packed,
		"captured",
		"graph done",
		"graph 1",
		"sync",
		"graph free 1",
		"capture mode 2",
		"captured",
		"graph done",
		"free 0x700000000000",
		"unload",
		"release",
	}
	log, err := os.ReadFile(os.Getenv("CUDA_MOCK_LOG"))
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSpace(string(log)), "\n")
	for i := range max(len(got), len(want)) {
		var a, b string
		if i < len(got) {
			a = got[i]
		}
		if i < len(want) {
			b = want[i]
		}
		if a != b {
			t.Errorf("call %d is %q, want %q", i, a, b)
		}
	}
}

// TestNoHeap: the calls of a step make no heap objects.
func TestNoHeap(t *testing.T) {
	d := openMock(t)
	if err := d.Load(mockPTX); err != nil {
		t.Fatal(err)
	}
	f, memory, host, s := must(d.Function("one", 0)), must(d.Alloc(64)), must(d.HostAlloc(64)), must(d.NewStream())
	params, offsets := make([]byte, 192), []int{0, 8, 64}
	launch := func() error { return s.Launch(f, LaunchSize{Grid: 1, Threads: 32, Cluster: 2}, params, offsets) }
	g := must(s.Capture(launch))
	n := testing.AllocsPerRun(5, func() {
		for _, err := range [...]error{s.CopyIn(memory[0], host), launch(), s.LaunchGraph(g), s.CopyOut(host, memory[0]), s.Sync()} {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	if n != 0 {
		t.Errorf("%v heap objects", n)
	}
}

// TestNoDriver: where no device can be used, one sentence says why, and the process goes on.
func TestNoDriver(t *testing.T) {
	want := os.Getenv("WANT")
	if want == "" {
		t.Skip("SKIP: TestBinding runs this with the mock driver")
	}
	if _, err := OpenDriver(); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestFailedAlloc: memory that cannot be zeroed is given back.
func TestFailedAlloc(t *testing.T) {
	d := openMock(t)
	if p, err := d.Alloc(300); err == nil {
		t.Errorf("memory at %#x", p)
	}
	log := must(os.ReadFile(os.Getenv("CUDA_MOCK_LOG")))
	if want := "alloc 512\nfree 0x700000000000\n"; string(log) != want {
		t.Errorf("the driver saw %q, want %q", log, want)
	}
}

// TestFailedCapture: the error is that of the launch which failed, not that of the capture it broke.
func TestFailedCapture(t *testing.T) {
	s := must(openMock(t).NewStream())
	if _, err := s.Capture(func() error { return fmt.Errorf("no launch") }); err == nil || err.Error() != "no launch" {
		t.Errorf("a launch fails: %v", err)
	}
	_, err := s.Capture(func() error { return nil })
	if want := "cuStreamEndCapture: CUDA_ERROR_MOCK (901), the mock was told to fail"; err == nil || err.Error() != want {
		t.Errorf("the capture fails: %v, want %s", err, want)
	}
}

// TestFailedCall: errors name the call, and have the driver's text.
func TestFailedCall(t *testing.T) {
	d := openMock(t)
	err := d.Load(mockPTX)
	if err == nil {
		_, err = d.Alloc(300)
	}
	if err == nil {
		var s Stream
		if s, err = d.NewStream(); err == nil {
			err = s.Sync()
		} else if s != nil {
			t.Error("a stream beside an error")
		}
	}
	if want := os.Getenv("WANT"); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}
