// langevin_chain: many Langevin steps on a closed-form target.
#include "../loops/chain.h"
#include "../loops/density.h"

namespace pyebm {
namespace {

void langevin_chain(const args::LangevinChain& args) {
  const Chain chain("langevin_chain", args.x, args.steps);
  const Needs needs{args.steps.diverged.has_value(), false, args.steps.n_steps};
  with_compute_type(args.x, [&](auto type) {
    using T = decltype(type);
    on_target<T>("langevin_chain", args.x, args.target, args.params, needs,
                 [&](const Blocks& blocks, auto make) { chain.run<T>(blocks, make); });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { PYEBM_IMPL(m, langevin_chain); }
