//go:build !linux

package main

import "testing"

// smallDisk is for Linux, where a file system can be had in memory.
func smallDisk(t *testing.T, _ string) (dir string) {
	t.Skip("SKIP: a small file system can be mounted under Linux only")
	return ""
}
