// The facts of each target, and the check that packed parameters fit samples. The levels of
// cpu/simd leave this header out: the linker would keep one level's functions for all machines.
#pragma once

#include <string>

#include "fail.h"
#include "targets.h"

namespace pyebm {

struct TargetFacts {
  const char* name;
  int64_t numbers;  // of packed parameters; kVaries: target_fits says
  int64_t least;    // the fewest elements of a sample
  bool is_coupled, is_dense;
};

#define PYEBM_BY_ELEMENT(Name, ...) {__VA_ARGS__, false, false},
#define PYEBM_BY_SAMPLE(Name, ...) {__VA_ARGS__, true, false},
#define PYEBM_BY_ROWS(Name, ...) {__VA_ARGS__, false, true},
constexpr TargetFacts kTargetFacts[kTargets] = {
    PYEBM_TARGETS(PYEBM_BY_ELEMENT, PYEBM_BY_ELEMENT, PYEBM_BY_SAMPLE, PYEBM_BY_ROWS)};
#undef PYEBM_BY_ELEMENT
#undef PYEBM_BY_SAMPLE
#undef PYEBM_BY_ROWS

// Whether the target can have `numbers` packed parameters for samples of `elements` elements.
inline bool target_fits(int64_t target, int64_t elements, int64_t numbers) {
  const int64_t stride = row_stride(elements);
  if (elements < kTargetFacts[target].least) return false;
  if (target == kGaussian) return numbers == 2 * elements;
  if (target == kPolynomial) return numbers > 0;
  if (target == kMixture) return numbers > elements && (numbers - elements) % (3 + stride) == 0;
  if (target == kMixtureDiagonal) return numbers > 0 && numbers % (1 + 2 * stride) == 0;
  if (target == kGaussianFull) return numbers == elements * (1 + stride);
  return numbers == kTargetFacts[target].numbers;
}

inline void check_target(const char* op, int64_t target, int64_t elements, int64_t numbers) {
  if (!target_fits(target, elements, numbers)) {
    fail(op, ": params: the target ", kTargetFacts[target].name, " with ", numbers,
         " parameters has no samples of ", elements, " elements");
  }
}

// The table as text, which Python compares with its own (pyebm/_kinds.py).
inline const char* targets_text() {
  static const std::string text = [] {
    std::ostringstream lines;
    for (const TargetFacts& each : kTargetFacts) {
      lines << each.name << ' ' << each.numbers << ' ' << each.least << ' ' << each.is_coupled << ' '
            << each.is_dense << '\n';
    }
    return lines.str();
  }();
  return text.c_str();
}

}  // namespace pyebm
