// Turns the gathered sums into scores and steps, four elements of a sample at a time.
#pragma once

#include "dense.h"
#include "dense_tiles.h"

namespace pyebm {

// The samples of a call that are worked on together, from `first` on; the layout's pieces cover
// these samples only.
struct Window {
  uint32_t first;
  Strided layout;

  __device__ __forceinline__ Place place(uint32_t row, uint32_t group) const {
    return layout.template place<4>(first + row, group);
  }
};

// Writes a sample's group of four elements to to.at in the kernels' coordinates (Dense::moved),
// with zeros beyond the sample's end.
template <class S>
__device__ __forceinline__ void begin_at(const S* x, const Dense<Compute<S>>& dense,
                                         const Gathered<Compute<S>>& to, const Window& window, uint32_t row,
                                         uint32_t group) {
  Compute<S> at[4] = {};
  if (row < static_cast<uint64_t>(window.layout.pieces.samples) &&
      group < window.layout.pieces.per_sample.divisor) {
    const Place place = window.place(row, group);
    window.layout.template load<1>(x, place, at);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k < place.count) at[k] = dense.moved(at[k], static_cast<int>(place.element()) + k);
    }
  }
  write(to.at + row * to.pitch + group * 4, at);
}

// The score of four elements of a sample. The sums of the parts are rescaled to the largest weight
// of all parts, then added in the parts' order.
template <class T>
__device__ __forceinline__ void score_at(const Dense<T>& dense, const Gathered<T>& from, uint32_t row,
                                         const Place& at, T (&out)[4]) {
  const int64_t place = row * from.pitch + at.element(), next = from.rows * from.pitch;
  if (dense.target == kGaussianFull) return read(from.means + place, out);
  const bool is_diagonal = dense.target == kMixtureDiagonal;
  T most = lowest<T>(), sum = 0, total = 0, mean[4] = {}, precision[4] = {};
  for (int part = 0; part < from.parts; ++part) most = larger(from.most[part * from.rows + row], most);
#pragma unroll 1
  for (int part = 0; part < from.parts; ++part) {
    const int64_t at_part = part * from.rows + row;
    const T weight = exp2_of(from.most[at_part] - most);
    T more[4];
    read(from.means + place + part * next, more);
#pragma unroll
    for (int k = 0; k < 4; ++k) mean[k] = fused(weight, more[k], mean[k]);
    sum = fused(weight, from.sum[at_part], sum);
    if (is_diagonal) {
      read(from.precisions + place + part * next, more);
#pragma unroll
      for (int k = 0; k < 4; ++k) precision[k] = fused(weight, more[k], precision[k]);
    } else {
      total = fused(weight, from.total[at_part], total);
    }
  }
  // The score is (sum q precision mean - x sum q precision) / sum q with a diagonal precision, else
  // inverse (sum q mean - x sum q) / sum q variance.
  const T over = T(1) / (is_diagonal ? sum : total);
  read(from.at + place, out);
#pragma unroll
  for (int k = 0; k < 4; ++k) {
    const T pull = fused(-out[k], is_diagonal ? precision[k] : sum, mean[k]) * over;
    out[k] = is_diagonal || k >= at.count ? pull : pull * dense.inverse[at.element() + k];
  }
}

// A step's arguments besides the score.
template <class S>
struct DenseChain {
  S* data;
  Window window;
  Steps<Compute<S>> steps;
  SampleRows<ChainRow<Compute<S>>> samples;
  Report report;

  // Takes one step of four elements. keep: the place that also gets the state, or null.
  __device__ __forceinline__ void take(const Dense<Compute<S>>& dense, const Gathered<Compute<S>>& from,
                                       uint32_t row, uint32_t group, int64_t step, S* keep) const {
    using T = Compute<S>;
    const Place at = window.place(row, group);
    T x[4], g[4], z[4];
    score_at(dense, from, row, at, g);
    SampleNoise noise;
    ChainRow<T> numbers;
    samples.find(at.sample, noise, numbers);
    draw(noise, at, z, static_cast<uint32_t>(step));
    steps.find(step, at.sample, numbers);
    window.layout.template load<0>(data, at, x);
    bool good = true;
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      x[k] = steps.template next<S>(x[k], g[k], z[k], numbers);
      good = good && (k >= at.count || is_finite(x[k]));
    }
    window.layout.template store<0>(data, at, x);
    if (report.diverged && !good) report.tell(at.sample, step);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k >= at.count) break;
      if (keep) keep[at.sample * static_cast<int64_t>(dense.dim) + at.element() + k] = narrowed<S>(x[k]);
      from.at[row * from.pitch + at.element() + k] = dense.moved(x[k], static_cast<int>(at.element()) + k);
    }
  }
};

}  // namespace pyebm
