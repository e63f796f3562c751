// A CUDA driver without a device, for tests: it does what the calls of libcuda.h do to memory, runs
// no kernel, and writes what reaches it to the file that CUDA_MOCK_LOG names. Device memory is host
// memory at a fixed address, so that two runs are alike. CUDA_MOCK_FAIL names a function that fails,
// CUDA_MOCK_CAPABILITY and CUDA_MOCK_VERSION change what the device is.

#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "../libcuda.h"

#define MEMORY ((char *)0x700000000000)
#define MEMORY_BYTES (1ul << 32)
#define GRANULARITY 4096

// An entry of the loaded PTX: its name and the bytes of its parameters.
struct entry {
	char name[128];
	int sizes[64], count;
};

static struct entry entries[1024];
static int entry_count, capturing, graphs, maps;
static size_t allocated;

static void say(const char *format, ...) {
	static FILE *log;
	va_list args;
	if (log == NULL && (log = fopen(getenv("CUDA_MOCK_LOG"), "w")) == NULL)
		abort();
	va_start(args, format);
	vfprintf(log, format, args);
	va_end(args);
	fflush(log);
}

static int fails(const char *function) {
	const char *want = getenv("CUDA_MOCK_FAIL");
	return want != NULL && strcmp(want, function) == 0;
}

static long setting(const char *name, long otherwise) {
	const char *value = getenv(name);
	return value ? atol(value) : otherwise;
}

// hash is FNV-1a.
static uint64_t hash(const unsigned char *data, size_t n) {
	uint64_t h = 0xcbf29ce484222325;
	for (size_t i = 0; i < n; i++)
		h = (h ^ data[i]) * 0x100000001b3;
	return h;
}

#define FAILS(code) if (fails(__func__)) return code

