//go:build cuda && cgo && linux

package pipeline

import "github.com/bertc/bertc/runtime/cuda"

// OpenGPU opens the GPU of this machine.
func OpenGPU() (cuda.Driver, error) { return cuda.OpenDriver() }
