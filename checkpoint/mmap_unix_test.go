//go:build unix

package checkpoint

import (
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenPipe: a pipe that nobody writes is refused, not waited for.
func TestOpenPipe(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := OpenFile(path)
	wantError(t, err, dir, "DIR/pipe: not a regular file")
}
