// Compares libcuda.h with cuda.h of NVIDIA: constants, layouts and the versions of functions.

#include <stdio.h>
#include <string.h>

#include <cuda.h>
#include "../libcuda.h"

#define C(name, value) _Static_assert((int)name == value, #name);
CUDA_CONSTANTS(C)
#define L(what, value) _Static_assert(what == value, #what);
CUDA_LAYOUTS(L)

#define TEXT(x) #x
#define EXPANDED(x) TEXT(x)

int main(void) {
	int wrong = 0;
#define F(name, symbol, parameters) \
	if (strcmp(EXPANDED(name), symbol) != 0) { \
		printf(#name " is " EXPANDED(name) ", not " symbol "\n"); \
		wrong = 1; \
	}
	CUDA_FUNCTIONS(F)
	return wrong;
}
