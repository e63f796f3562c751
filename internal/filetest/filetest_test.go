package filetest

import (
	"errors"
	"testing"
)

const sample = "about\n-- a --\none\ntwo\n-- b --\n-- c d --\nthree\n"

func TestParse(t *testing.T) {
	f := Parse("x", sample)
	if got := f.String(); got != sample {
		t.Errorf("got:\n%s\nwant:\n%s", got, sample)
	}
	for name, want := range map[string]string{"a": "one\ntwo\n", "b": "", "c d": "three\n"} {
		if got := f.Get(t, name); got != want {
			t.Errorf("section %s is %q, want %q", name, got, want)
		}
	}
	if f.Comment != "about\n" || f.section("about") != nil || f.section("b") == nil {
		t.Errorf("got %+v", f)
	}
}

func TestNotASection(t *testing.T) {
	f := Parse("x", "-- a --\n--a--\n-- b\n- c --\n")
	if len(f.Sections) != 1 || f.Get(t, "a") != "--a--\n-- b\n- c --\n" {
		t.Errorf("got %+v", f)
	}
}

func TestWantUpdates(t *testing.T) {
	defer func(old bool) { *Update = old }(*Update)
	*Update = true
	f := Parse("x", sample)
	f.Want(t, "a", "new")
	f.Want(t, "e", "added\n")
	want := "about\n-- a --\nnew\n-- b --\n-- c d --\nthree\n-- e --\nadded\n"
	if got := f.String(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestMark(t *testing.T) {
	const clean = "one\ntwo\n"
	const marked = "one\ntwo ; error: bad thing\n"
	if got := mark(clean, 2, errors.New("bad thing")); got != marked {
		t.Errorf("got %q", got)
	}
	if got := mark(marked, 2, errors.New("bad thing")); got != marked {
		t.Errorf("marking twice: got %q", got)
	}
	if got := mark(marked, 0, nil); got != clean {
		t.Errorf("unmarking: got %q", got)
	}
	if got := mark(marked, 1, errors.New("x")); got != "one ; error: x\ntwo\n" {
		t.Errorf("moving: got %q", got)
	}
}
