// Philox4x32 with ten rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011).
//
// Word is uint32_t, or a SIMD type of many such words that brings its own multiply and xor3. Key is
// uint32_t, or such a type with an operator+.
#pragma once

#include "platform.h"

namespace {

PYEBM_HD void multiply(uint32_t constant, uint32_t word, uint32_t& high, uint32_t& low) {
#if defined(__CUDA_ARCH__)
  high = __umulhi(constant,
                  word);  // nvcc 13 adds a zero to the high half of a 64-bit product: 20 instructions a call
  low = constant * word;
#else
  const uint64_t product = static_cast<uint64_t>(constant) * word;
  high = static_cast<uint32_t>(product >> 32);
  low = static_cast<uint32_t>(product);
#endif
}

PYEBM_HD uint32_t xor3(uint32_t a, uint32_t b, uint32_t c) { return a ^ b ^ c; }

template <class Word, class Key>
PYEBM_HD void philox4x32_10(Word& c0, Word& c1, Word& c2, Word& c3, Key k0, Key k1) {
  PYEBM_UNROLL_ON_GPU for (int round = 0; round < 10; ++round) {
    Word high0, low0, high1, low1;
    multiply(0xD2511F53u, c0, high0, low0);
    multiply(0xCD9E8D57u, c2, high1, low1);
    c0 = xor3(high1, c1, k0);
    c1 = low1;
    c2 = xor3(high0, c3, k1);
    c3 = low0;
    k0 = k0 + 0x9E3779B9u;
    k1 = k1 + 0xBB67AE85u;
  }
}

}  // namespace
