package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rules says what a package may import beyond the standard library, in files that are not tests:
// packages of this module, and other modules. A package that is not here may not exist, and what is
// allowed is used.
const rules = `
internal/num:           -
internal/nearest:       -
internal/filetest:      -
internal/hw:            -
internal/staging:       -
internal/arch:          -
internal/amxemu:        -
internal/amxtest:       runtime
models:                 -
runtime:                -
tokenizer:              -
heads:                  -
quant:                  -

ir:                     internal/num
ir/irtest:              ir, internal/num
kernel:                 ir, internal/num
program:                kernel, ir, internal/num
passes:                 program, kernel, ir, quant
graph/bert:             ir
tokenizer/hf:           tokenizer
checkpoint:             program, kernel, ir, internal/num, internal/nearest, internal/staging, golang.org/x/sys, golang.org/x/exp

runtime/cuda:           runtime, C
codegen:                kernel
codegen/amd64:          codegen, kernel, ir, runtime, github.com/mmcloughlin/avo
codegen/arm64:          codegen, kernel, ir, runtime
codegen/ptx:            kernel, ir, runtime/cuda
codegen/ptx/emu:        internal/num
codegen/ptx/emulator:   codegen/ptx/emu, runtime/cuda
codegen/codegentest:    codegen, kernel, ir, internal/num, internal/amxtest, runtime
emit:                   program, kernel, ir, codegen, runtime, runtime/cuda, tokenizer, heads

internal/html:          program
internal/pipeline:      *, golang.org/x/mod
internal/job:           checkpoint, internal/nearest, internal/staging
internal/metrics:       -
internal/jglue:         internal/metrics
internal/gpucheck:      codegen/ptx, internal/pipeline, checkpoint, graph/bert, kernel, ir, internal/num, runtime, runtime/cuda
internal/diff:          internal/pipeline, checkpoint, passes, program, kernel, ir, internal/num
internal/calibrate:     internal/pipeline, internal/verify, checkpoint, program, kernel, ir, quant
internal/verify:        internal/pipeline, graph/bert, program, ir, tokenizer, internal/num
internal/bench:         internal/pipeline, internal/hw, codegen/amd64, program, kernel, runtime
autotune:               internal/pipeline, internal/bench, internal/gpucheck, internal/hw, internal/num, checkpoint, emit, graph/bert, program, kernel, ir, runtime, runtime/cuda

cmd/bertc:              *, github.com/spf13/cobra, github.com/spf13/pflag, github.com/vbauerster/mpb, golang.org/x/term
examples/numerics:      checkpoint, internal/num
`

const module = "github.com/bertc/bertc"

// root is the directory of the module.
const root = "../.."

// file is a parsed Go file of the module.
type file struct {
	path string // relative to root, with slashes
	pkg  string // its directory
	ast  *ast.File
	test bool
}

// files parses every Go file of the module, whatever its build constraints. Directories that Go
// ignores, and modules inside this one, are left out.
func files(t *testing.T) []file {
	t.Helper()
	var out []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := d.Name()
			if name != root && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && name != root {
				return filepath.SkipDir
			}
			return nil
		}
		if filepath.Ext(name) != ".go" {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		rel = filepath.ToSlash(rel)
		out = append(out, file{rel, path.Dir(rel), f, strings.HasSuffix(rel, "_test.go")})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// parseRules reads the table.
func parseRules(text string) (map[string][]string, error) {
	allowed := map[string][]string{}
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		pkg, list, ok := strings.Cut(line, ":")
		if _, twice := allowed[pkg]; !ok || twice {
			return nil, fmt.Errorf("%q is not a new package and what it may import", line)
		}
		allowed[pkg] = strings.Split(strings.TrimSpace(list), ", ")
	}
	return allowed, nil
}

// mayImport reports whether a package with these rules may import the path.
func mayImport(allowed []string, imported string) bool {
	if imported != "C" && !strings.Contains(strings.Split(imported, "/")[0], ".") {
		return true // the standard library
	}
	return slices.ContainsFunc(allowed, func(a string) bool { return permits(a, imported) })
}

