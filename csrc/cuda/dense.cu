// target_score and langevin_chain of the dense targets. A step is two launches: the first gathers
// each sample's sums over the components (mixture.h) or its product with the inverse covariance,
// the second turns them into scores or a step. docs/dense-kernels.md says why.
#include <algorithm>

#include "dense_steps.h"
#include "mixture.h"

namespace pyebm {
namespace {

constexpr int64_t kPartComponents = 128,
                  kMostParts = 32;      // how components are split depends on their number alone
constexpr int64_t kEnoughBlocks = 256;  // from this number on, large tiles: they read less
#if !defined(PYEBM_DENSE_WORKSPACE)     // the tests want it small
#define PYEBM_DENSE_WORKSPACE 134217728
#endif
constexpr int64_t kWorkspace = PYEBM_DENSE_WORKSPACE;  // bytes, or one tile of samples if that takes more

// The blocks that share a multiprocessor: so few that a thread has all the registers it needs.
template <class T>
constexpr int kBlocks = sizeof(T) == 8 ? 2 : 3;
constexpr int kChainBlocks = 2, kScoreBlocks = 4;

// Writes the window's samples to to.at in the kernels' coordinates (Dense::moved).
template <class S>
__global__ void __launch_bounds__(kThreads)
    dense_begin_kernel(const S* x,               // [samples, ...]
                       Dense<Compute<S>> dense,  // the packed parameters
                       Gathered<Compute<S>> to,  // the window's work in memory
                       Window window,            // which of the samples
                       Divider groups) {         // groups of four elements a row
  const uint64_t index = static_cast<uint64_t>(blockIdx.x) * kThreads + threadIdx.x,
                 row = groups.divide(index);
  if (row >= static_cast<uint64_t>(to.rows)) return;
  begin_at(x, dense, to, window, static_cast<uint32_t>(row),
           static_cast<uint32_t>(index - row * groups.divisor));
}

// A block gathers one part of the components for one tile of samples.
template <class T, class Way>
__global__ void __launch_bounds__(kThreads, kBlocks<T>)
    gather_kernel(Dense<T> dense,    // the packed parameters
                  Gathered<T> to) {  // the window's work in memory
  using Four = Pack<T, 4>;
  PYEBM_SHARED(Four, memory, (Way::kNumbers + 3) / 4);
  const auto tiles = static_cast<uint32_t>(to.rows / Way::kSamples), part = blockIdx.x / tiles;
  Way::gather(memory[0].values, dense, to, static_cast<int>(part),
              static_cast<int64_t>(blockIdx.x - part * tiles) * Way::kSamples);
}

// All steps of a tile of samples in one launch. The components must be a single part, so that a
// block needs nothing from another one.
template <class S, class Way>
__global__ void __launch_bounds__(kThreads, kChainBlocks)
    dense_chain_kernel(Dense<Compute<S>> dense,  // the packed parameters
                       Gathered<Compute<S>> to,  // the work in memory
                       DenseChain<S> chain,      // the state, in place, and the steps
                       KeptStates<S> kept,       // [n_steps // thin, samples, ...] or none
                       Divider groups) {         // groups of four elements a row
  using Four = Pack<Compute<S>, 4>;
  PYEBM_SHARED(Four, memory, (Way::kNumbers + 3) / 4);
  const uint32_t first = blockIdx.x * Way::kSamples, end = first + Way::kSamples;
  const auto samples = static_cast<uint32_t>(chain.window.layout.pieces.samples);
  const auto every_group = [&](uint32_t rows, const Divider& divider, auto body) {
    const auto count = rows * static_cast<uint32_t>(divider.divisor);
    for (uint32_t i = threadIdx.x; i < count; i += kThreads) {
      const uint32_t row = divider.divide_small(i);
      body(first + row, i + row * divider.minus);
    }
  };
  every_group(Way::kSamples, groups, [&](uint32_t row, uint32_t group) {
    begin_at(chain.data, dense, to, chain.window, row, group);
  });
  int64_t until_kept = kept.every;
  S* keep = kept.states;
#pragma unroll 1
  for (int64_t step = 0; step < chain.steps.count; ++step) {
    __syncthreads();
    Way::gather(memory[0].values, dense, to, 0, first);
    __syncthreads();
    const bool keeps = --until_kept == 0;
    every_group((samples < end ? samples : end) - first, chain.window.layout.pieces.per_sample,
                [&](uint32_t row, uint32_t group) {
                  chain.take(dense, to, row, group, step, keeps ? keep : nullptr);
                });
    if (keeps) keep += kept.bytes / sizeof(S), until_kept = kept.every;
  }
}

// Makes the window's scores from the gathered sums.
template <class S>
__global__ void __launch_bounds__(kThreads, kScoreBlocks)
    dense_score_kernel(S* out,                     // [samples, ...]
                       Dense<Compute<S>> dense,    // the packed parameters
                       Gathered<Compute<S>> from,  // the gathered sums
                       Window window) {            // which of the samples
  Place piece;
  if (!find_place<S>(window.layout, piece)) return;
  const Place at = window.place(piece.sample, piece.group);
  Compute<S> score[4];
  score_at(dense, from, piece.sample, at, score);
  window.layout.template store<0>(out, at, score);
}

// Takes one step of the window's samples from the gathered sums. keep: the place that also gets the
// states, or null.
template <class S>
__global__ void __launch_bounds__(kThreads, kScoreBlocks)
    dense_step_kernel(Dense<Compute<S>> dense,    // the packed parameters
                      Gathered<Compute<S>> from,  // the gathered sums
                      DenseChain<S> chain,        // the state, in place, and the steps
                      int64_t step,               // its number in the call
                      S* keep) {                  // [samples, ...] or null
  Place piece;
  if (find_place<S>(chain.window.layout, piece))
    chain.take(dense, from, piece.sample, piece.group, step, keep);
}

// Calls body(Type<a way to gather>()). Large tiles read less memory, small tiles make more blocks;
// a sample gets the same bits from both.
template <int kRows, class T, class Body>
void with_tiles(const Dense<T>& dense, Body body) {
  if (dense.target == kMixture) return body(Type<GatherMixture<T, false, kRows>>());
  if (dense.target == kMixtureDiagonal) return body(Type<GatherMixture<T, true, kRows>>());
  body(Type<GatherCovariance<T, kRows>>());
}
template <class T, class Body>
void with_way(const Dense<T>& dense, bool large, Body body) {
  if (dense.target == kMixture && dense.dim <= 2) return body(Type<GatherFew<T, 2>>());
  if (dense.target == kMixture && dense.dim <= 4) return body(Type<GatherFew<T, 4>>());
  if (large) return with_tiles<32 / sizeof(T)>(dense, body);
  with_tiles<kFewRows>(dense, body);
}

// Calls body(Type<way>(), gathered, window, groups a row) for one window of samples after another,
// each as large as the workspace allows.
template <class S, class Body>
void by_windows(const Call& call, const Tensor& out, const Tensor& x, const Dense<Compute<S>>& dense,
                Body body) {
  using T = Compute<S>;
  const bool is_full = dense.target == kGaussianFull;
  const int64_t samples = x.size(0), pitch = ceil_div(dense.dim, 16) * 16;
  const int64_t parts = is_full ? ceil_div(dense.dim, kTile)
                                : std::clamp(dense.components / kPartComponents, int64_t{1}, kMostParts);
  const int64_t sums = is_full ? 1 : parts, matrices = dense.target == kMixtureDiagonal ? 2 : 1;
  const int64_t a_row = pitch + sums * (matrices * pitch + 3),
                fit = kWorkspace / (a_row * static_cast<int64_t>(sizeof(T)));
  const bool large =
      std::min(samples, fit) / (256 / static_cast<int64_t>(sizeof(T))) * parts >= kEnoughBlocks;
  with_way(dense, large, [&](auto way) {
    constexpr int64_t kSamples = decltype(way)::type::kSamples;
    const int64_t rows =
        std::min(std::max(fit / kSamples, int64_t{1}), ceil_div(samples, kSamples)) * kSamples;
    const Tensor memory = workspace<T>(x, rows * a_row);
    Window window{0, strided_layout(call.op, Pieces(samples, dense.dim, 4), {&out, &x})};
    for (int64_t first = 0; first < samples; first += rows) {
      const int64_t count = std::min(rows, samples - first);
      Gathered<T> to{};
      to.rows = ceil_div(count, kSamples) * kSamples, to.pitch = pitch, to.parts = static_cast<int>(parts);
      to.at = static_cast<T*>(memory.data_ptr());
      to.means = to.at + rows * pitch, to.precisions = to.means + sums * rows * pitch;
      to.most = to.means + matrices * sums * rows * pitch, to.sum = to.most + sums * rows,
      to.total = to.sum + sums * rows;
      window.first = static_cast<uint32_t>(first);
      window.layout.pieces = Pieces(count, dense.dim, 4);
      body(way, to, window, Divider(pitch / 4));
    }
  });
}

template <class S, class T>
void launch_begin(const Call& call, const Tensor& x, const Dense<T>& dense, const Gathered<T>& to,
                  const Window& window, const Divider& groups) {
  call.launch(dense_begin_kernel<S>, ceil_div(to.rows * to.pitch / 4, kThreads), pointer<S>(x), dense, to,
              window, groups);
}

template <class Way, class T>
void launch_gather(const Call& call, const Dense<T>& dense, const Gathered<T>& to) {
  call.launch(gather_kernel<T, Way>, to.rows / Way::kSamples * to.parts, dense, to);
}

}  // namespace

void dense_score(const Call& call, const Tensor& out, const Tensor& x, int64_t target, const Tensor& params) {
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    const auto dense = checked_dense<Compute<S>>(call, target, params, x);
    by_windows<S>(call, out, x, dense,
                  [&](auto way, const auto& gathered, const Window& window, const Divider& groups) {
                    launch_begin<S>(call, x, dense, gathered, window, groups);
                    launch_gather<typename decltype(way)::type>(call, dense, gathered);
                    call.launch(dense_score_kernel<S>, window.layout.pieces.blocks(), pointer<S>(out), dense,
                                gathered, window);
                  });
  });
}

