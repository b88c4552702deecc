// Metropolis' test of one proposal, which the ops metropolis and metropolis_chain share.
#pragma once

#include <cmath>
#include <limits>

#include "../simd/kernel_table.h"

namespace pyebm {

// The log of the acceptance: the energies' difference over the temperature, plus the difference of
// two sums of squares over `scale`. A proposal whose energy is -infinity would be accepted, and the
// chain would never leave it; so it is refused.
inline double log_acceptance(double energy, double proposed, double temperature, double squares,
                             double scale) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return proposed == -kInfinity ? -kInfinity : (energy - proposed) / temperature + squares / scale;
}

// Writes whether log u < alpha for each of n <= kCalls proposals; no where alpha is NaN.
inline void decide(int64_t n, const double* alpha, const float* uniforms, bool* accept) {
  int16_t open[kCalls];
  const int64_t count = chunk_kernels().accept_surely(n, alpha, uniforms, accept, open);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = open[k];
    accept[i] = std::log(static_cast<double>(uniforms[i])) < alpha[i];
  }
}

}  // namespace pyebm
