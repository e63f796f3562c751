package ir_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bertc/bertc/internal/filetest"
	"github.com/bertc/bertc/ir"
)

func TestTableIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, op := range ir.Ops() {
		if seen[op.Name] || ir.Lookup(op.Name) != op {
			t.Errorf("%s is in the table twice", op.Name)
		}
		seen[op.Name] = true
		if !strings.HasSuffix(op.Doc, ".") {
			t.Errorf("%s: doc %q is not a paragraph of sentences", op.Name, op.Doc)
		}
		if _, err := os.Stat(filepath.Join("testdata/ops", op.Name+".txt")); err != nil {
			t.Errorf("%s has no file in testdata/ops", op.Name)
		}
		// The evaluator itself defines what is outside of the table.
		special := op.Name == "input" || op.Name == "weight" || op.Kind == ir.Group
		semantics := 0
		if op.Eval != nil {
			semantics++
		}
		if op.Decompose != nil {
			semantics++
		}
		if want := map[bool]int{true: 0, false: 1}[special]; semantics != want {
			t.Errorf("%s has %d definitions, want %d", op.Name, semantics, want)
		}
		if (op.Infer == nil) != special {
			t.Errorf("%s: Infer is set: %v", op.Name, op.Infer != nil)
		}
		if (op.Decompose != nil) != (op.Kind == ir.Composite) {
			t.Errorf("%s: a composite is what has a decomposition", op.Name)
		}
		if n := len(op.Args); op.MaxArgs >= 0 && n != op.MaxArgs {
			t.Errorf("%s names %d arguments, takes up to %d", op.Name, n, op.MaxArgs)
		}
		if op.Kind == ir.Source && op.MaxArgs != 0 {
			t.Errorf("%s is a source with arguments", op.Name)
		}
		if op.Elementwise && !op.RowLocal {
			t.Errorf("%s is elementwise but not row-local", op.Name)
		}
	}
	if ir.Lookup("nothing") != nil {
		t.Error("Lookup finds an op that does not exist")
	}
}

func TestDocs(t *testing.T) {
	const path = "../docs/ops.md"
	want := ir.FormatDocs()
	if *filetest.Update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, string(got)); d != "" {
		t.Errorf("docs/ops.md is not current (rewrite it with -update):\n%s", d)
	}
}
