// Which elements are a thread's, and where they lie. A thread takes kCount consecutive elements of
// one sample, in logical (row-major) order, so that the groups of four that share a Philox call are
// never split.
//
// Two layouts: RowLayout, where every operand holds each sample's elements side by side (any
// distance between samples), and Strided: anything else, and samples of two groups or fewer.
// Offsets are 64 bits everywhere.
#pragma once

#include "pack.h"

namespace pyebm {

constexpr int kMaxDims = 16;
constexpr int kMaxOperands = 5;

// The number of elements of dtype S in 16 bytes. Operands of another dtype (a mask's bytes, float32
// losses) move as many elements at a time.
template <class S>
constexpr int kGranule = 16 / static_cast<int>(sizeof(S));

// n / divisor for n < 2^62, without a division: n * ceil(2^(63 + l) / divisor) >> (63 + l) with l =
// ceil(log2 divisor); for n < 2^31 the same with 32 bits fewer.
struct Divider {
  uint64_t divisor = 1, magic = 0;
  uint32_t shift = 0, small_shift = 31, small_magic = 1u << 31;
  uint32_t minus = ~0u;  // -divisor: a remainder is one multiply-add

  Divider() = default;
  explicit Divider(int64_t by)
      : divisor(static_cast<uint64_t>(by < 1 ? 1 : by)), minus(0u - static_cast<uint32_t>(divisor)) {
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

  __device__ __forceinline__ uint64_t divide(uint64_t n) const {
    return divisor == 1 ? n : __umul64hi(n, magic) >> shift;
  }
  __device__ __forceinline__ uint32_t divide_small(uint32_t n) const {
    return static_cast<uint32_t>(static_cast<uint64_t>(n) * small_magic >> small_shift);
  }
};

struct Place {
  uint32_t sample;  // ids are 32 bits: there are no more samples than that
  uint32_t group;   // the thread's first element is the sample's 4 * group'th
  uint64_t bytes;   // the first element's offset in operands with dense rows
  int count;        // how many of the thread's elements exist
  bool wide;        // they can be moved 16 bytes at a time

  __device__ __forceinline__ int64_t element() const { return static_cast<int64_t>(group) * 4; }
};

// The samples, cut into pieces that one thread each takes.
struct Pieces {
  int64_t samples, elements, total;
  Divider per_sample;
  uint32_t whole;  // the pieces of a sample that its end does not cut
  int tail;        // the elements of the piece that its end cuts, or 0
  uint32_t small;  // 1: the pieces' numbers fit 31 bits

  Pieces(int64_t samples, int64_t elements, int count)
      : samples(samples),
        elements(elements),
        per_sample(ceil_div(elements, count)),
        whole(static_cast<uint32_t>(elements / count)),
        tail(static_cast<int>(elements % count)) {
    total = elements ? samples * static_cast<int64_t>(per_sample.divisor) : 0;
    small = total < int64_t{1} << 31;
  }
  int64_t blocks() const { return ceil_div(total, kThreads); }
};

template <int kGranule>
struct RowLayout {
  template <class S>
  static constexpr int kCount = kElements<S>;
  static constexpr int kItem = 16 / kGranule;  // bytes of an element of the samples' dtype
  Pieces pieces;
  // sample_stride: the distance between samples of operands 0 to 3, in bytes. last_stride: the same
  // of operand 4, in elements; it is 0 where one mask or factor serves all samples.
  uint64_t sample_stride, last_stride;
  // Row b of every operand starts b * misfit elements after a 16-byte boundary. Wide accesses move
  // it where that is a multiple of the granule; with narrow = 1 they move no row.
  uint32_t misfit, narrow;

  template <int kThread>
  __device__ __forceinline__ Place place(uint32_t sample, uint32_t piece) const {
    const bool aligned = ((sample * misfit | narrow) & (kGranule - 1)) == 0, whole = piece < pieces.whole;
    uint64_t bytes = sample * sample_stride + static_cast<uint64_t>(piece) * (kThread * kItem);
#if defined(PYEBM_PLANT_32_BIT_OFFSET)  // a fault that the tests must notice
    bytes = static_cast<uint32_t>(bytes);
#endif
    return {sample, piece * (kThread / 4), bytes, whole ? kThread : pieces.tail, aligned && whole};
  }

