// The products of the dense targets: a tile of samples times 64 rows of a matrix, through shared
// memory, summed in registers.
//
// A block's threads stand in 8 rows of 16. A thread has kRows neighbouring samples and 4 of the 64
// columns, so that sixteen threads share a sample. Which thread has which of a sample's sums, and
// the order in which they are added, do not depend on kRows.
#pragma once

#include "dense_math.h"
#include "pack.h"

namespace pyebm {

constexpr int kSpan = 128;  // dimensions summed in one go: a long sum would lose digits that a softmax needs

// The number of terms of a sum that are in shared memory at once: 64 bytes of each row.
template <class T>
constexpr int kDepth = 64 / static_cast<int>(sizeof(T));

// Loads a thread's share of a window of a matrix, kWidth columns wide: every (kThreads / kWidth)'th
// row of column threadIdx % kWidth, and 0 beyond `rows` and `columns`. The window begins at
// `matrix`, and its rows are `stride` apart.
template <int kWidth, int kCount, class T>
__device__ __forceinline__ void fetch(const T* matrix, int64_t stride, int rows, int columns,
                                      T (&out)[kCount]) {
  constexpr int kStep = kThreads / kWidth;
  const int column = static_cast<int>(threadIdx.x) % kWidth, first = static_cast<int>(threadIdx.x) / kWidth;
  const T* from = matrix + first * stride + column;
  const int left = column < columns ? rows - first : 0;
#pragma unroll
  for (int i = 0; i < kCount; ++i, from += kStep * stride) out[i] = i * kStep < left ? *from : T(0);
}

// The place in memory of column c of the 64. Each of sixteen threads has four columns, thread t
// those with c % 16 = t, and its four values lie together.
__device__ __forceinline__ int place_of(int c) { return c % kAcross * kSide + c / kAcross; }

// A block's shared memory, and the thread's place in it. kMatrices: 2 where each row of means comes
// with a row of precisions, else 1.
template <class T, int kRows, int kMatrices>
struct Tiles {
  static constexpr int kSamples = kThreads / kAcross * kRows;
  static constexpr int kPitch = kSamples + kSide, kWide = kTile + kSide;  // 4 more, to spread the banks
  static constexpr int kOfSamples = kSamples * kDepth<T> / kThreads,
                       kOfMatrix = kTile * kDepth<T> / kThreads;  // a thread's share
  static constexpr int kNumbers = kDepth<T> * kPitch + kMatrices * kDepth<T> * kWide + kTile * kPitch;

  T *samples, *matrix, *second, *products;  // (depth, samples), (depth, 64) once or twice, (64, samples)
  int row, column;

  __device__ __forceinline__ explicit Tiles(T* memory)
      : samples(memory),
        matrix(memory + kDepth<T> * kPitch),
        second(matrix + (kMatrices - 1) * kDepth<T> * kWide),
        products(memory + kNumbers - kTile * kPitch),
        row(static_cast<int>(threadIdx.x) / kAcross),
        column(static_cast<int>(threadIdx.x) % kAcross) {}

  // The products of the thread's column c with the thread's samples.
  __device__ __forceinline__ T* own(int c) const {
    return products + (column + kAcross * c) * kPitch + row * kRows;
  }

  template <int kCount>
  __device__ __forceinline__ void put_transposed(const T (&values)[kCount], T* to) const {
    const int d = static_cast<int>(threadIdx.x) % kDepth<T>,
              first = static_cast<int>(threadIdx.x) / kDepth<T>;
#pragma unroll
    for (int i = 0; i < kCount; ++i) to[d * kWide + place_of(first + i * (kThreads / kDepth<T>))] = values[i];
  }
  __device__ __forceinline__ void put_samples(const T (&values)[kOfSamples]) const {
    const int d = static_cast<int>(threadIdx.x) % kDepth<T>,
              first = static_cast<int>(threadIdx.x) / kDepth<T>;
#pragma unroll
    for (int i = 0; i < kOfSamples; ++i) samples[d * kPitch + first + i * (kThreads / kDepth<T>)] = values[i];
  }

