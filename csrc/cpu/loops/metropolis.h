// Metropolis' test of a chunk of proposals, which the ops metropolis and metropolis_chain share.
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

}  // namespace pyebm
