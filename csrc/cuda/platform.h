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
// The shared memory whose size the launch gives.
#define PYEBM_DYNAMIC_SHARED(T, name)                            \
  extern __shared__ __align__(32) unsigned char shared_memory[]; \
  T* const name = reinterpret_cast<T*>(shared_memory)
#else
#include "cuda_on_cpu.h"
#define PYEBM_SHARED(T, name, count) EMULATED_SHARED(T, name, count)
#define PYEBM_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::cuda_on_cpu::dynamic_shared())
#endif

namespace pyebm {

constexpr int kThreads = 128;  // of a block; so few that small tensors still reach most multiprocessors

#if defined(__CUDACC__)
using Stream = cudaStream_t;

#if !defined(PYEBM_CUDA_ARCHS)
#define PYEBM_CUDA_ARCHS "unknown architectures"
#endif

constexpr int64_t kPlainShared = 48 << 10;  // bytes of shared memory that a launch gets without asking

// The most shared memory that a block on the device can have, in bytes.
inline int64_t most_shared(int32_t device) {
  int bytes = 0;
  const cudaError_t status = cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (status == cudaSuccess) return bytes;
  cudaGetLastError();
  return kPlainShared;
}

// `shared`: bytes of PYEBM_DYNAMIC_SHARED. Errors come from the launch itself, never from
// cudaGetLastError alone, which may hold the error of another library's call.
template <class... Parameters>
void launch(const char* op, void (*kernel)(Parameters...), int64_t blocks, int64_t shared, Stream stream,
            Parameters... arguments) {
  if (blocks == 0) return;
  if (blocks > 0x7FFFFFFF)
    fail(op, ": too many elements for one launch, ", blocks, " blocks of ", kThreads, " threads");
  void* pointers[] = {&arguments...};
  const void* const function = reinterpret_cast<const void*>(kernel);
  cudaError_t status = cudaSuccess;
  if (shared > kPlainShared)
    status =
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (status == cudaSuccess) {
    status = cudaLaunchKernel(function, dim3(static_cast<unsigned>(blocks)), dim3(kThreads), pointers,
                              static_cast<size_t>(shared), stream);
  }
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

inline int64_t most_shared(int32_t) { return cuda_on_cpu::most_shared(); }

template <class... Parameters>
void launch(const char* op, void (*kernel)(Parameters...), int64_t blocks, int64_t shared, Stream,
            Parameters... arguments) {
  if (blocks > 0x7FFFFFFF)
    fail(op, ": too many elements for one launch, ", blocks, " blocks of ", kThreads, " threads");
  if (blocks == 0) return;
  if (cuda_on_cpu::recorder) {
    const void* pointers[] = {&arguments...};
    const size_t sizes[] = {sizeof(arguments)...};
    cuda_on_cpu::recorder(reinterpret_cast<const void*>(kernel), blocks, kThreads, shared,
                          sizeof...(arguments), pointers, sizes);
  } else {
    cuda_on_cpu::launch(static_cast<unsigned>(blocks), kThreads, static_cast<size_t>(shared),
                        [&] { kernel(arguments...); });
  }
}
#endif

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace pyebm
