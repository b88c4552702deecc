// The closed-form targets: the score, grad log p, of each. pyebm/reference/targets.py has the same operations in the same order.
#pragma once

#include "platform.h"

namespace pyebm {

// The rows of every table of targets; pyebm/_ops.py TARGETS has the same list.
enum Target : int64_t { kHarmonic, kDoubleWell, kMixture, kMixtureDiagonal, kGaussianFull, kTargets };
constexpr const char* kTargetNames[kTargets] = {"harmonic", "double_well", "mixture", "mixture_diagonal", "gaussian_full"};

}  // namespace pyebm

namespace {

// From one row of a packed matrix to the next: rows a multiple of 4 KB apart would all want the same places in a cache.
PYEBM_HD int64_t row_stride(int64_t dim) { return dim % 512 ? dim : dim + 16; }

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
