// The bodies behind ChunkKernels: included once by each level_*.cpp, after its target pragma. No include guard, no other
// includes: standard headers under a target pragma would leave illegal instructions in shared inline functions.
//
// Everything has internal linkage. The plain loops are left to the auto-vectoriser; noise_kernels.h is not.

namespace {

using pyebm::Bounds;
using pyebm::ChunkKernels;
using pyebm::kLanes;
using pyebm::LossOperands;

template <bool kValue>
struct Flag {
  static constexpr bool value = kValue;
};

// Half precisions by integer arithmetic and exact scaling: the same bits with and without the machine's own conversions.
void from_bfloat16(const uint16_t* in, int64_t n, float* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) out[i] = bits_float(static_cast<uint32_t>(in[i]) << 16);
}

void to_bfloat16(const float* in, int64_t n, uint16_t* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = float_bits(in[i]);
    const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;            // to nearest, ties to even
    out[i] = static_cast<uint16_t>(in[i] == in[i] ? rounded : (bits >> 16) | 0x40u);  // NaN stays NaN
  }
}

void from_half(const uint16_t* in, int64_t n, float* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = in[i] & 0x7FFFu, sign = static_cast<uint32_t>(in[i] & 0x8000u) << 16;
    const uint32_t subnormal = float_bits(static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f);
    const uint32_t normal = (magnitude << 13) + (magnitude >= 0x7C00u ? 224u << 23 : 112u << 23);  // infinities, NaN; the rest
    out[i] = bits_float((magnitude < 0x400u ? subnormal : normal) | sign);
  }
}

void to_half(const float* in, int64_t n, uint16_t* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t bits = float_bits(in[i]), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
    // Normal results: rebias, round to nearest even on the 13 bits that go. Carries run into the exponent, up to infinity.
    const uint32_t normal = (magnitude - (112u << 23) + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13;
    // Below 2^-14: adding 0.5 puts the result's last bit at the float's last bit, and the addition rounds.
    const uint32_t subnormal = float_bits(bits_float(magnitude) + 0.5f) - 0x3F000000u;
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
    const uint32_t large = magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u;
    out[i] = static_cast<uint16_t>(sign | (magnitude >= 0x47800000u ? large : finite));
  }
}

template <class T>
void perturb(int64_t n, const T* x, const float* z, T alpha, T sigma, T* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) out[i] = perturbed(x[i], static_cast<T>(z[i]), alpha, sigma);
}

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

template <class T, bool kMask, bool kMean, bool kBounds>
void step_loop(int64_t n, const T* x, const T* g, const float* z, const uint8_t* mask, T a, T b, T c, Bounds<T> bounds, T* out,
               T* mean) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const T old = x[i];
    const T m = kBounds ? step_mean(old, g[i], a, b, bounds.score_clip) : affine_mean(old, g[i], a, b);
    const T value =
        kBounds ? step_value(m, static_cast<T>(z[i]), c, bounds.low, bounds.high) : affine_value(m, static_cast<T>(z[i]), c);
    out[i] = kMask && !mask[i] ? old : value;
    if (kMean) mean[i] = kMask && !mask[i] ? old : m;
  }
}

template <class T>
void step(int64_t n, const T* x, const T* g, const float* z, const uint8_t* mask, T a, T b, T c, Bounds<T> bounds, T* out,
          T* mean) {
  const bool bounded = bounds.low > -kInfinity<T> || bounds.high < kInfinity<T> || bounds.score_clip < kInfinity<T>;
  if (mask && mean) return step_loop<T, true, true, true>(n, x, g, z, mask, a, b, c, bounds, out, mean);
  if (mask) return step_loop<T, true, false, true>(n, x, g, z, mask, a, b, c, bounds, out, mean);
  if (mean) return step_loop<T, false, true, true>(n, x, g, z, mask, a, b, c, bounds, out, mean);
  if (bounded) return step_loop<T, false, false, true>(n, x, g, z, mask, a, b, c, bounds, out, mean);
  step_loop<T, false, false, false>(n, x, g, z, mask, a, b, c, bounds, out, mean);
}

template <class T>
void step_each(int64_t n, const T* x, const T* g, const float* z, const T* b, const T* c, Bounds<T> bounds, T* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) {
    const T mean = step_mean(x[i], g[i], T(1), b[i], bounds.score_clip);
    out[i] = step_value(mean, static_cast<T>(z[i]), c[i], bounds.low, bounds.high);
  }
}

// By the exponent bits, whose maximum vectorises where a sum of floats would not.
template <class T>
bool all_finite(int64_t n, const T* x) {
  using Bits = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  constexpr Bits kInfinite = sizeof(T) == 8 ? Bits{0x7FF} << (sizeof(T) * 8 - 12) : Bits{0xFF} << 23;
  Bits largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    Bits bits;
    memcpy(&bits, x + i, sizeof bits);
    bits &= kInfinite;
    largest = bits > largest ? bits : largest;
  }
  return largest != kInfinite;
}

