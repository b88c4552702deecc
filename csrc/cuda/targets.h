// The scores and energies of csrc/common/targets.h, for all ops on closed-form targets: those of a
// thread's elements where each is independent of the others, and of a whole sample where its
// elements need each other.
#pragma once

#include "../common/target_facts.h"
#include "coefficients.h"

#include <algorithm>
#include <type_traits>

namespace pyebm {

template <class T>
struct TargetNumbers {
  int target, count;
  const T* params;
  int64_t elements;  // of a sample
  bool is_coupled() const { return kTargetFacts[target].is_coupled; }
};

template <Target kTarget>
using Is = std::integral_constant<Target, kTarget>;

// The most parameters of an elementwise target.
#define PYEBM_PARAMETERS(Name, ...) kParameters<Name>,
constexpr int kMostParameters =
    std::max({PYEBM_TARGETS(PYEBM_PARAMETERS, PYEBM_NO_TARGET, PYEBM_NO_TARGET, PYEBM_NO_TARGET)});
#undef PYEBM_PARAMETERS

// Targets whose elements are independent of each other. The parameters of an elementwise target are
// read once.
template <class T>
class ElementTarget {
 public:
  __device__ __forceinline__ explicit ElementTarget(const TargetNumbers<T>& in) : in_(in) {
#define PYEBM_OWN(Name, ...) \
  if (in.target == k##Name) return;
    PYEBM_TARGETS(PYEBM_NO_TARGET, PYEBM_OWN, PYEBM_NO_TARGET, PYEBM_NO_TARGET)
#undef PYEBM_OWN
#pragma unroll
    for (int k = 0; k < kMostParameters; ++k) numbers_[k] = k < in.count ? in.params[k] : T(0);
  }

  template <int kCount>
  __device__ __forceinline__ void score(const Place& at, const T (&x)[kCount], T (&out)[kCount]) const {
#define PYEBM_EACH(Name, ...) \
  if (in_.target == k##Name) return each<Name>(x, out);
#define PYEBM_OWN(Name, ...) \
  if (in_.target == k##Name) return own(Is<k##Name>(), at, x, out);
    PYEBM_TARGETS(PYEBM_EACH, PYEBM_OWN, PYEBM_NO_TARGET, PYEBM_NO_TARGET)
#undef PYEBM_EACH
#undef PYEBM_OWN
  }

  // The energy of element i of a sample.
  __device__ __forceinline__ T energy(int64_t i, T x) const {
#define PYEBM_EACH(Name, ...) \
  if (in_.target == k##Name) return unpacked<Name>(numbers_).energy(x);
#define PYEBM_OWN(Name, ...) \
  if (in_.target == k##Name) return own_energy(Is<k##Name>(), i, x);
    PYEBM_TARGETS(PYEBM_EACH, PYEBM_OWN, PYEBM_NO_TARGET, PYEBM_NO_TARGET)
#undef PYEBM_EACH
#undef PYEBM_OWN
    return T(0);
  }

 private:
  template <template <class> class Target, int kCount>
  __device__ __forceinline__ void each(const T (&x)[kCount], T (&out)[kCount]) const {
    const Target<T> target = unpacked<Target>(numbers_);
#pragma unroll
    for (int k = 0; k < kCount; ++k) out[k] = target.score(x[k]);
  }

  template <int kCount>
  __device__ __forceinline__ void own(Is<kGaussian>, const Place& at, const T (&x)[kCount],
                                      T (&out)[kCount]) const {
    const T *mean = in_.params + at.element(), *precision = mean + in_.elements;
#pragma unroll
    for (int k = 0; k < kCount; ++k)
      out[k] = k < at.count ? gaussian_score(x[k], mean[k], precision[k]) : T(0);
  }

  template <int kCount>
  __device__ __forceinline__ void own(Is<kPolynomial>, const Place&, const T (&x)[kCount],
                                      T (&out)[kCount]) const {
#pragma unroll
    for (int k = 0; k < kCount; ++k) out[k] = in_.params[in_.count - 1];
    for (int power = in_.count - 2; power >= 0; --power) {
      const T coefficient = in_.params[power];
#pragma unroll
      for (int k = 0; k < kCount; ++k) out[k] = polynomial_step(out[k], x[k], coefficient);
    }
  }

  __device__ __forceinline__ T own_energy(Is<kGaussian>, int64_t i, T x) const {
    return gaussian_energy(x, in_.params[i], in_.params[in_.elements + i]);
  }
  __device__ __forceinline__ T own_energy(Is<kPolynomial>, int64_t, T x) const {
    T value = in_.params[in_.count - 1] / T(-in_.count);
    for (int power = in_.count - 1; power >= 0; --power)
      value = polynomial_step(value, x, power ? in_.params[power - 1] / T(-power) : T(0));
    return value;
  }

  const TargetNumbers<T>& in_;
  T numbers_[kMostParameters] = {};
};

// Targets whose elements need each other. get(i) is element i of the sample; sum(term) adds term(i)
// over all of them, in the order that kSumLanes promises, and spans(term) in that of kEnergySpan.
template <class T>
class SampleTarget {
 public:
  __device__ __forceinline__ explicit SampleTarget(const TargetNumbers<T>& in) : in_(in) {}

  template <class Get, class Sum>
  __device__ __forceinline__ void prepare(const Get& get, const Sum& sum) {
#define PYEBM_PREPARE(Name, ...) \
  if (in_.target == k##Name) return prepare(unpacked<Name>(in_.params), get, sum);
    PYEBM_TARGETS(PYEBM_NO_TARGET, PYEBM_NO_TARGET, PYEBM_PREPARE, PYEBM_NO_TARGET)
#undef PYEBM_PREPARE
  }

  template <class Get>
  __device__ __forceinline__ T score(int64_t i, const Get& get) const {
#define PYEBM_SCORE(Name, ...) \
  if (in_.target == k##Name) return score(unpacked<Name>(in_.params), i, get);
    PYEBM_TARGETS(PYEBM_NO_TARGET, PYEBM_NO_TARGET, PYEBM_SCORE, PYEBM_NO_TARGET)
#undef PYEBM_SCORE
    return T(0);
  }

  template <class Get, class Sum, class Spans>
  __device__ __forceinline__ double energy(const Get& get, const Sum& sum, const Spans& spans) const {
#define PYEBM_ENERGY(Name, ...) \
  if (in_.target == k##Name) return energy(unpacked<Name>(in_.params), get, sum, spans);
    PYEBM_TARGETS(PYEBM_NO_TARGET, PYEBM_NO_TARGET, PYEBM_ENERGY, PYEBM_NO_TARGET)
#undef PYEBM_ENERGY
    return 0;
  }

 private:
  template <class Get, class Sum>
  __device__ __forceinline__ void prepare(const Rosenbrock<T>&, const Get&, const Sum&) {}

  template <class Get, class Sum, class Spans>
  __device__ __forceinline__ double energy(const Rosenbrock<T>& target, const Get& get, const Sum&,
                                           const Spans& spans) const {
    return spans([&](int64_t i) { return i + 1 < in_.elements ? target.energy(get(i), get(i + 1)) : T(0); });
  }

  template <class Get>
  __device__ __forceinline__ T score(const Rosenbrock<T>& target, int64_t i, const Get& get) const {
    const bool has_before = i > 0, has_after = i + 1 < in_.elements;
    const T before = has_before ? get(i - 1) : T(0), after = has_after ? get(i + 1) : T(0);
    return target.score(before, get(i), after, has_before, has_after);
  }

  template <class Get, class Sum>
  __device__ __forceinline__ void prepare(const Ackley<T>& target, const Get& get, const Sum& sum) {
    T squares, cosines;
    sums(target, get, sum, squares, cosines);
    target.coefficients(squares, cosines, static_cast<T>(in_.elements), first_, second_);
  }

  template <class Get, class Sum, class Spans>
  __device__ __forceinline__ double energy(const Ackley<T>& target, const Get& get, const Sum& sum,
                                           const Spans&) const {
    T squares, cosines;
    sums(target, get, sum, squares, cosines);
    return target.energy(squares, cosines, static_cast<T>(in_.elements));
  }

  template <class Get, class Sum>
  __device__ __forceinline__ static void sums(const Ackley<T>& target, const Get& get, const Sum& sum,
                                              T& squares, T& cosines) {
    squares = sum([&](int64_t i) { return get(i) * get(i); });
    cosines = sum([&](int64_t i) {
      T sine, cosine;
      target.sine_and_cosine(get(i), sine, cosine);
      return cosine;
    });
  }

  template <class Get>
  __device__ __forceinline__ T score(const Ackley<T>& target, int64_t i, const Get& get) const {
    T sine, cosine;
    target.sine_and_cosine(get(i), sine, cosine);
    return target.score(get(i), sine, first_, second_);
  }

  template <class Get, class Sum>
  __device__ __forceinline__ void prepare(const Funnel<T>&, const Get& get, const Sum& sum) {
    first_ = squares_of_others(get, sum);
    second_ = exponential(-get(0));
  }

  template <class Get, class Sum, class Spans>
  __device__ __forceinline__ double energy(const Funnel<T>& target, const Get& get, const Sum& sum,
                                           const Spans&) const {
    return target.energy(get(0), squares_of_others(get, sum), exponential(-get(0)),
                         static_cast<T>(in_.elements - 1));
  }

  template <class Get, class Sum>
  __device__ __forceinline__ static T squares_of_others(const Get& get, const Sum& sum) {
    return sum([&](int64_t i) { return i ? get(i) * get(i) : T(0); });
  }

  template <class Get>
  __device__ __forceinline__ T score(const Funnel<T>& target, int64_t i, const Get& get) const {
    return i ? target.other(get(i), second_)
             : target.first(get(i), first_, second_, static_cast<T>(in_.elements - 1));
  }

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

// The sum over a sample of one thread: at most four elements, in the first lanes of the order.
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

template <class T>
TargetNumbers<T> checked_target(const Call& call, int64_t target, const Tensor& params, const Tensor& x) {
  const int64_t elements = elements_of(x), count = params.numel();
  if (x.numel()) check_target(call.op, target, elements, count);
  return {static_cast<int>(target), static_cast<int>(count), pointer<T>(params), elements};
}

}  // namespace pyebm
