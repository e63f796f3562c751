package checkpoint

// This file owns the checkpoint directory: which files it consists of, and the view of their
// tensors under canonical names.

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// Checkpoint is an open checkpoint directory. Its methods may be called concurrently, Close
// excepted.
type Checkpoint struct {
	dir      directory
	files    []*File
	tensors  map[string]location // by canonical name
	names    []string            // canonical, in natural order
	ignored  []Ignored
	warnings []string
}

// location is where the tensor of a canonical name lies.
type location struct {
	file *File
	name string // as the file spells it
}

// Ignored is a tensor that is known and left out.
type Ignored struct {
	Name    string
	Because string
}

// directory is a directory of the system or of an fs.FS.
type directory struct {
	fsys fs.FS // nil: the system's
	dir  string
}

func (d directory) path(name string) string {
	if d.fsys != nil {
		return path.Join(d.dir, name)
	}
	return filepath.Join(d.dir, name)
}

func (d directory) list() ([]string, error) {
	read := os.ReadDir
	if d.fsys != nil {
		read = func(name string) ([]fs.DirEntry, error) { return fs.ReadDir(d.fsys, name) }
	}
	entries, err := read(d.dir)
	if err != nil {
		return nil, pathError(d.dir, err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, nil
}

func (d directory) open(name string) (*File, error) {
	if d.fsys != nil {
		return openFileFS(d.fsys, d.path(name))
	}
	return OpenFile(d.path(name))
}

// read returns a whole file that is small by nature.
func (d directory) read(name string, limit int64) ([]byte, error) {
	p := d.path(name)
	stat, read := os.Stat, os.ReadFile
	if d.fsys != nil {
		stat = func(p string) (fs.FileInfo, error) { return fs.Stat(d.fsys, p) }
		read = func(p string) ([]byte, error) { return fs.ReadFile(d.fsys, p) }
	}
	info, err := stat(p)
	if err != nil {
		return nil, pathError(p, err)
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: %d bytes, expected at most %d", p, info.Size(), limit)
	}
	data, err := read(p)
	if err != nil {
		return nil, pathError(p, err)
	}
	return data, nil
}

// Open opens the checkpoint in a directory of the Hugging Face layout and checks all its files.
func Open(dir string) (*Checkpoint, error) { return open(directory{dir: dir}) }

// OpenFS is Open for a directory of fsys, whose files are read into memory.
func OpenFS(fsys fs.FS, dir string) (*Checkpoint, error) { return open(directory{fsys, dir}) }

func open(d directory) (*Checkpoint, error) {
	files, err := openFiles(d)
	if err != nil {
		return nil, err
	}
	c := &Checkpoint{dir: d, files: files, tensors: map[string]location{}}
	if err := c.resolve(); err != nil {
		c.Close()
		return nil, err
	}
	c.detectCopiedBias()
	return c, nil
}

// resolve finds the canonical name of every tensor of every file.
func (c *Checkpoint) resolve() error {
	var unknown []string
	for _, f := range c.files {
		for _, t := range f.Tensors() {
			canonical, row, ok := lookupName(t.Name)
			switch {
			case !ok:
				unknown = append(unknown, t.Name)
				continue
			case row.ignored != "":
				c.ignored = append(c.ignored, Ignored{t.Name, row.ignored})
				continue
			case !t.DType.IsWeight():
				return fmt.Errorf("%s: tensor %q: dtype %s, expected F32, BF16 or F16", f.path, t.Name, t.DType)
			}
			here := location{f, t.Name}
			there, twice := c.tensors[canonical]
			if !twice {
				c.tensors[canonical] = here
				c.names = append(c.names, canonical)
				continue
			}
			same, err := sameBytes(here, there)
			if err != nil {
				return err
			}
			if !same {
				return fmt.Errorf("%s: tensors %q and %q are both %q and differ", c.dir.dir, there.name, here.name, canonical)
			}
		}
	}
	if len(unknown) > 0 {
		return unknownNames(c.dir.dir, unknown)
	}
	sort.Slice(c.names, func(i, j int) bool { return naturalLess(c.names[i], c.names[j]) })
	return nil
}

// sameBytes compares element type, shape and data of two tensors.
func sameBytes(a, b location) (bool, error) {
	x, err := a.file.Tensor(a.name)
	if err != nil {
		return false, err
	}
	y, err := b.file.Tensor(b.name)
	if err != nil {
		return false, err
	}
	same := x.DType == y.DType && slices.Equal(x.Shape, y.Shape) && bytes.Equal(x.Data, y.Data)
	a.file.Release(a.name)
	b.file.Release(b.name)
	return same, nil
}

// Names lists the canonical names, layers in the order of their numbers.
func (c *Checkpoint) Names() []string { return c.names }

// Ignored lists the tensors that are known and left out.
func (c *Checkpoint) Ignored() []Ignored { return c.ignored }

// LeaveOut makes the tensor of a canonical name an ignored one.
func (c *Checkpoint) LeaveOut(canonical, because string) {
	if l, ok := c.tensors[canonical]; ok {
		delete(c.tensors, canonical)
		c.names = slices.DeleteFunc(c.names, func(name string) bool { return name == canonical })
		c.ignored = append(c.ignored, Ignored{l.name, because})
	}
}

// Warnings lists what is legal and probably wrong, one sentence each.
func (c *Checkpoint) Warnings() []string { return c.warnings }

// Config returns the path and the contents of config.json.
func (c *Checkpoint) Config() (file string, data []byte, err error) {
	data, err = c.dir.read("config.json", 1<<20)
	return c.dir.path("config.json"), data, err
}

// Tensor returns the tensor of a canonical name. Its Name is the one of the file.
func (c *Checkpoint) Tensor(canonical string) (Tensor, error) {
	l, ok := c.tensors[canonical]
	if !ok {
		return Tensor{}, fmt.Errorf("%s: tensor %q is missing", c.dir.dir, canonical)
	}
	return l.file.Tensor(l.name)
}

// Info describes the tensor of a canonical name without looking at its data.
func (c *Checkpoint) Info(canonical string) (Info, bool) {
	l, ok := c.tensors[canonical]
	if !ok {
		return Info{}, false
	}
	e := l.file.h.entries[l.file.index[l.name]]
	return Info{e.name, e.dtype, e.shape}, true
}

// Shape returns the shape of the tensor of a canonical name.
func (c *Checkpoint) Shape(canonical string) ([]int, bool) {
	info, ok := c.Info(canonical)
	return info.Shape, ok
}

// Where names a tensor for messages: its file and its name there.
func (c *Checkpoint) Where(canonical string) string {
	l, ok := c.tensors[canonical]
	if !ok {
		return fmt.Sprintf("%s: tensor %q", c.dir.dir, canonical)
	}
	return fmt.Sprintf("%s: tensor %q", l.file.path, l.name)
}

// Same reports whether two canonical names have the same element type, shape and data.
func (c *Checkpoint) Same(a, b string) (bool, error) {
	x, okx := c.tensors[a]
	y, oky := c.tensors[b]
	if !okx || !oky {
		return false, nil
	}
	return sameBytes(x, y)
}

// Release says that the data of a canonical name has been used; see File.Release.
func (c *Checkpoint) Release(canonical string) {
	if l, ok := c.tensors[canonical]; ok {
		l.file.Release(l.name)
	}
}

// Close closes all files.
func (c *Checkpoint) Close() error {
	var errs []error
	for _, f := range c.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// naturalLess compares names component by component, numbers by value.
func naturalLess(a, b string) bool {
	x, y := strings.Split(a, "."), strings.Split(b, ".")
	for i := range min(len(x), len(y)) {
		if x[i] == y[i] {
			continue
		}
		m, errm := strconv.Atoi(x[i])
		n, errn := strconv.Atoi(y[i])
		if errm == nil && errn == nil {
			return m < n
		}
		return x[i] < y[i]
	}
	return len(x) < len(y)
}
