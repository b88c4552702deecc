// Metropolis' test of a chunk of proposals, and the dual averaging that follows it. The ops of one
// step (metropolis, dual_averaging) and of many (metropolis_chain) share both.
#pragma once

#include "../simd/kernel_table.h"

namespace pyebm {

// Writes whether log u < alpha for each of n <= kCalls proposals (common/metropolis.h accepts).
inline void decide(int64_t n, const double* alpha, const float* uniforms, bool* accept) {
  int16_t open[kCalls];
  const int64_t count = chunk_kernels().accept_surely(n, alpha, uniforms, accept, open);
  for (int64_t k = 0; k < count; ++k) {
    const int64_t i = open[k];
    accept[i] = accepts(alpha[i], static_cast<double>(uniforms[i]));
  }
}

// The rows of a dual averaging: one number for each chain.
struct AveragedRows {
  double *sizes, *log_averages, *gaps;
  const double* middles;

  AveragedRows from(int64_t sample) const {
    return {sizes + sample, log_averages + sample, gaps + sample, middles + sample};
  }
};

// Takes the acceptances of n chains in step m of `warmup` (acceptance(i) gives them), and sets the
// chains' step sizes.
template <class Acceptance>
void learn(int64_t n, double m, double warmup, double target, Acceptance acceptance,
           const AveragedRows& rows) {
  const DualAveraging averaging(m);
  for (int64_t i = 0; i < n; ++i) {
    const double log_step =
        averaging.learn(acceptance(i), target, rows.middles[i], rows.gaps[i], rows.log_averages[i]);
    rows.sizes[i] = m < warmup ? log_step : rows.log_averages[i];
  }
  chunk_kernels().exponentials(n, rows.sizes, rows.sizes);
}

}  // namespace pyebm
