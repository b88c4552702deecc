// langevin_chain takes many Langevin steps on a closed-form target, each with the bits of
// target_score and langevin_step. The state is read once and written once. In between it stays in
// registers or, where a sample's elements need each other, in a warp's shared memory.
#include "dense.h"

namespace pyebm {
namespace {

// A thread takes its elements of a sample through all steps. data: the states, in place; kept:
// where every `every`-th state goes as well; report: the first step that left each sample not
// finite.
template <class S, class Layout>
__global__ void __launch_bounds__(kThreads, 4)  // up to 128 registers: left alone, ptxas spills in float64
    chain_kernel(S* data,                       // [samples, ...], in place
                 TargetNumbers<Compute<S>> target,          // its params
                 uint32_t coupled,                          // 1: a thread has a whole sample, of at most four
                 Steps<Compute<S>> steps,                   // how many, the clamp, coefficients by step
                 SampleRows<ChainRow<Compute<S>>> samples,  // noise and coefficients of each sample
                 KeptStates<S> kept,                        // [n_steps // thin, samples, ...] or none
                 Report report,                             // [samples], the step that diverged, or none
                 Layout layout) {                           // of data
  Place at;
  if (!find_place<S>(layout, at)) return;
  constexpr int kCount = kCountOf<S, Layout>;
  using T = Compute<S>;
  T x[kCount];
  layout.template load<0>(data, at, x);
  SampleNoise noise;
  ChainRow<T> row;
  samples.find(at.sample, noise, row);
  const ElementTarget<T> each(target);
  int64_t bad = -1, until_kept = kept.every;
  Place to = kept.layout.template place<kCount>(at.sample, at.group / (kCount / 4));
#pragma unroll 1
  for (int64_t step = 0; step < steps.count; ++step) {
    T g[kCount], z[kCount];
    draw(noise, at, z, static_cast<uint32_t>(step));
    score_elements(target, each, coupled, at, x, g);
    steps.find(step, at.sample, row);
#pragma unroll
    for (int k = 0; k < kCount; ++k) x[k] = steps.template next<S>(x[k], g[k], z[k], row);
    if (--until_kept == 0) {
      kept.layout.template store<0>(kept.states, to, x);
      to.bytes += kept.bytes;
      until_kept = kept.every;
    }
    if (report.diverged && bad < 0) {
      bool good = true;
#pragma unroll
      for (int k = 0; k < kCount; ++k) good = good && (k >= at.count || is_finite(x[k]));
      if (!good) bad = step;
    }
  }
  layout.template store<0>(data, at, x);
  report.tell(at.sample, bad);
}

constexpr int kPerWarp = 4096;  // bytes of shared memory: two states of 512 floats

// A warp takes one sample through all steps. The state alternates between two buffers, in shared
// memory or, where they don't fit, in `spare`: [samples, 2, elements].
template <class S>
__global__ void __launch_bounds__(kThreads)
    coupled_chain_kernel(S* data,                       // [samples, elements], in place
                         Compute<S>* spare,             // [samples, 2, elements]; null: in shared memory
                         TargetNumbers<Compute<S>> in,  // this and the rest: as chain_kernel's
                         Steps<Compute<S>> steps, SampleRows<ChainRow<Compute<S>>> samples,
                         KeptStates<S> kept, Report report, Strided layout) {
  using T = Compute<S>;
  PYEBM_SHARED(T, shared, kThreads / 32 * kPerWarp / sizeof(T));
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32;
  if (warp >= layout.pieces.samples) return;
  const auto sample = static_cast<uint32_t>(warp);
  const int lane = static_cast<int>(threadIdx.x) % 32;
  T* now = spare ? spare + warp * 2 * in.elements : shared + threadIdx.x / 32 * (kPerWarp / sizeof(T));
  T* next = now + in.elements;
  for (int64_t i = lane; i < in.elements; i += 32) now[i] = widened(data[layout.offset(0, sample, i)]);
  __syncwarp();
  SampleNoise noise;
  ChainRow<T> row;
  samples.find(sample, noise, row);
  int64_t bad = -1, until_kept = kept.every;
  S* to = kept.states ? kept.states + warp * in.elements : nullptr;
#pragma unroll 1
  for (int64_t step = 0; step < steps.count; ++step) {
    const auto get = [&](int64_t i) { return now[i]; };
    SampleTarget<T> target(in);
    target.prepare(get, WarpSum<T>{in.elements});
    steps.find(step, sample, row);
    const bool keep = --until_kept == 0;
#pragma unroll 1
    for (int64_t first = 4 * lane; first < in.elements; first += 4 * 32) {
      T z[4];
      draw(noise, Place{sample, static_cast<uint32_t>(first / 4), 0, 4, false}, z,
           static_cast<uint32_t>(step));
#pragma unroll
      for (int k = 0; k < 4; ++k) {
        if (first + k >= in.elements) break;
        const T state = steps.template next<S>(now[first + k], target.score(first + k, get), z[k], row);
        next[first + k] = state;
        if (keep) to[first + k] = narrowed<S>(state);
        if (report.diverged && bad < 0 && !is_finite(state)) bad = step;
      }
    }
    if (keep) {
      to += kept.bytes / sizeof(S);
      until_kept = kept.every;
    }
    __syncwarp();
    T* const before = now;
    now = next, next = before;
  }
  for (int64_t i = lane; i < in.elements; i += 32) data[layout.offset(0, sample, i)] = narrowed<S>(now[i]);
  report.tell(sample, bad);
}

void langevin_chain(const args::LangevinChain& args) {
  const Tensor &x = args.x, &params = args.params;
  const int64_t count = x.size(0), target = args.target;
  const args::ChainSteps& given = args.steps;
  const Call call("langevin_chain", x);
  if (given.mask || given.score_clip) {
    fail(call.op,
         ": mask and score_clip are the CPU's kernel's; on this device take a loop of langevin_step, as "
         "pyebm's functions do");
  }
  const ChainCall chain(call, x, given);
  if (x.numel() == 0) return chain.forget();
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    using T = Compute<S>;
    const TargetNumbers<T> in =
        is_dense(target) ? TargetNumbers<T>() : checked_target<T>(call, target, params, x);
    if (is_dense(target)) checked_dense<T>(call, target, params, x);
    chain.forget();
    chain.with_steps<T>([&](const Steps<T>& steps, const SampleRows<ChainRow<T>>& samples) {
      if (is_dense(target)) {
        const KeptStates<S> kept = kept_states<S>(Pieces(count, elements_of(x), 4), given.states, given.thin);
        return dense_chain<S>(call, x, target, params, steps, samples, kept, chain.report());
      }
      if (in.is_coupled() && in.elements > 4) {
        const Pieces pieces(count, in.elements, 4);
        MaybeTensor spare;
        if (2 * in.elements * static_cast<int64_t>(sizeof(T)) > kPerWarp)
          spare = workspace<T>(x, 2 * count * in.elements);
        call.launch(coupled_chain_kernel<S>, ceil_div(count * 32, kThreads), pointer<S>(x),
                    static_cast<T*>(spare ? spare->data_ptr() : nullptr), in, steps, samples,
                    kept_states<S>(pieces, given.states, given.thin), chain.report(),
                    strided_layout(call.op, pieces, {&x}));
        return;
      }
      with_layout<S>(call, {&x}, [&](const auto& layout) {
        using Layout = std::decay_t<decltype(layout)>;
        const Pieces pieces(count, in.elements, kCountOf<S, Layout>);
        call.launch(chain_kernel<S, Layout>, pieces.blocks(), pointer<S>(x), in, in.is_coupled(), steps,
                    samples, kept_states<S>(pieces, given.states, given.thin), chain.report(), layout);
      });
    });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) { PYEBM_IMPL(m, langevin_chain); }
