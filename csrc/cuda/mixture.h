// A block gathers a mixture's sums for a tile of samples in one pass over a part of the components,
// with weights relative to the largest so far (Milakov & Gimelshein 2018).
//
// A way to gather is a struct with kSamples, the samples of its tile; kNumbers, the numbers of
// shared memory that it needs; kSmall, whether it is for few samples; and gather(shared memory,
// target, to, part, the tile's first sample).
#pragma once

#include "dense.h"
#include "dense_tiles.h"

namespace pyebm {

constexpr int kFewRows = 2;  // samples a thread, where the call has few

// One sample's sums over a part's components. most: the largest log2 q; sum and total: sum q and
// sum q variance, relative to it.
template <class T>
struct Weights {
  T most = lowest<T>(), sum = 0, total = 0;

  // Raises `most`; returns the factor that rescales the sums gathered so far.
  __device__ __forceinline__ T raise(T to) {
    const T factor = exp2_of(most - to);
    most = to, sum = sum * factor, total = total * factor;
    return factor;
  }
  __device__ __forceinline__ void add(T weight, T variance) {
    sum = sum + weight, total = fused(weight, variance, total);
  }
  // Adds up and stores the sums of the sixteen threads, which must have the same `most`.
  __device__ __forceinline__ void store(const Gathered<T>& to, int64_t at) {
    sum = summed_across(sum), total = summed_across(total);
    if (threadIdx.x % kAcross == 0) to.most[at] = most, to.sum[at] = sum, to.total[at] = total;
  }
};

// The components [first, end) of a part.
template <class T>
struct Part {
  int64_t first, end, row;  // row: the tile's first sample, counted through (part, sample)

  __device__ __forceinline__ Part(const Dense<T>& mix, const Gathered<T>& to, int part, int64_t first_row)
      : first(mix.components * part / to.parts),
        end(mix.components * (part + 1) / to.parts),
        row(part * to.rows + first_row) {}
  __device__ __forceinline__ int count(int64_t m) const {
    return end - m < kTile ? static_cast<int>(end - m) : kTile;
  }
};

// The sums of the means stay in memory; registers hold those over one tile of components, 64
// dimensions at a time.
template <class T, bool kDiagonal, int kRows>
struct GatherMixture {
  using Shared = Tiles<T, kRows, kDiagonal ? 2 : 1>;
  static constexpr int kSamples = Shared::kSamples, kNumbers = Shared::kNumbers + kThreads / 32;
  static constexpr bool kSmall = kRows <= kFewRows;

  __device__ __forceinline__ static void gather(T* memory, const Dense<T>& mix, const Gathered<T>& to,
                                                int part_index, int64_t first_row) {
    const Shared tiles(memory);
    auto* const used_by_warps = reinterpret_cast<uint32_t*>(memory + Shared::kNumbers);
    const Part<T> part(mix, to, part_index, first_row);
    Weights<T> have[kRows];
#pragma unroll 1
    for (int64_t m = part.first; m < part.end; m += kTile) {
      const int count = part.count(m);
      const T *mean = mix.mean + m * mix.stride, *precision = mix.precision + m * mix.stride;
      T log[kRows][kSide];
      const T* const rows[] = {mean, precision};
      tiles.sum_dimensions(to.at + first_row * to.pitch, to.pitch, rows, mix.stride, count, mix.dim, log,
                           [](T x, T mu, T p, T sum) {
                             return kDiagonal ? fused((x - mu) * p, x - mu, sum) : fused(x - mu, x - mu, sum);
                           });
      T factor[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) factor[r] = have[r].most;
#pragma unroll
      for (int c = 0; c < kSide; ++c) {
        const int i = tiles.column + kAcross * c;
        const T scale = kDiagonal ? T(-0x1.71547652b82fep-1) : i < count ? -mix.scale[m + i] : T(0);
        const T offset = i < count ? mix.offset[m + i] : -infinity<T>();
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          log[r][c] = fused(log[r][c], scale, offset);
          factor[r] = larger(log[r][c], factor[r]);
        }
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) factor[r] = have[r].raise(largest_across(factor[r]));
      uint32_t used = 0;  // bit i: whether any of the i-th kDepth components has weight
#pragma unroll
      for (int c = 0; c < kSide; ++c) {
        const int i = tiles.column + kAcross * c;
        const T variance = !kDiagonal && i < count ? mix.variance[m + i] : T(0);
        T weights[kRows];
        bool any = false;
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          weights[r] = exp2_of(log[r][c] - have[r].most);
          have[r].add(weights[r], variance);
          any = any || weights[r] != T(0);
        }
        write(tiles.own(c), weights);
        used |= static_cast<uint32_t>(any) << (i / kDepth<T>);
      }
#pragma unroll
      for (int half = 16; half > 0; half /= 2) used |= __shfl_xor_sync(0xFFFFFFFFu, used, half);
      if (threadIdx.x % 32 == 0) used_by_warps[threadIdx.x / 32] = used;
      __syncthreads();
#pragma unroll
      for (int w = 0; w < kThreads / 32; ++w) used |= used_by_warps[w];
      const bool is_first = m == part.first;
      if (!used && !is_first) continue;  // it would add 0, bit for bit, and the factors are 1
      const auto get = [&](const T* matrix, int k, int d, auto& share) {
        fetch<kTile>(matrix + k * mix.stride + d, mix.stride, count - k, mix.dim - d, share);
      };
      tiles.add_products(used, is_first, factor, mix.dim, to.means + part.row * to.pitch, to.pitch,
                         [&](int k, int d, auto& share) {
                           get(mean, k, d, share);
                           if constexpr (kDiagonal) {
                             std::remove_reference_t<decltype(share)> more;
                             get(precision, k, d, more);
#pragma unroll
                             for (int i = 0; i < tiles.kOfMatrix; ++i) share[i] = share[i] * more[i];
                           }
                         });
      if constexpr (kDiagonal) {
        tiles.add_products(used, is_first, factor, mix.dim, to.precisions + part.row * to.pitch, to.pitch,
                           [&](int k, int d, auto& share) { get(precision, k, d, share); });
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) have[r].store(to, part.row + tiles.row * kRows + r);
  }
};

