//go:build cuda && cgo && linux

package cuda

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <string.h>
#include "libcuda.h"

#define F(name, symbol, parameters) CUresult (*name) parameters;
static struct { CUDA_FUNCTIONS(F) } cu;
#undef F

// open_library returns NULL, or what is missing.
static const char *open_library(void) {
	void *lib = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
	if (lib == NULL)
		return dlerror();
#define F(name, symbol, parameters) \
	if ((*(void **)&cu.name = dlsym(lib, symbol)) == NULL) \
		return "libcuda.so.1 lacks " symbol ", it is older than CUDA 12.3";
	CUDA_FUNCTIONS(F)
#undef F
	return NULL;
}

// Functions and graphs are handles, which Go keeps as integers.

// A context is current in a thread, and a goroutine changes threads: each function with a context
// makes it current first.
#define CURRENT(c) do { CUresult r = cu.cuCtxSetCurrent(c); if (r != 0) return r; } while (0)

static CUresult init(void) { return cu.cuInit(0); }
static CUresult driver_version(int *v) { return cu.cuDriverGetVersion(v); }
static CUresult device_count(int *n) { return cu.cuDeviceGetCount(n); }

static const char *error_name(CUresult r) {
	const char *s = NULL;
	return cu.cuGetErrorName(r, &s) == 0 && s ? s : "unknown error";
}

static const char *error_string(CUresult r) {
	const char *s = NULL;
	return cu.cuGetErrorString(r, &s) == 0 && s ? s : "";
}

static CUresult device_get(CUdevice *d) { return cu.cuDeviceGet(d, 0); }
static CUresult device_name(CUdevice d, char *name, int n) { return cu.cuDeviceGetName(name, n, d); }
static CUresult device_attribute(CUdevice d, int a, int *v) { return cu.cuDeviceGetAttribute(v, a, d); }
static CUresult device_memory(CUdevice d, size_t *n) { return cu.cuDeviceTotalMem(n, d); }
static CUresult context_retain(CUdevice d, CUcontext *c) { return cu.cuDevicePrimaryCtxRetain(c, d); }
static CUresult context_release(CUdevice d) { return cu.cuDevicePrimaryCtxRelease(d); }

static CUresult module_load(CUcontext c, CUmodule *m, const char *ptx, char *log, size_t n) {
	int options[2] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
	void *values[2] = {log, (void *)n};
	CURRENT(c);
	return cu.cuModuleLoadDataEx(m, ptx, 2, options, values);
}

static CUresult module_unload(CUcontext c, CUmodule m) { CURRENT(c); return cu.cuModuleUnload(m); }
static CUresult module_function(CUcontext c, CUmodule m, const char *name, CUfunction *f) { CURRENT(c); return cu.cuModuleGetFunction(f, m, name); }
static CUresult function_shared(CUcontext c, CUfunction f, int n) { CURRENT(c); return cu.cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, n); }
static CUresult mem_alloc(CUcontext c, CUdeviceptr *p, size_t n) { CURRENT(c); return cu.cuMemAlloc(p, n); }
static CUresult mem_free(CUcontext c, CUdeviceptr p) { CURRENT(c); return cu.cuMemFree(p); }

// The two calls without a stream may return before the device is done (CUDA Driver API, "API
// synchronization behavior"), and our streams do not wait for the default stream.
static CUresult done(CUresult r) { return r ? r : cu.cuStreamSynchronize(NULL); }
static CUresult mem_zero(CUcontext c, CUdeviceptr p, size_t n) { CURRENT(c); return done(cu.cuMemsetD8(p, 0, n)); }
static CUresult mem_upload(CUcontext c, CUdeviceptr p, const void *src, size_t n) { CURRENT(c); return done(cu.cuMemcpyHtoD(p, src, n)); }

