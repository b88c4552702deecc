// exp, and sine and cosine of a number of turns, without libm: the same IEEE operations in the same
// order on every backend, in float and in double. tools/fit_functions.py made the polynomials;
// docs/accuracy.md has the errors. The roots are normal.h's, or IEEE's.
#pragma once

#include "normal.h"

namespace {

PYEBM_HD uint64_t double_bits(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

PYEBM_HD double bits_double(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

PYEBM_HD double sqrt_rounded(double x) {
#if defined(__CUDA_ARCH__)
  return __dsqrt_rn(x);
#else
  return __builtin_sqrt(x);
#endif
}

// Lowest power first. Written out, since gcc unrolls a loop too late for the loop around it to
// become one of vectors.
template <class T, int kCount, int kPower = 0>
PYEBM_HD T horner(const T (&coefficients)[kCount], T x) {
  if constexpr (kPower == kCount - 1)
    return coefficients[kPower];
  else
    return horner<T, kCount, kPower + 1>(coefficients, x) * x + coefficients[kPower];
}

// kToInteger: the sum x + kToInteger has no room for a fraction, so its last bits hold the integer
// nearest to x; subtracting kToInteger again gives that integer.
template <class T>
struct Real;

template <>
struct Real<float> {
  using Bits = uint32_t;
  static constexpr int kMantissa = 23, kBias = 127;
  static constexpr float kToInteger = 0x1.8p23f;
  static constexpr float kExpLow = -104.0f, kExpHigh = 89.0f;  // beyond these, e^x is 0 or infinite
  static constexpr float kLog2E = 0x1.715476p0f, kLn2 = 0x1.62e4p-1f, kLn2Rest = 0x1.7f7d1cp-20f;

  PYEBM_HD static Bits bits(float x) { return float_bits(x); }
  PYEBM_HD static float from(Bits bits) { return bits_float(bits); }
  struct ExpRest {  // (e^r - 1 - r) / r^2
    float coefficients[5] = {0x1p-1f, 0x1.5554dep-3f, 0x1.555584p-5f, 0x1.120ac6p-7f, 0x1.6c8ba4p-10f};
  };
  PYEBM_HD static float exp_rest(float r) {
    constexpr ExpRest rest;
    return horner(rest.coefficients, r);
  }
  PYEBM_HD static float sine_of(float y) {  // sin(pi/2 q) / q at y = q^2
    constexpr float c[] = {0x1.921fb6p0f, -0x1.4abbecp-1f, 0x1.466b22p-4f, -0x1.2f5a1ep-8f};
    return horner(c, y);
  }
  PYEBM_HD static float cosine_of(float y) {  // cos(pi/2 q)
    constexpr float c[] = {0x1p0f, -0x1.3bd3ccp0f, 0x1.03c1b8p-2f, -0x1.55b7cep-6f, 0x1.d684a8p-11f};
    return horner(c, y);
  }
};

template <>
struct Real<double> {
  using Bits = uint64_t;
  static constexpr int kMantissa = 52, kBias = 1023;
  static constexpr double kToInteger = 0x1.8p52;
  static constexpr double kExpLow = -746.0, kExpHigh = 710.0;
  static constexpr double kLog2E = 0x1.71547652b82fep0, kLn2 = 0x1.62e42fefp-1,
                          kLn2Rest = 0x1.473de6af278edp-34;

  PYEBM_HD static Bits bits(double x) { return double_bits(x); }
  PYEBM_HD static double from(Bits bits) { return bits_double(bits); }
  struct ExpRest {
    double coefficients[10] = {0x1p-1,
                               0x1.5555555555549p-3,
                               0x1.55555555543d7p-5,
                               0x1.1111111116071p-7,
                               0x1.6c16c17706bd8p-10,
                               0x1.a01a017f4d7d8p-13,
                               0x1.a019bd48744adp-16,
                               0x1.71de7db7ce8e3p-19,
                               0x1.288d99b63a775p-22,
                               0x1.ae69b5c5d7d09p-26};
  };
  PYEBM_HD static double exp_rest(double r) {
    constexpr ExpRest rest;
    return horner(rest.coefficients, r);
  }
  PYEBM_HD static double sine_of(double y) {
    constexpr double c[] = {0x1.921fb54442d18p+0,  -0x1.4abbce625be01p-1, 0x1.466bc67753d4ep-4,
                            -0x1.32d2ccde110d9p-8, 0x1.50782aac71d00p-13, -0x1.e2fa7535e8e73p-19,
                            0x1.e0685fa63de7ep-25, 0x1.af71d882650f9p-32};
    return horner(c, y);
  }
  PYEBM_HD static double cosine_of(double y) {
    constexpr double c[] = {0x1p0,
                            -0x1.3bd3cc9be45dep+0,
                            0x1.03c1f081b5a56p-2,
                            -0x1.55d3c7e3bfb67p-6,
                            0x1.e1f506732fde4p-11,
                            -0x1.a6d1dd0e2f6c2p-16,
                            0x1.f9bbb1bd99e55p-22,
                            -0x1.a903a944af43bp-28,
                            -0x1.1714f8be2b45cp-33};
    return horner(c, y);
  }
};

// e^x = 2^n e^r with |r| <= ln 2 / 2. Two factors make 2^n, so that results overflow and underflow
// as they should.
template <class T>
PYEBM_HD T exponential(T x) {
  using R = Real<T>;
  x = x < R::kExpLow ? R::kExpLow : x;
  x = x > R::kExpHigh ? R::kExpHigh : x;
  const T shifted = x * R::kLog2E + R::kToInteger;
  const T n = shifted - R::kToInteger;
  const T r = (x - n * R::kLn2) - n * R::kLn2Rest;
  const T power = T(1) + (r + (r * r) * R::exp_rest(r));
  const typename R::Bits biased = R::bits(shifted) - (R::bits(R::kToInteger) - 2 * (R::kBias + 1)),
                         half = biased >> 1;
  return (power * R::from((half - 1) << R::kMantissa)) * R::from((biased - half - 1) << R::kMantissa);
}

// sin(2 pi t) and cos(2 pi t). Rounding 4 t to an integer gives the nearest quarter turn exactly;
// polynomials cover the rest of the angle.
template <class T>
PYEBM_HD void sine_cosine(T t, T& sine, T& cosine) {
  using R = Real<T>;
  const T quarters = T(4) * (t - ((t + R::kToInteger) - R::kToInteger));
  const T shifted = quarters + R::kToInteger;
  const T q = quarters - (shifted - R::kToInteger), y = q * q;
  const T s = q * R::sine_of(y), c = R::cosine_of(y);
  const typename R::Bits quadrant = R::bits(shifted);
  const bool swap = quadrant & 1;
  const T of_sine = swap ? c : s, of_cosine = swap ? s : c;
  sine = quadrant & 2 ? -of_sine : of_sine;
  cosine = (quadrant + 1) & 2 ? -of_cosine : of_cosine;
}

// 2^f for |f| <= 1/2 as a polynomial, highest power first: minimax, with relative errors of 9.2e-8
// and 3.4e-18. The dense targets use it. Their sums keep a bound and promise no bits, so each
// backend evaluates it with its own a b + c, on numbers or on vectors.
template <class T>
struct Exp2;

template <>
struct Exp2<float> {
  static constexpr int kTerms = 6;
  float coefficients[kTerms] = {0x1.5bba18p-10f, 0x1.3cea88p-7f, 0x1.c6b752p-5f,
                                0x1.ebf9bcp-3f,  0x1.62e42ap-1f, 1.0f};
};

template <>
struct Exp2<double> {
  static constexpr int kTerms = 12;
  double coefficients[kTerms] = {0x1.e79ba5e93da52p-32, 0x1.e61b4f5049cdcp-28, 0x1.b5267cea5f68ep-24,
                                 0x1.62bfc79d7642ap-20, 0x1.ffcbfba97c6d7p-17, 0x1.4309130ed8bc8p-13,
                                 0x1.5d87fe78cd6dcp-10, 0x1.3b2ab6fba011ap-7,  0x1.c6b08d7049fe8p-5,
                                 0x1.ebfbdff82c5a4p-3,  0x1.62e42fefa39efp-1,  1.0};
};

// Phi(-u) = e^(-u^2 / 2) t P(t) at t = 1 / (1 + stretch u), for u from 0 up to where Phi
// underflows. P comes lowest power first; the relative errors are 8.4e-9 and 2.0e-17.
template <class T>
struct NormalTail;

template <>
struct NormalTail<float> {
  float stretch = 0.25f;
  float coefficients[10] = {0x1.98937p-4f,  0x1.975f0ap-4f, 0x1.885f4ep-4f, 0x1.22065cp-4f,  0x1.6fffa8p-4f,
                            0x1.d7a32ap-8f, 0x1.1bb162p-5f, 0x1.83673p-5f,  -0x1.f40df6p-5f, 0x1.0aa2d2p-6f};
};

template <>
struct NormalTail<double> {
  double stretch = 0.25;
  double coefficients[23] = {
      0x1.9884533d708d4p-4,  0x1.9884533035a1fp-4,  0x1.7efc0fc59aea7p-4,  0x1.4beb5f8ac9a7cp-4,
      0x1.041e43a78e501p-4,  0x1.6218f80ddfbc3p-5,  0x1.81f2924da1b22p-6,  0x1.98705450a122bp-8,
      0x1.8328a677b1c52p-10, -0x1.844459b30c5e8p-6, 0x1.768a70fb41cp-5,    -0x1.e4af9a5ad15cfp-4,
      0x1.ae90bbfff82ep-3,   -0x1.07b8f1d10be1p-2,  0x1.78723dc1f0b2dp-3,  0x1.e0fea4b794ec8p-5,
      -0x1.6a1f399d15cc7p-2, 0x1.f1813d495ff34p-2,  -0x1.90898870f5907p-2, 0x1.a280ae15c57c3p-3,
      -0x1.19ae3b045943p-4,  0x1.c016f1538586ep-7,  -0x1.42451bd205199p-10};
};

}  // namespace
