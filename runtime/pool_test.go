package rt

import (
	"context"
	"errors"
	"os"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestNoAllocations(t *testing.T) {
	m := newTestModel(shapes["f32/rmsnorm"], 5)
	ids, offsets := join(m.sequences(5, 40, 3))
	rows := []int32{0, 42}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	call := func(s *Session) {
		if err := s.Encode(ctx, ids, nil, offsets); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Logits(ctx, rows); err != nil {
			t.Fatal(err)
		}
	}
	s := newSession(t, m.open(t, Options{}), SessionOptions{})
	// AllocsPerRun sets GOMAXPROCS to 1, so the helpers are measured apart.
	if n := testing.AllocsPerRun(20, func() { call(s) }); n != 0 {
		t.Errorf("%v allocations in a call", n)
	}
	for range 20 {
		call(s)
	}
	const calls = 50
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range calls {
		call(s)
	}
	runtime.ReadMemStats(&after)
	// The runtime's own goroutines may allocate now and then.
	if n := after.Mallocs - before.Mallocs; n > calls/10 {
		t.Errorf("%d allocations in %d calls with helpers", n, calls)
	}
}

func TestCloseEndsHelpers(t *testing.T) {
	setProcs(t, 4)
	before := runtime.NumGoroutine()
	m := newTestModel(shapes["f32/rmsnorm"], 6)
	model := m.open(t, Options{Threads: 4})
	s := newSession(t, model, SessionOptions{})
	ids, offsets := join(m.sequences(6, 100))
	for range 3 {
		if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
			t.Fatal(err)
		}
	}
	if model.pool.started == 0 {
		t.Error("no helper was started")
	}
	if err := model.Close(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, %d before", runtime.NumGoroutine(), before)
		}
		time.Sleep(time.Millisecond)
	}
	if err := s.Encode(context.Background(), ids, nil, offsets); !errors.Is(err, ErrClosed) {
		t.Errorf("Encode after Close: %v", err)
	}
	if err := model.VerifyWeights(context.Background()); !errors.Is(err, ErrClosed) {
		t.Errorf("VerifyWeights after Close: %v", err)
	}
	if _, err := model.NewSession(SessionOptions{}); !errors.Is(err, ErrClosed) {
		t.Errorf("NewSession after Close: %v", err)
	}
	if err := model.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("Close of the session after the model's: %v", err)
	}
}

// Helpers park when nothing is to be done: no goroutine may spin between calls.
func TestHelpersPark(t *testing.T) {
	setProcs(t, 4)
	m := newTestModel(shapes["f32/rmsnorm"], 7)
	model := m.open(t, Options{Threads: 4})
	s := newSession(t, model, SessionOptions{})
	ids, offsets := join(m.sequences(7, 200))
	if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); model.pool.attached.Load() != 0; {
		if time.Now().After(deadline) {
			t.Fatal("helpers spin")
		}
		time.Sleep(time.Millisecond)
	}
}

// A call whose helpers are held up goes on without them.
func TestProgressWithoutHelpers(t *testing.T) {
	setProcs(t, 2)
	m := newTestModel(shapes["f32/rmsnorm"], 8)
	model := m.open(t, Options{Threads: 2})
	s := newSession(t, model, SessionOptions{})
	var stop atomic.Bool
	defer stop.Store(true)
	for range 4 {
		go func() {
			for !stop.Load() {
			}
		}()
	}
	ids, offsets := join(m.sequences(8, 50))
	for range 3 {
		if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPanicBecomesError(t *testing.T) {
	setProcs(t, 2)
	m := newTestModel(shapes["f32/rmsnorm"], 9)
	tier := portableTier(&m.mod)
	var calls atomic.Int32
	gather := tier.Impls[0].Gather
	tier.Name = "faulty"
	tier.Impls[0].Gather = func(a *GatherArgs) {
		if calls.Add(1) == 2 {
			panic("a defect")
		}
		gather(a)
	}
	m.mod.Tiers = []Tier{tier}
	s := newSession(t, m.open(t, Options{Threads: 2}), SessionOptions{})
	ids, offsets := join(m.sequences(9, 100))
	err := s.Encode(context.Background(), ids, nil, offsets)
	var step ErrStep
	if !errors.As(err, &step) || step.Step != "embed" || step.Cause != "a defect" {
		t.Fatalf("got %v", err)
	}
	if len(s.Hidden()) != 0 {
		t.Error("hidden states after an error")
	}
	if err := s.Encode(context.Background(), ids, nil, offsets); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestTruncatedFileBecomesError(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("other systems do not let a mapped file be cut, or copy it")
	}
	m := newTestModel(shapes["f32/rmsnorm"], 10)
	path := writeFile(t, m.file())
	model, err := Open(&m.mod, path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer model.Close()
	s := newSession(t, model, SessionOptions{})
	if err := os.Truncate(path, headerAlign); err != nil {
		t.Fatal(err)
	}
	ids, offsets := join(m.sequences(10, 100))
	var step ErrStep
	if err := s.Encode(context.Background(), ids, nil, offsets); !errors.As(err, &step) {
		t.Errorf("Encode: got %v", err)
	}
	var weights ErrWeights
	if err := model.VerifyWeights(context.Background()); !errors.As(err, &weights) {
		t.Errorf("VerifyWeights: got %v", err)
	}
}

func TestObserveAndCancel(t *testing.T) {
	m := newTestModel(shapes["bf16/rmsnorm"], 11)
	model := m.open(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	seen := 0
	s := newSession(t, model, SessionOptions{Observe: func(step int, name string, rows int, dst []byte) {
		if step != seen || name != m.mod.Steps[step].Name || rows != 20 || len(dst) != rows*m.mod.Buffers[m.mod.Steps[step].Dst-1].RowBytes {
			t.Errorf("step %d %q: %d rows in %d bytes", step, name, rows, len(dst))
		}
		if seen++; seen == 4 {
			cancel()
		}
	}})
	ids, offsets := join(m.sequences(11, 20))
	if err := s.Encode(ctx, ids, nil, offsets); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if seen != 4 {
		t.Errorf("%d steps ran", seen)
	}
}

// TestSpinTime: a spin ends after spinTime by a clock that is fine enough for it. A hundred spins take 8 ms,
// or 1.5 s where the clock goes on every 15.6 ms.
func TestSpinTime(t *testing.T) {
	start := time.Now()
	for range 100 {
		begin := clock()
		var spin spinner
		for spin.again() {
		}
		if took := clock() - begin; took < spinTime {
			t.Fatalf("a spin took %v, want %v or more", took, spinTime)
		}
	}
	if took := time.Since(start); took > 700*time.Millisecond {
		t.Errorf("100 spins of %v took %v", spinTime, took)
	}
}
