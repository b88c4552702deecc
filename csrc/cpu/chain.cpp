// langevin_chain: many Langevin steps on a closed-form target.
#include "chain.h"

namespace pyebm {
namespace {

void langevin_chain(const args::LangevinChain& args) {
  const Tensor &x = args.x, &params = args.params;
  const int64_t n_steps = args.steps.n_steps;
  const Chain chain("langevin_chain", x, args.steps);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const TargetOf<T>& kernels = checked_target<T>("langevin_chain", args.target, params, Shape(x));
    const int64_t at_once = samples_at_once(kernels, x.size(0));
    Shape shape(x, at_once);
    if (!at_once) shape.share(torch::stable::get_num_threads(), n_steps);
    const Blocks blocks(shape, !kernels.elementwise || chain.first_bad(), at_once, work_of(kernels, shape, params), n_steps);
    chain.run<T>(blocks, [&] { return BlockBuffers<T>(blocks, kernels, params); });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, langevin_chain); }
