// target_score writes the score of a closed-form target.
#include "dense.h"

namespace pyebm {
namespace {

// A thread scores its elements; with `coupled` they are a whole sample of at most four.
template <class S, class Layout>
__global__ void __launch_bounds__(kThreads)
    score_kernel(S* out,                            // [samples, ...]
                 const S* x,                        // [samples, ...]
                 TargetNumbers<Compute<S>> target,  // its params
                 uint32_t coupled,                  // 1: a thread has a whole sample, of at most four
                 Layout layout) {                   // of both
  Place at;
  if (!find_place<S>(layout, at)) return;
  Compute<S> state[kCountOf<S, Layout>], score[kCountOf<S, Layout>];
  layout.template load<1>(x, at, state);
  score_elements(target, ElementTarget<Compute<S>>(target), coupled, at, state, score);
  layout.template store<0>(out, at, score);
}

// A warp scores one sample.
template <class S>
__global__ void __launch_bounds__(kThreads)
    coupled_score_kernel(S* out,                        // [samples, elements]
                         const S* x,                    // [samples, elements]
                         TargetNumbers<Compute<S>> in,  // the target's params
                         Strided layout) {              // of both
  const auto sample = static_cast<uint32_t>((static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) / 32);
  if (sample >= layout.pieces.samples) return;
  const auto get = [&](int64_t i) { return widened(x[layout.offset(1, sample, i)]); };
  SampleTarget<Compute<S>> target(in);
  target.prepare(get, WarpSum<Compute<S>>{in.elements});
  for (int64_t i = threadIdx.x % 32; i < in.elements; i += 32) {
    out[layout.offset(0, sample, i)] = narrowed<S>(target.score(i, get));
  }
}

void target_score(const args::TargetScore& args) {
  const Tensor &out = args.out, &x = args.x, &params = args.params;
  const int64_t target = args.target;
  const Call call("target_score", x);
  if (x.numel() == 0) return;
  if (is_dense(target)) return dense_score(call, out, x, target, params);
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    const TargetNumbers<Compute<S>> in = checked_target<Compute<S>>(call, target, params, x);
    if (in.is_coupled() && in.elements > 4) {
      const Strided layout = strided_layout(call.op, Pieces(x.size(0), in.elements, 4), {&out, &x});
      call.launch(coupled_score_kernel<S>, ceil_div(x.size(0) * 32, kThreads), pointer<S>(out), pointer<S>(x),
                  in, layout);
      return;
    }
    with_layout<S>(call, {&out, &x}, [&](const auto& layout) {
      call.launch(score_kernel<S, std::decay_t<decltype(layout)>>, layout.pieces.blocks(), pointer<S>(out),
                  pointer<S>(x), in, in.is_coupled(), layout);
    });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) { PYEBM_IMPL(m, target_score); }

// Lets Python compare its table of targets with the one that the kernels were built with (_ops.py).
extern "C" __attribute__((visibility("default"))) const char* pyebm_targets() {
  return pyebm::targets_text();
}
