// langevin_chain: many Langevin steps on a closed-form target.
#include "chain.h"

#include <torch/csrc/stable/library.h>

namespace pyebm {
namespace {

void langevin_chain(Tensor x, int64_t target, Tensor params, int64_t n_steps, double step_size, double temperature, Tensor name,
                    std::optional<Tensor> step_size_rows, std::optional<Tensor> temperature_rows,
                    std::optional<bool> step_size_per_step, std::optional<bool> temperature_per_step, std::optional<Tensor> states,
                    std::optional<int64_t> thin, std::optional<Tensor> diverged, std::optional<double> low,
                    std::optional<double> high, std::optional<Tensor> seeds, std::optional<Tensor> ids) {
  const Rows rows{{step_size, step_size_rows, step_size_per_step}, {temperature, temperature_rows, temperature_per_step}};
  const NoiseSource noise(name, seeds, ids, Shape(x));
  const Chain chain{"langevin_chain", x, n_steps, rows, noise, states, thin, diverged, low, high, std::nullopt};
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const TargetOf<T>& kernels = checked_target<T>("langevin_chain", target, params, Shape(x));
    const int64_t at_once = samples_at_once(kernels, x.size(0));
    Shape shape(x, at_once);
    if (!at_once) shape.share(torch::stable::get_num_threads(), n_steps);
    const Blocks blocks(shape, !kernels.elementwise || chain.first_bad(), at_once, work_of(kernels, shape, params), n_steps);
    chain.run<T>(blocks, [&] { return BlockBuffers<T>(blocks, kernels, params); });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) { m.impl("langevin_chain", TORCH_BOX(&pyebm::langevin_chain)); }
