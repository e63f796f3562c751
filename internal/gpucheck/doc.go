// Package gpucheck owns what "bertc ptx check" does on a machine with a GPU: it runs models on the
// device, compares them with the interpreter, with the CPU and with the emulator, and times the
// full size. It needs the driver and nothing else, neither a checkpoint nor the Go toolchain, and
// runs on the emulator too, without the times.
//
// Start reading at Run.
package gpucheck
