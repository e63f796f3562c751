package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bertc/bertc/checkpoint"
	"github.com/bertc/bertc/graph/bert"
	rt "github.com/bertc/bertc/runtime"
)

// This file runs testdata/load_test.go.txt in generated packages: results, memory and the garbage
// collector while many sessions compute.

// hang is how long the program of a test may take. What it does takes a minute at most, on a busy
// machine some; only a hang takes longer.
const hang = 20 * time.Minute

// loadTest builds the package in dir with the load tests and returns a function that runs one of them.
func loadTest(t *testing.T, dir string) func(t *testing.T, name string, args ...string) {
	test, err := os.ReadFile("testdata/load_test.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "load_test.go"), test, 0o666); err != nil {
		t.Fatal(err)
	}
	// The program is run by itself and not by go test, which would be stopped in its place.
	exe := filepath.Join(dir, "load.exe")
	build := exec.Command("go", "test", "-c", "-o", exe, ".")
	build.Dir = dir
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	checkStoppable(t, exe)
	return func(t *testing.T, name string, args ...string) {
		ctx, cancel := context.WithTimeout(context.Background(), hang)
		defer cancel()
		cmd := exec.CommandContext(ctx, exe, append([]string{"-test.v", "-test.run", "^" + name + "$"}, args...)...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = ctx.Err()
		}
		if t.Logf("%s", out); err != nil {
			t.Error(err)
		}
	}
}

// checkStoppable checks that the functions around kernels, and that of a spin, are there and begin with a
// stack check, which is where Go stops a goroutine (package rt, calls.go).
func checkStoppable(t *testing.T, exe string) {
	out, err := exec.Command("go", "tool", "objdump", "-s", `/internal/rt\.(call[A-Z]|\(\*spinner\)\.again)`, exe).Output()
	if err != nil {
		t.Fatal(err)
	}
	var stoppable []string
	for _, text := range strings.Split(string(out), "TEXT ")[1:] {
		name, _, _ := strings.Cut(text, "(SB)")
		if _, name, _ = strings.Cut(name, "/internal/rt."); strings.Contains(text, "runtime.morestack") {
			stoppable = append(stoppable, name)
		}
	}
	slices.Sort(stoppable)
	if want := []string{"(*spinner).again", "callAttention", "callGather", "callGemm", "callRow"}; !slices.Equal(stoppable, want) {
		t.Errorf("functions with a stack check: %v, want %v", stoppable, want)
	}
}

// TestSoak: many calls of four sessions, of batches of any shape, some cancelled, while the Go
// runtime is kept busy: no wrong bit, no growth.
func TestSoak(t *testing.T) {
	_, dir := compile(t, filepath.Join(root, "models/tiny"), 0)
	run := loadTest(t, dir)
	calls := map[string]int{"": 400, "portable": 40}
	if *long {
		calls = map[string]int{"": 10000, "portable": 1000}
	}
	for tier, n := range calls {
		t.Run("kernels="+tier, func(t *testing.T) {
			run(t, "TestSoak", "-kernels="+tier, "-calls="+strconv.Itoa(n))
		})
	}
}

// TestGCStorm: on every tier the garbage collector gets its turn while all workers run kernels. The
// feed-forward part of the model is as wide as the full size's, so that calls are as long as they
// may be.
func TestGCStorm(t *testing.T) {
	const config = "models/tiny/config.json"
	data, err := os.ReadFile(filepath.Join(root, config))
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	fields["intermediate_size"], fields["num_hidden_layers"] = 4096, 1
	if data, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	c, err := bert.ParseConfig(config, data, nil)
	if err != nil {
		t.Fatal(err)
	}
	wide := filepath.Join(t.TempDir(), "wide")
	err = checkpoint.Init(context.Background(), wide, data, Wants(c), checkpoint.InitOptions{DType: checkpoint.BF16, Std: c.InitializerRange})
	if err != nil {
		t.Fatal(err)
	}
	m, dir := compile(t, wide, 0)
	run := loadTest(t, dir)
	collections := "4"
	if *long {
		collections = "40"
	}
	for _, tier := range tiers(m.DType()) {
		t.Run(tier, func(t *testing.T) {
			if tier == rt.PortableTier {
				if !*long { // its kernels are in Go, which can always be stopped
					t.Skip("SKIP: the portable kernels are left out without -long")
				}
			} else if b, err := Backend(runtime.GOARCH + "/" + tier); err != nil {
				t.Fatal(err)
			} else if !Supported(b.Target()) {
				t.Skipf("SKIP: this machine cannot run %s", tier)
			}
			run(t, "TestGCStorm", "-kernels="+tier, "-collections="+collections)
		})
	}
}