// In a few dimensions everything stays in registers, and no thread waits for another before the
// end: each has components of its own, and its weights are relative to the largest of these.
template <class T, int kDims>
struct GatherFew {
  static constexpr int kRows = 16 / static_cast<int>(sizeof(T)), kSamples = kThreads / kAcross * kRows;
  static constexpr bool kSmall = true;
  static constexpr int kWidth = 4, kPitch = kTile + kSide, kNumbers = kWidth * kPitch;
  static_assert(kDims <= kWidth);

  __device__ __forceinline__ static void gather(T* memory, const Dense<T>& mix, const Gathered<T>& to,
                                                int part_index, int64_t first_row) {
    const Part<T> part(mix, to, part_index, first_row);
    const int row = static_cast<int>(threadIdx.x) / kAcross * kRows,
              column = static_cast<int>(threadIdx.x) % kAcross;
    T x[kRows][kWidth], means[kRows][kDims];
    Weights<T> have[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      read(to.at + (first_row + row + r) * to.pitch, x[r]);
#pragma unroll
      for (int d = 0; d < kDims; ++d) means[r][d] = 0;
    }
#pragma unroll 1
    for (int64_t m = part.first; m < part.end; m += kTile) {
      const int count = part.count(m);
      T share[kTile * kWidth / kThreads];
      fetch<kWidth>(mix.mean + m * mix.stride, mix.stride, count, mix.dim, share);
      __syncthreads();
#pragma unroll
      for (int i = 0; i < kTile * kWidth / kThreads; ++i) {
        memory[threadIdx.x % kWidth * kPitch +
               place_of(static_cast<int>(threadIdx.x) / kWidth + i * (kThreads / kWidth))] = share[i];
      }
      __syncthreads();
      T mean[kDims][kSide], log[kRows][kSide], most[kRows];
#pragma unroll
      for (int d = 0; d < kDims; ++d) read(memory + d * kPitch + column * kSide, mean[d]);
#pragma unroll
      for (int r = 0; r < kRows; ++r) most[r] = have[r].most;
#pragma unroll
      for (int c = 0; c < kSide; ++c) {
        const int i = column + kAcross * c;
        const T scale = i < count ? -mix.scale[m + i] : T(0),
                offset = i < count ? mix.offset[m + i] : -infinity<T>();
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          T sum = 0;
#pragma unroll
          for (int d = 0; d < kDims; ++d) sum = fused(x[r][d] - mean[d][c], x[r][d] - mean[d][c], sum);
          log[r][c] = fused(sum, scale, offset);
          most[r] = larger(log[r][c], most[r]);
        }
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const T factor = have[r].raise(most[r]);
#pragma unroll
        for (int d = 0; d < kDims; ++d) means[r][d] = means[r][d] * factor;
      }
#pragma unroll
      for (int c = 0; c < kSide; ++c) {
        const int i = column + kAcross * c;
        const T variance = i < count ? mix.variance[m + i] : T(0);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const T weight = exp2_of(log[r][c] - have[r].most);
          have[r].add(weight, variance);
#pragma unroll
          for (int d = 0; d < kDims; ++d) means[r][d] = fused(weight, mean[d][c], means[r][d]);
        }
      }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const T factor = have[r].raise(largest_across(have[r].most));
      have[r].store(to, part.row + row + r);
#pragma unroll
      for (int d = 0; d < kDims; ++d) {
        const T mean = summed_across(means[r][d] * factor);
        if (column == 0) to.means[(part.row + row + r) * to.pitch + d] = mean;
      }
    }
  }
};

// The scores of a full covariance: a part is 64 rows of its inverse.
template <class T, int kRows>
struct GatherCovariance {
  using Shared = Tiles<T, kRows, 1>;
  static constexpr int kSamples = Shared::kSamples, kNumbers = Shared::kNumbers;
  static constexpr bool kSmall = kRows <= kFewRows;

  __device__ __forceinline__ static void gather(T* memory, const Dense<T>& dense, const Gathered<T>& to,
                                                int part, int64_t first_row) {
    const Shared tiles(memory);
    const int first = part * kTile;
    const T* const row = dense.precision + first * dense.stride;
    const int count = dense.dim - first;
    T score[kRows][kSide];
    tiles.sum_dimensions(to.at + first_row * to.pitch, to.pitch, {row, row}, dense.stride, count, dense.dim,
                         score, [](T far, T p, T, T sum) { return fused(far, p, sum); });
#pragma unroll
    for (int c = 0; c < kSide; ++c) {
      const int i = tiles.column + kAcross * c;
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (i < count) to.means[(first_row + tiles.row * kRows + r) * to.pitch + first + i] = score[r][c];
      }
    }
  }
};

}  // namespace pyebm
