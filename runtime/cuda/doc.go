// Package cuda runs the steps of a module on a CUDA device: it uploads the weights, plans the
// device's memory, and turns each step into launches of PTX kernels, captured once per size of
// batch as a graph.
//
// Everything but the binding of the driver is plain Go without a build tag, and knows the device
// by the interface Driver alone, so that it runs on the emulator of codegen/ptx/emu as it does on
// a GPU. The compiler copies this package into generated packages as internal/cuda. It imports
// the standard library and package rt.
//
// Start reading at abi.go, the table of launches that codegen/ptx makes, and driver.go, what a
// device must do.
package cuda