static CUresult host_alloc(CUcontext c, void **p, size_t n) { CURRENT(c); return cu.cuMemHostAlloc(p, n, 0); }
static CUresult host_free(CUcontext c, void *p) { CURRENT(c); return cu.cuMemFreeHost(p); }
static CUresult stream_create(CUcontext c, CUstream *s) { CURRENT(c); return cu.cuStreamCreate(s, CU_STREAM_NON_BLOCKING); }
static CUresult stream_destroy(CUcontext c, CUstream s) { CURRENT(c); return cu.cuStreamDestroy(s); }
static CUresult stream_sync(CUcontext c, CUstream s) { CURRENT(c); return cu.cuStreamSynchronize(s); }
static CUresult copy_in(CUcontext c, CUstream s, CUdeviceptr p, const void *src, size_t n) { CURRENT(c); return cu.cuMemcpyHtoDAsync(p, src, n, s); }
static CUresult copy_out(CUcontext c, CUstream s, void *dst, CUdeviceptr p, size_t n) { CURRENT(c); return cu.cuMemcpyDtoHAsync(dst, p, n, s); }
static CUresult capture_begin(CUcontext c, CUstream s) { CURRENT(c); return cu.cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_RELAXED); }
static CUresult capture_end(CUcontext c, CUstream s, CUgraph *g) { CURRENT(c); return cu.cuStreamEndCapture(s, g); }
static CUresult graph_instantiate(CUcontext c, CUgraph g, CUgraphExec *e) { CURRENT(c); return cu.cuGraphInstantiate(e, g, 0); }
static CUresult graph_destroy(CUcontext c, CUgraph g) { CURRENT(c); return cu.cuGraphDestroy(g); }
static CUresult graph_launch(CUcontext c, uintptr_t e, CUstream s) { CURRENT(c); return cu.cuGraphLaunch((CUgraphExec)e, s); }
static CUresult graph_free(CUcontext c, uintptr_t e) { CURRENT(c); return cu.cuGraphExecDestroy((CUgraphExec)e); }

static CUresult encode_tiled(CUcontext c, void *out, int f32, int rank, CUdeviceptr at, const uint64_t *dims,
		const uint64_t *strides, const uint32_t *box, int swizzle) {
	static const uint32_t ones[5] = {1, 1, 1, 1, 1};
	CUtensorMap map;
	CURRENT(c);
	CUresult r = cu.cuTensorMapEncodeTiled(&map, f32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, rank,
		(void *)at, dims, strides, box, ones, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
		CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
	memcpy(out, &map, sizeof map);
	return r;
}

#define MAX_PARAMETERS 64

static CUresult launch(CUcontext c, CUstream s, uintptr_t f, unsigned grid, unsigned threads, unsigned shared,
		unsigned cluster, int dependent, char *params, const intptr_t *offsets, int count) {
	CUlaunchAttribute attrs[3];
	CUlaunchConfig config = {grid, 1, 1, threads, 1, 1, shared, s, attrs, 0};
	void *pointers[MAX_PARAMETERS];
	memset(attrs, 0, sizeof attrs);
	for (int i = 0; i < count; i++)
		pointers[i] = params + offsets[i];
	if (cluster > 1) {
		CUlaunchAttribute *a = &attrs[config.numAttrs++];
		a->id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
		a->value.clusterDim.x = cluster;
		a->value.clusterDim.y = a->value.clusterDim.z = 1;
		// Where two CTAs fit a multiprocessor, the other one is for the next launch, and not for this cluster.
		a = &attrs[config.numAttrs++];
		a->id = CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE;
		a->value.clusterSchedulingPolicyPreference = CU_CLUSTER_SCHEDULING_POLICY_SPREAD;
	}
	if (dependent) {
		CUlaunchAttribute *a = &attrs[config.numAttrs++];
		a->id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
		a->value.programmaticStreamSerializationAllowed = 1;
	}
	CURRENT(c);
	return cu.cuLaunchKernelEx(&config, (CUfunction)f, pointers, NULL);
}
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"unsafe"

	rt "github.com/bertc/bertc/runtime"
)

// This file owns the binding of the CUDA driver: libcuda.so.1, which is opened at run time, and
// the first device that it shows (CUDA_VISIBLE_DEVICES chooses another).

// check makes an error of what a call returned: the call, and what the driver says of it.
func check(call string, r C.CUresult) error {
	if r == 0 {
		return nil
	}
	return fmt.Errorf("%s: %s (%d), %s", call, C.GoString(C.error_name(r)), int(r), C.GoString(C.error_string(r)))
}

// minVersion is the CUDA version that a driver must have: graphs know dependent launches since 12.3
// (CUDA Toolkit 12.3 Release Notes, edge data).
const minVersion = 12030

// library opens libcuda.so.1 once and returns the CUDA version of the driver, or says why it cannot be
// used.
var library = sync.OnceValues(func() (int, error) {
	if missing := C.open_library(); missing != nil {
		return 0, fmt.Errorf("no CUDA driver: %s", C.GoString(missing))
	}
	var version, devices C.int
	if err := check("cuInit", C.init()); err != nil {
		return 0, err
	}
	if err := check("cuDriverGetVersion", C.driver_version(&version)); err != nil {
		return 0, err
	}
	if err := check("cuDeviceGetCount", C.device_count(&devices)); err != nil {
		return 0, err
	}
	switch {
	case version < minVersion:
		return 0, fmt.Errorf("the CUDA driver is of CUDA %s, the kernels need %s", DeviceInfo{Driver: int(version)}.CUDA(), DeviceInfo{Driver: minVersion}.CUDA())
	case devices == 0:
		return 0, errors.New("the CUDA driver shows no device")
	}
	return int(version), nil
})

