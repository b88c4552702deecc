// target_score and langevin_chain of the dense targets. A step is two launches: one gathers what the samples' scores are made of
// (mixture.h, or the product with an inverse covariance), the other makes of it the scores, or the step. docs/targets.md says why.
#include <algorithm>

#include "dense_steps.h"
#include "mixture.h"

namespace pyebm {
namespace {

constexpr int64_t kPartComponents = 128, kMostParts = 32;  // how components are split depends on their number alone
constexpr int64_t kWorkspace = int64_t{128} << 20;         // bytes; or one tile of samples
constexpr int64_t kEnoughBlocks = 256;                     // from here on large tiles, which read less

constexpr int kSmallRows = 2;
template <class T>
constexpr int kLargeRows = sizeof(T) == 4 ? 8 : 4;

template <class S>
__global__ void __launch_bounds__(kThreads)
    dense_begin_kernel(const S* x, Dense<Compute<S>> dense, Gathered<Compute<S>> to, Window window, Divider groups) {
  const uint64_t index = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x, row = groups.divide(index);
  if (row >= static_cast<uint64_t>(to.rows)) return;
  const uint64_t group = index - row * groups.divisor;
  Compute<S> at[4] = {};
  if (row < static_cast<uint64_t>(window.layout.pieces.samples) && group < window.layout.pieces.per_sample.divisor) {
    const Place place = window.place(static_cast<uint32_t>(row), static_cast<uint32_t>(group));
    window.layout.template load<1>(x, place, at);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k < place.count) at[k] = dense.moved(at[k], static_cast<int>(place.element()) + k);
    }
  }
  write(to.at + index * 4, at);
}

template <class T, bool kDiagonal, int kRows>
__global__ void __launch_bounds__(kThreads, kRows == kSmallRows ? 4 : 3) gather_kernel(Dense<T> mix, Gathered<T> to) {
  using Shared = Tiles<T, kRows, kDiagonal ? 2 : 1>;
  using Four = Pack<T, 4>;
  PYEBM_SHARED(Four, memory, Shared::kNumbers / 4);
  PYEBM_SHARED(uint32_t, used, kThreads / 32);
  const auto tiles = static_cast<uint32_t>(to.rows / Shared::kSamples), part = blockIdx.x / tiles;
  gather<kDiagonal>(Shared(memory[0].values), used, mix, to, static_cast<int>(part),
                    static_cast<int64_t>(blockIdx.x - part * tiles) * Shared::kSamples);
}

template <class T, int kDims>
__global__ void __launch_bounds__(kThreads, 4) gather_few_kernel(Dense<T> mix, Gathered<T> to) {
  using Four = Pack<T, 4>;
  PYEBM_SHARED(Four, memory, kFewDims * kFewPitch / 4);
  const auto tiles = static_cast<uint32_t>(to.rows / kFewSamples<T>), part = blockIdx.x / tiles;
  gather_few<kDims>(memory[0].values, mix, to, static_cast<int>(part), static_cast<int64_t>(blockIdx.x - part * tiles) * kFewSamples<T>);
}

// The scores of a full covariance: a tile of samples by 64 rows of its inverse.
template <class T, int kRows>
__global__ void __launch_bounds__(kThreads, kRows == kSmallRows ? 4 : 3) covariance_kernel(Dense<T> dense, Gathered<T> to) {
  using Shared = Tiles<T, kRows, 1>;
  using Four = Pack<T, 4>;
  PYEBM_SHARED(Four, memory, Shared::kNumbers / 4);
  const auto tiles = static_cast<uint32_t>(to.rows / Shared::kSamples), block = blockIdx.x / tiles;
  covariance_tile(Shared(memory[0].values), dense, to, static_cast<int>(block) * kTile,
                  static_cast<int64_t>(blockIdx.x - block * tiles) * Shared::kSamples);
}

template <class S>
__global__ void __launch_bounds__(kThreads)
    dense_score_kernel(S* out, Dense<Compute<S>> dense, Gathered<Compute<S>> from, Window window) {
  Place piece;
  if (!find_place<S>(window.layout, piece)) return;
  const Place at = window.place(piece.sample, piece.group);
  Compute<S> score[4];
  score_at(dense, from, piece.sample, at, score);
  window.layout.template store<0>(out, at, score);
}

template <class S>
__global__ void __launch_bounds__(kThreads, 4)
    dense_step_kernel(Dense<Compute<S>> dense, Gathered<Compute<S>> from, DenseChain<S> chain, int64_t step, S* keep) {
  Place piece;
  if (find_place<S>(chain.window.layout, piece)) chain.take(dense, from, piece.sample, piece.group, step, keep);
}

// Samples a tile. What a sample gets does not depend on it.
template <class T>
int64_t tile_of(const Dense<T>& dense, int64_t samples, int64_t parts) {
  if (dense.is_few()) return kFewSamples<T>;
  const int64_t across = dense.target == kGaussianFull ? ceil_div(dense.dim, kTile) : parts;
  return 8 * (ceil_div(samples, 8 * kLargeRows<T>) * across >= kEnoughBlocks ? kLargeRows<T> : kSmallRows);
}

