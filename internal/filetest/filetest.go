// Package filetest owns tests written as text files. It imports only the
// standard library.
//
// A file is a comment followed by sections, each introduced by a line
// "-- name --". A test computes the text of some sections from others and
// calls Want; with the flag -update, Want rewrites the file instead of
// failing. An expected error stands in a comment at the end of the offending
// line, "; error: message"; see WantError.
//
// Start reading at Run.
package filetest

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Update is the flag -update: rewrite expected results instead of failing.
var Update = flag.Bool("update", false, "rewrite the expected results in test files")

// Section is one named part of a file. Text ends with a newline unless empty.
type Section struct {
	Name, Text string
}

// File is a test file.
type File struct {
	Path     string
	Comment  string
	Sections []Section
}

// Parse splits text into sections.
func Parse(path, text string) *File {
	f := &File{Path: path}
	into := &f.Comment
	for line := range strings.Lines(text) {
		if name, ok := sectionName(line); ok {
			f.Sections = append(f.Sections, Section{Name: name})
			into = &f.Sections[len(f.Sections)-1].Text
			continue
		}
		*into += line
	}
	return f
}

func sectionName(line string) (string, bool) {
	name, ok := strings.CutPrefix(strings.TrimRight(line, " \r\n"), "-- ")
	if !ok {
		return "", false
	}
	name, ok = strings.CutSuffix(name, " --")
	return strings.TrimSpace(name), ok
}

// String returns the text of the file, which Parse reads back.
func (f *File) String() string {
	var b strings.Builder
	b.WriteString(endLine(f.Comment))
	for _, s := range f.Sections {
		b.WriteString("-- " + s.Name + " --\n" + endLine(s.Text))
	}
	return b.String()
}

// endLine returns s with a newline at its end unless it is empty.
func endLine(s string) string {
	if s == "" || strings.HasSuffix(s, "\n") {
		return s
	}
	return s + "\n"
}

// section returns the section with the given name, or nil.
func (f *File) section(name string) *Section {
	for i := range f.Sections {
		if f.Sections[i].Name == name {
			return &f.Sections[i]
		}
	}
	return nil
}

// Get returns the text of a section, and fails the test when there is none.
func (f *File) Get(t *testing.T, name string) string {
	t.Helper()
	s := f.section(name)
	if s == nil {
		t.Fatalf("%s: no section %q", f.Path, name)
	}
	return s.Text
}

// Want fails the test when the named section is not got. With -update it
// replaces or adds the section instead, and Run writes the file.
func (f *File) Want(t *testing.T, name, got string) {
	t.Helper()
	got = endLine(got)
	s := f.section(name)
	switch {
	case s != nil && s.Text == got:
	case !*Update && s == nil:
		t.Errorf("%s: no section %q; got:\n%s", f.Path, name, got)
	case !*Update:
		t.Errorf("%s: section %q: got:\n%s\nwant:\n%s", f.Path, name, got, s.Text)
	case s == nil:
		f.Sections = append(f.Sections, Section{name, got})
	default:
		s.Text = got
	}
}

// errorMark starts an expected error. It is a comment in bertc's text forms.
const errorMark = "; error: "

// WantError fails the test unless the named section marks exactly the error
// err, at the given line (from 1). A nil err wants no mark. With -update the
// mark is rewritten.
func (f *File) WantError(t *testing.T, name string, line int, err error) {
	t.Helper()
	f.Want(t, name, mark(f.Get(t, name), line, err))
}

// Unmark returns text without error marks, as the code under test should see it.
func Unmark(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if clean, _, ok := strings.Cut(line, errorMark); ok {
			line = strings.TrimRight(clean, " ") + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// mark returns text with err as its only error mark, at the end of the line.
func mark(text string, line int, err error) string {
	lines := slices.Collect(strings.Lines(Unmark(text)))
	if err != nil {
		if lines == nil {
			lines = []string{""}
		}
		i := min(max(line, 1), len(lines)) - 1
		lines[i] = strings.TrimRight(lines[i], " \n") + " " + errorMark + err.Error() + "\n"
	}
	return strings.Join(lines, "")
}

// Run runs test on each file that matches the pattern, as a subtest, and
// fails when there is none. With -update, files that the test changed are
// written back.
func Run(t *testing.T, pattern string, test func(t *testing.T, f *File)) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("no file matches %s (%v)", pattern, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			f := Parse(path, string(text))
			test(t, f)
			if *Update && !t.Failed() && f.String() != string(text) {
				if err := os.WriteFile(path, []byte(f.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}
