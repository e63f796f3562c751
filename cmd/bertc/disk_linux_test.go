package main

import (
	"syscall"
	"testing"
)

// smallDisk mounts a file system in memory with the options of tmpfs, for the length of the test.
func smallDisk(t *testing.T, options string) (dir string) {
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("SKIP: a small file system cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, 0) })
	return dir
}