template <class T>
void launch_gather(const Call& call, const Dense<T>& dense, const Gathered<T>& to, int64_t tile) {
  const int64_t tiles = to.rows / tile;
  const auto launch = [&](auto kernel) { call.launch(kernel, tiles * to.parts, dense, to); };
  const bool large = tile == 8 * kLargeRows<T>;
  if (dense.is_few()) {
    launch(dense.dim <= 2 ? gather_few_kernel<T, 2> : gather_few_kernel<T, 4>);
  } else if (dense.target == kMixture) {
    launch(large ? gather_kernel<T, false, kLargeRows<T>> : gather_kernel<T, false, kSmallRows>);
  } else if (dense.target == kMixtureDiagonal) {
    launch(large ? gather_kernel<T, true, kLargeRows<T>> : gather_kernel<T, true, kSmallRows>);
  } else {
    call.launch(large ? covariance_kernel<T, kLargeRows<T>> : covariance_kernel<T, kSmallRows>,
                tiles * ceil_div(dense.dim, kTile), dense, to);
  }
}

// Calls body(gathered, window) for some samples after the other, of which there are as many as the workspace takes; they begin where
// gathered.at says.
template <class S, class Body>
void by_windows(const Call& call, const Tensor& out, const Tensor& x, const Dense<Compute<S>>& dense, Body body) {
  using T = Compute<S>;
  const int64_t samples = x.size(0), pitch = ceil_div(dense.dim, 16) * 16;
  const int64_t parts = std::clamp(dense.components / kPartComponents, int64_t{1}, kMostParts);
  const bool has_weights = dense.target != kGaussianFull;
  const int64_t sums = has_weights ? parts : 1, a_row = pitch + sums * (pitch * (dense.target == kMixtureDiagonal ? 2 : 1) + 3);
  const int64_t tile = tile_of(dense, std::min(samples, kWorkspace / (a_row * static_cast<int64_t>(sizeof(T)))), parts);
  const int64_t most = std::max(kWorkspace / (a_row * static_cast<int64_t>(sizeof(T)) * tile), int64_t{1});
  const int64_t rows = std::min(most, ceil_div(samples, tile)) * tile;
  const Tensor memory = workspace<T>(x, rows * a_row);
  Window window{0, strided_layout(call.op, Pieces(samples, dense.dim, 4), {&out, &x})};
  const Divider groups(pitch / 4);
  for (int64_t first = 0; first < samples; first += rows) {
    const int64_t count = std::min(rows, samples - first);
    Gathered<T> to{};
    to.rows = ceil_div(count, tile) * tile, to.pitch = pitch, to.parts = static_cast<int>(sums);
    to.at = static_cast<T*>(memory.data_ptr());
    to.means = to.at + rows * pitch;
    to.precisions = to.means + sums * rows * pitch;
    to.most = to.at + rows * (a_row - 3 * sums), to.sum = to.most + sums * rows, to.total = to.sum + sums * rows;
    window.first = static_cast<uint32_t>(first);
    window.layout.pieces = Pieces(count, dense.dim, 4);
    call.launch(dense_begin_kernel<S>, ceil_div(to.rows * pitch / 4, kThreads), pointer<S>(x), dense, to, window, groups);
    body(to, window, tile);
  }
}

}  // namespace

void dense_score(const Call& call, const Tensor& out, const Tensor& x, int64_t target, const Tensor& params) {
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    const auto dense = checked_dense<Compute<S>>(call, target, params, x);
    by_windows<S>(call, out, x, dense, [&](const auto& gathered, const Window& window, int64_t tile) {
      launch_gather(call, dense, gathered, tile);
      call.launch(dense_score_kernel<S>, window.layout.pieces.blocks(), pointer<S>(out), dense, gathered, window);
    });
  });
}

template <class S>
void dense_chain(const Call& call, const Tensor& x, int64_t target, const Tensor& params, const Steps<Compute<S>>& steps,
                 const Samples<ChainRow<Compute<S>>>& samples, const KeptStates<S>& kept, const Report& report) {
  const auto dense = checked_dense<Compute<S>>(call, target, params, x);
  by_windows<S>(call, x, x, dense, [&](const auto& gathered, const Window& window, int64_t tile) {
    const DenseChain<S> chain{pointer<S>(x), window, steps, samples, report};
    for (int64_t step = 0; step < steps.count; ++step) {
      launch_gather(call, dense, gathered, tile);
      call.launch(dense_step_kernel<S>, window.layout.pieces.blocks(), dense, gathered, chain, step, kept.after(step));
    }
  });
}

#define PYEBM_DENSE_CHAIN(S)                                                                                           \
  template void dense_chain(const Call&, const Tensor&, int64_t, const Tensor&, const Steps<Compute<S>>&,             \
                            const Samples<ChainRow<Compute<S>>>&, const KeptStates<S>&, const Report&);
PYEBM_DENSE_CHAIN(float)
PYEBM_DENSE_CHAIN(double)
PYEBM_DENSE_CHAIN(__half)
PYEBM_DENSE_CHAIN(__nv_bfloat16)

}  // namespace pyebm
