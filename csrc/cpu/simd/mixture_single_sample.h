// The score of a mixture at one sample, bit for bit what a tile of samples gives: the lanes are
// components while the dimensions come past, and dimensions while the components do. Included once
// by each level, after single_sample.h and mixture_kernels.h.

namespace {

// The sums that one sample gathers. Gathered holds the same sums for a tile of samples.
template <class T>
struct GatheredOne {
  T most;
  Least<T> sum, total;
  const T* x;
  // Whole vectors of dimensions. If the dimensions don't fill the last one, it begins earlier and
  // repeats some of the vector before it.
  T *mean, *precision;
};

// Writes log2 q of kGroups times kWidth<V> components, from m on, to `out`.
template <class V, int kGroups, bool kDiagonal, class T>
PYEBM_HD void logs_of_one(const Mixture<T, kDiagonal>& mix, int64_t m, const T* x, T* out, V& most) {
  const T *mean = mix.mean + m * mix.stride, *precision = kDiagonal ? mix.precision + m * mix.stride : mean;
  const bool last = m + kGroups * kWidth<V> + kPiece<V> > mix.components;
  V sum[kGroups];
  sum_columns<V, kGroups, kDiagonal>(mix.dim, mix.stride, mean, precision, last, x, sum,
                                     [](V at, V mean, V precision, V& to) {
                                       const V far = at - mean;
                                       to = fma(kDiagonal ? far * precision : far, far, to);
                                     });
  PYEBM_UNROLL
  for (int g = 0; g < kGroups; ++g, m += kWidth<V>, out += kWidth<V>) {
    const V scale = kDiagonal ? all<V>(T(-0x1.71547652b82fep-1)) : -load<V>(mix.scale + m);
    const V log = fma(sum[g], scale, load<V>(mix.offset + m));
    most = larger(log, most);
    store(out, log);
  }
}

// The weights of a tile of components, relative to the largest so far.
template <class T>
struct Weights {
  alignas(64) T room[kTile + kWidth<Wide<T>>];
  Least<T> factor;                              // scales the sums gathered before
  T* data() { return room + kWidth<Wide<T>>; }  // by_lanes may write before it

  template <bool kDiagonal>
  PYEBM_HD void make(const Mixture<T, kDiagonal>& mix, int64_t first, int64_t n, GatheredOne<T>& to) {
    using V = Wide<T>;
    alignas(64) T logs_room[kTile + kWidth<V>];
    T *logs = logs_room + kWidth<V>, *weights = data();
    V most = all<V>(to.most);
    by_lanes<V, kGroupsAtOnce<V>>(n, [&](auto count, int64_t m) {
      logs_of_one<V, decltype(count)::value>(mix, first + m, to.x, logs + m, most);
    });
    T top = to.most;
    for (int64_t i = 0; i < kWidth<V>; ++i) top = most[i] > top ? most[i] : top;
    by_lanes<V, 1>(n, [&](auto, int64_t m) { store(weights + m, exp2_of(load<V>(logs + m) - all<V>(top))); });
    factor = exp2_of(all<Least<T>>(to.most) - all<Least<T>>(top));
    to.most = top;
  }
};

// The weights that are not 0, and the components that have them.
template <class T>
struct Listed {
  int64_t count = 0;
  int64_t which[kTile];
  T weight[kTile];

