// One element of the perturbation and of the affine (Langevin) step. T is float or double.
#pragma once

#include <limits>

#include "platform.h"

namespace pyebm {

// The bounds of a step's value and of its score.
template <class T>
struct Bounds {
  T low, high, score_clip;  // infinite where the call sets no bound

  template <class To>
  Bounds<To> as() const {
    return {static_cast<To>(low), static_cast<To>(high), static_cast<To>(score_clip)};
  }
};

}  // namespace pyebm

namespace {

template <class T>
constexpr T kUnbounded = std::numeric_limits<T>::infinity();

template <class T>
constexpr pyebm::Bounds<T> kNoBounds = {-kUnbounded<T>, kUnbounded<T>, kUnbounded<T>};

// The bounds that a call sets; each argument is a std::optional<double>.
template <class T, class Bound>
pyebm::Bounds<T> bounds_of(const Bound& low, const Bound& high, const Bound& score_clip = {}) {
  const auto& none = kNoBounds<double>;
  const pyebm::Bounds<double> bounds = {low.value_or(none.low), high.value_or(none.high),
                                        score_clip.value_or(none.score_clip)};
  return bounds.template as<T>();
}
// The bounds of a step with these args::StepOptions.
template <class T, class Options>
pyebm::Bounds<T> bounds_of(const Options& options) {
  return bounds_of<T>(options.low, options.high, options.score_clip);
}

template <class T>
bool are_set(const pyebm::Bounds<T>& bounds) {
  const auto& none = kNoBounds<T>;
  return bounds.low > none.low || bounds.high < none.high || bounds.score_clip < none.score_clip;
}

template <class T>
PYEBM_HD T perturbed(T x, T z, T alpha, T sigma) {
  return alpha * x + sigma * z;
}

// NaN stays NaN: neither comparison holds for it.
template <class T>
PYEBM_HD T clamped(T x, T low, T high) {
  const T raised = x < low ? low : x;
  return raised > high ? high : raised;
}

template <class T>
PYEBM_HD T affine_mean(T x, T g, T a, T b) {
  return a * x + b * g;
}

template <class T>
PYEBM_HD T affine_value(T mean, T z, T c) {
  return mean + c * z;
}

template <class T>
PYEBM_HD T step_mean(T x, T g, T a, T b, const pyebm::Bounds<T>& bounds) {
  return affine_mean(x, clamped(g, -bounds.score_clip, bounds.score_clip), a, b);
}

template <class T>
PYEBM_HD T step_value(T mean, T z, T c, T low, T high) {
  return clamped(affine_value(mean, z, c), low, high);
}

template <class T>
PYEBM_HD T step_value(T mean, T z, T c, const pyebm::Bounds<T>& bounds) {
  return step_value(mean, z, c, bounds.low, bounds.high);
}

}  // namespace
