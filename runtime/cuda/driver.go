package cuda

import "fmt"

// This file owns the seam to the device: the CUDA driver behind the build tag cuda, or the
// emulator.

// Driver is one device. Its methods may be called by any number of goroutines at once. Errors
// name the call of the driver that failed and what the driver says of it.
type Driver interface {
	// Info describes the device.
	Info() DeviceInfo
	// Load compiles PTX text for the device. It is called once.
	Load(ptx string) error
	// Function returns an entry of the text, allowed to take so many bytes of dynamic shared
	// memory.
	Function(entry string, shared int) (Function, error)
	// Alloc returns device memory of so many bytes each, which holds zeros and is aligned to 256
	// bytes. Free gives it back, all of what an Alloc returned.
	Alloc(sizes ...int) ([]Pointer, error)
	Free([]Pointer) error
	// Upload copies to device memory and waits for the end.
	Upload(dst Pointer, src []byte) error
	// EncodeTiled makes a tensor map: cuTensorMapEncodeTiled.
	EncodeTiled(TensorMap) ([TensorMapBytes]byte, error)
	// HostAlloc returns host memory that copies of a Stream read and write while the caller goes on:
	// page-locked. The host's other memory may make a copy wait.
	HostAlloc(bytes int) ([]byte, error)
	HostFree([]byte) error
	// NewStream returns a queue of work.
	NewStream() (Stream, error)
	// Close frees the device. Streams and memory are freed before it.
	Close() error
}

// Stream is a queue of work that is done in order. One goroutine uses it at a time. Host memory
// of a copy must not change before Sync.
type Stream interface {
	CopyIn(dst Pointer, src []byte) error
	CopyOut(dst []byte, src Pointer) error
	// Launch runs a function. params are its parameters, packed, each aligned to its size, and offsets
	// where each begins.
	Launch(f Function, l LaunchSize, params []byte, offsets []int) error
	// Capture makes a graph of the launches that record does on this stream, without running them.
	Capture(record func() error) (Graph, error)
	LaunchGraph(Graph) error
	FreeGraph(Graph) error
	// Sync waits for the work of the stream. It reports errors of kernels that ran.
	Sync() error
	Close() error
}

// first returns the first error, nil for none: where a device has failed, so do the calls that clean up.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Pointer is an address of device memory.
type Pointer uint64

// Function and Graph are what the driver calls them: handles.
type (
	Function uintptr
	Graph    uintptr
)

// DeviceInfo is what the device is.
type DeviceInfo struct {
	Name         string // as the driver says it
	Major, Minor int    // compute capability
	SMs          int    // multiprocessors
	Memory       int    // bytes
	Driver       int    // CUDA version of the driver: 12030 is 12.3
}

// CUDA returns the CUDA version of the driver as its release has it, "12.3".
func (i DeviceInfo) CUDA() string { return fmt.Sprintf("%d.%d", i.Driver/1000, i.Driver%1000/10) }

// LaunchSize is the size of a launch: CTAs, threads of each, bytes of dynamic shared memory, and
// CTAs of a cluster, 0 for none. Dependent is that of Launch.
type LaunchSize struct {
	Grid, Threads, Shared, Cluster int
	Dependent                      bool
}

// TensorMapBytes is the size of a tensor map, opaque to all but the device.
const TensorMapBytes = 128

// TensorMap is the arguments of cuTensorMapEncodeTiled: a tensor of rank 2 or 3, sizes innermost
// first. Elements outside are read as zeros, and the element strides are 1.
type TensorMap struct {
	Address Pointer
	F32     bool     // the elements are f32, otherwise bf16
	Dims    []uint64 // elements
	Strides []uint64 // bytes, of every dimension but the innermost
	Box     []uint32 // elements
	Swizzle int      // bytes: 0, 32, 64 or 128
}
