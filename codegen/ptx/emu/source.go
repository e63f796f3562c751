package emu

import "embed"

// Source is this package's own source, for bertc to run a generated package on the emulator.
//
//go:embed *.go
var Source embed.FS
