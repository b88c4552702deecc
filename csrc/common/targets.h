// The closed-form targets: the score, grad log p, of each, and its energy, -log p, up to what
// Target._constant in Python adds. pyebm/reference/targets.py has the same operations in the same
// order.
#pragma once

#include "functions.h"

namespace pyebm {

// The rows of every table of targets; pyebm/_schemas.py TARGETS has the same list.
enum Target : int64_t {
  kHarmonic,
  kDoubleWell,
  kGaussian,
  kPolynomial,
  kRastrigin,
  kRosenbrock,
  kAckley,
  kFunnel,
  kMixture,
  kMixtureDiagonal,
  kGaussianFull,
  kTargets
};
constexpr const char* kTargetNames[kTargets] = {"harmonic",  "double_well",      "gaussian",     "polynomial",
                                                "rastrigin", "rosenbrock",       "ackley",       "funnel",
                                                "mixture",   "mixture_diagonal", "gaussian_full"};
// A sum over a sample: element i goes to lane i mod kSumLanes; then the upper half of the lanes is
// added to the lower one, until one is left. So it does not depend on who adds.
constexpr int64_t kSumLanes = 32;
// An energy that is a sum over the elements adds so many at a time in that way, and what they give
// in double, one by one.
constexpr int64_t kEnergySpan = 1024;

}  // namespace pyebm

namespace {

// From one row of a packed matrix to the next: rows a multiple of 4 KB apart would all want the
// same places in a cache.
PYEBM_HD int64_t row_stride(int64_t dim) { return dim % 512 ? dim : dim + 16; }

// Elementwise targets: made once of the packed parameters (kScalars of them), then asked for the
// score or energy of one element.

template <class T>
struct Harmonic {
  static constexpr int64_t kScalars = 2;
  T stiffness, center;

  PYEBM_HD explicit Harmonic(const T* params) : stiffness(params[0]), center(params[1]) {}
  PYEBM_HD T score(T x) const { return stiffness * (center - x); }
  PYEBM_HD T energy(T x) const { return T(0.5) * (stiffness * ((x - center) * (x - center))); }
};

template <class T>
struct DoubleWell {
  static constexpr int64_t kScalars = 2;
  T linear, cubic;

  PYEBM_HD explicit DoubleWell(const T* params) : linear(params[0]), cubic(params[1]) {}
  PYEBM_HD T score(T x) const { return x * (linear - cubic * (x * x)); }
  PYEBM_HD T energy(T x) const {
    const T beyond = x * x - linear / cubic;  // the minima
    return (T(0.25) * cubic) * (beyond * beyond);
  }
};

template <class T>
struct Rastrigin {
  static constexpr int64_t kScalars = 1;
  T amplitude;  // 2 pi A

  PYEBM_HD explicit Rastrigin(const T* params) : amplitude(params[0]) {}
  PYEBM_HD T score(T x) const {
    T sine, cosine;
    sine_cosine(x, sine, cosine);
    return T(-2) * x - amplitude * sine;
  }
  PYEBM_HD T energy(T x) const {
    T sine, cosine;
    sine_cosine(x, sine, cosine);
    return x * x + (amplitude * T(0x1.45f306dc9c883p-3)) * (T(1) - cosine);  // 1 / 2 pi
  }
};

// The mean and the precision are vectors: params are all means, then all precisions.
template <class T>
PYEBM_HD T gaussian_score(T x, T mean, T precision) {
  return precision * (mean - x);
}
template <class T>
PYEBM_HD T gaussian_energy(T x, T mean, T precision) {
  return T(0.5) * (precision * ((x - mean) * (x - mean)));
}

// A polynomial's score is one too, lowest power first; this is a step of Horner's rule. Its
// coefficient k, over -(k + 1), is the energy's k + 1.
template <class T>
PYEBM_HD T polynomial_step(T value, T x, T coefficient) {
  return value * x + coefficient;
}

// An element's score needs its neighbours, where it has them.
template <class T>
struct Rosenbrock {
  static constexpr int64_t kScalars = 3;
  T a, twice_b, four_b;

  PYEBM_HD explicit Rosenbrock(const T* params) : a(params[0]), twice_b(params[1]), four_b(params[2]) {}
  PYEBM_HD T score(T before, T x, T after, bool has_before, bool has_after) const {
    const T as_first = (four_b * x) * (after - x * x) + T(2) * (a - x);
    const T as_second = twice_b * (x - before * before);
    return (has_after ? as_first : T(0)) - (has_before ? as_second : T(0));
  }
  PYEBM_HD T energy(T x, T after) const {
    const T valley = after - x * x;
    return (T(0.5) * twice_b) * (valley * valley) + (a - x) * (a - x);
  }
};

// score = pull x + turn sin(c x), where pull and turn come from sums over the sample.
template <class T>
struct Ackley {
  static constexpr int64_t kScalars = 4;
  T slope, decay, turns, c;  // A b, b, c / 2 pi, c

  PYEBM_HD explicit Ackley(const T* params)
      : slope(params[0]), decay(params[1]), turns(params[2]), c(params[3]) {}
  PYEBM_HD void sine_and_cosine(T x, T& sine, T& cosine) const { sine_cosine(turns * x, sine, cosine); }
  PYEBM_HD void coefficients(T squares, T cosines, T elements, T& pull, T& turn) const {
    const T radius = sqrt_rounded(squares / elements);
    pull = radius > T(0) ? -(slope * exponential(-(decay * radius))) / (elements * radius)
                         : T(0);  // the minimum is a cusp
    turn = -(c * exponential(cosines / elements)) / elements;
  }
  PYEBM_HD T score(T x, T sine, T pull, T turn) const { return pull * x + turn * sine; }
  PYEBM_HD T energy(T squares, T cosines, T elements) const {
    const T bowl = (slope / decay) * (T(1) - exponential(-(decay * sqrt_rounded(squares / elements))));
    return bowl + (T(0x1.5bf0a8b145769p1) - exponential(cosines / elements));  // e
  }
};

// The first element v is the logarithm of the others' variance. squares: the sum over the others,
// whose place v takes with a zero.
template <class T>
struct Funnel {
  static constexpr int64_t kScalars = 1;
  T precision;  // of v

  PYEBM_HD explicit Funnel(const T* params) : precision(params[0]) {}
  PYEBM_HD T first(T v, T squares, T inverse, T others) const {
    return (T(0.5) * (inverse * squares) - T(0.5) * others) - precision * v;
  }
  PYEBM_HD T other(T x, T inverse) const { return -(inverse * x); }
  PYEBM_HD T energy(T v, T squares, T inverse, T others) const {
    return T(0.5) * (precision * (v * v)) + (T(0.5) * others) * v + T(0.5) * (inverse * squares);
  }
};

}  // namespace
