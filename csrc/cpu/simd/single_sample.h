// Takes one sample at a time, for when there are too few samples to fill the lanes of a tile: the
// lanes are then rows of the matrix, whose columns come past. Each row's sum has the order that it
// has in a tile, and so the same bits. Included once by each level, after sample_tiles.h.

namespace {

template <class V>
constexpr int kPiece = 16 / sizeof(Element<V>);  // columns that are loaded together: 16 bytes of each row

// Vectors of rows whose sums are made at once. Sixteen float rows keep the memory busy, and give
// enough independent sums that no addition waits for the one before it.
template <class V>
constexpr int kGroupsAtOnce = sizeof(V) == 64 ? 1 : 2;

#if PYEBM_VECTOR_BYTES >= 32
PYEBM_HD __m256 two_pieces(const void* first, const void* second) {
  const auto low = _mm_loadu_ps(static_cast<const float*>(first)),
             high = _mm_loadu_ps(static_cast<const float*>(second));
  return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
}
#endif

// Loads kPiece columns of the rows first, first + kPiece, first + 2 kPiece, ...
template <class V, class T, int kCount>
PYEBM_HD V pieces(const Walk<T, kCount>& rows, int first) {
  if constexpr (sizeof(V) == 16) return load<V>(rows.row(first));
#if PYEBM_VECTOR_BYTES >= 32
  if constexpr (sizeof(V) == 32) return (V)two_pieces(rows.row(first), rows.row(first + kPiece<V>));
#endif
#if PYEBM_VECTOR_BYTES == 64
  if constexpr (sizeof(V) == 64) {
    const __m256 low = two_pieces(rows.row(first), rows.row(first + kPiece<V>));
    const __m256 high = two_pieces(rows.row(first + 2 * kPiece<V>), rows.row(first + 3 * kPiece<V>));
    return (V)_mm512_insertf32x8(_mm512_castps256_ps512(low), high, 1);
  }
#endif
}

// Interleaves, within every 16 bytes, the first (kSecond: the second) half of a's elements with the
// same half of b's.
template <bool kSecond, class V, int64_t... kLane>
PYEBM_HD V take_turns(V a, V b, std::integer_sequence<int64_t, kLane...>) {
  constexpr int64_t kCount = sizeof...(kLane), kHalf = kPiece<V> / 2;
  return lanes_of<(kLane / kPiece<V> * kPiece<V> + kLane % kPiece<V> / 2 + kSecond * kHalf +
                   kLane % 2 * kCount)...>(a, b);
}
template <bool kSecond, class V>
PYEBM_HD V take_turns(V a, V b) {
  return take_turns<kSecond>(a, b, std::make_integer_sequence<int64_t, kWidth<V>>());
}

// Loads kPiece columns of a matrix, from as many rows as a vector has lanes.
template <class V, class T>
PYEBM_HD void load_columns(const Walk<T, kWidth<V>>& rows, V (&column)[kPiece<V>]) {
  if constexpr (kPiece<V> == 2) {
    const V a = pieces<V>(rows, 0), b = pieces<V>(rows, 1);
    column[0] = take_turns<false>(a, b);
    column[1] = take_turns<true>(a, b);
  } else {
    using Pairs = typename VectorOf<double, sizeof(V)>::type;
    const V a = pieces<V>(rows, 0), b = pieces<V>(rows, 1), c = pieces<V>(rows, 2), d = pieces<V>(rows, 3);
    const auto low = (Pairs)take_turns<false>(a, b), high = (Pairs)take_turns<true>(a, b);
    const auto low_2 = (Pairs)take_turns<false>(c, d), high_2 = (Pairs)take_turns<true>(c, d);
    column[0] = (V)take_turns<false>(low, low_2);
    column[1] = (V)take_turns<true>(low, low_2);
    column[2] = (V)take_turns<false>(high, high_2);
    column[3] = (V)take_turns<true>(high, high_2);
  }
}

// Calls body(Count, first) for all n rows, kMost or 1 vectors of rows at a time. A last vector that
// would not be full takes some rows before it again: its `first` is n - kWidth<V>, which is below 0
// where n is less.
template <class V, int kMost, class Body>
PYEBM_HD void by_lanes(int64_t n, Body body) {
  int64_t first = 0;
  for (; first + kMost * kWidth<V> <= n; first += kMost * kWidth<V>) body(Count<kMost>(), first);
  for (; first + kWidth<V> <= n; first += kWidth<V>) body(Count<1>(), first);
  if (first < n) body(Count<1>(), n - kWidth<V>);
}

// kGroups times kWidth<V> rows of a matrix and, with kTwo, the same rows of another matrix with the
// same layout.
template <class V, int kGroups, bool kTwo, class T = Element<V>>
struct RowGroups {
  static constexpr int64_t kRowCount = kGroups * kWidth<V>;
  Walk<T, kWidth<V>> walks[kGroups], others[kTwo ? kGroups : 1];