  template <int kOperand, class S, class T, int kN>
  __device__ __forceinline__ void load(const S* data, const Place& at, T (&values)[kN]) const {
    data = first<kOperand>(data, at);
    if constexpr (kN % kPack<S, kGranule> == 0) {
      if (at.wide) return load_wide<kGranule>(data, values);
    }
#pragma unroll
    for (int k = 0; k < kN; ++k) values[k] = k < at.count ? static_cast<T>(widened(data[k])) : T(0);
  }

  template <int kOperand, class S, class T, int kN>
  __device__ __forceinline__ void store(S* data, const Place& at, const T (&values)[kN]) const {
    data = first<kOperand>(data, at);
    if constexpr (kN % kPack<S, kGranule> == 0) {
      if (at.wide) return store_wide<kGranule>(data, values);
    }
#pragma unroll
    for (int k = 0; k < kN; ++k) {
      if (k < at.count) data[k] = narrowed<S>(values[k]);
    }
  }

 private:
  // The address of a thread's first element in an operand.
  template <int kOperand, class S>
  __device__ __forceinline__ S* first(S* data, const Place& at) const {
    using Byte = std::conditional_t<std::is_const_v<S>, const char, char>;
    if constexpr (kOperand == kMaxOperands - 1)
      return data + at.sample * last_stride + static_cast<uint64_t>(at.group) * 4;
    const uint64_t bytes = sizeof(S) == kItem ? at.bytes : at.bytes / kItem * sizeof(S);
    return reinterpret_cast<S*>(reinterpret_cast<Byte*>(data) + bytes);
  }
};

struct Strided {
  template <class S>
  static constexpr int kCount =
      4;  // every element's offset is worked out by itself: more would not fit the registers
  Pieces pieces;
  int64_t sample_strides[kMaxOperands];
  int dims;
  Divider sizes[kMaxDims];  // of a sample's dimensions, the innermost first
  int64_t strides[kMaxOperands][kMaxDims];

  template <int kThread>
  __device__ __forceinline__ Place place(uint32_t sample, uint32_t piece) const {
    return {sample, piece * (kThread / 4), 0, piece < pieces.whole ? kThread : pieces.tail, false};
  }

  __device__ __forceinline__ int64_t offset(int operand, uint32_t sample, int64_t element) const {
    int64_t sum = sample * sample_strides[operand];
    uint64_t rest = static_cast<uint64_t>(element);
    for (int d = 0; d < dims - 1; ++d) {
      const uint64_t next = sizes[d].divide(rest);
      sum += static_cast<int64_t>(rest - next * sizes[d].divisor) * strides[operand][d];
      rest = next;
    }
    return dims ? sum + static_cast<int64_t>(rest) * strides[operand][dims - 1] : sum;
  }

  template <int kOperand, class S, class T, int kN>
  __device__ __forceinline__ void load(const S* data, const Place& at, T (&values)[kN]) const {
#pragma unroll
    for (int k = 0; k < kN; ++k) {
      values[k] = T(0);
      if (k < at.count)
        values[k] = static_cast<T>(widened(data[offset(kOperand, at.sample, at.element() + k)]));
    }
  }

  template <int kOperand, class S, class T, int kN>
  __device__ __forceinline__ void store(S* data, const Place& at, const T (&values)[kN]) const {
#pragma unroll
    for (int k = 0; k < kN; ++k) {
      if (k < at.count) data[offset(kOperand, at.sample, at.element() + k)] = narrowed<S>(values[k]);
    }
  }
};

// The number of elements that a thread takes.
template <class S, class Layout>
constexpr int kCountOf = Layout::template kCount<S>;

// Finds this thread's place in a grid that covers all pieces once; false: the thread has none.
template <class S, class Layout>
__device__ __forceinline__ bool find_place(const Layout& layout, Place& at) {
  constexpr int kThread = kCountOf<S, Layout>;
  const Divider& per_sample = layout.pieces.per_sample;
  if (layout.pieces.small) {
    const uint32_t index = blockIdx.x * kThreads + threadIdx.x;
    if (index >= static_cast<uint32_t>(layout.pieces.total)) return false;
    const uint32_t sample = per_sample.divide_small(index);
    at = layout.template place<kThread>(sample, index + sample * per_sample.minus);
    return true;
  }
  const uint64_t index = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x;
  if (index >= static_cast<uint64_t>(layout.pieces.total)) return false;
  const auto sample = static_cast<uint32_t>(per_sample.divide(index));
  at = layout.template place<kThread>(sample, static_cast<uint32_t>(index) + sample * per_sample.minus);
  return true;
}

}  // namespace pyebm
