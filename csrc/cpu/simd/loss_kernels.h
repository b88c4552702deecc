// The kernels of losses on a chunk: sums of squares of residuals, sums of numbers, and gradients.
// Included once by each level, after chunk_kernels.h.

namespace {

using pyebm::kLanes;
using pyebm::LossOperands;
using pyebm::LossRows;

template <bool kX0, class T, class Z>
PYEBM_HD T residual_at(int64_t i, const LossOperands<T, Z>& in, const LossRow<T>& row) {
  const T z = static_cast<T>(in.z[i]);
  return kX0 ? residual(in.pred[i], z, in.x0[i], row.kappa, row.lambda, row.mu)
             : residual(in.pred[i], z, row.kappa, row.lambda);
}

// The terms of sum_of: squares of a loss's residuals, or numbers as they are.
template <bool kX0, class T, class Z>
struct Residuals {
  LossOperands<T, Z> in;
  LossRow<T> row;
  PYEBM_HD T operator()(int64_t i) const {
    const T r = residual_at<kX0>(i, in, row);
    return r * r;
  }
};
template <class T>
struct Numbers {
  const T* numbers;
  PYEBM_HD T operator()(int64_t i) const { return numbers[i]; }
};

template <class T, class Terms>
PYEBM_HD T sum_of(int64_t n, const Terms terms) {
  T total = 0;
  // With at most one element a lane, the lanes only cost time: the sum has the same order without
  // them. Batches of small samples gain from this.
  if (n < kLanes) {
    for (int64_t i = 0; i < n; ++i) total += terms(i);
    return total;
  }
  T lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    PYEBM_VECTOR_LOOP
    for (int64_t l = 0; l < kLanes; ++l) lane[l] += terms(i + l);
  }
  for (int64_t l = 0; i + l < n; ++l) lane[l] += terms(i + l);
  for (int64_t l = 0; l < kLanes; ++l) total += lane[l];
  return total;
}

// The same sum, which also writes the gradients. It has a loop of its own, since a loop that could
// do either ran a fifth slower (gcc 12).
template <bool kX0, class T, class Z>
T sum_and_grad_loop(int64_t n, const LossOperands<T, Z>& in, const LossRow<T>& row, T* out) {
  if (n < kLanes) {
    T total = 0;
    for (int64_t i = 0; i < n; ++i) {
      const T r = residual_at<kX0>(i, in, row);
      total += r * r;
      out[i] = row.grad * r;
    }
    return total;
  }
  T lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    PYEBM_VECTOR_LOOP
    for (int64_t l = 0; l < kLanes; ++l) {
      const T r = residual_at<kX0>(i + l, in, row);
      lane[l] += r * r;
      out[i + l] = row.grad * r;
    }
  }
  for (int64_t l = 0; i + l < n; ++l) {
    const T r = residual_at<kX0>(i + l, in, row);
    lane[l] += r * r;
    out[i + l] = row.grad * r;
  }
  T total = 0;
  for (int64_t l = 0; l < kLanes; ++l) total += lane[l];
  return total;
}

// A row's numbers for its residuals and their gradients.
template <class T>
PYEBM_HD LossRow<T> row_at(int64_t i, const LossRows<T>& rows, bool with_grad) {
  return {rows.kappa[i], rows.lambda[i], rows.mu[i], T(0), with_grad ? rows.grad[i] : T(0)};
}

template <bool kX0, bool kGrad, int kWidth, class T, class Z>
PYEBM_HD void narrow_sums(int64_t rows, const LossOperands<T, Z>& in, const LossRows<T>& numbers, T* sums,
                          T* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t row = 0; row < rows; ++row) {
    const LossRow<T> own = row_at(row, numbers, kGrad);
    T total = 0;
    PYEBM_UNROLL
    for (int64_t k = 0; k < kWidth; ++k) {
      const int64_t i = row * kWidth + k;
      const T r = residual_at<kX0>(i, in, own);
      total += r * r;
      if (kGrad) out[i] = own.grad * r;
    }
    sums[row] = total;
  }
}

template <bool kX0, bool kGrad, class T, class Z>
PYEBM_HD void sums_of_rows(int64_t rows, int64_t width, LossOperands<T, Z> in, const LossRows<T>& numbers,
                           T* sums, T* out) {
  if (width == 1) return narrow_sums<kX0, kGrad, 1>(rows, in, numbers, sums, out);
  if (width == 2) return narrow_sums<kX0, kGrad, 2>(rows, in, numbers, sums, out);
  if (width == 3) return narrow_sums<kX0, kGrad, 3>(rows, in, numbers, sums, out);
  if (width == 4) return narrow_sums<kX0, kGrad, 4>(rows, in, numbers, sums, out);
  for (int64_t row = 0; row < rows; ++row) {
    const LossRow<T> own = row_at(row, numbers, kGrad);
    if constexpr (kGrad) {
      sums[row] = sum_and_grad_loop<kX0>(width, in, own, out + row * width);
    } else {
      sums[row] = sum_of<T>(width, Residuals<kX0, T, Z>{in, own});
    }
    in = {in.pred + width, in.z + width, kX0 ? in.x0 + width : nullptr};
  }
}

template <class T, class Z>
void loss_sums(int64_t rows, int64_t width, LossOperands<T, Z> in, const LossRows<T>& numbers, T* sums,
               T* out) {
  if (out) {
    in.x0 ? sums_of_rows<true, true>(rows, width, in, numbers, sums, out)
          : sums_of_rows<false, true>(rows, width, in, numbers, sums, out);
  } else {
    in.x0 ? sums_of_rows<true, false>(rows, width, in, numbers, sums, out)
          : sums_of_rows<false, false>(rows, width, in, numbers, sums, out);
  }
}

