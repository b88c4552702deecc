// Which elements are a thread's, and where they lie. A thread takes kCount consecutive elements of one sample, in logical
// (row-major) order, so that the groups of four that share a Philox call are never split.
//
// Two layouts: Rows, where every operand holds each sample's elements side by side (any distance between samples), and Strided,
// anything else. Offsets are 64 bits everywhere.
#pragma once

#include "pack.h"

namespace pyebm {

constexpr int kMaxDims = 16;
constexpr int kMaxOperands = 5;

// Elements that make 16 bytes of dtype S; what goes with them (a mask's bytes, float32 losses) moves in the same numbers.
template <class S>
constexpr int kGranule = 16 / static_cast<int>(sizeof(S));

// n / divisor for n < 2^62, without a division: n * ceil(2^(63 + l) / divisor) >> (63 + l) with l = ceil(log2 divisor); for
// n < 2^31 the same with 32 bits fewer.
struct Divider {
  uint64_t divisor = 1, magic = 0;
  uint32_t shift = 0, small_shift = 31, small_magic = 1u << 31;

  Divider() = default;
  explicit Divider(int64_t by) : divisor(static_cast<uint64_t>(by < 1 ? 1 : by)) {
    uint32_t log = 0;
    while ((uint64_t{1} << log) < divisor) ++log;
    if (log == 0) return;
    __extension__ using Wide = unsigned __int128;
    magic = static_cast<uint64_t>((Wide{1} << (63 + log)) / divisor) + 1;
    shift = log - 1;
    if (log > 31) return;  // and then n < 2^31 is below the divisor
    small_magic = static_cast<uint32_t>((uint64_t{1} << (31 + log)) / divisor) + 1;
    small_shift = 31 + log;
  }

  __device__ __forceinline__ uint64_t divide(uint64_t n) const { return divisor == 1 ? n : __umul64hi(n, magic) >> shift; }
  __device__ __forceinline__ uint32_t divide_small(uint32_t n) const {
    return static_cast<uint32_t>(static_cast<uint64_t>(n) * small_magic >> small_shift);
  }
};

struct Place {
  int64_t sample, element;  // the first element, within its sample
  int64_t offset;           // and in the memory of the operands with dense rows
  int count;                // how many of the thread's elements there are; 0: none
  bool wide;                // they can be moved 16 bytes at a time
};

// The samples cut into pieces of a thread's elements.
struct Pieces {
  int64_t samples, elements, total;
  Divider per_sample;
  uint32_t whole;  // the pieces of a sample that are not cut short by its end
  int tail;        // the elements of the one that is

  Pieces(int64_t samples, int64_t elements, int count)
      : samples(samples),
        elements(elements),
        per_sample(ceil_div(elements, count)),
        whole(static_cast<uint32_t>(elements / count)),
        tail(static_cast<int>(elements % count)) {
    total = elements ? samples * static_cast<int64_t>(per_sample.divisor) : 0;
  }
  int64_t blocks() const { return ceil_div(total, kThreads); }
  bool small() const { return total < int64_t{1} << 31; }
};

template <int kGranule>
struct Rows {
  template <class S>
  static constexpr int kCount = kElements<S>;
  Pieces pieces;
  int64_t sample_stride, last_stride;  // of all operands but the last, and of that one (a mask may serve all samples)
  bool small;
  // Row b of every operand starts b * misfit elements after a 16-byte boundary, and is moved in wide accesses where that is a
  // multiple of the granule; narrow = 1: no row is.
  uint32_t misfit, narrow;

  template <int kThread>
  __device__ __forceinline__ Place place(int64_t sample, uint32_t piece) const {
    const int64_t element = static_cast<int64_t>(piece) * kThread;
    const bool aligned = ((static_cast<uint32_t>(sample) * misfit | narrow) & (kGranule - 1)) == 0, whole = piece < pieces.whole;
#if defined(PYEBM_PLANT_32_BIT_OFFSET)  // a fault that the tests must notice
    const int64_t offset = static_cast<uint32_t>(sample * sample_stride * 2 + element * 2) / 2;
#else
    const int64_t offset = sample * sample_stride + element;
#endif
    return {sample, element, offset, whole ? kThread : pieces.tail, aligned && whole};
  }

