package cuda

import "embed"

// Source is this package's own source, for the compiler to copy into generated packages. This
// file and the tests are not copied.
//
//go:embed *.go *.h
var Source embed.FS