// permits reports whether one rule allows an import that is not of the standard library.
func permits(rule, imported string) bool {
	if strings.HasPrefix(imported, module+"/") {
		return rule == "*" || imported == module+"/"+rule
	}
	return imported == rule || strings.HasPrefix(imported, rule+"/")
}

func TestImports(t *testing.T) {
	allowed, err := parseRules(rules)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	used := map[string]map[string]bool{} // rules by package
	for _, f := range files(t) {
		list, ok := allowed[f.pkg]
		if !ok && !seen[f.pkg] {
			t.Errorf("package %s is not in the rules", f.pkg)
		}
		if !seen[f.pkg] {
			seen[f.pkg], used[f.pkg] = true, map[string]bool{"-": true}
		}
		if !ok || f.test {
			continue
		}
		for _, i := range f.ast.Imports {
			imported, _ := strconv.Unquote(i.Path.Value)
			if !mayImport(list, imported) {
				t.Errorf("%s imports %s; %s may import %s", f.path, imported, f.pkg, strings.Join(list, ", "))
			}
			for _, rule := range list {
				used[f.pkg][rule] = used[f.pkg][rule] || permits(rule, imported)
			}
		}
	}
	for pkg, list := range allowed {
		if !seen[pkg] {
			t.Errorf("the rules have a package %s, which does not exist", pkg)
			continue
		}
		for _, rule := range list {
			if !used[pkg][rule] {
				t.Errorf("%s may import %s and does not", pkg, rule)
			}
		}
	}
}

// TestMayImport: the rules above can be broken.
func TestMayImport(t *testing.T) {
	for _, c := range []struct {
		allowed, imported string
		want              bool
	}{
		{"-", "fmt", true},
		{"-", "net/http", true},
		{"*", "C", false},
		{"C", "C", true},
		{"-", module + "/ir", false},
		{"ir", module + "/ir", true},
		{"ir", module + "/ir/irtest", false},
		{"*", module + "/ir", true},
		{"*", "golang.org/x/term", false},
		{"golang.org/x/term", "golang.org/x/term", true},
		{"golang.org/x/sys", "golang.org/x/sys/unix", true},
		{"github.com/mmcloughlin/avo", "github.com/mmcloughlin/avocado", false},
	} {
		if got := mayImport([]string{c.allowed}, c.imported); got != c.want {
			t.Errorf("with %q allowed, %s may be imported: %v", c.allowed, c.imported, got)
		}
	}
}

// TestPackageComments: every package says in two sentences or more what it is.
func TestPackageComments(t *testing.T) {
	comments := map[string]string{}
	names := map[string]string{}
	for _, f := range files(t) {
		if f.test {
			continue
		}
		names[f.pkg] = f.ast.Name.Name
		if f.ast.Doc != nil {
			if comments[f.pkg] != "" {
				t.Errorf("%s has a second package comment", f.path)
			}
			comments[f.pkg] = f.ast.Doc.Text()
		}
	}
	for pkg, name := range names {
		want := "Package " + name + " "
		if name == "main" {
			want = "Command " + path.Base(pkg) + " "
		}
		text := comments[pkg]
		if !strings.HasPrefix(text, want) {
			t.Errorf("the comment of package %s is %q, want it to begin with %q", pkg, text, want)
		}
		if sentences := regexp.MustCompile(`[.:](\s|$)`).FindAllString(text, -1); len(sentences) < 2 {
			t.Errorf("the comment of package %s is shorter than two sentences: %q", pkg, text)
		}
	}
}

// TestNothingIsLeftForLater: no comment asks for work that is still to be done.
func TestNothingIsLeftForLater(t *testing.T) {
	later := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XXX|HACK)\b`)
	for _, f := range files(t) {
		for _, c := range f.ast.Comments {
			if word := later.FindString(c.Text()); word != "" {
				t.Errorf("%s has a %s", f.path, word)
			}
		}
	}
}
