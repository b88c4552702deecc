// target_score: the score of a closed-form target.
#include "targets.h"

namespace pyebm {
namespace {

template <class S, class Layout>
__global__ void __launch_bounds__(kThreads)
    score_kernel(S* out, const S* x, int target, const Compute<S>* params, int numbers, Layout layout) {
  Place at;
  if (!find_place<S>(layout, at)) return;
  Compute<S> state[kCountOf<S, Layout>], score[kCountOf<S, Layout>];
  layout.template load<1>(x, at, state);
  Elementwise<Compute<S>>(target, params, numbers).score(state, score);
  layout.template store<0>(out, at, score);
}

void target_score(Tensor out, Tensor x, int64_t target, Tensor params) {
  const Call call("target_score", x);
  call.expect("out", out, x.scalar_type());
  with_dtype(call.op, x, [&](auto type) {
    using S = typename decltype(type)::type;
    const Compute<S>* numbers = checked_params<Compute<S>>(call, target, params);
    with_layout<S>(call, {&out, &x}, [&](const auto& layout) {
      call.launch(score_kernel<S, std::decay_t<decltype(layout)>>, layout.pieces.blocks(), pointer<S>(out), pointer<S>(x), target,
                  numbers, params.numel(), layout);
    });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) { m.impl("target_score", TORCH_BOX(&pyebm::target_score)); }
