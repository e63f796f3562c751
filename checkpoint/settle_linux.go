package checkpoint

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// settle writes f to the disk and lets go of its pages in memory. Pages stay in memory as they were
// written, in small pieces, and a mapping cannot have huge pages of them; when they are read again
// for a mapping that asks for huge pages (adviseHuge in package rt), they come in pieces of that size.
// A file system that can do neither is no error; one that could not write is.
func settle(f *os.File) error {
	if err := f.Sync(); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	_ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	return nil
}
