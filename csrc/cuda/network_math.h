// The activations of networks, and the products of a tile of samples with a layer's weights.
//
// An output is one chain of fused multiply-adds, which starts from a number (a bias) and takes the
// inputs in their order, as on the CPU (csrc/cpu/simd/network_lanes.h). So its bits depend on
// nothing but the sample.
#pragma once

#include "../common/langevin.h"
#include "dense_math.h"
#include "pack.h"

#define PYEBM_UNROLL PYEBM_UNROLL_ON_GPU

namespace {

// The operations that common/activations.h asks for, on numbers.
template <class V>
using Element = V;

template <class V>
PYEBM_HD V all(V x) {
  return x;
}
template <class V>
PYEBM_HD V fma(V a, V b, V c) {
  return pyebm::fused(a, b, c);
}
template <class V>
PYEBM_HD V within(V x, V low, V high) {
  return clamped(x, low, high);
}
template <class V>
PYEBM_HD V magnitude(V x) {
  return Real<V>::from(Real<V>::bits(x) & ~Real<V>::bits(V(-0.0)));
}
template <class V>
PYEBM_HD V with_sign_of(V x, V magnitude) {
  return Real<V>::from(Real<V>::bits(magnitude) | (Real<V>::bits(x) & Real<V>::bits(V(-0.0))));
}
template <class V>
PYEBM_HD V power_of_two(V shifted) {
  return Real<V>::from(Real<V>::bits(shifted) << Real<V>::kMantissa);
}

}  // namespace

#include "../common/activations.h"

namespace pyebm {

// Replaces a thread's numbers by their activations, and gives the derivatives there.
template <int64_t kActivation = 0, class T>
__device__ __forceinline__ void activate(int64_t activation, T parameter, T (&values)[kSide],
                                         T (&slopes)[kSide], T (&curves)[kSide]) {
  if constexpr (kActivation < kActivations) {
    if (activation != kActivation)
      return activate<kActivation + 1>(activation, parameter, values, slopes, curves);
#pragma unroll
    for (int c = 0; c < kSide; ++c) {
      const Activated<T> at = activated<kActivation>(values[c], parameter);
      values[c] = at.value, slopes[c] = at.slope, curves[c] = at.curve;
    }
  }
}

// sum[r][c] += h[r][i] w[c][i] for all inputs i. The rows of h are h_pitch apart; w[c] is a row of
// weights.
template <int kRows, class T>
__device__ __forceinline__ void multiply_by_rows(const T* h, int h_pitch, int inputs,
                                                 const T* const (&w)[kSide], T (&sum)[kRows][kSide]) {
  const int whole = inputs & ~3;
#pragma unroll 1
  for (int i = 0; i < whole; i += 4) {
    T weights[kSide][4], at[kRows][4];
#pragma unroll
    for (int c = 0; c < kSide; ++c) read(w[c] + i, weights[c]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) read(h + r * h_pitch + i, at[r]);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int c = 0; c < kSide; ++c) sum[r][c] = fused(at[r][k], weights[c][k], sum[r][c]);
      }
    }
  }
#pragma unroll 1
  for (int i = whole; i < inputs; ++i) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kSide; ++c) sum[r][c] = fused(h[r * h_pitch + i], w[c][i], sum[r][c]);
    }
  }
}

// The same for four outputs whose weights lie side by side; from one input's weights to the next
// input's it is `pitch` numbers.
template <int kRows, class T>
__device__ __forceinline__ void multiply_by_columns(const T* h, int h_pitch, int inputs, const T* w,
                                                    int pitch, T (&sum)[kRows][kSide]) {
  const int whole = inputs & ~3;
#pragma unroll 1
  for (int i = 0; i < whole; i += 4, w += 4 * pitch) {
    T weights[4][kSide], at[kRows][4];
#pragma unroll
    for (int k = 0; k < 4; ++k) read(w + k * pitch, weights[k]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) read(h + r * h_pitch + i, at[r]);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int c = 0; c < kSide; ++c) sum[r][c] = fused(at[r][k], weights[k][c], sum[r][c]);
      }
    }
  }
#pragma unroll 1
  for (int i = whole; i < inputs; ++i, w += pitch) {
    T weights[kSide];
    read(w, weights);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kSide; ++c) sum[r][c] = fused(h[r * h_pitch + i], weights[c], sum[r][c]);
    }
  }
}

}  // namespace pyebm
