// The mean of one number per sample, in the order of csrc/cpu/loops/batch_mean.h: the second half
// is added to the first half, until one number is left.
#pragma once

#include "binding.h"

namespace pyebm {

constexpr int kFold = 8;                       // numbers that a thread adds
constexpr int64_t kLeaves = kFold * kThreads;  // numbers that one block adds

struct Numbers {
  const double* numbers;
  __device__ __forceinline__ double operator()(int64_t i) const { return numbers[i]; }
};

// The sum of the terms i, i + width, ..., (kFold of them; those beyond `count` are zero), by halves.
template <class Term>
__device__ __forceinline__ double folded(const Term& term, int64_t i, int64_t width, int64_t count) {
  double sums[kFold];
#pragma unroll
  for (int k = 0; k < kFold; ++k) sums[k] = i + k * width < count ? term(i + k * width) : 0.0;
#pragma unroll
  for (int half = kFold / 2; half; half /= 2) {
#pragma unroll
    for (int k = 0; k < half; ++k) sums[k] += sums[half + k];
  }
  return sums[0];
}

template <class Term>
__global__ void __launch_bounds__(kThreads) fold_kernel(double* out,  // [width]
                                                        Term term, int64_t width,
                                                        int64_t count) {  // of terms
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < width) out[i] = folded(term, i, width, count);
}

// One block adds up to kLeaves terms.
template <class Term>
__global__ void __launch_bounds__(kThreads) mean_kernel(double* mean,  // []
                                                        Term term,
                                                        int64_t count,     // of terms
                                                        double divisor) {  // samples
  PYEBM_SHARED(double, sums, kThreads);
  const int i = static_cast<int>(threadIdx.x);
  sums[i] = folded(term, i, kThreads, count);
  __syncthreads();
  for (int half = kThreads / 2; half; half /= 2) {
    if (i < half) sums[i] += sums[i + half];
    __syncthreads();
  }
  if (i == 0) *mean = sums[0] / divisor;
}

// The mean of term(0) to term(count - 1), as a tensor of one float64. term: from a sample's index,
// on the device, to its number.
template <class Term>
Tensor batch_mean(const Call& call, const Tensor& like, int64_t count, Term term) {
  const Tensor mean = workspace<double>(like, 1);
  const auto divisor = static_cast<double>(count);
  int64_t width = kLeaves;
  while (width < count) width *= 2;
  if (width == kLeaves) {
    call.launch(mean_kernel<Term>, 1, pointer<double>(mean), term, count, divisor);
    return mean;
  }
  width /= kFold;
  Tensor sums = workspace<double>(like, width);
  call.launch(fold_kernel<Term>, ceil_div(width, kThreads), pointer<double>(sums), term, width, count);
  while (width > kLeaves) {
    const Tensor before = sums;
    const int64_t many = width;
    width /= kFold;
    sums = workspace<double>(like, width);
    call.launch(fold_kernel<Numbers>, ceil_div(width, kThreads), pointer<double>(sums),
                Numbers{pointer<double>(before)}, width, many);
  }
  call.launch(mean_kernel<Numbers>, 1, pointer<double>(mean), Numbers{pointer<double>(sums)}, width, divisor);
  return mean;
}

}  // namespace pyebm
