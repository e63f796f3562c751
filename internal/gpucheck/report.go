package gpucheck

import (
	"encoding/json"
	"slices"
)

// This file owns what a check found, for programs: bench/h100/gpu_peers.py reads it as JSON.

// Report is what a check found.
type Report struct {
	Version string  `json:"version"` // of bertc
	Device  string  `json:"device"`
	SMs     int     `json:"multiprocessors"`
	Driver  string  `json:"cuda"` // CUDA version of the driver
	Checks  []Check `json:"checks"`
	// Times are of the full size; nil: it was not timed.
	Times *Times `json:"times,omitempty"`
}

// Check is one comparison.
type Check struct {
	OK    bool   `json:"ok"`
	Model string `json:"model"`
	What  string `json:"what"`
	Found string `json:"found"`
}

// Times are the times of a model.
type Times struct {
	Config  json.RawMessage `json:"config"` // its config.json
	Kernels []Kernel        `json:"kernels"`
	Shapes  []Shape         `json:"shapes"`
}

// Kernel is a kernel of the encoder.
type Kernel struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`  // kernel.Kind
	Steps int    `json:"steps"` // how many steps of a call run it
	// N and K are the rows and columns of the weights of a matmul, of both halves under SwiGLU; else 0.
	N int `json:"n,omitempty"`
	K int `json:"k,omitempty"`
}

// Shape is one batch: the median of a call from host to host, and a step of each kernel.
type Shape struct {
	Sequences int        `json:"sequences"`
	Length    int        `json:"length"`
	Seconds   float64    `json:"seconds"`
	Steps     []StepTime `json:"steps"`
}

// StepTime is one step: of the first layer that has the kernel.
type StepTime struct {
	Kernel  string  `json:"kernel"`
	Seconds float64 `json:"seconds"`
	Flops   float64 `json:"flops"`
}

// Failed returns how many checks failed.
func (r *Report) Failed() int {
	return len(slices.DeleteFunc(slices.Clone(r.Checks), func(c Check) bool { return c.OK }))
}