CUresult cuInit(unsigned flags) { FAILS(100); return 0; }
CUresult cuDriverGetVersion(int *v) { FAILS(1); *v = setting("CUDA_MOCK_VERSION", 12080); return 0; }
CUresult cuGetErrorName(CUresult r, const char **s) { *s = r == 100 ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_MOCK"; return 0; }
CUresult cuGetErrorString(CUresult r, const char **s) { *s = r == 100 ? "no CUDA-capable device is detected" : "the mock was told to fail"; return 0; }
CUresult cuDeviceGetCount(int *n) { FAILS(1); *n = setting("CUDA_MOCK_DEVICES", 1); return 0; }
CUresult cuDeviceGet(CUdevice *d, int i) { *d = i; return 0; }
CUresult cuDeviceGetName(char *name, int n, CUdevice d) { snprintf(name, n, "Mock H100"); return 0; }
CUresult cuDeviceTotalMem_v2(size_t *n, CUdevice d) { *n = MEMORY_BYTES; return 0; }

CUresult cuDeviceGetAttribute(int *v, int attribute, CUdevice d) {
	int capability = setting("CUDA_MOCK_CAPABILITY", 90);
	switch (attribute) {
	case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *v = 4; return 0;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: *v = capability / 10; return 0;
	case CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: *v = capability % 10; return 0;
	}
	return 1;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *c, CUdevice d) {
	FAILS(2);
	*c = (CUcontext)0x11;
	void *p = mmap(MEMORY, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
	return p == MEMORY ? 0 : 2;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice d) { say("release\n"); return munmap(MEMORY, MEMORY_BYTES) ? 1 : 0; }
CUresult cuCtxSetCurrent(CUcontext c) { return c == (CUcontext)0x11 ? 0 : 201; }

// cuModuleLoadDataEx reads the entries of the text: their names, and parameters of .u64, .u32 and
// .b8 name[n].
CUresult cuModuleLoadDataEx(CUmodule *m, const void *image, unsigned n, int *options, void **values) {
	const char *at = image;
	if (fails(__func__)) {
		for (unsigned i = 0; i < n; i++)
			if (options[i] == CU_JIT_ERROR_LOG_BUFFER)
				strcpy(values[i], "ptxas application ptx input, line 1; fatal : mock\n");
		return 218;
	}
	while ((at = strstr(at, ".entry ")) != NULL) {
		struct entry *e = &entries[entry_count++];
		const char *end = strchr(at, ')');
		sscanf(at, ".entry %127[^(]", e->name);
		while ((at = strstr(at, ".param ")) != NULL && at < end) {
			char declaration[256];
			sscanf(at, "%255[^,)]", declaration);
			const char *array = strchr(declaration, '[');
			e->sizes[e->count++] = array ? atoi(array + 1) : strstr(declaration, ".u64") ? 8 : 4;
			at++;
		}
		at = end;
	}
	*m = (CUmodule)0x22;
	return 0;
}

CUresult cuModuleUnload(CUmodule m) { say("unload\n"); return 0; }

CUresult cuModuleGetFunction(CUfunction *f, CUmodule m, const char *name) {
	for (int i = 0; i < entry_count; i++)
		if (strcmp(entries[i].name, name) == 0) {
			*f = (CUfunction)&entries[i];
			return 0;
		}
	return 500;
}

CUresult cuFuncSetAttribute(CUfunction f, int attribute, int value) {
	FAILS(1);
	say("function %s attribute %d = %d\n", ((struct entry *)f)->name, attribute, value);
	return 0;
}

CUresult cuMemAlloc_v2(CUdeviceptr *p, size_t n) {
	FAILS(2);
	*p = (CUdeviceptr)(MEMORY + allocated);
	allocated += (n + GRANULARITY - 1) / GRANULARITY * GRANULARITY;
	say("alloc %zu\n", n);
	memset((void *)*p, 0xff, n);
	return allocated <= MEMORY_BYTES ? 0 : 2;
}

CUresult cuMemFree_v2(CUdeviceptr p) { say("free %#lx\n", p); return 0; }
CUresult cuMemsetD8_v2(CUdeviceptr p, unsigned char x, size_t n) { FAILS(1); say("memset %#lx %d %zu\n", p, x, n); memset((void *)p, x, n); return 0; }

static CUresult copy(const char *what, void *dst, const void *src, size_t n, CUdeviceptr device) {
	memcpy(dst, src, n);
	say("%s %#lx %zu %016lx\n", what, device, n, hash(src, n));
	return 0;
}

CUresult cuMemcpyHtoD_v2(CUdeviceptr p, const void *src, size_t n) { FAILS(1); return copy("upload", (void *)p, src, n, p); }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr p, const void *src, size_t n, CUstream s) { FAILS(1); return copy("in", (void *)p, src, n, p); }
CUresult cuMemcpyDtoHAsync_v2(void *dst, CUdeviceptr p, size_t n, CUstream s) { FAILS(1); return copy("out", dst, (void *)p, n, p); }
CUresult cuMemHostAlloc(void **p, size_t n, unsigned flags) { FAILS(2); say("host %zu\n", n); return (*p = calloc(1, n)) ? 0 : 2; }
CUresult cuMemFreeHost(void *p) { free(p); return 0; }
CUresult cuStreamCreate(CUstream *s, unsigned flags) { FAILS(1); say("stream %u\n", flags); *s = (CUstream)0x33; return 0; }
CUresult cuStreamDestroy_v2(CUstream s) { return s == (CUstream)0x33 ? 0 : 400; }

CUresult cuStreamSynchronize(CUstream s) {
	if (s == NULL) {
		say("wait\n");
		return 0;
	}
	FAILS(719);
	say("sync\n");
	return s == (CUstream)0x33 ? 0 : 400;
}


CUresult cuStreamBeginCapture_v2(CUstream s, int mode) { FAILS(1); say("capture mode %d\n", mode); capturing = 1; return 0; }
CUresult cuStreamEndCapture(CUstream s, CUgraph *g) { say("captured\n"); capturing = 0; FAILS(901); *g = (CUgraph)0x44; return 0; }
CUresult cuGraphInstantiateWithFlags(CUgraphExec *e, CUgraph g, unsigned long long flags) { FAILS(1); *e = (CUgraphExec)(intptr_t)++graphs; return g == (CUgraph)0x44 ? 0 : 1; }
CUresult cuGraphDestroy(CUgraph g) { say("graph done\n"); return g == (CUgraph)0x44 ? 0 : 1; }
CUresult cuGraphExecDestroy(CUgraphExec e) { say("graph free %ld\n", (long)(intptr_t)e); return 0; }
CUresult cuGraphLaunch(CUgraphExec e, CUstream s) { FAILS(1); say("graph %ld\n", (long)(intptr_t)e); return 0; }

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction f, void **params, void **extra) {
	struct entry *e = (struct entry *)f;
	int cluster = 0, policy = 0, dependent = 0;
	FAILS(1);
	for (unsigned i = 0; i < c->numAttrs; i++) {
		if (c->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION)
			cluster = c->attrs[i].value.clusterDim.x * c->attrs[i].value.clusterDim.y * c->attrs[i].value.clusterDim.z;
		if (c->attrs[i].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE)
			policy = c->attrs[i].value.clusterSchedulingPolicyPreference;
		if (c->attrs[i].id == CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION)
			dependent = c->attrs[i].value.programmaticStreamSerializationAllowed;
	}
	say("%s %s grid %u,%u,%u block %u,%u,%u shared %u cluster %d policy %d dependent %d params", capturing ? "node" : "launch", e->name,
		c->gridDimX, c->gridDimY, c->gridDimZ, c->blockDimX, c->blockDimY, c->blockDimZ, c->sharedMemBytes, cluster, policy, dependent);
	for (int i = 0; i < e->count; i++) {
		say(" ");
		for (int b = 0; b < e->sizes[i]; b++)
			say("%02x", ((unsigned char *)params[i])[b]);
	}
	say("\n");
	return c->hStream == (CUstream)0x33 && extra == NULL ? 0 : 1;
}

// cuTensorMapEncodeTiled writes the number of the map to its first bytes.
CUresult cuTensorMapEncodeTiled(CUtensorMap *m, int type, uint32_t rank, void *at, const uint64_t *dims, const uint64_t *strides,
		const uint32_t *box, const uint32_t *steps, int interleave, int swizzle, int l2, int fill) {
	FAILS(1);
	say("map %d type %d rank %u at %#lx dims", maps, type, rank, (CUdeviceptr)at);
	for (uint32_t i = 0; i < rank; i++)
		say(" %lu", dims[i]);
	say(" strides");
	for (uint32_t i = 0; i + 1 < rank; i++)
		say(" %lu", strides[i]);
	say(" box");
	for (uint32_t i = 0; i < rank; i++)
		say(" %u", box[i]);
	say(" steps");
	for (uint32_t i = 0; i < rank; i++)
		say(" %u", steps[i]);
	say(" interleave %d swizzle %d l2 %d fill %d\n", interleave, swizzle, l2, fill);
	memset(m, 0, sizeof *m);
	m->opaque[0] = maps++;
	return (uintptr_t)m % 128 ? 1 : 0;
}