template <class T>
void moved(int64_t n, const T* x, const T* v, T by, T* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] + by * v[i];
}

template <bool kX0, class T, class Z>
PYEBM_HD T residual_at(int64_t i, const LossOperands<T, Z>& in, const LossRow<T>& row) {
  const T z = static_cast<T>(in.z[i]);
  return kX0 ? residual(in.pred[i], z, in.x0[i], row.kappa, row.lambda, row.mu) : residual(in.pred[i], z, row.kappa, row.lambda);
}

// What is squared and added: a loss's residuals, or numbers as they are.
template <bool kX0, class T, class Z>
struct Residuals {
  LossOperands<T, Z> in;
  LossRow<T> row;
  PYEBM_HD T operator()(int64_t i) const { return residual_at<kX0>(i, in, row); }
};
template <class T, class Z>
struct Numbers {
  const Z* numbers;
  PYEBM_HD T operator()(int64_t i) const { return static_cast<T>(numbers[i]); }
};

template <class T, class Terms>
PYEBM_HD T sum_of_squares(int64_t n, const Terms terms) {
  T total = 0;
  if (n < kLanes) {  // one element a lane: the same sum without the lanes, for the many small samples of a toy problem
    for (int64_t i = 0; i < n; ++i) total += terms(i) * terms(i);
    return total;
  }
  T lane[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    PYEBM_VECTOR_LOOP
    for (int64_t l = 0; l < kLanes; ++l) lane[l] += terms(i + l) * terms(i + l);
  }
  for (int64_t l = 0; i + l < n; ++l) lane[l] += terms(i + l) * terms(i + l);
  for (int64_t l = 0; l < kLanes; ++l) total += lane[l];
  return total;
}

// The same sum, with the gradients left on the way: a loop of its own, as one that could do either ran a fifth slower (gcc 12).
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

template <class T, class Z>
T sum(int64_t n, LossOperands<T, Z> in, const LossRow<T>& row) {
  return in.x0 ? sum_of_squares<T>(n, Residuals<true, T, Z>{in, row}) : sum_of_squares<T>(n, Residuals<false, T, Z>{in, row});
}

template <class T, class Z>
T sum_and_grad(int64_t n, LossOperands<T, Z> in, const LossRow<T>& row, T* out) {
  return in.x0 ? sum_and_grad_loop<true>(n, in, row, out) : sum_and_grad_loop<false>(n, in, row, out);
}

template <class T, class Z>
void squares(int64_t rows, int64_t width, const Z* numbers, T* sums) {
  for (int64_t row = 0; row < rows; ++row) sums[row] = sum_of_squares<T>(width, Numbers<T, Z>{numbers + row * width});
}

// Those of small rows side by side, each in the order of sum_loop.
template <bool kX0, int kWidth, class T>
void squares_of_small(int64_t rows, const LossOperands<T, T>& in, const T* kappa, T lambda, T mu, T* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t row = 0; row < rows; ++row) {
    T total = 0;
    for (int64_t i = row * kWidth; i < (row + 1) * kWidth; ++i) {
      const T r = residual_at<kX0>(i, in, LossRow<T>{kappa[row], lambda, mu, T(0), T(0)});
      total += r * r;
    }
    out[row] = total;
  }
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
  for (int64_t row = 0; row < rows; ++row) {
    out[row] = sum<T, T>(width, in, {kappa[row], lambda, mu, T(0), T(0)});
    in = {in.pred + width, in.z + width, in.x0 ? in.x0 + width : nullptr};
  }
}

void probabilities(int64_t n, const double* x, double* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) out[i] = x[i] == x[i] ? exponential(x[i] < 0 ? x[i] : 0.0) : 0.0;
}

void exponentials(int64_t n, const double* x, double* out) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) out[i] = exponential(x[i]);
}

template <class T, class Z>
void elementwise(int64_t n, LossOperands<T, Z> in, const LossRow<T>& row, T* out) {
  const auto loop = [&](auto x0) {
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) {
      const T r = residual_at<decltype(x0)::value>(i, in, row);
      out[i] = row.weight * (r * r);
    }
  };
  in.x0 ? loop(Flag<true>()) : loop(Flag<false>());
}

template <class T, class Z>
void grad(int64_t n, LossOperands<T, Z> in, const LossRow<T>& row, const T* grad_output, int64_t stride, T* out) {
  const auto loop = [&](auto x0, auto elementwise) {
    const T one = grad_output[0];
    PYEBM_VECTOR_LOOP
    for (int64_t i = 0; i < n; ++i) {
      const T r = residual_at<decltype(x0)::value>(i, in, row);
      out[i] = (row.grad * r) * (decltype(elementwise)::value ? grad_output[i] : one);
    }
  };
  if (stride) {
    in.x0 ? loop(Flag<true>(), Flag<true>()) : loop(Flag<false>(), Flag<true>());
  } else {
    in.x0 ? loop(Flag<true>(), Flag<false>()) : loop(Flag<false>(), Flag<false>());
  }
}

}  // namespace
