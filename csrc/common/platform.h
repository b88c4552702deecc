// Torch-free headers that g++, clang++ and nvcc all compile: the arithmetic of every op, written
// once.
//
// Bits are promised (docs/noise.md), so every product and sum must be rounded by itself: compile
// with -ffp-contract=off (nvcc: --fmad=false).
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define PYEBM_HD __host__ __device__ __forceinline__
#else
#define PYEBM_HD inline __attribute__((always_inline))
#endif

#if defined(__CUDA_ARCH__)
#define PYEBM_UNROLL_ON_GPU _Pragma("unroll")
#else
#define PYEBM_UNROLL_ON_GPU
#endif
