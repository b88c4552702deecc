// The activations of networks and their derivatives, of a number or of each number of a vector.
// Whoever includes this defines, for those types V: Element<V>, the type of their numbers; all<V>,
// which puts a number everywhere; a b + c rounded once, fma; within, magnitude and with_sign_of;
// and power_of_two. All that have a fused multiply-add get the same bits.
#pragma once

#include "functions.h"
#include "network_shape.h"

namespace {

template <class V, class T, int kCount>
PYEBM_HD V fused_horner(const T (&coefficients)[kCount], V x) {  // lowest power first
  V value = all<V>(coefficients[kCount - 1]);
  PYEBM_UNROLL
  for (int k = kCount - 2; k >= 0; --k) value = fma(value, x, all<V>(coefficients[k]));
  return value;
}

// e^x = scale (1 + rest), |rest| < 1/2, where both e^x and e^-x are normal numbers. An x beyond
// that range counts as its border.
template <class V>
struct Power {
  using R = Real<Element<V>>;
  V scale, rest;

  PYEBM_HD explicit Power(V x) {
    constexpr Element<V> kBorder = sizeof(Element<V>) == 4 ? 87 : 708, kShift = R::kToInteger + R::kBias;
    constexpr typename R::ExpRest kRest;
    x = within(x, -kBorder, kBorder);
    const V shifted = fma(x, all<V>(R::kLog2E), all<V>(kShift)), n = shifted - kShift;
    const V r = fma(n, all<V>(-R::kLn2Rest), fma(n, all<V>(-R::kLn2), x));
    rest = fma(r * r, fused_horner(kRest.coefficients, r), r);
    scale = power_of_two(shifted);
  }
  PYEBM_HD V value() const { return fma(scale, rest, scale); }
  PYEBM_HD V minus_one() const { return fma(scale, rest, scale - 1); }
};

// sigmoid(x) and 1 - sigmoid(x), each to its own last digits.
template <class V>
struct Sigmoids {
  V of, rest;
  PYEBM_HD explicit Sigmoids(V x) {
    const V e = Power<V>(-x).value();
    of = 1 / (1 + e);
    rest = e * of;
  }
};

// log(1 + e) for e in [0, 1]: 2 artanh(e / (2 + e)), whose series needs few terms up to 1/3.
template <class V>
PYEBM_HD V log_of_one_and(V e) {
  constexpr int kTerms = sizeof(Element<V>) == 4 ? 8 : 16;
  const V s = e / (2 + e), square = s * s;
  V sum = all<V>(Element<V>(2) / (2 * kTerms - 1));
  PYEBM_UNROLL
  for (int k = kTerms - 2; k >= 0; --k) sum = fma(sum, square, all<V>(Element<V>(2) / (2 * k + 1)));
  return s * sum;
}

// An activation's value at z and its first, second and third derivatives there.
template <class V>
struct Activated {
  V value, slope, curve, third;
};

// p is the activation's parameter.
template <int64_t kActivation, class V>
PYEBM_HD Activated<V> activated(V z, [[maybe_unused]] Element<V> p) {
  using T = Element<V>;
  V value, slope, curve{}, third{};
  if constexpr (kActivation == pyebm::kIdentity) {
    value = z;
    slope = all<V>(T(1));
  } else if constexpr (kActivation == pyebm::kSilu) {
    const Sigmoids<V> s(z);
    value = z * s.of;
    slope = fma(value, s.rest, s.of);
    const V bell = s.of * s.rest, lean = s.rest - s.of;
    curve = bell * fma(z, lean, all<V>(T(2)));
    third = bell * fma(z, fma(lean, lean, -2 * bell), 3 * lean);
  } else if constexpr (kActivation == pyebm::kTanh) {
    const Power<V> e(magnitude(z) * T(-2));
    const V minus_one = e.minus_one(), over = 1 / (2 + minus_one);
    value = with_sign_of(z, -minus_one * over);
    slope = (4 * e.value()) * (over * over);
    curve = T(-2) * value * slope;
    third = slope * fma(4 * value, value, -2 * slope);
  } else if constexpr (kActivation == pyebm::kSoftplus) {
    const V u = p * z, e = Power<V>(-magnitude(u)).value(), over = 1 / (1 + e);
    const V curved = (z > 0 ? z : V{}) + log_of_one_and(e) * (1 / p);
    value = u > 20 ? z : curved;  // as torch
    slope = u > 20 ? all<V>(T(1)) : u > 0 ? over : e * over;
    curve = u > 20 ? V{} : p * e * (over * over);
    const V lean = p * curve * ((1 - e) * over);
    third = u > 0 ? -lean : lean;
  } else if constexpr (kActivation == pyebm::kSigmoid) {
    const Sigmoids<V> s(z);
    value = s.of;
    const V lean = s.rest - s.of;
    slope = s.of * s.rest;
    curve = slope * lean;
    third = slope * fma(lean, lean, -2 * slope);
  } else if constexpr (kActivation == pyebm::kGelu) {
    const V u = magnitude(z), bell = Power<V>(u * u * T(-0.5)).value();
    constexpr NormalTail<T> kTail;
    const V t = 1 / fma(u, all<V>(kTail.stretch), all<V>(T(1)));
    const V tail = bell * (t * fused_horner(kTail.coefficients, t)), below = z > 0 ? 1 - tail : tail;
    value = z * below;
    const V density = bell * T(0x1.9884533d43651p-2);  // 1 / sqrt(2 pi)
    slope = fma(z, density, below);
    curve = density * fma(-z, z, all<V>(T(2)));
    third = density * (z * fma(z, z, all<V>(T(-4))));
  } else if constexpr (kActivation == pyebm::kGeluTanh) {
    constexpr T kScale = T(1.5957691216057307), kCubic = T(0.044715);  // 2 sqrt(2 / pi)
    const V near = within(z, T(-20), T(20)), square = near * near;     // beyond, all is decided
    const Sigmoids<V> s(kScale * near * fma(square, all<V>(kCubic), all<V>(T(1))));
    const V steepness = kScale * fma(square, all<V>(3 * kCubic), all<V>(T(1)));
    value = z * s.of;
    slope = fma(value * s.rest, steepness, s.of);
    const V steeper = all<V>(6 * kScale * kCubic) * near;
    const V density = s.of * s.rest, lean = s.rest - s.of, square_of = steepness * steepness;
    const V bent = fma(square_of, lean, steeper), whole = fma(near, bent, 2 * steepness);
    curve = density * whole;
    const V turn = fma(-2 * density, square_of * steepness,
                       fma(2 * lean, steepness * steeper, all<V>(6 * kScale * kCubic)));
    third = density * fma(near, turn, fma(lean * steepness, whole, 2 * steeper + bent));
  } else if constexpr (kActivation == pyebm::kElu) {
    const Power<V> e(z > 0 ? V{} : z);
    value = z > 0 ? z : p * e.minus_one();
    curve = third = z > 0 ? V{} : p * e.value();
    slope = z > 0 ? all<V>(T(1)) : curve;
  } else if constexpr (kActivation == pyebm::kRelu) {
    value = z < 0 ? V{} : z;
    slope = z > 0 ? all<V>(T(1)) : V{};
  } else {
    value = z > 0 ? z : p * z;
    slope = z > 0 ? all<V>(T(1)) : all<V>(p);
  }
  return {value, slope, curve, third};
}

}  // namespace
