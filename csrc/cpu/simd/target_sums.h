// Sums over the elements of a target's samples, in a fixed order (../common/targets.h). Included
// once by each level, after chunk_kernels.h and under the same rules.

namespace {

using pyebm::kEnergySpan;
using pyebm::kSumLanes;

// Halves the lanes until one is left.
template <class V>
PYEBM_HD V sum_of_lanes(V* lane, int64_t lanes) {
  for (int64_t half = lanes / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) lane[l] = lane[l] + lane[l + half];
  }
  return lane[0];
}

template <int kWidth, class T>
void sums_of_small(int64_t rows, const T* terms, T* sums) {
  constexpr int kLanesUsed = kWidth <= 2 ? kWidth : 4;  // the others are zero
  PYEBM_VECTOR_LOOP
  for (int64_t row = 0; row < rows; ++row) {
    T lane[4] = {};
    for (int l = 0; l < kWidth; ++l) lane[l] = terms[row * kWidth + l];
    sums[row] = sum_of_lanes(lane, kLanesUsed);
  }
}

// The sum of each row, in the order that kSumLanes promises.
template <class T>
void sums_of(int64_t rows, int64_t width, const T* terms, T* sums) {
  if (width == 1) return sums_of_small<1>(rows, terms, sums);
  if (width == 2) return sums_of_small<2>(rows, terms, sums);
  if (width == 3) return sums_of_small<3>(rows, terms, sums);
  if (width == 4) return sums_of_small<4>(rows, terms, sums);
  using V = Wide<T>;
  constexpr int64_t kHalf = kSumLanes / 2, kVectors = kSumLanes / kWidth<V>;
  const int64_t whole = width / kSumLanes * kSumLanes;
  const auto fill = [&](int64_t row, T* lane) {
    const T* own = terms + row * width;
    V sum[kVectors] = {};
    for (int64_t i = 0; i < whole; i += kSumLanes) {
      PYEBM_UNROLL
      for (int64_t v = 0; v < kVectors; ++v) sum[v] = sum[v] + load<V>(own + i + v * kWidth<V>);
    }
    if (whole < width) {
      alignas(64) T all[kSumLanes];
      memcpy(all, sum, sizeof all);
      for (int64_t l = 0; l < width - whole; ++l) all[l] = all[l] + own[whole + l];
      memcpy(sum, all, sizeof all);
    }
    PYEBM_UNROLL
    for (int64_t v = 0; v < kVectors / 2; ++v) store(lane + v * kWidth<V>, sum[v] + sum[v + kVectors / 2]);
  };
  sum_rows_of_lanes<kHalf>(rows, sums, fill, [&](auto& lane) { return sum_of_lanes(lane, kHalf); });
}

// Makes one energy per row from the terms of its elements: spans of kEnergySpan are summed in T,
// and the spans' sums in double. `room` holds one number per row.
template <class T>
void energies_of(int64_t rows, int64_t width, const T* terms, T* room, double* energy) {
  if (width <= kEnergySpan) {
    sums_of(rows, width, terms, room);
    for (int64_t row = 0; row < rows; ++row) energy[row] = room[row];
    return;
  }
  for (int64_t row = 0; row < rows; ++row, terms += width) {
    energy[row] = 0;
    for (int64_t at = 0; at < width; at += kEnergySpan) {
      sums_of(1, width - at < kEnergySpan ? width - at : kEnergySpan, terms + at, room);
      energy[row] += room[0];
    }
  }
}

// Copies each row's number to all of the row's elements.
template <class T>
void spread(int64_t rows, int64_t width, const T* numbers, T* out) {
  if (width == 2) {
    PYEBM_VECTOR_LOOP
    for (int64_t row = 0; row < rows; ++row) out[2 * row] = out[2 * row + 1] = numbers[row];
    return;
  }
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < width; ++i) out[row * width + i] = numbers[row];
  }
}

}  // namespace