  PYEBM_HD RowGroups(const T* rows, const T* other_rows, int64_t stride) {
    PYEBM_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      walks[g] = Walk<T, kWidth<V>>(rows + g * kWidth<V> * stride, stride);
      if (kTwo) others[g] = Walk<T, kWidth<V>>(other_rows + g * kWidth<V> * stride, stride);
    }
  }

  // Adds the columns [from, to) of the next kPiece columns to the sums. x points to the sample's
  // elements of these kPiece columns.
  template <class Add>
  PYEBM_HD void add_next(const T* x, int from, int to, V (&sum)[kGroups], Add add) {
    PYEBM_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      V column[kPiece<V>], other_column[kPiece<V>];
      next_columns(walks[g], column);
      if constexpr (kTwo) next_columns(others[g], other_column);
      PYEBM_UNROLL
      for (int k = 0; k < kPiece<V>; ++k) {
        if (k >= from && k < to) add(all<V>(x[k]), column[k], kTwo ? other_column[k] : column[k], sum[g]);
      }
    }
  }

 private:
  static PYEBM_HD void next_columns(Walk<T, kWidth<V>>& rows, V (&column)[kPiece<V>]) {
    rows.hold();
    load_columns<V>(rows, column);
    rows.next(kPiece<V>);
  }
};

// Calls add(x of a dimension, the rows' elements in it, their sums) for all dimensions, in spans as
// sum_rows does. Where `last` is set, nothing may be read behind the rows.
template <class V, int kGroups, bool kTwo, class T, class Add>
PYEBM_HD void sum_columns(int64_t dim, int64_t stride, const T* rows, const T* others, bool last, const T* x,
                          V (&total)[kGroups], Add add) {
  using Groups = RowGroups<V, kGroups, kTwo>;
  Groups groups(rows, others, stride);
  PYEBM_UNROLL
  for (int g = 0; g < kGroups; ++g) total[g] = V{};
  for (int64_t d = 0; d < dim;) {
    V sum[kGroups] = {};
    const int64_t end = dim - d < kSpan ? dim : d + kSpan;
    for (; d + kPiece<V> <= end; d += kPiece<V>) groups.add_next(x + d, 0, kPiece<V>, sum, add);
    if (const int rest = static_cast<int>(end - d); rest > 0) {
      if (dim >= kPiece<V>) {  // the last columns, behind some that are done
        const int64_t back = end - kPiece<V>;
        Groups(rows + back, others + back, stride).add_next(x + back, kPiece<V> - rest, kPiece<V>, sum, add);
      } else if (!last) {
        groups.add_next(x, 0, rest, sum, add);
      } else {
        T copy[kTwo ? 2 : 1][Groups::kRowCount * kPiece<V>] = {};
        for (int64_t r = 0; r < Groups::kRowCount; ++r) {
          memcpy(copy[0] + r * kPiece<V>, rows + r * stride, dim * sizeof(T));
          if (kTwo) memcpy(copy[kTwo] + r * kPiece<V>, others + r * stride, dim * sizeof(T));
        }
        Groups(copy[0], copy[kTwo], kPiece<V>).add_next(x, 0, rest, sum, add);
      }
      d = end;
    }
    PYEBM_UNROLL
    for (int g = 0; g < kGroups; ++g) total[g] = total[g] + sum[g];
  }
}

}  // namespace
