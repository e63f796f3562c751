package staging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

func put(t *testing.T, dir, text string) {
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// pathNotFound is how the system says that the directory of path is missing.
func pathNotFound(path string) string {
	_, err := os.Stat(path)
	return ": " + errors.Unwrap(err).Error()
}

// TestFile: the new file takes the place of the old one, which stays when writing fails; errors have
// the name that was asked for.
func TestFile(t *testing.T) {
	dir := t.TempDir()
	path, fail := filepath.Join(dir, "f"), errors.New("fail")
	for _, c := range []struct {
		text, want string
		err        error
	}{{"1", "1", nil}, {"2", "2", nil}, {"3", "2", fail}} {
		err := File(path, func(f *os.File) error {
			if _, err := f.WriteString(c.text); err != nil {
				return err
			}
			return c.err
		})
		if data, _ := os.ReadFile(path); err != c.err || string(data) != c.want {
			t.Errorf("%s: found %q, %v", c.text, data, err)
		}
	}
	if err := CheckFile(path); err != nil {
		t.Error(err)
	}
	full := func(f *os.File) error { return &os.PathError{Op: "write", Path: f.Name(), Err: syscall.ENOSPC} }
	missing := filepath.Join(dir, "missing", "f")
	notFound := pathNotFound(missing)
	for _, c := range []struct {
		err  error
		want string
	}{
		{CheckFile(missing), missing + notFound},
		{CheckFile(dir), dir + ": is a directory"},
		{CheckFile(os.DevNull), os.DevNull + ": is not a regular file"},
		{File(missing, full), missing + notFound},
		{File(path, full), path + ": no space left on device"},
		{File(path, func(f *os.File) error { return fmt.Errorf("tensor x: %w", full(f)) }), "tensor x: write " + path + ": no space left on device"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got %v, want %s", c.err, c.want)
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("beside it: %v", entries)
	}
}

// TestDir: the new directory takes the place of the old one, which stays when writing fails; what
// was made on the way is removed.
func TestDir(t *testing.T) {
	root := t.TempDir()
	dir := filepath.Join(root, "a", "b", "c")
	fail := errors.New("fail")
	if err := Dir(dir, func(tmp string) error { put(t, tmp, "1"); return fail }); !errors.Is(err, fail) {
		t.Fatalf("error %v", err)
	}
	err := Dir(dir, func(tmp string) error { return os.Mkdir(filepath.Join(tmp, "x", "y"), 0o755) })
	if want := "mkdir " + filepath.Join(dir, "x", "y") + pathNotFound(filepath.Join(dir, "x", "y")); err == nil || err.Error() != want || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v, want %s", err, want)
	}
	if entries, _ := os.ReadDir(root); len(entries) != 0 {
		t.Errorf("%v is left behind", entries)
	}
	for _, text := range []string{"1", "2"} {
		if err := Dir(dir, func(tmp string) error { put(t, tmp, text); return nil }); err != nil {
			t.Fatal(err)
		}
		if err := Dir(dir, func(tmp string) error { put(t, tmp, "3"); return fail }); !errors.Is(err, fail) {
			t.Fatalf("error %v", err)
		}
		if data, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(data) != text {
			t.Errorf("found %q, %v, want %q", data, err, text)
		}
		if entries, _ := os.ReadDir(filepath.Dir(dir)); len(entries) != 1 {
			t.Errorf("beside it: %v", entries)
		}
	}
}

// TestNoVolume: the search for missing parents ends where the volume is missing.
func TestNoVolume(t *testing.T) {
	if runtime.GOOS != "windows" {
		t.Skip("paths have volumes under Windows only")
	}
	for letter := 'A'; letter <= 'Z'; letter++ {
		volume := string(letter) + `:\`
		if _, err := os.Stat(volume); !os.IsNotExist(err) {
			continue
		}
		err := Dir(volume+`a\b`, func(string) error { return nil })
		if want := volume + ": the volume does not exist"; err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
		return
	}
	t.Skip("every letter has a volume")
}
