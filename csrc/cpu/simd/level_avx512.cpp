// The kernels for x86-64 with AVX-512 (F, BW, DQ, VL).
#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // gcc 12 sees one in its own intrinsics' headers
#endif
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,fma,prefer-vector-width=512")
#endif

#include "../../common/normal.h"
#include "../../common/philox.h"
#include "../../common/targets.h"
#include "kernel_table.h"

namespace {

// Eight calls at once, one 32-bit word in the low half of each 64-bit lane; the high halves hold
// what the multiply ignores.
struct PhiloxLanes {
  static constexpr int64_t kCount = 8;
  __m512i lanes;

  PhiloxLanes() = default;
  explicit PhiloxLanes(__m512i value) : lanes(value) {}
  explicit PhiloxLanes(uint32_t word) : lanes(_mm512_set1_epi64(word)) {}
  explicit PhiloxLanes(const uint32_t* words)
      : lanes(_mm512_cvtepu32_epi64(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(words)))) {}

  static PhiloxLanes counting_up(uint32_t first) {
    return PhiloxLanes(_mm512_add_epi32(_mm512_set1_epi64(first), _mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0)));
  }

  // A word of each of 16 calls: those of `first`, then those of `second`.
  static __m512i one_by_one(PhiloxLanes first, PhiloxLanes second) {
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    return _mm512_permutex2var_epi32(first.lanes, even, second.lanes);
  }

  // Two words of each call side by side: those of call 0, then those of call 1, ...
  static __m512i in_turn(PhiloxLanes first, PhiloxLanes second) {
    return _mm512_mask_shuffle_epi32(first.lanes, 0xAAAA, second.lanes, _MM_PERM_CDAB);
  }
};

PYEBM_HD PhiloxLanes operator+(PhiloxLanes a, uint32_t constant) {
  return PhiloxLanes(_mm512_add_epi32(a.lanes, _mm512_set1_epi64(constant)));
}

PYEBM_HD void multiply(uint32_t constant, PhiloxLanes word, PhiloxLanes& high, PhiloxLanes& low) {
  low.lanes = _mm512_mul_epu32(word.lanes, _mm512_set1_epi64(constant));
  high.lanes = _mm512_srli_epi64(low.lanes, 32);
}

PYEBM_HD PhiloxLanes xor3(PhiloxLanes a, PhiloxLanes b, PhiloxLanes c) {
  return PhiloxLanes(_mm512_ternarylogic_epi64(a.lanes, b.lanes, c.lanes, 0x96));
}

}  // namespace

#define PYEBM_PHILOX_LANES
#define PYEBM_VECTOR_BYTES 64
#include "level_table.h"

namespace pyebm {
extern const ChunkKernels avx512_kernels = kernels_of("avx512");
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
