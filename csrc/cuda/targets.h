// The scores of csrc/common/targets.h, for all ops on closed-form targets: of a thread's elements
// where each is independent of the others, and of a whole sample where its elements need each
// other.
#pragma once

#include "../common/targets.h"
#include "coefficients.h"

namespace pyebm {

template <class T>
struct TargetNumbers {
  int target, count;
  const T* params;
  int64_t elements;  // of a sample
  bool is_coupled() const { return target == kRosenbrock || target == kAckley || target == kFunnel; }
};

// Targets whose elements are independent of each other.
template <class T>
class ElementTarget {
 public:
  __device__ __forceinline__ explicit ElementTarget(const TargetNumbers<T>& in) : in_(in) {
    if (in.target == kGaussian || in.target == kPolynomial) return;
    first_ = in.params[0];
    second_ = in.count > 1 ? in.params[1] : T(0);
  }

  template <int kCount>
  __device__ __forceinline__ void score(const Place& at, const T (&x)[kCount], T (&out)[kCount]) const {
    if (in_.target == kHarmonic) {
      each<Harmonic<T>>(x, out);
    } else if (in_.target == kDoubleWell) {
      each<DoubleWell<T>>(x, out);
    } else if (in_.target == kRastrigin) {
      each<Rastrigin<T>>(x, out);
    } else if (in_.target == kGaussian) {
      const T *mean = in_.params + at.element(), *precision = mean + in_.elements;
#pragma unroll
      for (int k = 0; k < kCount; ++k)
        out[k] = k < at.count ? gaussian_score(x[k], mean[k], precision[k]) : T(0);
    } else {
#pragma unroll
      for (int k = 0; k < kCount; ++k) out[k] = in_.params[in_.count - 1];
      for (int power = in_.count - 2; power >= 0; --power) {
        const T coefficient = in_.params[power];
#pragma unroll
        for (int k = 0; k < kCount; ++k) out[k] = polynomial_step(out[k], x[k], coefficient);
      }
    }
  }

 private:
  template <class Target, int kCount>
  __device__ __forceinline__ void each(const T (&x)[kCount], T (&out)[kCount]) const {
    static_assert(Target::kScalars <= 2);
    const T numbers[2] = {first_, second_};
    const Target target(numbers);
#pragma unroll
    for (int k = 0; k < kCount; ++k) out[k] = target.score(x[k]);
  }

  const TargetNumbers<T>& in_;
  T first_ = 0, second_ = 0;
};

// Targets whose elements need each other. get(i) is element i of the sample; sum(term) adds term(i)
// over all of them, in the order that kSumLanes promises.
template <class T>
class SampleTarget {
 public:
  __device__ __forceinline__ explicit SampleTarget(const TargetNumbers<T>& in) : in_(in) {}

  template <class Get, class Sum>
  __device__ __forceinline__ void prepare(const Get& get, const Sum& sum) {
    if (in_.target == kAckley) {
      const Ackley<T> target(in_.params);
      const T squares = sum([&](int64_t i) { return get(i) * get(i); });
      const T cosines = sum([&](int64_t i) {
        T sine, cosine;
        target.sine_and_cosine(get(i), sine, cosine);
        return cosine;
      });
      target.coefficients(squares, cosines, static_cast<T>(in_.elements), first_, second_);
    } else if (in_.target == kFunnel) {
      first_ = sum([&](int64_t i) { return i ? get(i) * get(i) : T(0); });
      second_ = exponential(-get(0));
    }
  }

  template <class Get>
  __device__ __forceinline__ T score(int64_t i, const Get& get) const {
    if (in_.target == kRosenbrock) {
      const bool has_before = i > 0, has_after = i + 1 < in_.elements;
      const T before = has_before ? get(i - 1) : T(0), after = has_after ? get(i + 1) : T(0);
      return Rosenbrock<T>(in_.params).score(before, get(i), after, has_before, has_after);
    }
    if (in_.target == kAckley) {
      const Ackley<T> target(in_.params);
      T sine, cosine;
      target.sine_and_cosine(get(i), sine, cosine);
      return target.score(get(i), sine, first_, second_);
    }
    const Funnel<T> target(in_.params);
    return i ? target.other(get(i), second_)
             : target.first(get(i), first_, second_, static_cast<T>(in_.elements - 1));
  }

 private:
  const TargetNumbers<T>& in_;
  T first_ = 0, second_ = 0;  // of the sample: pull and turn, or the sum of squares and e^-v
};

// A warp's sum: lane l adds the elements l, l + 32, ..., then the upper half of the lanes is added
// to the lower half until one is left; every lane gets the sum.
template <class T>
struct WarpSum {
  int64_t elements;

  template <class Term>
  __device__ __forceinline__ T operator()(const Term& term) const {
    static_assert(kSumLanes == 32);
    T sum = 0;
    for (int64_t i = threadIdx.x % 32; i < elements; i += 32) sum = sum + term(i);
#pragma unroll
    for (int half = 16; half > 0; half /= 2) sum = sum + __shfl_xor_sync(0xFFFFFFFFu, sum, half);
    return sum;
  }
};

// One thread's sum of the up to four elements of its sample; the order's other lanes are zero.
template <class T>
struct SmallSum {
  int64_t elements;

  template <class Term>
  __device__ __forceinline__ T operator()(const Term& term) const {
    T lane[4];
#pragma unroll
    for (int l = 0; l < 4; ++l) lane[l] = l < elements ? term(l) : T(0);
    return (lane[0] + lane[2]) + (lane[1] + lane[3]);
  }
};

// The scores of a thread's elements, which are the whole sample (at most four) if the target is
// coupled.
template <class T, int kCount>
__device__ __forceinline__ void score_elements(const TargetNumbers<T>& in, const ElementTarget<T>& each,
                                               bool coupled, const Place& at, const T (&x)[kCount],
                                               T (&out)[kCount]) {
  if constexpr (kCount == 4) {
    if (coupled) {
      SampleTarget<T> target(in);
      const auto get = [&](int64_t i) { return i == 0 ? x[0] : i == 1 ? x[1] : i == 2 ? x[2] : x[3]; };
      target.prepare(get, SmallSum<T>{in.elements});
#pragma unroll
      for (int k = 0; k < kCount; ++k) out[k] = k < at.count ? target.score(k, get) : T(0);
      return;
    }
  }
  each.score(at, x, out);
}

// The value as a tensor of dtype S holds it.
template <class S>
__device__ __forceinline__ Compute<S> rounded(Compute<S> value) {
  return widened(narrowed<S>(value));
}

template <class T>
TargetNumbers<T> checked_target(const Call& call, int64_t target, const Tensor& params, const Tensor& x) {
  const int64_t elements = elements_of(x), count = params.numel();
  const int64_t scalars[kFunnel + 1] = {
      Harmonic<T>::kScalars,  DoubleWell<T>::kScalars, 2 * elements,        count ? count : 1,
      Rastrigin<T>::kScalars, Rosenbrock<T>::kScalars, Ackley<T>::kScalars, Funnel<T>::kScalars};
  const int64_t least = target == kRosenbrock || target == kFunnel ? 2 : 0;
  if (x.numel() && (count != scalars[target] || elements < least)) {
    fail(call.op, ": params: the target ", kTargetNames[target], " with ", count,
         " parameters has no samples of ", elements, " elements");
  }
  return {static_cast<int>(target), static_cast<int>(count), pointer<T>(params), elements};
}

}  // namespace pyebm
