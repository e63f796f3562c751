package bench

// This file owns the ceilings of the machine: a program of loops that is built and run to measure
// them (machine.go.tmpl).

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"text/template"

	"github.com/bertc/bertc/codegen/amd64"
	"github.com/bertc/bertc/internal/hw"
	"github.com/bertc/bertc/internal/pipeline"
	rt "github.com/bertc/bertc/runtime"
)

// Ceiling is what one resource of the machine gives at best.
type Ceiling struct {
	Name    string  `json:"name"`
	Threads int     `json:"threads"`
	Unit    string  `json:"unit"` // GFLOP/s, GOP/s or GB/s
	Value   float64 `json:"value"`
	Runs    int     `json:"runs"`
}

// Machine is the measured ceilings, with what identifies the machine.
type Machine struct {
	CPU      string    `json:"cpu"`
	Go       string    `json:"go"`
	Ceilings []Ceiling `json:"ceilings"`
}

// Best returns the value of a ceiling for so many threads, 0 when it was not measured.
func (m Machine) Best(name string, threads int) float64 {
	for _, c := range m.Ceilings {
		if c.Name == name && c.Threads == threads {
			return c.Value
		}
	}
	return 0
}

//go:embed machine.go.tmpl
var machineSource string

var machineTemplate = template.Must(template.New("machine").Parse(machineSource))

// Threads returns how many goroutines compute when a package is asked for n, as its runtime counts
// them: 0 asks for as many as there are cores.
func Threads(n int) int {
	if n == 0 {
		n = runtime.NumCPU()
	}
	return min(n, runtime.GOMAXPROCS(0))
}

// MeasureMachine builds the loops of the architecture into a program and runs it, on one thread
// and on so many.
func MeasureMachine(ctx context.Context, threads int) (Machine, error) {
	m := Machine{CPU: hw.CPU(), Go: runtime.Version()}
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return m, fmt.Errorf("the ceilings of %s/%s cannot be measured (--no-ceiling leaves them out): there are loops for linux/amd64 only", runtime.GOOS, runtime.GOARCH)
	}
	all, err := amd64.Ceilings()
	if err != nil {
		return m, err
	}
	loops := slices.DeleteFunc(all, func(c amd64.Ceiling) bool { return len(rt.Missing(c.Features...)) > 0 })
	read := slices.IndexFunc(loops, func(c amd64.Ceiling) bool { return c.Work == 0 }) // the widest of them
	if read < 0 {
		return m, fmt.Errorf("the ceilings of this processor cannot be measured: the loops need AVX2")
	}
	dir, err := os.MkdirTemp("", "bertc-machine-*")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	asm := bytes.NewBufferString("#include \"textflag.h\"\n")
	for _, l := range loops {
		asm.WriteString(l.Unit.Asm)
	}
	var main bytes.Buffer
	err = machineTemplate.Execute(&main, map[string]any{"Args": amd64.CeilingArgs, "Loops": loops, "Read": loops[read].Name,
		"Threads": slices.Compact([]int{1, threads})})
	if err != nil {
		return m, err
	}
	for name, data := range map[string][]byte{
		"go.mod": []byte("module machine\n\ngo 1.24\n"), "main.go": main.Bytes(), "loops_amd64.s": asm.Bytes(),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return m, err
		}
	}
	if out, err := pipeline.GoCommand(ctx, dir, dir, "build", "-o", "machine.exe", ".").CombinedOutput(); ctx.Err() != nil {
		return m, ctx.Err()
	} else if err != nil {
		return m, fmt.Errorf("building the measuring program: %w: %s", err, bytes.TrimSpace(out))
	}
	out, err := exec.CommandContext(ctx, filepath.Join(dir, "machine.exe")).Output()
	if ctx.Err() != nil {
		return m, ctx.Err()
	}
	if err != nil {
		return m, fmt.Errorf("the measuring program: %w", err)
	}
	return m, json.Unmarshal(out, &m.Ceilings)
}