// gpu is a device through the CUDA driver, with its primary context.
type gpu struct {
	device  C.CUdevice
	context C.CUcontext
	module  C.CUmodule
	info    DeviceInfo
}

// OpenDriver opens the first device. Its error is one sentence that says why there is none.
func OpenDriver() (Driver, error) {
	version, err := library()
	if err != nil {
		return nil, err
	}
	g := &gpu{}
	if err := check("cuDeviceGet", C.device_get(&g.device)); err != nil {
		return nil, err
	}
	var name [256]C.char
	if err := check("cuDeviceGetName", C.device_name(g.device, &name[0], C.int(len(name)))); err != nil {
		return nil, err
	}
	var major, minor, sms C.int
	for _, a := range []struct {
		attribute C.int
		value     *C.int
	}{
		{C.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, &major},
		{C.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, &minor},
		{C.CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, &sms},
	} {
		if err := check("cuDeviceGetAttribute", C.device_attribute(g.device, a.attribute, a.value)); err != nil {
			return nil, err
		}
	}
	var memory C.size_t
	if err := check("cuDeviceTotalMem", C.device_memory(g.device, &memory)); err != nil {
		return nil, err
	}
	g.info = DeviceInfo{Name: C.GoString(&name[0]), Major: int(major), Minor: int(minor), SMs: int(sms), Memory: int(memory), Driver: version}
	if g.info.Major != 9 || g.info.Minor != 0 {
		return nil, fmt.Errorf("%s has compute capability %d.%d, the kernels are for 9.0 (H100, H200)", g.info.Name, major, minor)
	}
	if err := check("cuDevicePrimaryCtxRetain", C.context_retain(g.device, &g.context)); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *gpu) Info() DeviceInfo { return g.info }

// logBytes is the room for what the compiler of the driver says.
const logBytes = 16 << 10

func (g *gpu) Load(ptx string) error {
	text := append([]byte(ptx), 0)
	log := make([]byte, logBytes)
	err := check("cuModuleLoadDataEx", C.module_load(g.context, &g.module, (*C.char)(unsafe.Pointer(&text[0])), (*C.char)(unsafe.Pointer(&log[0])), logBytes-1))
	if err == nil {
		return nil
	}
	if log, _, _ = bytes.Cut(log, []byte{0}); len(log) > 0 {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(log))
	}
	return err
}

func (g *gpu) Function(entry string, shared int) (Function, error) {
	name := append([]byte(entry), 0)
	var f C.CUfunction
	if err := check("cuModuleGetFunction", C.module_function(g.context, g.module, (*C.char)(unsafe.Pointer(&name[0])), &f)); err != nil {
		return 0, fmt.Errorf("entry %s: %w", entry, err)
	}
	if err := check("cuFuncSetAttribute", C.function_shared(g.context, f, C.int(shared))); err != nil {
		return 0, fmt.Errorf("entry %s, %d bytes of shared memory: %w", entry, shared, err)
	}
	return Function(unsafe.Pointer(f)), nil
}

// alignment is that of the parts of an Alloc.
const alignment = 256

func (g *gpu) Alloc(sizes ...int) ([]Pointer, error) {
	out := make([]Pointer, len(sizes))
	total := 0
	for i, n := range sizes {
		out[i] = Pointer(total)
		total += rt.RoundUp(n, alignment)
	}
	var base C.CUdeviceptr
	if err := check("cuMemAlloc", C.mem_alloc(g.context, &base, C.size_t(total))); err != nil {
		return nil, fmt.Errorf("%d bytes: %w", total, err)
	}
	if err := check("cuMemsetD8", C.mem_zero(g.context, base, C.size_t(total))); err != nil {
		C.mem_free(g.context, base)
		return nil, err
	}
	for i := range out {
		out[i] += Pointer(base)
	}
	return out, nil
}

func (g *gpu) Free(p []Pointer) error {
	return check("cuMemFree", C.mem_free(g.context, C.CUdeviceptr(p[0])))
}

func (g *gpu) Upload(dst Pointer, src []byte) error {
	return check("cuMemcpyHtoD", C.mem_upload(g.context, C.CUdeviceptr(dst), unsafe.Pointer(&src[0]), C.size_t(len(src))))
}

