// One element of the perturbation and of the affine (Langevin) step. T is float or double.
#pragma once

#include "platform.h"

namespace pyebm {

template <class T>
struct Bounds {
  T low, high, score_clip;  // infinite where there is none
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
PYEBM_HD T step_mean(T x, T g, T a, T b, T score_clip) {
  return a * x + b * clamped(g, -score_clip, score_clip);
}

template <class T>
PYEBM_HD T step_value(T mean, T z, T c, T low, T high) {
  return clamped(mean + c * z, low, high);
}

}  // namespace
