//go:build !linux

package checkpoint

import "os"

// settle prepares a written file for huge pages, which only Linux maps files by.
func settle(*os.File) error { return nil }
