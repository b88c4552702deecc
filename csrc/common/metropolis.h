// Metropolis' test of one proposal, which the ops metropolis and metropolis_chain share, and one
// step of the dual averaging that adapts the step size. pyebm/_composed/metropolis.py has the same
// operations in the same order. All of them are IEEE's or functions.h's, so that the backends agree
// on every decision.
#pragma once

#include "functions.h"
#include "langevin.h"

namespace {

// The log of the acceptance: the energies' difference over the temperature, plus the difference of
// two sums of squares over `scale`. A proposal whose energy is -infinity would be accepted, and the
// chain would never leave it; so it is refused.
PYEBM_HD double log_acceptance(double energy, double proposed, double temperature, double squares,
                               double scale) {
  constexpr double kInfinity = __builtin_huge_val();
  return proposed == -kInfinity ? -kInfinity : (energy - proposed) / temperature + squares / scale;
}

// The bounds 1 - 1/u <= log u <= u - 1 decide most cases without the exponential.
PYEBM_HD bool surely_accepts(double alpha, double uniform) { return alpha > uniform - 1.0; }
PYEBM_HD bool surely_refuses(double alpha, double uniform) { return uniform * (1.0 - alpha) >= 1.0; }

// Whether log u < alpha; false where alpha is NaN.
PYEBM_HD bool accepts(double alpha, double uniform) {
  return surely_accepts(alpha, uniform) || (!surely_refuses(alpha, uniform) && uniform < exponential(alpha));
}

// Step m of dual averaging, counted from 1 (Hoffman & Gelman 2014, section 3.2).
struct DualAveraging {
  double share, slope, weight;  // weight is m^-3/4

  PYEBM_HD explicit DualAveraging(double m) {
    const double root = sqrt_rounded(m);
    share = 1.0 / (m + 10.0);
    slope = root * 20.0;
    weight = 1.0 / sqrt_rounded(m * root);
  }

  // Takes in one chain's acceptance and returns the log of its next step size.
  PYEBM_HD double learn(double acceptance, double target, double middle, double& gap,
                        double& log_average) const {
    constexpr double kReach = 50.0;
    gap = (1.0 - share) * gap + share * (target - acceptance);
    // A chain that never moves, or always does, must not end with a step of 0 or infinity, which
    // the kernels refuse.
    const double log_step = middle - clamped(slope * gap, -kReach, kReach);
    log_average = weight * log_step + (1.0 - weight) * log_average;
    return log_step;
  }
};

// The probability that a proposal with this log_alpha is accepted; 0 for NaN.
PYEBM_HD double probability(double log_alpha) {
  return log_alpha == log_alpha ? exponential(log_alpha < 0 ? log_alpha : 0.0) : 0.0;
}

}  // namespace
