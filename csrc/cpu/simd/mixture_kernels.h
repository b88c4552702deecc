// Gaussian mixtures in the table of targets: scores are two products with a softmax between them.
// Included once by each level, after sample_tiles.h and before mixture_single_sample.h.

namespace {

using pyebm::Samples;
using pyebm::TargetOf;

constexpr int64_t kTile = 96;  // components whose weights are in the L1 cache at once
constexpr int kFewDims = 4;    // up to here a component's mean is added as soon as its weight is known

template <class T>
constexpr T kLowest = sizeof(T) == 4 ? T(-0x1.fffffep127) : T(-0x1.fffffffffffffp1023);

// The packed parameters of a mixture (docs/dense-kernels.md). With y = x times `inverse`, the log2
// of component m's weight in the score is:
//   isotropic  log2(w_m p_m(x) / variance_m) = offset_m - scale_m |y - mean_m|^2
//   diagonal   log2(w_m p_m(x)) = offset_m - scale sum_d precision_md (x_d - mean_md)^2
//              with scale = log2(e) / 2 and inverse = 1
template <class T, bool kDiagonal>
struct Mixture {
  static constexpr int kVectors = kDiagonal ? 1 : 3;   // vectors of one number per component
  static constexpr int kMatrices = kDiagonal ? 2 : 1;  // matrices of one row per component
  int64_t dim, stride, components;
  const T *offset, *scale, *variance, *inverse, *mean, *precision;

