// The score, grad log p, and the energy, -log p, of each closed-form target. Target._constant in
// Python adds the energy's constant. pyebm/_composed/targets.py has the same operations in the same
// order.
#pragma once

#include <utility>

#include "functions.h"

// The targets, a line each, in the order of KINDS in pyebm/_kinds.py: the enumerator, the name, the
// number of packed parameters and the fewest elements of a sample. Each backend's table or switch
// follows from these lines.
//   ELEMENTWISE  every element has the same function of itself: the struct below of the line's name
//   OWN          elements are independent of each other, and the backends have kernels of their own
//   COUPLED      an element's score depends on its sample's other elements
//   DENSE        a sample meets the rows of a matrix
#define PYEBM_TARGETS(ELEMENTWISE, OWN, COUPLED, DENSE)  \
  ELEMENTWISE(Harmonic, "harmonic", 2, 0)                \
  ELEMENTWISE(DoubleWell, "double_well", 2, 0)           \
  OWN(Gaussian, "gaussian", kVaries, 0)                  \
  OWN(Polynomial, "polynomial", kVaries, 0)              \
  ELEMENTWISE(Rastrigin, "rastrigin", 1, 0)              \
  COUPLED(Rosenbrock, "rosenbrock", 3, 2)                \
  COUPLED(Ackley, "ackley", 4, 1)                        \
  COUPLED(Funnel, "funnel", 1, 2)                        \
  DENSE(Mixture, "mixture", kVaries, 1)                  \
  DENSE(MixtureDiagonal, "mixture_diagonal", kVaries, 1) \
  DENSE(GaussianFull, "gaussian_full", kVaries, 1)
#define PYEBM_NO_TARGET(...)

namespace pyebm {

#define PYEBM_ENUMERATOR(Name, ...) k##Name,
enum Target : int64_t {
  PYEBM_TARGETS(PYEBM_ENUMERATOR, PYEBM_ENUMERATOR, PYEBM_ENUMERATOR, PYEBM_ENUMERATOR) kTargets
};
#undef PYEBM_ENUMERATOR

constexpr int64_t kVaries = -1;  // target_facts.h target_fits says how many

// A sum over a sample adds element i to lane i mod kSumLanes, then the upper half of the lanes to
// the lower half, until one lane is left. So the sum does not depend on which threads add.
constexpr int64_t kSumLanes = 32;
// An energy that is a sum over the elements adds kEnergySpan of them at a time in that order, then
// these partial sums in double, one by one.
constexpr int64_t kEnergySpan = 1024;

}  // namespace pyebm

namespace {

// The distance between the rows of a packed matrix: rows a multiple of 4 KB apart would all compete
// for the same places in a cache.
PYEBM_HD int64_t row_stride(int64_t dim) { return dim % 512 ? dim : dim + 16; }

// The struct of a target holds its packed parameters, in their order, and nothing else: so neither
// can have more than the other. An elementwise target is asked for the score or the energy of one
// element at a time.

template <class T>
struct Harmonic {
  T stiffness, center;

  PYEBM_HD T score(T x) const { return stiffness * (center - x); }
  PYEBM_HD T energy(T x) const { return T(0.5) * (stiffness * ((x - center) * (x - center))); }
};

template <class T>
struct DoubleWell {
  T linear, cubic;

  PYEBM_HD T score(T x) const { return x * (linear - cubic * (x * x)); }
  PYEBM_HD T energy(T x) const {
    const T beyond = x * x - linear / cubic;  // 0 at the minima
    return (T(0.25) * cubic) * (beyond * beyond);
  }
};

template <class T>
struct Rastrigin {
  T amplitude;  // 2 pi A

  PYEBM_HD T score(T x) const {
    T sine, cosine;
    sine_cosine(x, sine, cosine);
    return T(-2) * x - amplitude * sine;
  }
  PYEBM_HD T energy(T x) const {
    T sine, cosine;
    sine_cosine(x, sine, cosine);
    return x * x + (amplitude * T(0x1.45f306dc9c883p-3)) * (T(1) - cosine);  // times 1 / (2 pi)
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

// A polynomial energy has a polynomial score, lowest power first; this is one step of Horner's
// rule. Coefficient k of the score, divided by -(k + 1), is coefficient k + 1 of the energy.
template <class T>
PYEBM_HD T polynomial_step(T value, T x, T coefficient) {
  return value * x + coefficient;
}

// An element's score depends on the elements before and after it, where they exist.
template <class T>
struct Rosenbrock {
  T a, twice_b, four_b;

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
  T slope, decay, turns, c;  // A b, b, c / 2 pi, c

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
    return bowl + (T(0x1.5bf0a8b145769p1) - exponential(cosines / elements));  // the number is e
  }
};

// The first element v is the logarithm of the other elements' variance. squares: the sum of the
// other elements' squares, in which v counts as zero.
template <class T>
struct Funnel {
  T precision;  // of v

  PYEBM_HD T first(T v, T squares, T inverse, T others) const {
    return (T(0.5) * (inverse * squares) - T(0.5) * others) - precision * v;
  }
  PYEBM_HD T other(T x, T inverse) const { return -(inverse * x); }
  PYEBM_HD T energy(T v, T squares, T inverse, T others) const {
    return T(0.5) * (precision * (v * v)) + (T(0.5) * others) * v + T(0.5) * (inverse * squares);
  }
};

template <template <class> class Target>
constexpr int kParameters = sizeof(Target<double>) / sizeof(double);

template <template <class> class Target, class T, size_t... kIndices>
PYEBM_HD Target<T> unpacked(const T* params, std::index_sequence<kIndices...>) {
  return {params[kIndices]...};
}

// The target with these packed parameters.
template <template <class> class Target, class T>
PYEBM_HD Target<T> unpacked(const T* params) {
  return unpacked<Target>(params, std::make_index_sequence<kParameters<Target>>());
}

#define PYEBM_SAME_COUNT(Name, name, numbers, least) \
  static_assert(kParameters<Name> == numbers, "the struct and the line in PYEBM_TARGETS differ");
PYEBM_TARGETS(PYEBM_SAME_COUNT, PYEBM_NO_TARGET, PYEBM_SAME_COUNT, PYEBM_NO_TARGET)
#undef PYEBM_SAME_COUNT

}  // namespace
