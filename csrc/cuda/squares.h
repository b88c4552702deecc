// Sums of squares over a sample with the CPU's bits (csrc/cpu/simd/loss_kernels.h sum_of): a span
// of 1024 elements has 16 lanes, of which lane l adds the elements l, l + 16, ...; the lanes are
// added one after the other, and so, in double, are the sample's spans.
//
// A team of four threads takes a span. Each thread has four neighbouring lanes, whose elements
// share a Philox call.
#pragma once

#include "layout.h"

namespace pyebm {

constexpr int kTeam = 4;         // threads of a span
constexpr uint32_t kSpan = 256;  // pieces of four elements in a span

struct Spans {
  int64_t samples, parts;  // parts: the spans of a sample, at least 1
  Divider by_sample;

  Spans(int64_t samples, int64_t elements)
      : samples(samples), parts(elements > 4 * kSpan ? ceil_div(elements, 4 * kSpan) : 1), by_sample(parts) {}
  PYEBM_HD int64_t count() const { return samples * parts; }
  int64_t blocks() const { return ceil_div(count() * kTeam, kThreads); }
};

// This thread's share of the work. A thread beyond the last span has no pieces.
struct SpanPlace {
  int64_t span;         // counted through all samples
  uint32_t sample;      // 0 beyond the last span
  uint32_t piece, end;  // the thread takes piece, piece + kTeam, ... up to end
  bool first;           // the team's first thread, of a span that exists

  template <class Layout>
  __device__ __forceinline__ SpanPlace(const Spans& spans, const Layout& layout) {
    const int64_t thread = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    span = thread / kTeam;
    const auto share = static_cast<int64_t>(spans.by_sample.divide(static_cast<uint64_t>(span)));
    const bool real = share < spans.samples;
    sample = real ? static_cast<uint32_t>(share) : 0;
    const int64_t begin = (span - share * spans.parts) * kSpan,
                  left = static_cast<int64_t>(layout.pieces.whole) + (layout.pieces.tail != 0) - begin;
    piece = static_cast<uint32_t>(begin) + threadIdx.x % kTeam;
    end = static_cast<uint32_t>(real ? begin + (left < kSpan ? left : kSpan) : 0);
    first = real && threadIdx.x % kTeam == 0;
  }
};

// A thread's four lanes.
template <class T>
struct LaneSums {
  T lane[4] = {};

  __device__ __forceinline__ void add(int k, T r) { lane[k] += r * r; }
  // The team's sum, for its first thread. Every thread of the warp must call.
  __device__ __forceinline__ T total() const {
    T sum = 0;
#pragma unroll
    for (int k = 0; k < 4; ++k) sum += lane[k];
#pragma unroll
    for (int thread = 1; thread < kTeam; ++thread) {
#pragma unroll
      for (int k = 0; k < 4; ++k) sum += __shfl_down_sync(0xFFFFFFFFu, lane[k], thread, kTeam);
    }
    return sum;
  }
};

// The sum over a sample's spans, rounded to T as a loss is.
template <class T>
__device__ __forceinline__ double sum_of_spans(const T* partial, int64_t sample, int64_t parts) {
  double sum = 0;
  for (int64_t k = 0; k < parts; ++k) sum += static_cast<double>(partial[sample * parts + k]);
  return static_cast<double>(static_cast<T>(sum));
}

}  // namespace pyebm
