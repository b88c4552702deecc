// What the ops on closed-form targets share: the scores of csrc/common/targets.h for a thread's elements.
#pragma once

#include "../common/targets.h"
#include "rows.h"

namespace pyebm {

constexpr int kMostScalars = 2;  // that an elementwise target has

// An elementwise target with its numbers, which a thread reads once.
template <class T>
class Elementwise {
 public:
  __device__ __forceinline__ Elementwise(int target, const T* params, int count) : target_(target) {
#pragma unroll
    for (int k = 0; k < kMostScalars; ++k) numbers_[k] = k < count ? params[k] : T(0);
  }

  template <int kCount>
  __device__ __forceinline__ void score(const T (&x)[kCount], T (&out)[kCount]) const {
    if (target_ == kHarmonic)
      score_each<Harmonic<T>>(x, out);
    else
      score_each<DoubleWell<T>>(x, out);
  }

 private:
  template <class Target, int kCount>
  __device__ __forceinline__ void score_each(const T (&x)[kCount], T (&out)[kCount]) const {
    static_assert(Target::kScalars <= kMostScalars);
    const Target target(numbers_);
#pragma unroll
    for (int k = 0; k < kCount; ++k) out[k] = target.score(x[k]);
  }

  int target_;
  T numbers_[kMostScalars];
};

// As a tensor of dtype S holds it.
template <class S, int kCount>
__device__ __forceinline__ void round_to(Compute<S> (&values)[kCount]) {
  if constexpr (sizeof(S) < sizeof(float)) {
#pragma unroll
    for (int k = 0; k < kCount; ++k) values[k] = widened(narrowed<S>(values[k]));
  }
}

template <class T>
const T* checked_params(const Call& call, int64_t target, const Tensor& params) {
  if (target < 0 || target >= kTargets) fail(call.op, ": target must be in [0, ", kTargets, "), got ", target);
  call.expect("params", params, std::is_same_v<T, double> ? ScalarType::Double : ScalarType::Float);
  const int64_t wanted = target == kHarmonic ? Harmonic<T>::kScalars : DoubleWell<T>::kScalars;
  if (params.numel() != wanted || !params.is_contiguous()) {
    fail(call.op, ": the target ", kTargetNames[target], " must have ", wanted, " parameters side by side, got ", params.numel());
  }
  return pointer<T>(params);
}

}  // namespace pyebm
