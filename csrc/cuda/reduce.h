// Sums whose order is fixed by the shape alone: in a thread, across a team of threads by shuffles,
// across teams in double by a second kernel. No atomics, so the same bits on every run.
#pragma once

#include "platform.h"

namespace pyebm {

constexpr int kWarps = kThreads / 32;
constexpr int kSteps = 4;  // pieces a thread of a team takes, one after the other

// A sample's pieces go to `parts` teams of 2^log threads, at most kSteps pieces a thread.
struct Teams {
  int log = 0, steps = 0;  // steps: the turns that any thread needs
  int64_t parts = 1;

  Teams() = default;
  explicit Teams(int64_t pieces_per_sample) {
    while ((1 << log) < kThreads && (int64_t{kSteps} << log) < pieces_per_sample) ++log;
    parts = ceil_div(pieces_per_sample, int64_t{kSteps} << log);
    if (parts < 1) parts = 1;
    const int64_t turns = ceil_div(pieces_per_sample, int64_t{1} << log);
    steps = static_cast<int>(turns < kSteps ? turns : kSteps);
  }
  int64_t blocks(int64_t samples) const { return ceil_div(samples * parts, kThreads >> log); }
};

// The sum over each team of 2^log threads; only the team's first thread gets the whole sum. Every
// thread of the block must call.
template <class T>
__device__ __forceinline__ T team_sum(T value, int log) {
  for (int width = log < 5 ? 1 << log : 32; width > 1; width >>= 1)
    value += __shfl_down_sync(0xFFFFFFFFu, value, width / 2, width);
  if (log <= 5) return value;
  PYEBM_SHARED(T, warps, kWarps);
  const int warp = static_cast<int>(threadIdx.x) / 32;
  if (threadIdx.x % 32 == 0) warps[warp] = value;
  __syncthreads();
  if (threadIdx.x % (1u << log) == 0) {
    for (int k = 1; k < 1 << (log - 5); ++k) value += warps[warp + k];
  }
  return value;
}

}  // namespace pyebm
