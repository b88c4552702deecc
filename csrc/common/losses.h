// The affine denoising loss f w_b sum_i r_i^2 with r = (kappa pred + lambda z) + mu x0, and its
// gradient 2 f w_b kappa r.
#pragma once

#include "platform.h"

namespace pyebm {

// A sample's coefficients. The last two are made in double and rounded once.
template <class T>
struct LossRow {
  T kappa, lambda, mu;
  T weight;  // f w_b, of the elementwise loss
  T grad;    // 2 f w_b kappa / (the reduction's divisor)
};

}  // namespace pyebm

namespace {

using pyebm::LossRow;

// over_kappa2: `weight` weighs the unscaled residual pred + z / kappa, as in the DSM loss, where
// kappa is sigma.
PYEBM_HD double loss_weight(double kappa, double weight, double factor, bool over_kappa2) {
  return factor * (over_kappa2 ? weight / (kappa * kappa) : weight);
}

template <class T>
PYEBM_HD LossRow<T> loss_row(double kappa, double lambda, double mu, double weight, double scale) {
  return {static_cast<T>(kappa), static_cast<T>(lambda), static_cast<T>(mu), static_cast<T>(weight),
          static_cast<T>(((2.0 * weight) * kappa) * scale)};
}

template <class T>
PYEBM_HD T residual(T pred, T z, T kappa, T lambda) {
  return kappa * pred + lambda * z;
}

template <class T>
PYEBM_HD T residual(T pred, T z, T x0, T kappa, T lambda, T mu) {
  return residual(pred, z, kappa, lambda) + mu * x0;
}

}  // namespace
