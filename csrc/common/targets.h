// The closed-form targets: the score, grad log p, of each. pyebm/reference/targets.py has the same operations in the same order.
#pragma once

#include "platform.h"

namespace pyebm {

// The rows of every table of targets; pyebm/_ops.py TARGETS has the same list.
enum Target : int64_t { kHarmonic, kDoubleWell, kTargets };
constexpr const char* kTargetNames[kTargets] = {"harmonic", "double_well"};

}  // namespace pyebm

namespace {

// Elementwise targets: made once of the packed parameters (kScalars of them), then asked for the score of one element.

template <class T>
struct Harmonic {
  static constexpr int64_t kScalars = 2;
  T stiffness, center;

  PYEBM_HD explicit Harmonic(const T* params) : stiffness(params[0]), center(params[1]) {}
  PYEBM_HD T score(T x) const { return stiffness * (center - x); }
};

template <class T>
struct DoubleWell {
  static constexpr int64_t kScalars = 2;
  T linear, cubic;

  PYEBM_HD explicit DoubleWell(const T* params) : linear(params[0]), cubic(params[1]) {}
  PYEBM_HD T score(T x) const { return x * (linear - cubic * (x * x)); }
};

}  // namespace