func (g *gpu) EncodeTiled(t TensorMap) (out [TensorMapBytes]byte, err error) {
	f32 := C.int(0)
	if t.F32 {
		f32 = 1
	}
	swizzle := map[int]C.int{0: C.CU_TENSOR_MAP_SWIZZLE_NONE, 32: C.CU_TENSOR_MAP_SWIZZLE_32B, 64: C.CU_TENSOR_MAP_SWIZZLE_64B, 128: C.CU_TENSOR_MAP_SWIZZLE_128B}[t.Swizzle]
	err = check("cuTensorMapEncodeTiled", C.encode_tiled(g.context, unsafe.Pointer(&out[0]), f32, C.int(len(t.Dims)), C.CUdeviceptr(t.Address),
		(*C.uint64_t)(&t.Dims[0]), (*C.uint64_t)(&t.Strides[0]), (*C.uint32_t)(&t.Box[0]), swizzle))
	if err != nil {
		err = fmt.Errorf("tensor map %+v: %w", t, err)
	}
	return out, err
}

func (g *gpu) HostAlloc(bytes int) ([]byte, error) {
	var p unsafe.Pointer
	if err := check("cuMemHostAlloc", C.host_alloc(g.context, &p, C.size_t(bytes))); err != nil {
		return nil, fmt.Errorf("%d bytes: %w", bytes, err)
	}
	return unsafe.Slice((*byte)(p), bytes), nil
}

func (g *gpu) HostFree(memory []byte) error {
	return check("cuMemFreeHost", C.host_free(g.context, unsafe.Pointer(&memory[0])))
}

func (g *gpu) NewStream() (Stream, error) {
	s := &gpuStream{gpu: g}
	if err := check("cuStreamCreate", C.stream_create(g.context, &s.stream)); err != nil {
		return nil, err
	}
	return s, nil
}

// Close unloads the kernels and lets the primary context go, which frees what is left of it.
func (g *gpu) Close() error {
	var err error
	if g.module != nil {
		err = check("cuModuleUnload", C.module_unload(g.context, g.module))
	}
	return first(err, check("cuDevicePrimaryCtxRelease", C.context_release(g.device)))
}

// gpuStream is a stream of the CUDA driver.
type gpuStream struct {
	*gpu
	stream C.CUstream
}

func (s *gpuStream) CopyIn(dst Pointer, src []byte) error {
	return check("cuMemcpyHtoDAsync", C.copy_in(s.context, s.stream, C.CUdeviceptr(dst), unsafe.Pointer(&src[0]), C.size_t(len(src))))
}

func (s *gpuStream) CopyOut(dst []byte, src Pointer) error {
	return check("cuMemcpyDtoHAsync", C.copy_out(s.context, s.stream, unsafe.Pointer(&dst[0]), C.CUdeviceptr(src), C.size_t(len(dst))))
}

func (s *gpuStream) Launch(f Function, l LaunchSize, params []byte, offsets []int) error {
	if len(offsets) == 0 || len(offsets) > C.MAX_PARAMETERS {
		return fmt.Errorf("a launch has %d parameters, 1 to %d are supported", len(offsets), C.MAX_PARAMETERS)
	}
	dependent := C.int(0)
	if l.Dependent {
		dependent = 1
	}
	return check("cuLaunchKernelEx", C.launch(s.context, s.stream, C.uintptr_t(f), C.unsigned(l.Grid), C.unsigned(l.Threads), C.unsigned(l.Shared),
		C.unsigned(l.Cluster), dependent, (*C.char)(unsafe.Pointer(&params[0])), (*C.intptr_t)(unsafe.Pointer(&offsets[0])), C.int(len(offsets))))
}

func (s *gpuStream) Capture(record func() error) (Graph, error) {
	if err := check("cuStreamBeginCapture", C.capture_begin(s.context, s.stream)); err != nil {
		return 0, err
	}
	failed := record()
	var graph C.CUgraph
	err := check("cuStreamEndCapture", C.capture_end(s.context, s.stream, &graph))
	if graph != nil {
		defer C.graph_destroy(s.context, graph)
	}
	if err != nil || failed != nil {
		return 0, first(failed, err)
	}
	var exec C.CUgraphExec
	err = check("cuGraphInstantiate", C.graph_instantiate(s.context, graph, &exec))
	return Graph(unsafe.Pointer(exec)), err
}

func (s *gpuStream) LaunchGraph(g Graph) error {
	return check("cuGraphLaunch", C.graph_launch(s.context, C.uintptr_t(g), s.stream))
}

func (s *gpuStream) FreeGraph(g Graph) error {
	return check("cuGraphExecDestroy", C.graph_free(s.context, C.uintptr_t(g)))
}

func (s *gpuStream) Sync() error {
	return check("cuStreamSynchronize", C.stream_sync(s.context, s.stream))
}

func (s *gpuStream) Close() error {
	return check("cuStreamDestroy", C.stream_destroy(s.context, s.stream))
}
