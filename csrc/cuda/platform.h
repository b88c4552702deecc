// The kernels' platform: CUDA itself, or the tests' emulator, with which g++ compiles the same
// sources.
//
// So each intrinsic here has a twin in the emulator, inline assembly (common/normal.h) has portable
// code beside it, and every launch goes through `launch`.
#pragma once

#include "../common/fail.h"
#include "../common/platform.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#define PYEBM_SHARED(T, name, count) __shared__ T name[count]
#else
#include "cuda_on_cpu.h"
#define PYEBM_SHARED(T, name, count) EMULATED_SHARED(T, name, count)
#endif

namespace pyebm {

constexpr int kThreads = 128;  // of a block; so few that small tensors still reach most multiprocessors

#if defined(__CUDACC__)
using Stream = cudaStream_t;

#if !defined(PYEBM_CUDA_ARCHS)
#define PYEBM_CUDA_ARCHS "unknown architectures"
#endif

// Errors come from the launch itself, never from cudaGetLastError alone, which may hold the error
// of another library's call.
template <class... Parameters>
void launch(const char* op, void (*kernel)(Parameters...), int64_t blocks, Stream stream,
            Parameters... arguments) {
  if (blocks == 0) return;
  if (blocks > 0x7FFFFFFF)
    fail(op, ": too many elements for one launch, ", blocks, " blocks of ", kThreads, " threads");
  void* pointers[] = {&arguments...};
  const cudaError_t status =
      cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)),
                       dim3(kThreads), pointers, 0, stream);
  if (status == cudaSuccess) return;
  cudaGetLastError();  // reported here; it must not come up again in a later call
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorUnsupportedPtxVersion) {
    fail_to_run(op, ": pyebm was built for ", PYEBM_CUDA_ARCHS, ", which this GPU or its driver can't run (",
                cudaGetErrorString(status),
                "); build again with TORCH_CUDA_ARCH_LIST set to the GPU's compute capability");
  }
  fail_to_run(op, ": the kernel could not be launched on the GPU: ", cudaGetErrorString(status));
}
#else
using Stream = void*;

template <class... Parameters>
void launch(const char* op, void (*kernel)(Parameters...), int64_t blocks, Stream, Parameters... arguments) {
  if (blocks > 0x7FFFFFFF)
    fail(op, ": too many elements for one launch, ", blocks, " blocks of ", kThreads, " threads");
  if (blocks == 0) return;
  if (cuda_on_cpu::recorder) {
    const void* pointers[] = {&arguments...};
    const size_t sizes[] = {sizeof(arguments)...};
    cuda_on_cpu::recorder(reinterpret_cast<const void*>(kernel), blocks, kThreads, sizeof...(arguments),
                          pointers, sizes);
  } else {
    cuda_on_cpu::launch(static_cast<unsigned>(blocks), kThreads, [&] { kernel(arguments...); });
  }
}
#endif

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace pyebm
