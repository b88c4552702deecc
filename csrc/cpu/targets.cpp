// target_score: the score of a closed-form target.
#include "targets.h"

#include <torch/csrc/stable/library.h>

namespace pyebm {
namespace {

void target_score(Tensor out, Tensor x, int64_t target, Tensor params) {
  const View result(out), state(x);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const TargetOf<T>& kernels = checked_target<T>("target_score", target, params, Shape(x));
    const int64_t at_once = samples_at_once(kernels, x.size(0));
    const Shape shape(x, at_once);
    const Blocks blocks(shape, !kernels.elementwise, at_once, work_of(kernels, shape, params));
    for_each_block(blocks, [&] {
      return [&, work = BlockBuffers<T>(blocks, kernels, params)](const Block& block) mutable {
        work.read(state, block);
        work.make_score(state, block);
        work.write(result, block.first, block, work.score());
      };
    });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { m.impl("target_score", TORCH_BOX(&pyebm::target_score)); }

// For the tests: the names of the targets in the order of the kernels' tables; null after the last.
extern "C" __attribute__((visibility("default"))) const char* pyebm_target(int64_t index) {
  return index >= 0 && index < pyebm::kTargets ? pyebm::kTargetNames[index] : nullptr;
}
