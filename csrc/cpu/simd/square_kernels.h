// Sums of squares of each sample, without gradients: of numbers, as in a norm, or of residuals
// whose kappa differs between samples, as in Metropolis' test. Included once by each level, after
// loss_kernels.h.

namespace {

using pyebm::kLanes;
using pyebm::LossOperands;

template <class T, class Z>
struct Squares {
  const Z* numbers;
  PYEBM_HD T operator()(int64_t i) const { return static_cast<T>(numbers[i]) * static_cast<T>(numbers[i]); }
};

template <class T, class Z>
void squares(int64_t rows, int64_t width, const Z* numbers, T* sums) {
  for (int64_t row = 0; row < rows; ++row) sums[row] = sum_of<T>(width, Squares<T, Z>{numbers + row * width});
}

// Sums the squares of small rows side by side, each row in the order of sum_of.
template <bool kX0, int kWidth, class T>
void squares_of_small(int64_t rows, const LossOperands<T, T>& in, const T* kappa, T lambda, T mu, T* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t row = 0; row < rows; ++row) {
    T total = 0;
    for (int64_t k = 0; k < kWidth; ++k) {
      const T r = residual_at<kX0>(row * kWidth + k, in, LossRow<T>{kappa[row], lambda, mu, T(0), T(0)});
      total += r * r;
    }
    out[row] = total;
  }
}

template <bool kX0, class T>
void squares_of_rows(int64_t rows, int64_t width, const LossOperands<T, T>& in, const T* kappa, T lambda,
                     T mu, T* out) {
  using V = Wide<T>;
  constexpr int64_t kVectors = kLanes / kWidth<V>;
  const int64_t whole = width / kLanes * kLanes;
  const auto fill = [&](int64_t row, T* lane) {
    const int64_t first = row * width;
    const V k = all<V>(kappa[row]), l = all<V>(lambda), m = all<V>(mu);
    V sum[kVectors] = {};
    for (int64_t i = first; i < first + whole; i += kLanes) {
      PYEBM_UNROLL
      for (int64_t v = 0; v < kVectors; ++v) {
        const int64_t at = i + v * kWidth<V>;
        const V pred = load<V>(in.pred + at), z = load<V>(in.z + at);
        const V r = kX0 ? residual(pred, z, load<V>(in.x0 + at), k, l, m) : residual(pred, z, k, l);
        sum[v] = sum[v] + r * r;
      }
    }
    memcpy(lane, sum, sizeof sum);
    const Residuals<kX0, T, T> terms{in, {kappa[row], lambda, mu, T(0), T(0)}};
    for (int64_t i = 0; i < width - whole; ++i) lane[i] += terms(first + whole + i);
  };
  sum_rows_of_lanes<kLanes>(rows, out, fill, [&](const auto& lane) {
    Wide<T> total{};
    PYEBM_UNROLL
    for (int64_t l = 0; l < kLanes; ++l) total = total + lane[l];
    return total;
  });
}

template <class T>
void squares(int64_t rows, int64_t width, LossOperands<T, T> in, const T* kappa, T lambda, T mu, T* out) {
  const auto small = [&](auto x0) {
    constexpr bool kX0 = decltype(x0)::value;
    if (width == 1) return squares_of_small<kX0, 1>(rows, in, kappa, lambda, mu, out);
    if (width == 2) return squares_of_small<kX0, 2>(rows, in, kappa, lambda, mu, out);
    if (width == 3) return squares_of_small<kX0, 3>(rows, in, kappa, lambda, mu, out);
    squares_of_small<kX0, 4>(rows, in, kappa, lambda, mu, out);
  };
  if (width > 0 && width <= 4) return in.x0 ? small(Flag<true>()) : small(Flag<false>());
  in.x0 ? squares_of_rows<true>(rows, width, in, kappa, lambda, mu, out)
        : squares_of_rows<false>(rows, width, in, kappa, lambda, mu, out);
}

}  // namespace
