// Tiles of samples, transposed so that a lane is a sample, and products of the tiles with the rows
// of a matrix. A sample's results can't depend on the others in its tile, nor on how many there
// are. Included once by each level, after vectors.h.

namespace {

constexpr int kRows = 12;       // rows of the matrix whose sums are in registers at once
constexpr int64_t kSpan = 128;  // dimensions summed in one go

// Keeps the compiler from computing twelve pointers from one, which would use up the registers.
template <class T>
PYEBM_HD void opaque(const T*& pointer) {
  asm("" : "+r"(pointer));
}

// kCount rows of a matrix, walked along their columns with one pointer to every four.
template <class T, int kCount>
struct Walk {
  static constexpr int kPointers = (kCount + 3) / 4;
  const T* at[kPointers];
  int64_t stride;

  Walk() = default;
  PYEBM_HD Walk(const T* first, int64_t s) : stride(s) {
    PYEBM_UNROLL
    for (int i = 0; i < kPointers; ++i) at[i] = first + 4 * i * s;
  }
  PYEBM_HD void hold() {
    PYEBM_UNROLL
    for (int i = 0; i < kPointers; ++i) opaque(at[i]);
  }
  PYEBM_HD const T* row(int r) const { return at[r / 4] + r % 4 * stride; }
  PYEBM_HD T operator[](int r) const { return *row(r); }
  PYEBM_HD void next(int64_t columns = 1) {
    PYEBM_UNROLL
    for (int i = 0; i < kPointers; ++i) at[i] += columns;
  }
};

template <int kCount>
struct Count {
  static constexpr int value = kCount;
};

// Calls body(Count, first) for kMost, 4 or 1 rows at once until n are done. The grouping does not
// change the rows' sums.
template <int kMost = kRows, class Body>
PYEBM_HD void by_rows(int64_t n, Body body) {
  int64_t first = 0;
  for (; first + kMost <= n; first += kMost) body(Count<kMost>(), first);
  for (; first + 4 <= n; first += 4) body(Count<4>(), first);
  for (; first < n; ++first) body(Count<1>(), first);
}

// Calls add(x of a dimension, sums) for all dimensions, in spans whose sums are summed: a long sum
// would lose digits that a softmax needs.
template <class V, int kCount, class T, class Add>
PYEBM_HD void sum_rows(int64_t dim, const T* x, V (&total)[kCount], Add add) {
  PYEBM_UNROLL
  for (int r = 0; r < kCount; ++r) total[r] = V{};
  for (int64_t d = 0; d < dim;) {
    V sum[kCount] = {};
    for (const int64_t end = dim - d < kSpan ? dim : d + kSpan; d < end; ++d)
      add(load<V>(x + d * kWidth<V>), sum);
    PYEBM_UNROLL
    for (int r = 0; r < kCount; ++r) total[r] = total[r] + sum[r];
  }
}

// Reads `rows` samples, `row` numbers apart, into the lanes. Where there are more samples than
// lanes, the first ones are read; idle lanes repeat the last sample, which costs nothing new. The
// lanes of one dimension begin `apart` numbers after those of the dimension before.
template <class V, class T, class Change>
PYEBM_HD void to_lanes(int64_t rows, int64_t dim, const T* x, int64_t row, T* out, int64_t apart,
                       Change change) {
  V block[kWidth<V>];
  int64_t d = 0;
  for (; d + kWidth<V> <= dim; d += kWidth<V>) {
    PYEBM_UNROLL
    for (int64_t i = 0; i < kWidth<V>; ++i) block[i] = load<V>(x + (i < rows ? i : rows - 1) * row + d);
    transpose(block);
    PYEBM_UNROLL
    for (int64_t i = 0; i < kWidth<V>; ++i) store(out + (d + i) * apart, change(block[i], d + i));
  }
  for (; d < dim; ++d) {
    T* lanes = out + d * apart;
    for (int64_t i = 0; i < kWidth<V>; ++i) lanes[i] = x[(i < rows ? i : rows - 1) * row + d];
    store(lanes, change(load<V>(lanes), d));
  }
}

template <class V, class T, class Change>
PYEBM_HD void to_lanes(int64_t rows, int64_t dim, const T* x, T* out, Change change) {
  to_lanes<V>(rows, dim, x, dim, out, kWidth<V>, change);
}

// Writes the lanes back as `rows` samples, at most as many as there are lanes.
template <class V, class T>
PYEBM_HD void from_lanes(int64_t rows, int64_t dim, const T* in, T* out, int64_t apart = kWidth<V>) {
  V block[kWidth<V>];
  int64_t d = 0;
  for (; d + kWidth<V> <= dim; d += kWidth<V>) {
    PYEBM_UNROLL
    for (int64_t i = 0; i < kWidth<V>; ++i) block[i] = load<V>(in + (d + i) * apart);
    transpose(block);
    PYEBM_UNROLL
    for (int64_t i = 0; i < kWidth<V>; ++i) {
      if (i < rows) store(out + i * dim + d, block[i]);
    }
  }
  for (; d < dim; ++d) {
    for (int64_t i = 0; i < rows; ++i) out[i * dim + d] = in[d * apart + i];
  }
}

// Calls tile(V(), first sample, samples) for all samples. One sample that is left over goes to
// alone(sample), if can_be_alone.
template <class T, class Alone, class Tile>
PYEBM_HD void by_tiles(int64_t rows, bool can_be_alone, Alone alone, Tile tile) {
  for (int64_t row = 0; row < rows;) {
    const int64_t left = rows - row;
    if (left == 1 && can_be_alone) return alone(row);
    if (left > kWidth<Narrow<T>>) {
      const int64_t n = left < kWidth<Wide<T>> ? left : kWidth<Wide<T>>;
      tile(Wide<T>(), row, n);
      row += n;
    } else {
      tile(Narrow<T>(), row, left);
      row += left;
    }
  }
}

}  // namespace
