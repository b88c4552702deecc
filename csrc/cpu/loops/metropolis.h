// Metropolis' test of one proposal, which the ops metropolis and metropolis_chain share.
#pragma once

#include <cmath>
#include <limits>

namespace pyebm {

// The log of the acceptance: the energies' difference over the temperature, plus the difference of
// two sums of squares over `scale`. A proposal whose energy is -infinity would be accepted, and the
// chain would never leave it; so it is refused.
inline double log_acceptance(double energy, double proposed, double temperature, double squares,
                             double scale) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return proposed == -kInfinity ? -kInfinity : (energy - proposed) / temperature + squares / scale;
}

// Whether log u < alpha. The bounds 1 - 1/u <= log u <= u - 1 decide most cases without the
// logarithm. The answer is no where alpha is NaN.
inline bool accepts(double alpha, double uniform) {
  const bool surely = alpha > uniform - 1.0, perhaps = !(uniform * (1.0 - alpha) >= 1.0);
  return surely | (!surely & perhaps && std::log(uniform) < alpha);
}

}  // namespace pyebm
