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

// The four words of a counter, or of the call's result. A word that many calls share may be a
// uint32_t beside SIMD words.
template <class W0, class W1, class W2, class W3>
struct PhiloxWords {
  W0 c0;
  W1 c1;
  W2 c2;
  W3 c3;
};

template <class W0, class W1, class W2, class W3, class Key>
PYEBM_HD auto philox_round(const PhiloxWords<W0, W1, W2, W3>& words, Key k0, Key k1) {
  W0 high0, low0;
  W2 high1, low1;
  multiply(0xD2511F53u, words.c0, high0, low0);
  multiply(0xCD9E8D57u, words.c2, high1, low1);
  auto c0 = xor3(high1, words.c1, k0);
  auto c2 = xor3(high0, words.c3, k1);
  return PhiloxWords<decltype(c0), W2, decltype(c2), W0>{c0, low1, c2, low0};
}

template <int kRounds, class Words, class Key>
PYEBM_HD auto philox_rounds(const Words& words, Key k0, Key k1) {
  if constexpr (kRounds == 0) {
    return words;
  } else {
    return philox_rounds<kRounds - 1>(philox_round(words, k0, k1), k0 + 0x9E3779B9u, k1 + 0xBB67AE85u);
  }
}

template <class W0, class W1, class W2, class W3, class Key>
PYEBM_HD auto philox4x32_10(W0 c0, W1 c1, W2 c2, W3 c3, Key k0, Key k1) {
  return philox_rounds<10>(PhiloxWords<W0, W1, W2, W3>{c0, c1, c2, c3}, k0, k1);
}

}  // namespace
