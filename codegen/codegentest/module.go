package codegentest

import (
	"bufio"
	_ "embed"
	"encoding/gob"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/bertc/bertc/codegen"
	"github.com/bertc/bertc/kernel"
)

// This file owns the conformance program: a Go module of all emitted kernels and a small main
// that calls them, built once and fed with jobs through a pipe.

//go:embed runner/main.go.txt
var runnerMain string

// word, call, job and result are the types of the same names in runner/main.go.txt; gob matches
// their fields by name.
type word struct {
	Buffer int
	Value  int64
}

type call struct {
	Func  int
	Words []word
}

type job struct {
	Buffers [][]byte
	Calls   []call
}

type result struct{ Buffers [][]byte }

// module collects kernels for one program.
type module struct {
	target *kernel.Target
	asm    strings.Builder
	stubs  strings.Builder
	table  strings.Builder
	count  int
}

func newModule(t *kernel.Target) *module {
	m := &module{target: t}
	m.asm.WriteString("#include \"textflag.h\"\n")
	m.stubs.WriteString("package main\n\nimport (\n\t\"unsafe\"\n\n\t\"conformance/rt\"\n)\n")
	m.table.WriteString("\nvar funcs = []func(unsafe.Pointer){\n")
	return m
}

// add appends the functions of a unit and returns the number of each, by role.
func (m *module) add(u codegen.Unit) map[string]int {
	m.asm.WriteString("\n" + u.Asm)
	ids := map[string]int{}
	for _, f := range u.Funcs {
		fmt.Fprintf(&m.stubs, "\n//go:noescape\nfunc %s(a *rt.%s)\n", f.Name, f.Args)
		fmt.Fprintf(&m.table, "\tfunc(p unsafe.Pointer) { %s((*rt.%s)(p)) },\n", f.Name, f.Args)
		ids[f.Role] = m.count
		m.count++
	}
	return ids
}

// repoRoot returns the directory of the go.mod above the working directory.
func repoRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if up := filepath.Dir(dir); up != dir {
			dir = up
			continue
		}
		return "", fmt.Errorf("no go.mod above the working directory")
	}
	return "", err
}

// build writes the module to dir, runs the go commands in it, and returns the path of the program.
func (m *module) build(dir string, commands ...[]string) (string, error) {
	root, err := repoRoot()
	if err != nil {
		return "", err
	}
	args, err := os.ReadFile(filepath.Join(root, "runtime", "args.go"))
	if err != nil {
		return "", err
	}
	suffix := ""
	if m.target.GOARCH != "" {
		suffix = "_" + m.target.GOARCH
	}
	files := map[string]string{
		"go.mod":                  "module conformance\n\ngo 1.26\n",
		"rt/args.go":              string(args),
		"main.go":                 runnerMain,
		"funcs" + suffix + ".go":  m.stubs.String() + m.table.String() + "}\n",
		"kernels" + suffix + ".s": m.asm.String(),
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	for _, args := range commands {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=mod", "CGO_ENABLED=0", "GOOS=linux")
		if m.target.GOARCH != "" {
			cmd.Env = append(cmd.Env, "GOARCH="+m.target.GOARCH)
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
	}
	return filepath.Join(dir, "conformance"), nil
}

// vetProgram checks the assembly against its stubs; buildProgram links the program.
var (
	vetProgram   = []string{"vet", "-asmdecl", "./..."}
	buildProgram = []string{"build", "-o", "conformance", "."}
)

// program is a running conformance program.
type program struct {
	enc *gob.Encoder
	dec *gob.Decoder
}

// start runs the program until the test ends.
func start(t testing.TB, cmd *exec.Cmd) *program {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("conformance program: %v", err)
		}
	})
	return &program{enc: gob.NewEncoder(in), dec: gob.NewDecoder(bufio.NewReaderSize(out, 1<<20))}
}

// run does one job.
func (p *program) run(t testing.TB, j *job) result {
	t.Helper()
	var r result
	if err := p.enc.Encode(j); err != nil {
		t.Fatalf("conformance program: %v", err)
	}
	if err := p.dec.Decode(&r); err != nil {
		t.Fatalf("conformance program: %v", err)
	}
	return r
}
