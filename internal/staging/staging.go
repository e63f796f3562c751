// Package staging writes a file or a directory completely or not at all. Its errors have the name that
// the caller gave, not that of what was written first. It imports nothing of the module.
package staging

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// File calls write with a new file beside path, and moves it to path when write succeeds. After an
// error nothing is left behind. What is at path must be a regular file: a device would be replaced.
func File(path string, write func(f *os.File) error) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	err = named(write(f), f.Name(), path)
	if e := f.Close(); err == nil {
		err = cause(path, e)
	}
	if err == nil {
		err = cause(path, os.Chmod(f.Name(), 0o644))
	}
	if err == nil {
		err = cause(path, os.Rename(f.Name(), path))
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}

// CheckFile reports why File cannot write path, for callers with long work before it.
func CheckFile(path string) error {
	f, err := create(path)
	if err != nil {
		return err
	}
	f.Close()
	return os.Remove(f.Name())
}

// create makes the file beside path.
func create(path string) (*os.File, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, fmt.Errorf("%s: is a directory", path)
	} else if err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: is not a regular file", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), pattern(path))
	return f, cause(path, err)
}

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
	tmp, err := os.MkdirTemp(filepath.Dir(dir), pattern(dir))
	if err != nil {
		return cause(dir, err)
	}
	defer os.RemoveAll(tmp)
	if err := write(tmp); err != nil {
		return named(err, tmp, dir)
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return cause(dir, err)
	}
	old := tmp + ".old"
	if err := os.Rename(dir, old); err != nil && !os.IsNotExist(err) {
		return cause(dir, err)
	}
	if err := os.Rename(tmp, dir); err != nil {
		os.Rename(old, dir)
		return cause(dir, err)
	}
	if err := os.RemoveAll(old); err != nil {
		// Windows renames the directory of a file that is mapped, but does not remove the file.
		return fmt.Errorf("%s: is complete, but what was there before cannot be removed and stays as %w", dir, cause(old, err))
	}
	return nil
}

// makeParents makes dir and returns the directories that were missing, the innermost first. The
// volume of a path of Windows may be missing too.
func makeParents(dir string) (made []string, err error) {
	for d := dir; ; d = filepath.Dir(d) {
		if _, err := os.Stat(d); !os.IsNotExist(err) {
			break
		}
		if d == filepath.Dir(d) {
			return nil, fmt.Errorf("%s: the volume does not exist", d)
		}
		made = append(made, d)
	}
	return made, os.MkdirAll(dir, 0o777)
}

// pattern is the name of what is written first.
func pattern(path string) string { return "." + filepath.Base(path) + ".*" }

// cause is the system's error about path, whatever file it was said of; nil stays nil.
func cause(path string, err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &p):
		err = p.Err
	case errors.As(err, &l):
		err = l.Err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// named lets err speak of path where it speaks of tmp; nil stays nil.
func named(err error, tmp, path string) error {
	if p, ok := err.(*fs.PathError); ok && p.Path == tmp {
		return cause(path, err)
	}
	if err == nil || !strings.Contains(err.Error(), tmp) {
		return err
	}
	return namedError{err, strings.ReplaceAll(err.Error(), tmp, path)}
}

type namedError struct {
	error
	text string
}

func (e namedError) Error() string { return e.text }
func (e namedError) Unwrap() error { return e.error }
