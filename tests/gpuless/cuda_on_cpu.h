// CUDA C++ for g++ and clang++: as much of the language as the project's kernels use, on fibers
// (scheduler.h).
//
// -fsanitize=address finds accesses out of bounds, -fsanitize=alignment misaligned ones,
// -fsanitize=thread races between CUDA threads, also of different blocks; NaN-filled shared memory
// and PYEBM_EMULATOR_SEED's orders find what a barrier left out.
#pragma once

#include <cmath>

#include "scheduler.h"

namespace cuda_on_cpu {
// The recorder, where set, gets every launch in place of the emulator: kernel, blocks, threads,
// bytes of dynamic shared memory, and the number, addresses and sizes of the arguments. It also
// gets every workspace: the address in place of the kernel, the bytes in place of the blocks, and
// no threads.
using Recorder = void (*)(const void*, int64_t, int64_t, int64_t, int64_t, const void* const*, const size_t*);
inline Recorder recorder = nullptr;
inline void allocated(const void* memory, int64_t bytes) {
  if (recorder) recorder(memory, bytes, 0, 0, 0, nullptr, nullptr);
}
}  // namespace cuda_on_cpu

extern "C" inline __attribute__((visibility("default"), used)) void pyebm_record(cuda_on_cpu::Recorder recorder) {
  cuda_on_cpu::recorder = recorder;
}

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)

#define threadIdx (::cuda_on_cpu::thread_index)
#define blockIdx (::cuda_on_cpu::block_index)
#define blockDim (::cuda_on_cpu::block_dim)
#define gridDim (::cuda_on_cpu::grid_dim)
#define EMULATED_SHARED(T, name, count) \
  static const char name##_tag = 0;     \
  T* const name = static_cast<T*>(::cuda_on_cpu::shared_array(&name##_tag, sizeof(T) * (count), alignof(T)))

inline void __syncthreads() { cuda_on_cpu::barrier(); }

namespace cuda_on_cpu {
// The value from lane `from` of the calling warp; with `own`, the caller's value, because there is
// no such lane.
template <class T>
T shuffle(unsigned mask, T value, unsigned from, bool own) {
  static_assert(sizeof(T) <= 8);
  uint64_t word = 0;
  std::memcpy(&word, &value, sizeof value);
  const int buffer = meet(mask, word);
  if (own) return value;
  Quiet quiet;
  if (!(mask >> from & 1)) fail("shuffle: reads a lane outside the mask");
  std::memcpy(&value, &block.warps[block.current->thread / 32].slot[buffer][from], sizeof value);
  return value;
}
inline unsigned lane() { return block.current->thread % 32; }
}  // namespace cuda_on_cpu

template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {
  const unsigned lane = cuda_on_cpu::lane();
  return cuda_on_cpu::shuffle(mask, value, lane + delta,
                              lane % static_cast<unsigned>(width) + delta >= static_cast<unsigned>(width));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int flipped) {
  return cuda_on_cpu::shuffle(mask, value, cuda_on_cpu::lane() ^ static_cast<unsigned>(flipped), false);
}
inline void __syncwarp(unsigned mask = 0xFFFFFFFFu) { cuda_on_cpu::meet(mask, 0); }

// TSan knows no fences. Here each fence is ordered after all earlier ones, so that TSan sees where
// a fence before a ticket is missing.
inline char emulated_fence;
inline void __threadfence() {
#if defined(__SANITIZE_THREAD__)
  cuda_on_cpu::acquire(&emulated_fence);
  cuda_on_cpu::release(&emulated_fence);
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}
inline unsigned long long atomicMin(unsigned long long* at, unsigned long long value) {
  unsigned long long seen = __atomic_load_n(at, __ATOMIC_RELAXED);
  while (value < seen && !__atomic_compare_exchange_n(at, &seen, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return seen;
}
inline unsigned atomicAdd(unsigned* at, unsigned value) { return __atomic_fetch_add(at, value, __ATOMIC_RELAXED); }

inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<uint64_t>((static_cast<Wide>(a) * b) >> 64);
}

// Half precisions by integer arithmetic, to nearest even.
struct __half {
  uint16_t bits;
};
struct __nv_bfloat16 {
  uint16_t bits;
};

namespace cuda_on_cpu {
inline uint32_t bits_of(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline float float_of(uint32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
}  // namespace cuda_on_cpu

inline float __bfloat162float(__nv_bfloat16 x) { return cuda_on_cpu::float_of(static_cast<uint32_t>(x.bits) << 16); }
inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const uint32_t bits = cuda_on_cpu::bits_of(x);
  if (x != x) return {0x7FFF};
  return {static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16)};
}
inline float __half2float(__half x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16, magnitude = x.bits & 0x7FFFu;
  if (magnitude >= 0x7C00u) return cuda_on_cpu::float_of(sign | 0x7F800000u | (magnitude & 0x3FFu) << 13);
  return std::copysign(std::ldexp(static_cast<float>(magnitude < 0x400u ? magnitude : (magnitude & 0x3FFu) | 0x400u),
                                  (magnitude < 0x400u ? 1 : static_cast<int>(magnitude >> 10)) - 25),
                       cuda_on_cpu::float_of(sign | 0x3F800000u));
}
inline __half __float2half_rn(float x) {
  const auto sign = static_cast<uint16_t>(cuda_on_cpu::bits_of(x) >> 16 & 0x8000u);
  if (x != x) return {0x7FFF};
  const float magnitude = std::fabs(x);
  if (magnitude >= 65520.0f) return {static_cast<uint16_t>(sign | 0x7C00u)};
  // x is counted in spacings of the halves around it; a count that rounds up to the next power of
  // two carries into the exponent.
  const int exponent = magnitude < 0x1p-14f ? -14 : std::ilogb(magnitude);
  const auto steps = static_cast<uint32_t>(std::nearbyint(std::ldexp(magnitude, 10 - exponent)));
  return {static_cast<uint16_t>(sign | (steps + (static_cast<uint32_t>(exponent + 14) << 10)))};
}