  template <int kOperand, class S, class T, int kN>
  __device__ __forceinline__ void load(const S* data, const Place& at, T (&values)[kN]) const {
    data += kOperand == kMaxOperands - 1 ? at.sample * last_stride + at.element : at.offset;
    if (at.wide) return load_wide<kGranule>(data, values);
#pragma unroll
    for (int k = 0; k < kN; ++k) values[k] = k < at.count ? static_cast<T>(widened(data[k])) : T(0);
  }

  template <int kOperand, class S, class T, int kN>
  __device__ __forceinline__ void store(S* data, const Place& at, const T (&values)[kN]) const {
    data += kOperand == kMaxOperands - 1 ? at.sample * last_stride + at.element : at.offset;
    if (at.wide) return store_wide<kGranule>(data, values);
#pragma unroll
    for (int k = 0; k < kN; ++k) {
      if (k < at.count) data[k] = narrowed<S>(values[k]);
    }
  }
};

struct Strided {
  template <class S>
  static constexpr int kCount = 4;  // every element's offset is worked out by itself: more would not fit the registers
  Pieces pieces;
  int64_t sample_strides[kMaxOperands];
  bool small;
  int dims;
  Divider sizes[kMaxDims];  // of a sample's dimensions, the innermost first
  int64_t strides[kMaxOperands][kMaxDims];

  template <int kThread>
  __device__ __forceinline__ Place place(int64_t sample, uint32_t piece) const {
    return {sample, static_cast<int64_t>(piece) * kThread, 0, piece < pieces.whole ? kThread : pieces.tail, false};
  }

  __device__ __forceinline__ int64_t offset(int operand, int64_t sample, int64_t element) const {
    int64_t sum = sample * sample_strides[operand];
    uint64_t rest = static_cast<uint64_t>(element);
    for (int d = 0; d < dims; ++d) {
      const uint64_t next = sizes[d].divide(rest);
      sum += static_cast<int64_t>(rest - next * sizes[d].divisor) * strides[operand][d];
      rest = next;
    }
    return sum;
  }

  template <int kOperand, class S, class T, int kN>
  __device__ __forceinline__ void load(const S* data, const Place& at, T (&values)[kN]) const {
#pragma unroll
    for (int k = 0; k < kN; ++k) {
      values[k] = T(0);
      if (k < at.count) values[k] = static_cast<T>(widened(data[offset(kOperand, at.sample, at.element + k)]));
    }
  }

  template <int kOperand, class S, class T, int kN>
  __device__ __forceinline__ void store(S* data, const Place& at, const T (&values)[kN]) const {
#pragma unroll
    for (int k = 0; k < kN; ++k) {
      if (k < at.count) data[offset(kOperand, at.sample, at.element + k)] = narrowed<S>(values[k]);
    }
  }
};

// Elements a thread.
template <class S, class Layout>
constexpr int kCountOf = Layout::template kCount<S>;

// The place of this thread in a grid that covers all pieces once.
template <class S, class Layout>
__device__ __forceinline__ Place this_place(const Layout& layout) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= layout.pieces.total) return {0, 0, 0, 0, false};
  const Divider& per_sample = layout.pieces.per_sample;
  const int64_t sample = layout.small ? per_sample.divide_small(static_cast<uint32_t>(index))
                                      : static_cast<int64_t>(per_sample.divide(static_cast<uint64_t>(index)));
  const uint32_t piece = static_cast<uint32_t>(index) - static_cast<uint32_t>(sample) * static_cast<uint32_t>(per_sample.divisor);
  return layout.template place<kCountOf<S, Layout>>(sample, piece);
}

}  // namespace pyebm
