// Arithmetic of the dense targets, within a thread and across the threads that share a sample.
#pragma once

#include "../common/functions.h"
#include "platform.h"

namespace pyebm {

constexpr int kAcross = 16;             // threads that share a sample
constexpr int kSide = 4;                // columns a thread
constexpr int kTile = kAcross * kSide;  // components, rows of a matrix, or outputs of a layer, at once

// a b + c, rounded once. Apart from normal.h's square root, only the dense targets and networks
// fuse. The dense targets keep a bound, and need not have the same bits everywhere; the networks
// have the same bits because they fuse on every backend.
PYEBM_HD float fused(float a, float b, float c) {
#if defined(__CUDA_ARCH__)
  return __fmaf_rn(a, b, c);
#else
  return __builtin_fmaf(a, b, c);
#endif
}
PYEBM_HD double fused(double a, double b, double c) {
#if defined(__CUDA_ARCH__)
  return __fma_rn(a, b, c);
#else
  return __builtin_fma(a, b, c);
#endif
}

// 2^y for y <= 0: 1 at 0, 0 where it would be subnormal. NaN stays NaN, whatever its bits.
__device__ __forceinline__ float exp2_of(float y) {
  constexpr Exp2<float> kPolynomial;
  const float rounded = y + 0x1.8p23f, f = y - (rounded - 0x1.8p23f);
  float q = kPolynomial.coefficients[0];
#pragma unroll
  for (int k = 1; k < kPolynomial.kTerms; ++k) q = fused(q, f, kPolynomial.coefficients[k]);
  return y < -126.0f ? 0.0f : q * bits_float((float_bits(rounded) << 23) + 0x3F800000u);
}
__device__ __forceinline__ double exp2_of(double y) {
  constexpr Exp2<double> kPolynomial;
  const double rounded = y + 0x1.8p52, f = y - (rounded - 0x1.8p52);
  double q = kPolynomial.coefficients[0];
#pragma unroll
  for (int k = 1; k < kPolynomial.kTerms; ++k) q = fused(q, f, kPolynomial.coefficients[k]);
  return y < -1022.0 ? 0.0 : q * bits_double((double_bits(rounded) << 52) + 0x3FF0000000000000u);
}

template <class T>
__device__ __forceinline__ T infinity() {
  return static_cast<T>(bits_float(0x7F800000u));
}
template <class T>
__device__ __forceinline__ T lowest() {
  return sizeof(T) == 4 ? T(-0x1.fffffep127) : T(-0x1.fffffffffffffp1023);
}
template <class T>
__device__ __forceinline__ T larger(T b, T a) {  // a where b is NaN
  return b > a ? b : a;
}

// The sum, or the maximum, over the threads that share a sample; each of these threads gets it.
template <class T>
__device__ __forceinline__ T summed_across(T value) {
#pragma unroll
  for (int half = kAcross / 2; half > 0; half /= 2) value = value + __shfl_xor_sync(0xFFFFFFFFu, value, half);
  return value;
}
template <class T>
__device__ __forceinline__ T largest_across(T value) {
#pragma unroll
  for (int half = kAcross / 2; half > 0; half /= 2)
    value = larger(__shfl_xor_sync(0xFFFFFFFFu, value, half), value);
  return value;
}

}  // namespace pyebm
