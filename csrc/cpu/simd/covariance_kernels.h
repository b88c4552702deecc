// The score of a Gaussian with a full covariance: one product with its inverse. Included once by
// each level, after sample_tiles.h.

namespace {

using pyebm::Samples;
using pyebm::TargetOf;

// params: the mean (dim), then the rows of the precision matrix. The score is precision (mean - x).
template <class T>
struct GaussianFullKernels {
  static int64_t scratch(const Samples<T>& samples) { return 2 * samples.width * kWidth<Wide<T>>; }

  static double cost(const Samples<T>& samples) { return static_cast<double>(samples.width); }

  static constexpr TargetOf<T> table() {
    return {false, scratch, nullptr, score, nullptr, kWidth<Wide<T>>, cost};
  }

  static void score(const Samples<T>& samples, const T* x, T* out) {
    const int64_t dim = samples.width, stride = row_stride(dim);
    const T *mean = samples.params, *precision = mean + dim;
    const auto alone = [&](int64_t row) {
      T *far = samples.scratch, *product = out + row * dim;
      for (int64_t d = 0; d < dim; ++d) far[d] = mean[d] - x[row * dim + d];
      by_lanes<Wide<T>, kGroupsAtOnce<Wide<T>>>(dim, [&](auto count, int64_t first) {
        using V = Wide<T>;
        constexpr int kGroups = decltype(count)::value;
        V sum[kGroups];
        const T* rows = precision + first * stride;
        sum_columns<V, kGroups, false>(dim, stride, rows, rows, true, far, sum,
                                       [](V at, V column, V, V& to) { to = fma(at, column, to); });
        PYEBM_UNROLL
        for (int g = 0; g < kGroups; ++g) store(product + first + g * kWidth<V>, sum[g]);
      });
    };
    by_tiles<T>(samples.rows, dim >= kWidth<Wide<T>>, alone, [&](auto vector, int64_t row, int64_t n) {
      using V = decltype(vector);
      T *far = samples.scratch, *product = far + dim * kWidth<V>;
      to_lanes<V>(n, dim, x + row * dim, far, [&](V value, int64_t d) { return all<V>(mean[d]) - value; });
      by_rows(dim, [&](auto count, int64_t first) {
        constexpr int kCount = decltype(count)::value;
        V sum[kCount];
        Walk<T, kCount> matrix(precision + first * stride, stride);
        sum_rows(dim, far, sum, [&](V at, V(&to)[kCount]) {
          matrix.hold();
          PYEBM_UNROLL
          for (int r = 0; r < kCount; ++r) to[r] = fma(at, all<V>(matrix[r]), to[r]);
          matrix.next();
        });
        PYEBM_UNROLL
        for (int r = 0; r < kCount; ++r) store(product + (first + r) * kWidth<V>, sum[r]);
      });
      from_lanes<V>(n, dim, product, out + row * dim);
    });
  }
};

}  // namespace
