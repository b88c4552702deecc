// The activations of common/activations.h on vectors. Included once by each level, after vectors.h.

namespace {

template <class V>
using BitsOf = typename VectorOf<typename Real<Element<V>>::Bits, sizeof(V)>::type;

// 2^n, n being the last bits of a shifted number (Real::kToInteger) and in the range of exponents.
template <class V>
PYEBM_HD V power_of_two(V shifted) {
  return (V)((BitsOf<V>)shifted << Real<Element<V>>::kMantissa);
}

template <class V>
PYEBM_HD V magnitude(V x) {
  return (V)((BitsOf<V>)x & ~(BitsOf<V>)all<V>(Element<V>(-0.0)));
}

template <class V>
PYEBM_HD V with_sign_of(V x, V magnitude) {
  return (V)((BitsOf<V>)magnitude | ((BitsOf<V>)x & (BitsOf<V>)all<V>(Element<V>(-0.0))));
}

}  // namespace

#include "../../common/activations.h"

namespace {

// Activates n numbers in place, where n is a multiple of a vector's lanes, and writes their first
// kDerivatives derivatives.
template <int64_t kActivation, int kDerivatives, class T>
PYEBM_HD void activate_all(T parameter, int64_t n, T* values, T* slopes, T* curves, T* thirds) {
  using V = Wide<T>;
  for (int64_t i = 0; i < n; i += kWidth<V>) {
    const Activated<V> at = activated<kActivation>(load<V>(values + i), parameter);
    store(values + i, at.value);
    if (kDerivatives >= 1) store(slopes + i, at.slope);
    if (kDerivatives >= 2) store(curves + i, at.curve);
    if (kDerivatives >= 3) store(thirds + i, at.third);
  }
}

template <class T, int64_t kActivation = 0>
void activate(int64_t activation, T parameter, int derivatives, int64_t n, T* values, T* slopes, T* curves,
              T* thirds) {
  if constexpr (kActivation < pyebm::kActivations) {
    if (activation != kActivation) {
      return activate<T, kActivation + 1>(activation, parameter, derivatives, n, values, slopes, curves,
                                          thirds);
    }
    const auto run = [&](auto count) {
      activate_all<kActivation, decltype(count)::value>(parameter, n, values, slopes, curves, thirds);
    };
    if (derivatives == 3) return run(Count<3>());
    if (derivatives == 2) return run(Count<2>());
    if (kActivation == pyebm::kIdentity) return;  // nobody asks for its slopes
    derivatives ? run(Count<1>()) : run(Count<0>());
  }
}

}  // namespace