  PYEBM_HD Listed(const T* weights, int64_t n) {
    for (int64_t m = 0; m < n; ++m) {
      weight[count] = weights[m];
      which[count] = m;
      count += weights[m] != 0;
    }
  }
};

// Adds the listed components of the tile that begins at `first` to kCount vectors of dimensions,
// from d on, whose gathered sums lie at `at`; with kSums, to `sum` and `total` too. The sums that
// are there already are first scaled by `factor`.
template <class V, int kCount, bool kSums, bool kDiagonal, class T>
PYEBM_HD void add_listed(const Mixture<T, kDiagonal>& mix, int64_t first, const Listed<T>& listed, int64_t d,
                         int64_t at, Least<T> factor, GatheredOne<T>& to) {
  V sum[kCount] = {}, weights[kDiagonal ? kCount : 1] = {};
  Least<T> all_sum{}, all_total{};
  const T *mean = mix.mean + first * mix.stride + d,
          *precision = kDiagonal ? mix.precision + first * mix.stride + d : mean;
  for (int64_t k = 0; k < listed.count; ++k) {
    const int64_t m = listed.which[k];
    const T *row = mean + m * mix.stride, *row_precision = precision + m * mix.stride;
    const V weight = all<V>(listed.weight[k]);
    PYEBM_UNROLL
    for (int r = 0; r < kCount; ++r) {
      V each = weight;
      if constexpr (kDiagonal) {
        each = weight * load<V>(row_precision + r * kWidth<V>);
        weights[r] = weights[r] + each;
      }
      sum[r] = fma(each, load<V>(row + r * kWidth<V>), sum[r]);
    }
    if constexpr (kSums) {
      const Least<T> once = all<Least<T>>(listed.weight[k]);
      all_sum = all_sum + once;
      if (!kDiagonal) all_total = fma(once, all<Least<T>>(mix.variance[first + m]), all_total);
    }
  }
  const V scale = all<V>(factor[0]);
  PYEBM_UNROLL
  for (int r = 0; r < kCount; ++r) {
    T* mean_to = to.mean + at + r * kWidth<V>;
    store(mean_to, fma(load<V>(mean_to), scale, sum[r]));
    if constexpr (kDiagonal) {
      T* precision_to = to.precision + at + r * kWidth<V>;
      store(precision_to, fma(load<V>(precision_to), scale, weights[r]));
    }
  }
  if constexpr (kSums) {
    to.sum = fma(to.sum, factor, all_sum);
    if (!kDiagonal) to.total = fma(to.total, factor, all_total);
  }
}

// Gathers the tile of components [first, first + n). V is a vector of dimensions.
template <class V, bool kDiagonal, class T>
PYEBM_HD void gather_one(const Mixture<T, kDiagonal>& mix, int64_t first, int64_t n, GatheredOne<T>& to) {
  Weights<T> weights;
  weights.make(mix, first, n, to);
  const Listed<T> listed(weights.data(), n);
  if (!listed.count) return;  // then the factor is 1 too
  const int64_t whole = mix.dim / kWidth<V> * kWidth<V>;
  by_rows<kDiagonal ? 4 : 8>(
      whole / kWidth<V>, [&](auto count, int64_t i) {  // diagonal: two sums a dimension
        constexpr int kCount = decltype(count)::value;
        const int64_t d = i * kWidth<V>;
        if (d == 0) return add_listed<V, kCount, true>(mix, first, listed, d, d, weights.factor, to);
        add_listed<V, kCount, false>(mix, first, listed, d, d, weights.factor, to);
      });
  if (whole < mix.dim)
    add_listed<V, 1, false>(mix, first, listed, mix.dim - kWidth<V>, whole, weights.factor, to);
}

// Gathers kTiles tiles of components where the dimensions are few. The tiles go side by side, each
// with its own sums, because an addition waits for the one before it in the same sum.
template <int kDims, int kTiles, class T>
PYEBM_HD void gather_few(const Mixture<T, false>& mix, int64_t first, int64_t n, GatheredOne<T>& to,
                         Least<T> (&out)[kDims]) {
  using V = Least<T>;
  Weights<T> weights[kTiles];
  const T *at[kTiles], *variance = mix.variance + first, *mean = mix.mean + first * mix.stride;
  V sum[kTiles] = {}, total[kTiles] = {}, few[kTiles][kDims] = {};
  for (int t = 0; t < kTiles; ++t) {
    weights[t].make(mix, first + t * kTile, n, to);
    at[t] = weights[t].data();
  }
  for (int64_t m = 0; m < n; ++m, ++variance, mean += mix.stride) {
    PYEBM_UNROLL
    for (int t = 0; t < kTiles; ++t) {
      const V weight = all<V>(at[t][m]);
      sum[t] = sum[t] + weight;
      total[t] = fma(weight, all<V>(variance[t * kTile]), total[t]);
      PYEBM_UNROLL
      for (int d = 0; d < kDims; ++d)
        few[t][d] = fma(weight, all<V>(mean[t * kTile * mix.stride + d]), few[t][d]);
    }
  }
  PYEBM_UNROLL
  for (int t = 0; t < kTiles; ++t) {
    to.sum = fma(to.sum, weights[t].factor, sum[t]);
    to.total = fma(to.total, weights[t].factor, total[t]);
    PYEBM_UNROLL
    for (int d = 0; d < kDims; ++d) out[d] = fma(out[d], weights[t].factor, few[t][d]);
  }
}

template <int kDims, class T>
void mixture_of_few(const Mixture<T, false>& mix, const T* x, T* scratch, T* out, double* energy) {
  for (int d = 0; d < kDims; ++d) scratch[d] = x[d] * mix.inverse[d];
  GatheredOne<T> gathered{kLowest<T>, {}, {}, scratch, nullptr, nullptr};
  Least<T> mean[kDims] = {};
  int64_t m = 0;
  for (; m + 2 * kTile <= mix.components; m += 2 * kTile) gather_few<kDims, 2>(mix, m, kTile, gathered, mean);
  for (; m < mix.components; m += kTile) {
    gather_few<kDims, 1>(mix, m, mix.components - m < kTile ? mix.components - m : kTile, gathered, mean);
  }
  const Least<T> over = 1 / gathered.total;
  if (energy) *energy = mixture_energy(gathered.most, gathered.total[0]);
  for (int d = 0; d < kDims; ++d) {
    const Least<T> pull = fma(-all<Least<T>>(scratch[d]), gathered.sum, mean[d]) * over;
    out[d] = pull[0] * mix.inverse[d] + 0;
  }
}

template <class V, bool kDiagonal, class T>
void mixture_at_one_sample(const Mixture<T, kDiagonal>& mix, const T* x, T* scratch, T* out, double* energy) {
  const int64_t dim = mix.dim, size = dim + kWidth<V>;
  T *mean = scratch, *precision = mean + size, *at = precision;
  if constexpr (!kDiagonal) {
    PYEBM_VECTOR_LOOP
    for (int64_t d = 0; d < dim; ++d) at[d] = x[d] * mix.inverse[d];
  }
  for (int64_t i = 0; i < (kDiagonal ? 2 : 1) * size; ++i) mean[i] = 0;
  GatheredOne<T> gathered{kLowest<T>, {}, {}, kDiagonal ? x : at, mean, precision};
  for (int64_t m = 0; m < mix.components; m += kTile) {
    gather_one<V>(mix, m, mix.components - m < kTile ? mix.components - m : kTile, gathered);
  }
  const Least<T> density = kDiagonal ? gathered.sum : gathered.total, over = 1 / density;
  if (energy) *energy = mixture_energy(gathered.most, density[0]);
  for (int64_t from = 0; from < dim; from += kWidth<V>) {
    const int64_t d = from + kWidth<V> <= dim ? from : dim - kWidth<V>;
    const V weight = kDiagonal ? load<V>(precision + from) : all<V>(gathered.sum[0]);
    const V pull = fma(-load<V>(gathered.x + d), weight, load<V>(mean + from)) * all<V>(over[0]);
    store(out + d, (kDiagonal ? pull : pull * load<V>(mix.inverse + d)) + V{});
  }
}

// Whether there is a component for every lane and, for a diagonal mixture, a dimension for every
// lane of the smallest vector.
template <bool kDiagonal, class T>
bool can_be_alone(const Mixture<T, kDiagonal>& mix) {
  return mix.components >= kWidth<Wide<T>> && (!kDiagonal || mix.dim >= kWidth<Least<T>>);
}

template <bool kDiagonal, class T>
void mixture_at_one_sample(const Mixture<T, kDiagonal>& mix, const T* x, T* scratch, T* out, double* energy) {
  if constexpr (!kDiagonal) {
    if (mix.dim == 1) return mixture_of_few<1>(mix, x, scratch, out, energy);
    if (mix.dim == 2) return mixture_of_few<2>(mix, x, scratch, out, energy);
    if (mix.dim == 3) return mixture_of_few<3>(mix, x, scratch, out, energy);
  }
  if (mix.dim >= kWidth<Wide<T>>) return mixture_at_one_sample<Wide<T>>(mix, x, scratch, out, energy);
  mixture_at_one_sample<Least<T>>(mix, x, scratch, out, energy);
}

}  // namespace
