// One 32-bit word makes a uniform, two words make two standard normals by the method of Box and
// Muller (1958). There is no libm: every backend runs the same IEEE operations in the same order.
// pyebm/reference/noise.py has the same coefficients, and docs/noise.md explains them.
#pragma once

#include "platform.h"

namespace {

PYEBM_HD uint32_t float_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

PYEBM_HD float bits_float(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

PYEBM_HD float to_float(uint32_t word) { return static_cast<float>(word); }
PYEBM_HD float signed_to_float(uint32_t word) { return static_cast<float>(static_cast<int32_t>(word)); }

// A word as a number in (0, 1]: word 2^-32 + 2^-33. The largest 128 words round to 1.
template <class Word>
PYEBM_HD auto uniform(Word word) {
  return (to_float(word) + 0.5f) * 0x1p-32f;
}

PYEBM_HD float sqrt_rounded(float x) {
#if defined(__CUDA_ARCH__)
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);  // IEEE: correctly rounded
#endif
}

template <class Fma>
PYEBM_HD float root_from_estimate(float x, float y, Fma fma) {
  const float g = x * y, h = 0.5f * y;
  const float error = fma(h, -g, 0.5f);
  const float root = fma(g, error, g), half = fma(h, error, h);
  return fma(fma(-root, root, x), half, root);
}

// Equals sqrt_rounded(x) for every x that minus_2_log makes: 0, and 2^-23 to 45.
PYEBM_HD float root_of_log(float x) {
#if defined(__CUDA_ARCH__)
  // Goldschmidt's iteration, from the hardware's estimate, needs no branch for zeros and subnormals
  // as __fsqrt_rn does. It gives the rounded root for every estimate within the error that PTX
  // states (2^-22.9): tests/gpuless/square_root.cpp tries them all. No other operation whose bits
  // are promised is fused. x + 2^-100 is x, except at 0, whose estimate would be infinite.
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x + 0x1p-100f));
  return root_from_estimate(x, y, __fmaf_rn);
#else
  return sqrt_rounded(x);
#endif
}

// -2 log(u) for u = radius 2^-32 + 2^-33. With u = 2^e m and m in [2/3, 4/3), the result is
// -2 e ln 2 + f q(f) at f = 1 - m.
template <class Word>
PYEBM_HD auto minus_2_log(Word radius) {
  const Word bits = float_bits(to_float(radius) + 0.5f) - (32u << 23);
  const Word exponent = (bits - 0x3F2AAAABu) & 0xFF800000u;  // e, where a float keeps it; 0x3F2AAAAB is 2/3
  const auto f = 1.0f - bits_float(bits - exponent);
  auto q = f * 0x1.1f2802p-2f + 0x1.3b0c5ep-2f;
  q = q * f + 0x1.1ea89ap-2f;
  q = q * f + 0x1.5038e0p-2f;
  q = q * f + 0x1.99d3b0p-2f;
  q = q * f + 0x1.00144ep-1f;
  q = q * f + 0x1.5554fcp-1f;
  q = q * f + 0x1.ffffd6p-1f;
  q = q * f + 0x1p+1f;
  return signed_to_float(exponent) * -0x1.62e430p-23f + f * q;
}

// (even, odd) = r (c, s), or r (-s, c) where bit 30 of `turn` is set.
PYEBM_HD void rotated(float r, float c, float s, uint32_t turn, float& even, float& odd) {
  turn &= 0x40000000u;
#if defined(__CUDA_ARCH__)
  // Two extra products cost less than two selections, which run at half the rate. ptxas would make
  // selections after all if it saw that the last product repeats the first; .ftz hides this from
  // it, and changes no result, since nothing here is subnormal.
  asm("{\n\t.reg .pred p;\n\tsetp.ne.u32 p, %5, 0;\n\t"
      "mul.rn.f32 %0, %2, %3;\n\tmul.rn.f32 %1, %2, %4;\n\t"
      "@p mul.rn.f32 %0, %2, %6;\n\t@p mul.rn.ftz.f32 %1, %2, %3;\n\t}"
      : "=&f"(even), "=&f"(odd)
      : "f"(r), "f"(c), "f"(s), "r"(turn), "f"(-s));
#else
  even = r * (turn ? -s : c);
  odd = r * (turn ? c : s);
#endif
}

// even = R cos, odd = R sin at the angle 2 pi angle / 2^32. The top bits of `angle` give the
// nearest quarter turn, polynomials cover the rest. Word and Float are uint32_t and float, or SIMD
// vectors of them (csrc/cpu/simd/vector_groups.h), which bring their own versions of the functions
// above.
template <class Word, class Float>
PYEBM_HD void box_muller(Word radius, Word angle, Float& even, Float& odd) {
  const Float r = root_of_log(minus_2_log(radius));
  const Float a = signed_to_float(angle << 2) * 0x1.921fb6p-32f;  // in [-pi/4, pi/4)
  const Float y = a * a;
  Float s = y * -0x1.995408p-13f + 0x1.110778p-7f;
  s = s * y + -0x1.555546p-3f;
  s = s * y + 0x1p+0f;
  s = a * s;
  Float c = y * -0x1.6447c6p-10f + 0x1.553e5ep-5f;
  c = c * y + -0x1.ffffb2p-2f;
  c = c * y + 0x1p+0f;
  // Quadrants 0 to 3 give (c, s), (-s, c), (-c, -s), (s, -c): the last two are the first two with a
  // negative radius.
  const Word turned = angle + (1u << 29);
  rotated(bits_float(float_bits(r) ^ (turned & 0x80000000u)), c, s, turned, even, odd);
}

}  // namespace
