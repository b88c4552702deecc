// Sums of rows from partial sums in lanes. The last additions of a row wait for each other, so the
// additions of several rows go side by side. Included once by each level, after sample_tiles.h.

namespace {

// fill(row, lane) makes a row's partial sums, and add(lane) adds them up. Both work in the same
// order for every row.
template <int64_t kLanes, class T, class Fill, class Add>
PYEBM_HD void sum_rows_of_lanes(int64_t rows, T* sums, Fill fill, Add add) {
  using V = Wide<T>;
  constexpr int64_t kAtOnce = kWidth<V>;
  alignas(64) T lane[kAtOnce][kLanes], turned[kLanes][kAtOnce], added[kAtOnce];
  for (int64_t row = 0; row < rows; row += kAtOnce) {
    const int64_t n = rows - row < kAtOnce ? rows - row : kAtOnce;
    for (int64_t i = 0; i < n; ++i) fill(row + i, lane[i]);
    to_lanes<V>(n, kLanes, lane[0], turned[0], [&](V x, int64_t) { return x; });
    V each[kLanes];
    PYEBM_UNROLL
    for (int64_t l = 0; l < kLanes; ++l) each[l] = load<V>(turned[l]);
    store(added, add(each));
    memcpy(sums + row, added, n * sizeof(T));
  }
}

}  // namespace
