// The noise that a device tensor names (pyebm/_ops.py): nothing about it is a launch argument, so that a captured CUDA graph
// draws what the tensor says at each replay.
#pragma once

#include "../common/normal.h"
#include "../common/philox.h"
#include "layout.h"

namespace pyebm {

struct NoiseName {
  const int64_t* name = nullptr;                   // seed, first_sample, step, stream
  const int64_t *seeds = nullptr, *ids = nullptr;  // into the name, or one per sample
  uint32_t seed_stride = 0, id_stride = 0;         // 0 or 1
  uint32_t count_ids = 0;                          // 1: the sample's number is added to its id
};

// z of a thread's elements; T is float, or double to which the float32 normals are widened.
template <class T, int kCount>
__device__ __forceinline__ void draw(const NoiseName& noise, const Place& at, T (&z)[kCount]) {
  const auto sample = static_cast<uint32_t>(at.sample);  // ids are 32 bits: there are no more samples than that
  const uint64_t seed = static_cast<uint64_t>(noise.seeds[static_cast<uint64_t>(sample) * noise.seed_stride]);
  const uint32_t id = static_cast<uint32_t>(noise.ids[static_cast<uint64_t>(sample) * noise.id_stride]) + sample * noise.count_ids;
  const uint32_t step = static_cast<uint32_t>(noise.name[2]), stream = static_cast<uint32_t>(noise.name[3]);
  const uint32_t group = static_cast<uint32_t>(at.element >> 2);
#pragma unroll
  for (int k = 0; k < kCount; k += 4) {
    if (k && k >= at.count) {  // a short sample's second call is nobody's
#pragma unroll
      for (int i = 0; i < 4; ++i) z[k + i] = T(0);
      continue;
    }
    uint32_t c0 = group + k / 4, c1 = id, c2 = step, c3 = stream;
    philox4x32_10(c0, c1, c2, c3, static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
    float lanes[4];
    box_muller(c0, c1, lanes[0], lanes[1]);
    box_muller(c2, c3, lanes[2], lanes[3]);
#pragma unroll
    for (int i = 0; i < 4; ++i) z[k + i] = static_cast<T>(lanes[i]);
  }
}

}  // namespace pyebm
