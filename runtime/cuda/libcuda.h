// The part of the CUDA driver API that driver_cuda.go calls. It is declared here so that a build
// needs no header of NVIDIA; the values are those of cuda.h (CUDA 12 and 13), which
// TestDeclarations compares where that header is at hand. The library is opened when a device is
// asked for, so that the program starts where there is no driver.

#include <stddef.h>
#include <stdint.h>

#ifndef __cuda_cuda_h__ // the guard of NVIDIA's header, whose own declarations are compared

typedef int CUresult;
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphExec_st *CUgraphExec;

typedef struct CUtensorMap_st { // aligned to 64 in CUDA 12, to 128 in CUDA 13
	_Alignas(128) uint64_t opaque[16];
} CUtensorMap;

typedef struct CUlaunchAttribute_st {
	int id;
	char pad[4];
	union {
		char pad[64];
		struct {
			unsigned x, y, z;
		} clusterDim;
		int clusterSchedulingPolicyPreference;
		int programmaticStreamSerializationAllowed;
	} value;
} CUlaunchAttribute;

typedef struct CUlaunchConfig_st {
	unsigned gridDimX, gridDimY, gridDimZ;
	unsigned blockDimX, blockDimY, blockDimZ;
	unsigned sharedMemBytes;
	CUstream hStream;
	CUlaunchAttribute *attrs;
	unsigned numAttrs;
} CUlaunchConfig;

#endif

// CUDA_CONSTANTS(C) is C(name, value) of every constant.
#define CUDA_CONSTANTS(C) \
	C(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 16) \
	C(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 75) \
	C(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 76) \
	C(CU_JIT_ERROR_LOG_BUFFER, 5) \
	C(CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, 6) \
	C(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 8) \
	C(CU_STREAM_NON_BLOCKING, 1) \
	C(CU_STREAM_CAPTURE_MODE_RELAXED, 2) \
	C(CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, 4) \
	C(CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE, 5) \
	C(CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION, 6) \
	C(CU_CLUSTER_SCHEDULING_POLICY_SPREAD, 1) \
	C(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 7) \
	C(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 9) \
	C(CU_TENSOR_MAP_INTERLEAVE_NONE, 0) \
	C(CU_TENSOR_MAP_SWIZZLE_NONE, 0) \
	C(CU_TENSOR_MAP_SWIZZLE_32B, 1) \
	C(CU_TENSOR_MAP_SWIZZLE_64B, 2) \
	C(CU_TENSOR_MAP_SWIZZLE_128B, 3) \
	C(CU_TENSOR_MAP_L2_PROMOTION_L2_256B, 3) \
	C(CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE, 0)

#ifndef __cuda_cuda_h__
#define C(name, value) name = value,
enum { CUDA_CONSTANTS(C) };
#undef C
#endif

// CUDA_LAYOUTS(L) is L(expression, value) of sizes and offsets in the structures.
#define CUDA_LAYOUTS(L) \
	L(sizeof(CUdeviceptr), 8) \
	L(sizeof(CUtensorMap), 128) \
	L(128 % _Alignof(CUtensorMap), 0) \
	L(sizeof(CUlaunchAttribute), 72) \
	L(offsetof(CUlaunchAttribute, value), 8) \
	L(offsetof(CUlaunchConfig, blockDimX), 12) \
	L(offsetof(CUlaunchConfig, sharedMemBytes), 24) \
	L(offsetof(CUlaunchConfig, hStream), 32) \
	L(offsetof(CUlaunchConfig, attrs), 40) \
	L(offsetof(CUlaunchConfig, numAttrs), 48) \
	L(sizeof(CUlaunchConfig), 56)

#define L(what, value) _Static_assert(what == value, #what);
CUDA_LAYOUTS(L)
#undef L

// CUDA_FUNCTIONS(F) is F(name, symbol, parameters) of every function: what cuda.h calls it, and
// the version of it that is called.
#define CUDA_FUNCTIONS(F) \
	F(cuInit, "cuInit", (unsigned)) \
	F(cuDriverGetVersion, "cuDriverGetVersion", (int *)) \
	F(cuGetErrorName, "cuGetErrorName", (CUresult, const char **)) \
	F(cuGetErrorString, "cuGetErrorString", (CUresult, const char **)) \
	F(cuDeviceGetCount, "cuDeviceGetCount", (int *)) \
	F(cuDeviceGet, "cuDeviceGet", (CUdevice *, int)) \
	F(cuDeviceGetName, "cuDeviceGetName", (char *, int, CUdevice)) \
	F(cuDeviceGetAttribute, "cuDeviceGetAttribute", (int *, int, CUdevice)) \
	F(cuDeviceTotalMem, "cuDeviceTotalMem_v2", (size_t *, CUdevice)) \
	F(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (CUcontext *, CUdevice)) \
	F(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (CUdevice)) \
	F(cuCtxSetCurrent, "cuCtxSetCurrent", (CUcontext)) \
	F(cuModuleLoadDataEx, "cuModuleLoadDataEx", (CUmodule *, const void *, unsigned, int *, void **)) \
	F(cuModuleUnload, "cuModuleUnload", (CUmodule)) \
	F(cuModuleGetFunction, "cuModuleGetFunction", (CUfunction *, CUmodule, const char *)) \
	F(cuFuncSetAttribute, "cuFuncSetAttribute", (CUfunction, int, int)) \
	F(cuMemAlloc, "cuMemAlloc_v2", (CUdeviceptr *, size_t)) \
	F(cuMemFree, "cuMemFree_v2", (CUdeviceptr)) \
	F(cuMemsetD8, "cuMemsetD8_v2", (CUdeviceptr, unsigned char, size_t)) \
	F(cuMemcpyHtoD, "cuMemcpyHtoD_v2", (CUdeviceptr, const void *, size_t)) \
	F(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2", (CUdeviceptr, const void *, size_t, CUstream)) \
	F(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2", (void *, CUdeviceptr, size_t, CUstream)) \
	F(cuMemHostAlloc, "cuMemHostAlloc", (void **, size_t, unsigned)) \
	F(cuMemFreeHost, "cuMemFreeHost", (void *)) \
	F(cuStreamCreate, "cuStreamCreate", (CUstream *, unsigned)) \
	F(cuStreamDestroy, "cuStreamDestroy_v2", (CUstream)) \
	F(cuStreamSynchronize, "cuStreamSynchronize", (CUstream)) \
	F(cuStreamBeginCapture, "cuStreamBeginCapture_v2", (CUstream, int)) \
	F(cuStreamEndCapture, "cuStreamEndCapture", (CUstream, CUgraph *)) \
	F(cuGraphInstantiate, "cuGraphInstantiateWithFlags", (CUgraphExec *, CUgraph, unsigned long long)) \
	F(cuGraphDestroy, "cuGraphDestroy", (CUgraph)) \
	F(cuGraphExecDestroy, "cuGraphExecDestroy", (CUgraphExec)) \
	F(cuGraphLaunch, "cuGraphLaunch", (CUgraphExec, CUstream)) \
	F(cuLaunchKernelEx, "cuLaunchKernelEx", (const CUlaunchConfig *, CUfunction, void **, void **)) \
	F(cuTensorMapEncodeTiled, "cuTensorMapEncodeTiled", \
	  (CUtensorMap *, int, uint32_t, void *, const uint64_t *, const uint64_t *, const uint32_t *, const uint32_t *, int, int, int, int))