  // Sums over all dimensions: sum[r][c] = add(element of sample r, element of column c, the second
  // matrix's element, sum[r][c]). at: the tile's first sample; the samples are `pitch` apart,
  // padded with zeros. rows[0], rows[1]: the first of the tile's `count` rows in each matrix.
  template <class Add>
  __device__ __forceinline__ void sum_dimensions(const T* at, int64_t pitch, const T* const (&rows)[2],
                                                 int64_t stride, int count, int dim, T (&sum)[kRows][kSide],
                                                 Add add) const {
    T next_samples[kOfSamples], next_rows[kMatrices][kOfMatrix];
    const auto fetch_from = [&](int d) {
      fetch<kDepth<T>>(at + d, pitch, kSamples, kDepth<T>, next_samples);
#pragma unroll
      for (int i = 0; i < kMatrices; ++i) fetch<kDepth<T>>(rows[i] + d, stride, count, dim - d, next_rows[i]);
    };
    fetch_from(0);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
      for (int c = 0; c < kSide; ++c) sum[r][c] = 0;
    }
#pragma unroll 1
    for (int d = 0; d < dim; d += kDepth<T>) {
      __syncthreads();  // every thread is done with the chunk before
      put_samples(next_samples);
      put_transposed(next_rows[0], matrix);
      if constexpr (kMatrices == 2) put_transposed(next_rows[1], second);
      __syncthreads();
      const int next = d + kDepth<T>;
      if (next < dim) fetch_from(next);
#pragma unroll
      for (int k = 0; k < kDepth<T>; ++k) {
        T x[kRows], m[kSide], p[kSide];
        read(samples + k * kPitch + row * kRows, x);
        read(matrix + k * kWide + column * kSide, m);
        if constexpr (kMatrices == 2) read(second + k * kWide + column * kSide, p);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
#pragma unroll
          for (int c = 0; c < kSide; ++c)
            sum[r][c] = add(x[r], m[c], kMatrices == 2 ? p[c] : T(1), sum[r][c]);
        }
      }
      if (next % kSpan == 0 && next < dim) end_span(next == kSpan, sum);
    }
    if (dim > kSpan) end_span(false, sum), take_products(sum);
  }

  // Adds a span's sums to the thread's products, in shared memory: registers have no room for them.
  __device__ __forceinline__ void end_span(bool is_first, T (&sum)[kRows][kSide]) const {
#pragma unroll
    for (int c = 0; c < kSide; ++c) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        own(c)[r] = is_first ? sum[r][c] : own(c)[r] + sum[r][c];
        sum[r][c] = 0;
      }
    }
  }
  __device__ __forceinline__ void take_products(T (&sum)[kRows][kSide]) const {
#pragma unroll
    for (int c = 0; c < kSide; ++c) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) sum[r][c] = own(c)[r];
    }
  }

  // out = out factor + products^T matrix, [samples, dim]; a thread makes its samples by 4
  // dimensions at a time. fetch_rows(first, d, share) loads a thread's share of kDepth rows of the
  // matrix, 64 dimensions from d on. Bit i of `used` says whether the i-th kDepth rows have any
  // weight.
  template <class FetchRows>
  __device__ __forceinline__ void add_products(uint32_t used, bool is_first, const T (&factor)[kRows],
                                               int dim, T* out, int64_t pitch, FetchRows fetch_rows) const {
    constexpr int kParts = kTile / kDepth<T>;
    const auto next_used = [&](int part) {
      do ++part;
      while (part < kParts && !(used >> part & 1));
      return part;
    };
#pragma unroll 1
    for (int d = 0; d < dim; d += kTile) {
      T next[kOfMatrix], sum[kRows][kSide];
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int c = 0; c < kSide; ++c) sum[r][c] = 0;
      }
      int part = next_used(-1);
      if (part < kParts) fetch_rows(part * kDepth<T>, d, next);
#pragma unroll 1
      while (part < kParts) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < kOfMatrix; ++i) {
          matrix[(static_cast<int>(threadIdx.x) / kTile + i * (kThreads / kTile)) * kWide +
                 threadIdx.x % kTile] = next[i];
        }
        __syncthreads();
        const int following = next_used(part);
        if (following < kParts) fetch_rows(following * kDepth<T>, d, next);
#pragma unroll
        for (int k = 0; k < kDepth<T>; ++k) {
          T weight[kRows], m[kSide];
          read(products + (part * kDepth<T> + k) * kPitch + row * kRows, weight);
          read(matrix + k * kWide + column * kSide, m);
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
#pragma unroll
            for (int c = 0; c < kSide; ++c) sum[r][c] = fused(weight[r], m[c], sum[r][c]);
          }
        }
        part = following;
      }
      if (d + column * kSide >= pitch) continue;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        T* to = out + (row * kRows + r) * pitch + d + column * kSide;
        if (!is_first) {
          T before[kSide];
          read(to, before);
#pragma unroll
          for (int c = 0; c < kSide; ++c) sum[r][c] = fused(before[c], factor[r], sum[r][c]);
        }
        write(to, sum[r]);
      }
    }
  }
};

}  // namespace pyebm