template <class S>
void dense_chain(const Call& call, const Tensor& x, int64_t target, const Tensor& params,
                 const Steps<Compute<S>>& steps, const SampleRows<ChainRow<Compute<S>>>& samples,
                 const KeptStates<S>& kept, const Report& report) {
  const auto dense = checked_dense<Compute<S>>(call, target, params, x);
  by_windows<S>(call, x, x, dense,
                [&](auto way, const auto& gathered, const Window& window, const Divider& groups) {
                  using Way = typename decltype(way)::type;
                  const DenseChain<S> chain{pointer<S>(x), window, steps, samples, report};
                  if constexpr (Way::kSmall) {
                    if (gathered.parts == 1) {
                      call.launch(dense_chain_kernel<S, Way>, gathered.rows / Way::kSamples, dense, gathered,
                                  chain, kept, groups);
                      return;
                    }
                  }
                  launch_begin<S>(call, x, dense, gathered, window, groups);
                  for (int64_t step = 0; step < steps.count; ++step) {
                    launch_gather<Way>(call, dense, gathered);
                    call.launch(dense_step_kernel<S>, window.layout.pieces.blocks(), dense, gathered, chain,
                                step, kept.after(step));
                  }
                });
}

#define PYEBM_DENSE_CHAIN(S)                                                                              \
  template void dense_chain(const Call&, const Tensor&, int64_t, const Tensor&, const Steps<Compute<S>>&, \
                            const SampleRows<ChainRow<Compute<S>>>&, const KeptStates<S>&, const Report&);
PYEBM_DENSE_CHAIN(float)
PYEBM_DENSE_CHAIN(double)
PYEBM_DENSE_CHAIN(__half)
PYEBM_DENSE_CHAIN(__nv_bfloat16)

}  // namespace pyebm
