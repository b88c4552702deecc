// Metropolis' test of one proposal, which the ops metropolis and metropolis_chain share.
#pragma once

#include <cmath>
#include <limits>

namespace pyebm {

// log of the acceptance: the energies' difference over T, and the difference of two sums of squares
// over `scale`. A proposal whose energy is -infinity would be accepted, and then never left; so it
// is refused.
inline double log_acceptance(double energy, double proposed, double temperature, double squares,
                             double scale) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  return proposed == -kInfinity ? -kInfinity : (energy - proposed) / temperature + squares / scale;
}

// log u < alpha, mostly without the logarithm: 1 - 1/u <= log u <= u - 1. Never where alpha is NaN.
inline bool accepts(double alpha, double uniform) {
  const bool surely = alpha > uniform - 1.0, perhaps = !(uniform * (1.0 - alpha) >= 1.0);
  return surely | (!surely & perhaps && std::log(uniform) < alpha);
}

}  // namespace pyebm
