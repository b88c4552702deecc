// The kernels for x86-64 with AVX2 and FMA.
#if defined(__x86_64__)
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#include "../../common/normal.h"
#include "../../common/philox.h"
#include "../../common/targets.h"
#include "kernel_table.h"

namespace {

// Four calls at once, one 32-bit word in the low half of each 64-bit lane; the high halves hold
// what the multiply ignores.
struct PhiloxLanes {
  static constexpr int64_t kCount = 4;
  __m256i lanes;

  PhiloxLanes() = default;
  explicit PhiloxLanes(__m256i value) : lanes(value) {}
  explicit PhiloxLanes(uint32_t word) : lanes(_mm256_set1_epi64x(word)) {}
  explicit PhiloxLanes(const uint32_t* words)
      : lanes(_mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(words)))) {}

  static PhiloxLanes counting_up(uint32_t first) {
    return PhiloxLanes(_mm256_add_epi32(_mm256_set1_epi64x(first), _mm256_set_epi64x(3, 2, 1, 0)));
  }

  // A word of each of 8 calls: those of `first`, then those of `second`.
  static __m256i one_by_one(PhiloxLanes first, PhiloxLanes second) {
    const __m256i mixed = in_turn(first, second);
    return _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
  }

  // Two words of each call side by side: those of call 0, then those of call 1, ...
  static __m256i in_turn(PhiloxLanes first, PhiloxLanes second) {
    const __m256i raised = _mm256_slli_epi64(second.lanes, 32);
    return _mm256_blend_epi32(first.lanes, raised, 0xAA);
  }
};

PYEBM_HD PhiloxLanes operator+(PhiloxLanes a, uint32_t constant) {
  return PhiloxLanes(_mm256_add_epi32(a.lanes, _mm256_set1_epi64x(constant)));
}

PYEBM_HD void multiply(uint32_t constant, PhiloxLanes word, PhiloxLanes& high, PhiloxLanes& low) {
  low.lanes = _mm256_mul_epu32(word.lanes, _mm256_set1_epi64x(constant));
  high.lanes = _mm256_srli_epi64(low.lanes, 32);
}

PYEBM_HD PhiloxLanes xor3(PhiloxLanes a, PhiloxLanes b, PhiloxLanes c) {
  return PhiloxLanes(_mm256_xor_si256(a.lanes, _mm256_xor_si256(b.lanes, c.lanes)));  // a is the last to come
}

}  // namespace

#define PYEBM_PHILOX_LANES
#define PYEBM_VECTOR_BYTES 32
#include "level_table.h"

namespace pyebm {
extern const ChunkKernels avx2_kernels = kernels_of("avx2");
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