  Mixture(int64_t elements, const T* params, int64_t count) : dim(elements), stride(row_stride(elements)) {
    components = (count - (kDiagonal ? 0 : dim)) / (kVectors + kMatrices * stride);
    offset = params;
    scale = offset + components;
    variance = scale + components;
    inverse = variance + components;
    mean = kDiagonal ? offset + components : inverse + dim;
    precision = mean + components * stride;
  }
};

// The sums that a tile of samples gathers, relative to the largest q: sum q, and for an isotropic
// mixture `total`, which is sum q variance. In memory, (dim, lanes), lie x, sum q mean (for a
// diagonal mixture sum q precision mean) and, for a diagonal mixture, sum q precision.
template <class V>
struct Gathered {
  V most, sum, total;
  const Element<V>* x;
  Element<V>*mean, *precision;
};

// Writes log2 q of components [m, m + kCount) to `out`, and raises `most` to the largest of them.
template <class V, int kCount, bool kDiagonal, class T>
PYEBM_HD void logs(const Mixture<T, kDiagonal>& mix, int64_t m, const T* x, T* out, V& most) {
  V sum[kCount];
  Walk<T, kCount> mean(mix.mean + m * mix.stride, mix.stride);
  Walk<T, kCount> precision(kDiagonal ? mix.precision + m * mix.stride : mix.mean, mix.stride);
  sum_rows(mix.dim, x, sum, [&](V at, V(&to)[kCount]) {
    mean.hold();
    if (kDiagonal) precision.hold();
    PYEBM_UNROLL
    for (int r = 0; r < kCount; ++r) {
      const V far = at - all<V>(mean[r]);
      to[r] = fma(kDiagonal ? far * all<V>(precision[r]) : far, far, to[r]);
    }
    mean.next();
    if (kDiagonal) precision.next();
  });
  PYEBM_UNROLL
  for (int r = 0; r < kCount; ++r) {
    const V scale = all<V>(kDiagonal ? T(-0x1.71547652b82fep-1) : -mix.scale[m + r]);
    const V log = fma(sum[r], scale, all<V>(mix.offset[m + r]));
    most = larger(log, most);
    store(out + r * kWidth<V>, log);
  }
}

// Adds q times the means of the listed components to kCount dimensions, after scaling the sums that
// are there by `factor`.
template <class V, int kCount, class T>
PYEBM_HD void add_means(const T* mean, const T* q, const int64_t* starts, int64_t n, V factor, T* out) {
  V sum[kCount] = {};
  for (int64_t k = 0; k < n; ++k) {
    const V weight = load<V>(q + k * kWidth<V>);
    const T* row = mean + starts[k];
    opaque(row);
    PYEBM_UNROLL
    for (int r = 0; r < kCount; ++r) sum[r] = fma(weight, all<V>(row[r]), sum[r]);
  }
  PYEBM_UNROLL
  for (int r = 0; r < kCount; ++r)
    store(out + r * kWidth<V>, fma(load<V>(out + r * kWidth<V>), factor, sum[r]));
}

// The same for a diagonal mixture: adds q precision mean to `out`, and q precision to weights_out.
template <class V, int kCount, class T>
PYEBM_HD void add_means(const T* mean, const T* precision, const T* q, const int64_t* starts, int64_t n,
                        V factor, T* out, T* weights_out) {
  V sum[kCount] = {}, weights[kCount] = {};
  for (int64_t k = 0; k < n; ++k) {
    const V weight = load<V>(q + k * kWidth<V>);
    const T *row = mean + starts[k], *row_precision = precision + starts[k];
    opaque(row);
    opaque(row_precision);
    PYEBM_UNROLL
    for (int r = 0; r < kCount; ++r) {
      const V each = weight * all<V>(row_precision[r]);
      weights[r] = weights[r] + each;
      sum[r] = fma(each, all<V>(row[r]), sum[r]);
    }
  }
  PYEBM_UNROLL
  for (int r = 0; r < kCount; ++r) {
    T *to = out + r * kWidth<V>, *weights_to = weights_out + r * kWidth<V>;
    store(to, fma(load<V>(to), factor, sum[r]));
    store(weights_to, fma(load<V>(weights_to), factor, weights[r]));
  }
}

// The energy, up to a constant. The density is sum q variance (isotropic) or sum q (diagonal),
// relative to 2^most.
PYEBM_HD double mixture_energy(double most, double density) {
  return -(most * 0x1.62e42fefa39efp-1 + __builtin_log(density));
}

// Gathers the tile of components [first, first + n). kDims is the number of dimensions where they
// are few, else 0.
template <class V, int kDims, bool kDiagonal, class T>
PYEBM_HD void gather(const Mixture<T, kDiagonal>& mix, int64_t first, int64_t n, Gathered<V>& to) {
  alignas(64) T q[kTile * kWidth<V>];
  int64_t starts[kTile];
  V most = to.most;
  by_rows(n, [&](auto count, int64_t m) {
    logs<V, decltype(count)::value>(mix, first + m, to.x, q + m * kWidth<V>, most);
  });

  // Components with weight 0 in every lane are left out: they would add 0, bit for bit.
  const T* mean = mix.mean + first * mix.stride;
  V sum{}, total{}, few[kDims ? kDims : 1] = {};
  int64_t listed = 0;
  for (int64_t m = 0; m < n; ++m) {
    const V weight = exp2_of(load<V>(q + m * kWidth<V>) - most);
    sum = sum + weight;
    if (!kDiagonal) total = fma(weight, all<V>(mix.variance[first + m]), total);
    if (kDims) {
      PYEBM_UNROLL
      for (int d = 0; d < kDims; ++d) few[d] = fma(weight, all<V>(mean[m * mix.stride + d]), few[d]);
    } else {
      store(q + listed * kWidth<V>, weight);
      starts[listed] = m * mix.stride;
      listed += any(weight);
    }
  }
  const V factor = exp2_of(to.most - most);
  to.most = most;
  to.sum = fma(to.sum, factor, sum);
  if (!kDiagonal) to.total = fma(to.total, factor, total);
  if (kDims) {
    PYEBM_UNROLL
    for (int d = 0; d < kDims; ++d)
      store(to.mean + d * kWidth<V>, fma(load<V>(to.mean + d * kWidth<V>), factor, few[d]));
    return;
  }
  if (!listed) return;  // then the factor is 1 too
  by_rows<kDiagonal ? kRows / 2 : kRows>(mix.dim,
                                         [&](auto count, int64_t d) {  // diagonal: two sums a dimension
                                           constexpr int kCount = decltype(count)::value;
                                           T* out = to.mean + d * kWidth<V>;
                                           if constexpr (kDiagonal) {
                                             const T* precision = mix.precision + first * mix.stride;
                                             add_means<V, kCount>(mean + d, precision + d, q, starts, listed,
                                                                  factor, out, to.precision + d * kWidth<V>);
                                           } else {
                                             add_means<V, kCount>(mean + d, q, starts, listed, factor, out);
                                           }
                                         });
}

template <class V, int kDims, bool kDiagonal, class T>
void mixture_tile(const Mixture<T, kDiagonal>& mix, int64_t rows, const T* x, T* scratch, T* out,
                  double* energy) {
  const int64_t dim = mix.dim, size = dim * kWidth<V>;
  T *at = scratch, *mean = at + size, *precision = mean + size;
  to_lanes<V>(rows, dim, x, at,
              [&](V value, int64_t d) { return kDiagonal ? value : value * all<V>(mix.inverse[d]); });
  for (int64_t i = 0; i < (kDiagonal ? 2 : 1) * size; ++i) mean[i] = 0;
  Gathered<V> gathered{all<V>(kLowest<T>), V{}, V{}, at, mean, precision};
  for (int64_t m = 0; m < mix.components; m += kTile) {
    gather<V, kDims>(mix, m, mix.components - m < kTile ? mix.components - m : kTile, gathered);
  }
  // The score is (sum q mean - x sum q) / sum q variance, or (sum q precision mean - x sum q
  // precision) / sum q.
  const V density = kDiagonal ? gathered.sum : gathered.total, over = 1 / density;
  if (energy) {
    for (int64_t i = 0; i < rows; ++i) energy[i] = mixture_energy(gathered.most[i], density[i]);
  }
  for (int64_t d = 0; d < dim; ++d) {
    const V weight = kDiagonal ? load<V>(precision + d * kWidth<V>) : gathered.sum;
    const V pull = fma(-load<V>(at + d * kWidth<V>), weight, load<V>(mean + d * kWidth<V>)) * over;
    // Adding 0 makes -0 a 0: where sums underflowed, the sign of 0 hangs on components of weight 0,
    // which a single sample's loop leaves out.
    store(mean + d * kWidth<V>, (kDiagonal ? pull : pull * mix.inverse[d]) + V{});
  }
  from_lanes<V>(rows, dim, mean, out);
}

// A sample alone has lanes over components instead (mixture_single_sample.h).
template <bool kDiagonal, class T>
bool can_be_alone(const Mixture<T, kDiagonal>& mix);
template <bool kDiagonal, class T>
void mixture_at_one_sample(const Mixture<T, kDiagonal>& mix, const T* x, T* scratch, T* out, double* energy);

template <class T, bool kDiagonal>
struct MixtureTarget {
  static int64_t scratch(const Samples<T>& samples) {
    return (kDiagonal ? 3 : 2) * samples.width * kWidth<Wide<T>>;
  }

