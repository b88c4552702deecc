// One element of the perturbation and of the affine (Langevin) step. T is float or double.
#pragma once

#include "platform.h"

namespace pyebm {

template <class T>
struct Bounds {
  T low, high, score_clip;  // infinite where the call sets no bound
};

}  // namespace pyebm

namespace {

template <class T>
PYEBM_HD T perturbed(T x, T z, T alpha, T sigma) {
  return alpha * x + sigma * z;
}

// NaN stays NaN: neither comparison holds for it.
template <class T>
PYEBM_HD T clamped(T x, T low, T high) {
  const T raised = x < low ? low : x;
  return raised > high ? high : raised;
}

template <class T>
PYEBM_HD T affine_mean(T x, T g, T a, T b) {
  return a * x + b * g;
}

template <class T>
PYEBM_HD T affine_value(T mean, T z, T c) {
  return mean + c * z;
}

template <class T>
PYEBM_HD T step_mean(T x, T g, T a, T b, T score_clip) {
  return affine_mean(x, clamped(g, -score_clip, score_clip), a, b);
}

template <class T>
PYEBM_HD T step_value(T mean, T z, T c, T low, T high) {
  return clamped(affine_value(mean, z, c), low, high);
}

}  // namespace
