// Elements in memory and in registers: 16-byte accesses, and half precisions widened at the load
// and rounded once at the store.
#pragma once

#include <type_traits>

#include "../common/normal.h"
#include "platform.h"

namespace pyebm {

// The type of the arithmetic on elements of dtype S.
template <class S>
using Compute = std::conditional_t<std::is_same_v<S, double>, double, float>;

// The elements of a thread, where they lie side by side: several Philox calls then share their keys
// and the work that a thread does before it begins. Doubles are fewer: they take twice the
// registers.
template <class S>
constexpr int kElements = std::is_same_v<S, double> ? 8 : 16;

template <class T>
__device__ __forceinline__ T widened(T value) {
  return value;
}
__device__ __forceinline__ float widened(__half value) { return __half2float(value); }
__device__ __forceinline__ float widened(__nv_bfloat16 value) { return __bfloat162float(value); }

template <class S>
__device__ __forceinline__ S narrowed(Compute<S> value) {
  if constexpr (std::is_same_v<S, __half>)
    return __float2half_rn(value);
  else if constexpr (std::is_same_v<S, __nv_bfloat16>)
    return __float2bfloat16_rn(value);
  else
    return value;
}

// The value as a tensor of dtype S holds it.
template <class S>
__device__ __forceinline__ Compute<S> rounded(Compute<S> value) {
  return widened(narrowed<S>(value));
}

// The elements that one access moves: 16 bytes, or a granule where that is fewer bytes (a mask's).
template <class S, int kCount>
struct alignas(sizeof(S) * kCount) Pack {
  S values[kCount];
};

template <class S, int kGranule>
constexpr int kPack = sizeof(S) * kGranule < 16 ? kGranule : 16 / static_cast<int>(sizeof(S));

// A word holds two elements. Each takes one instruction here, where nvcc takes two for the upper
// one.
__device__ __forceinline__ void unpack(const __nv_bfloat16* from, float* values, int count) {
#pragma unroll
  for (int k = 0; k < count; k += 2) {
    uint32_t pair;
    memcpy(&pair, from + k, sizeof pair);
    values[k] = bits_float(pair << 16);
    values[k + 1] = bits_float(pair & 0xFFFF0000u);
  }
}

template <int kGranule, class S, class T, int kCount>
__device__ __forceinline__ void load_wide(const S* from, T (&values)[kCount]) {
  constexpr int kN = kPack<S, kGranule>;
#pragma unroll
  for (int i = 0; i < kCount; i += kN) {
    const Pack<S, kN> pack = *reinterpret_cast<const Pack<S, kN>*>(from + i);
    if constexpr (std::is_same_v<S, __nv_bfloat16> && kN % 2 == 0) {
      unpack(pack.values, values + i, kN);
    } else {
#pragma unroll
      for (int k = 0; k < kN; ++k) values[i + k] = static_cast<T>(widened(pack.values[k]));
    }
  }
}

template <int kGranule, class S, class T, int kCount>
__device__ __forceinline__ void store_wide(S* to, const T (&values)[kCount]) {
  constexpr int kN = kPack<S, kGranule>;
#pragma unroll
  for (int i = 0; i < kCount; i += kN) {
    Pack<S, kN> pack;
#pragma unroll
    for (int k = 0; k < kN; ++k) pack.values[k] = narrowed<S>(values[i + k]);
    *reinterpret_cast<Pack<S, kN>*>(to + i) = pack;
  }
}

// Numbers side by side, of which each group of four is aligned.
template <int kCount, class T>
__device__ __forceinline__ void read(const T* from, T (&to)[kCount]) {
  constexpr int kN = kCount < 4 ? kCount : 4;
#pragma unroll
  for (int i = 0; i < kCount; i += kN) {
    const auto pack = *reinterpret_cast<const Pack<T, kN>*>(from + i);
#pragma unroll
    for (int k = 0; k < kN; ++k) to[i + k] = pack.values[k];
  }
}
template <int kCount, class T>
__device__ __forceinline__ void write(T* to, const T (&from)[kCount]) {
  constexpr int kN = kCount < 4 ? kCount : 4;
#pragma unroll
  for (int i = 0; i < kCount; i += kN) {
    Pack<T, kN> pack;
#pragma unroll
    for (int k = 0; k < kN; ++k) pack.values[k] = from[i + k];
    *reinterpret_cast<Pack<T, kN>*>(to + i) = pack;
  }
}

}  // namespace pyebm