  static double cost(const Samples<T>& samples) {
    const Mixture<T, kDiagonal> mix(samples.width, samples.params, samples.param_count);
    return static_cast<double>(mix.components) * (kDiagonal ? 4 : 2);
  }

  static constexpr TargetOf<T> table() {
    return {false, scratch, nullptr, score, score_and_energy, kWidth<Wide<T>>, cost};
  }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    score_and_energy(samples, x, out, nullptr, nullptr);
  }

  static void score_and_energy(const Samples<T>& samples, const T* x, T* out, T*, double* energy) {
    const int64_t dim = samples.width;
    const Mixture<T, kDiagonal> mix(dim, samples.params, samples.param_count);
    const auto alone = [&](int64_t row) {
      mixture_at_one_sample(mix, x + row * dim, samples.scratch, out + row * dim,
                            energy ? energy + row : nullptr);
    };
    by_tiles<T>(samples.rows, can_be_alone(mix), alone, [&](auto vector, int64_t row, int64_t n) {
      using V = decltype(vector);
      const auto run = [&](auto dims) {
        mixture_tile<V, decltype(dims)::value>(mix, n, x + row * dim, samples.scratch, out + row * dim,
                                               energy ? energy + row : nullptr);
      };
      if (kDiagonal || dim > kFewDims) return run(Count<0>());
      if (dim == 1) return run(Count<1>());
      if (dim == 2) return run(Count<2>());
      if (dim == 3) return run(Count<3>());
      run(Count<4>());
    });
  }
};

template <class T>
using MixtureKernels = MixtureTarget<T, false>;
template <class T>
using MixtureDiagonalKernels = MixtureTarget<T, true>;

}  // namespace