template <class T, class Z>
void elementwise(int64_t rows, int64_t width, LossOperands<T, Z> in, const LossRows<T>& numbers, T* out) {
  const auto loop = [&](auto x0) {
    over_rows(rows, width, [&](int64_t i, int64_t row) {
      const T r = residual_at<decltype(x0)::value>(i, in, row_at(row, numbers, false));
      out[i] = numbers.weight[row] * (r * r);
    });
  };
  in.x0 ? loop(Flag<true>()) : loop(Flag<false>());
}

template <class T, class Z>
void grad(int64_t rows, int64_t width, LossOperands<T, Z> in, const LossRows<T>& numbers,
          const T* grad_output, bool each, T* out) {
  const auto loop = [&](auto x0, auto elementwise) {
    over_rows(rows, width, [&](int64_t i, int64_t row) {
      const LossRow<T> own = row_at(row, numbers, true);
      const T r = residual_at<decltype(x0)::value>(i, in, own);
      out[i] = (own.grad * r) * grad_output[decltype(elementwise)::value ? i : row];
    });
  };
  if (each) {
    in.x0 ? loop(Flag<true>(), Flag<true>()) : loop(Flag<false>(), Flag<true>());
  } else {
    in.x0 ? loop(Flag<true>(), Flag<false>()) : loop(Flag<false>(), Flag<false>());
  }
}

template <class T>
void loss_rows(int64_t n, const double* const* values, double factor, bool over_kappa2, double scale,
               T* const* out) {
  const double *kappa = values[0], *lambda = values[1], *mu = values[2], *weight = values[3],
               *above = values[4];
  T *to_kappa = out[0], *to_lambda = out[1], *to_mu = out[2], *to_weight = out[3], *to_grad = out[4],
    *to_above = out[5];
  const auto loop = [&](auto over) {
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) {
      const double weighs = loss_weight(kappa[i], weight[i], factor, decltype(over)::value);
      const LossRow<T> row = loss_row<T>(kappa[i], lambda[i], mu[i], weighs, scale);
      to_kappa[i] = row.kappa, to_lambda[i] = row.lambda, to_mu[i] = row.mu, to_weight[i] = row.weight,
      to_grad[i] = row.grad;
      to_above[i] = static_cast<T>(above[i]);
    }
  };
  over_kappa2 ? loop(Flag<true>()) : loop(Flag<false>());
}

template <class T, class Z>
void terms_each(int64_t n, LossOperands<T, Z> in, const LossRows<T>& rows, bool weighted, T* terms, T* out) {
  const auto loop = [&](auto x0, auto with_weight, auto with_grad) {
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) {
      const LossRow<T> row = row_at(i, rows, decltype(with_grad)::value);
      const T r = residual_at<decltype(x0)::value>(i, in, row);
      terms[i] = decltype(with_weight)::value ? rows.weight[i] * (r * r) : r * r;
      if (decltype(with_grad)::value) out[i] = row.grad * r;
    }
  };
  const auto with_grad = [&](auto x0, auto with_weight) {
    out ? loop(x0, with_weight, Flag<true>()) : loop(x0, with_weight, Flag<false>());
  };
  const auto with_weight = [&](auto x0) {
    weighted ? with_grad(x0, Flag<true>()) : with_grad(x0, Flag<false>());
  };
  in.x0 ? with_weight(Flag<true>()) : with_weight(Flag<false>());
}

template <class T, class Z>
void grad_each(int64_t n, LossOperands<T, Z> in, const LossRows<T>& rows, const T* grad_output, T* out) {
  const auto loop = [&](auto x0) {
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) {
      const LossRow<T> row = row_at(i, rows, true);
      out[i] = (row.grad * residual_at<decltype(x0)::value>(i, in, row)) * grad_output[i];
    }
  };
  in.x0 ? loop(Flag<true>()) : loop(Flag<false>());
}

// Sums short rows side by side. kWidth is their width where the compiler can know it, else 0.
template <int kWidth, class T>
void sums_of_short(int64_t rows, int64_t width, const T* numbers, T* out) {
  const int64_t each = kWidth ? kWidth : width;
  PYEBM_VECTOR_LOOP
  for (int64_t row = 0; row < rows; ++row) {
    T total = 0;
    for (int64_t i = 0; i < each; ++i) total += numbers[row * each + i];
    out[row] = total;
  }
}

template <class T>
void sums(int64_t rows, int64_t width, const T* numbers, T* out) {
  if (width == 1) return sums_of_short<1>(rows, width, numbers, out);
  if (width == 2) return sums_of_short<2>(rows, width, numbers, out);
  if (width == 3) return sums_of_short<3>(rows, width, numbers, out);
  if (width == 4) return sums_of_short<4>(rows, width, numbers, out);
  if (width < kLanes) return sums_of_short<0>(rows, width, numbers, out);
  for (int64_t row = 0; row < rows; ++row) out[row] = sum_of<T>(width, Numbers<T>{numbers + row * width});
}

// In lanes, since the additions to one single sum would wait for each other (_composed/losses.py's
// batch_sum).
template <class T>
double sum_of_block(const T* sums, const double* weights, double* losses) {
  constexpr int64_t kSums = 8;
  double lane[kSums] = {};
  for (int64_t i = 0; i < pyebm::kLossesOfBlock; i += kSums) {
    PYEBM_VECTOR_LOOP
    for (int64_t l = 0; l < kSums; ++l) {
      losses[i + l] = static_cast<double>(sums[i + l]) * weights[i + l];
      lane[l] += losses[i + l];
    }
  }
  return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

}  // namespace
