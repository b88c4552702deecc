// The mean of one number per sample, in the order of csrc/cpu/loops/batch_mean.h: the second half
// of the numbers is added to the first half, until one number is left.
#include "batch_mean.h"

namespace pyebm {
namespace {

constexpr int kFold = 8;                       // numbers that a thread adds
constexpr int64_t kLeaves = kFold * kThreads;  // numbers that one block adds

// The sum by halves of the kFold numbers i, i + width, ...; numbers beyond `count` count as zero.
__device__ __forceinline__ double folded(const double* numbers, int64_t i, int64_t width, int64_t count) {
  double sums[kFold];
#pragma unroll
  for (int k = 0; k < kFold; ++k) sums[k] = i + k * width < count ? numbers[i + k * width] : 0.0;
#pragma unroll
  for (int half = kFold / 2; half; half /= 2) {
#pragma unroll
    for (int k = 0; k < half; ++k) sums[k] += sums[half + k];
  }
  return sums[0];
}

__global__ void __launch_bounds__(kThreads) fold_kernel(double* sums,           // [width]
                                                        const double* numbers,  // [count]
                                                        int64_t width, int64_t count) {
  const int64_t i = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (i < width) sums[i] = folded(numbers, i, width, count);
}

// One block adds up to kLeaves numbers.
__global__ void __launch_bounds__(kThreads) mean_kernel(double* mean,           // []
                                                        const double* numbers,  // [count]
                                                        int64_t count,
                                                        double divisor) {  // samples
  PYEBM_SHARED(double, sums, kThreads);
  const int i = static_cast<int>(threadIdx.x);
  sums[i] = folded(numbers, i, kThreads, count);
  __syncthreads();
  for (int half = kThreads / 2; half; half /= 2) {
    if (i < half) sums[i] += sums[i + half];
    __syncthreads();
  }
  if (i == 0) *mean = sums[0] / divisor;
}

}  // namespace

Tensor batch_mean(const Call& call, const Tensor& like, const double* numbers, int64_t count) {
  const Tensor mean = workspace<double>(like, 1);
  const auto divisor = static_cast<double>(count);
  int64_t width = kLeaves;
  while (width < count) width *= 2;
  MaybeTensor memory;
  while (width > kLeaves) {
    width /= kFold;
    const Tensor sums = workspace<double>(like, width);
    call.launch(fold_kernel, ceil_div(width, kThreads), pointer<double>(sums), numbers, width, count);
    memory = sums;
    numbers = pointer<double>(sums), count = width;
  }
  call.launch(mean_kernel, 1, pointer<double>(mean), numbers, count, divisor);
  return mean;
}

}  // namespace pyebm
