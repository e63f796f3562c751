package checkpoint

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/bertc/bertc/ir"
	"github.com/bertc/bertc/kernel"
	"github.com/bertc/bertc/program"
)

const hugePage = 2 << 20

// TestPackFileHugePages: a packed file is mapped by huge pages where the system does that at all.
func TestPackFileHugePages(t *testing.T) {
	// Many weights that do not fill a huge page, as biases and norms do.
	const weights, size = 64, 400_000
	var recipes []program.Weight
	for i := range weights {
		recipes = append(recipes, program.Weight{Name: fmt.Sprint(i), Blob: "blob", DType: ir.I8, Shape: []int{size}, Layout: kernel.Vector})
	}
	path := filepath.Join(t.TempDir(), "packed")
	options := PackOptions{Blobs: map[string][]byte{"blob": make([]byte, size)}}
	if _, err := PackFile(context.Background(), path, nil, recipes, options); err != nil {
		t.Fatal(err)
	}
	if hugeMapped(t, settled(t)) == 0 {
		t.Skip("SKIP: this kernel, or the file system of the temporary directory, has no huge pages for files")
	}
	// Where memory has no room for a huge page, the file has small ones. Written and not read again,
	// this file has no huge page at all.
	got, all := hugeMapped(t, path), weights*size
	if t.Logf("%d of %d bytes are mapped by huge pages", got, all); got < all/2 {
		t.Errorf("%d of %d bytes are mapped by huge pages", got, all)
	}
}

// settled writes a file of two huge pages and makes the system read it again.
func settled(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "settled")
	if err := os.WriteFile(path, make([]byte, 2*hugePage), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED); err != nil {
		t.Fatal(err)
	}
	return path
}

// hugeMapped maps a file as package rt does, reads it, and returns the bytes that are mapped by huge
// pages.
func hugeMapped(t *testing.T, path string) int {
	before := filePmdMapped(t)
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(data)
	if err := unix.Madvise(data, unix.MADV_HUGEPAGE); err != nil {
		t.Skipf("SKIP: MADV_HUGEPAGE: %v", err)
	}
	bytes.Count(data, []byte{1})
	return filePmdMapped(t) - before
}

// filePmdMapped returns the bytes of files that this process maps by huge pages (proc_pid_smaps(5)).
func filePmdMapped(t *testing.T) int {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Skipf("SKIP: %v", err)
	}
	for line := range bytes.Lines(text) {
		var kib int
		if n, _ := fmt.Sscanf(string(line), "FilePmdMapped: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	t.Skip("SKIP: the kernel does not report FilePmdMapped")
	return 0
}
