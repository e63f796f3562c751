// Package staging writes a directory completely or not at all. It imports nothing of the module.
package staging

import (
	"os"
	"path/filepath"
)

// Dir calls write with a new directory beside dir, and moves it to dir when write succeeds. What
// was at dir is removed only when the new directory is in its place; the caller decides whether
// that may be. After an error nothing is left behind, parents that were made for dir included.
func Dir(dir string, write func(tmp string) error) (err error) {
	dir = filepath.Clean(dir)
	made, err := makeParents(filepath.Dir(dir))
	defer func() {
		if err != nil {
			for _, d := range made {
				os.Remove(d) // fails, as it should, when somebody else put a file there
			}
		}
	}()
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := write(tmp); err != nil {
		return err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	old := tmp + ".old"
	if err := os.Rename(dir, old); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := os.Rename(tmp, dir); err != nil {
		os.Rename(old, dir)
		return err
	}
	return os.RemoveAll(old)
}

// makeParents makes dir and returns the directories that were missing, the innermost first.
func makeParents(dir string) (made []string, err error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			break
		}
		made = append(made, d)
	}
	return made, os.MkdirAll(dir, 0o777)
}
