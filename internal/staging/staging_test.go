package staging

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func put(t *testing.T, dir, text string) {
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
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
