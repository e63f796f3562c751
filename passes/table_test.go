package passes

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/bertc/bertc/internal/filetest"
)

// verbs begin the name of a pass. A new pass with another verb adds it here.
var verbs = []string{"canonicalize", "merge", "smooth", "assign", "form", "choose", "plan"}

func TestTable(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	for i, p := range table {
		verb, _, _ := strings.Cut(p.Name, "-")
		if !name.MatchString(p.Name) || !slices.Contains(verbs, verb) {
			t.Errorf("%q is not a verb and what it is about", p.Name)
		}
		if slices.ContainsFunc(table[:i], func(q Pass) bool { return q.Name == p.Name }) {
			t.Errorf("two passes are called %s", p.Name)
		}
		if len(p.Doc) < 40 || !strings.HasSuffix(p.Doc, ".") || p.Doc[0] < 'A' || p.Doc[0] > 'Z' {
			t.Errorf("%s: the documentation %q is not a sentence", p.Name, p.Doc)
		}
		if p.Run == nil {
			t.Errorf("%s does nothing", p.Name)
		}
	}
}

func TestOrder(t *testing.T) {
	ordered := map[string]bool{}
	for i, o := range order {
		first, then := slices.Index(Names(), o.first), slices.Index(Names(), o.then)
		if first < 0 || then < 0 {
			t.Errorf("%s before %s: no such pass", o.first, o.then)
		}
		if first >= then {
			t.Errorf("%s is not before %s, which it must be: %s", o.first, o.then, o.why)
		}
		if o.why == "" {
			t.Errorf("%s before %s has no reason", o.first, o.then)
		}
		for _, q := range order[:i] {
			if q.first == o.first && q.then == o.then {
				t.Errorf("%s before %s is stated twice", o.first, o.then)
			}
		}
		ordered[o.first], ordered[o.then] = true, true
	}
	for _, name := range Names() {
		if !ordered[name] {
			t.Errorf("%s has no place in the order", name)
		}
	}
}

// TestDocs keeps docs/passes.md current.
func TestDocs(t *testing.T) {
	const path = "../docs/passes.md"
	want := FormatDocs()
	if *filetest.Update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what FormatDocs returns; run go test ./passes -run TestDocs -update", path)
	}
}

// TestPanicIsAnError: a bug in a pass comes back as an error.
func TestPanicIsAnError(t *testing.T) {
	p := Pass{Name: "break", Run: func(*State) error { panic("bug") }}
	if err := runPass(p, &State{}); err == nil || err.Error() != "panic during the pass: bug" {
		t.Errorf("the error is %v", err)
	}
}
