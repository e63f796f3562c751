//go:build !(cuda && cgo && linux)

package pipeline

import (
	"errors"

	"github.com/bertc/bertc/runtime/cuda"
)

// OpenGPU opens the GPU of this machine.
func OpenGPU() (cuda.Driver, error) {
	return nil, errors.New("this program was built without the GPU (make h100, or go build -tags cuda, on Linux, with cgo)")
}
