// The noise that a device tensor names (pyebm/_schemas.py). No part of the name is a launch
// argument, so a captured CUDA graph draws, at each replay, the noise that the tensor names by
// then.
#pragma once

#include "../common/normal.h"
#include "../common/philox.h"
#include "layout.h"

namespace pyebm {

// The same word of kCalls Philox calls. The calls share their keys, and whatever else the compiler
// finds to be equal.
template <int kCalls>
struct Words {
  uint32_t call[kCalls];
};

template <int kCalls>
__device__ __forceinline__ void multiply(uint32_t constant, const Words<kCalls>& words, Words<kCalls>& high,
                                         Words<kCalls>& low) {
#pragma unroll
  for (int k = 0; k < kCalls; ++k) ::multiply(constant, words.call[k], high.call[k], low.call[k]);
}
template <int kCalls>
__device__ __forceinline__ Words<kCalls> xor3(const Words<kCalls>& a, const Words<kCalls>& b,
                                              const Words<kCalls>& c) {
  Words<kCalls> result;
#pragma unroll
  for (int k = 0; k < kCalls; ++k) result.call[k] = ::xor3(a.call[k], b.call[k], c.call[k]);
  return result;
}
template <int kCalls>
__device__ __forceinline__ Words<kCalls> operator+(const Words<kCalls>& a, uint32_t b) {
  Words<kCalls> result;
#pragma unroll
  for (int k = 0; k < kCalls; ++k) result.call[k] = a.call[k] + b;
  return result;
}

// The noise of one sample.
struct SampleNoise {
  uint32_t key_low, key_high, id, step, stream;
};

struct NoiseName {
  const int64_t* name = nullptr;                   // seed, first_sample, step, stream; 16-byte aligned
  const int64_t *seeds = nullptr, *ids = nullptr;  // one per sample, or null

  __device__ __forceinline__ SampleNoise of_all(uint32_t sample) const {
    // The low and the high word of each of the name's four numbers.
    const auto* words = reinterpret_cast<const Pack<uint32_t, 4>*>(name);
    const Pack<uint32_t, 4> first = words[0], second = words[1];
    return {first.values[0], first.values[1], first.values[2] + sample, second.values[0], second.values[2]};
  }
  __device__ __forceinline__ void make_own(uint32_t sample, SampleNoise& noise) const {
    if (seeds) {
      const auto seed = static_cast<uint64_t>(seeds[sample]);
      noise.key_low = static_cast<uint32_t>(seed), noise.key_high = static_cast<uint32_t>(seed >> 32);
    }
    if (ids) noise.id = static_cast<uint32_t>(ids[sample]);
  }
};

// The words for a thread's elements, four from each Philox call, `ahead` steps after the step that
// the noise names.
template <int kCalls>
__device__ __forceinline__ void draw_words(const SampleNoise& noise, const Place& at, uint32_t ahead,
                                           Words<kCalls> (&words)[4]) {
  Words<kCalls> k0, k1;
#pragma unroll
  for (int k = 0; k < kCalls; ++k) {
    words[0].call[k] = at.group + static_cast<uint32_t>(k);
    words[1].call[k] = noise.id, words[2].call[k] = noise.step + ahead, words[3].call[k] = noise.stream;
    k0.call[k] = noise.key_low, k1.call[k] = noise.key_high;
  }
  const auto drawn = philox4x32_10(words[0], words[1], words[2], words[3], k0, k1);
  words[0] = drawn.c0, words[1] = drawn.c1, words[2] = drawn.c2, words[3] = drawn.c3;
}

// z for a thread's elements. T is float, or double, to which the float32 normals are widened.
template <class T, int kCount>
__device__ __forceinline__ void draw(const SampleNoise& noise, const Place& at, T (&z)[kCount],
                                     uint32_t ahead = 0) {
  Words<kCount / 4> words[4];
  draw_words(noise, at, ahead, words);
#pragma unroll
  for (int k = 0; k < kCount; k += 2) {
    float even, odd;
    box_muller(words[k % 4].call[k / 4], words[k % 4 + 1].call[k / 4], even, odd);
    z[k] = static_cast<T>(even), z[k + 1] = static_cast<T>(odd);
  }
}

template <class T, int kCount>
__device__ __forceinline__ void draw_uniforms(const SampleNoise& noise, const Place& at, T (&u)[kCount]) {
  Words<kCount / 4> words[4];
  draw_words(noise, at, 0, words);
#pragma unroll
  for (int k = 0; k < kCount; ++k) u[k] = static_cast<T>(uniform(words[k % 4].call[k / 4]));
}

}  // namespace pyebm
