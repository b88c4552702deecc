// The density that a chain runs on: a closed-form target or a network. Either one cuts the batch
// into blocks of samples and makes each thread's buffers for the state and the score of a block.
#pragma once

#include "network_buffers.h"

namespace pyebm {

// The needs of a chain: whether its samples must stay whole, whether it needs energies, and how
// many scores it makes of each sample.
struct Needs {
  bool whole_samples, energy;
  int64_t scores;
};

// Calls run(blocks, make), where make() makes one thread's buffers.
template <class T, class Run>
void on_target(const char* op, const Tensor& x, int64_t target, const Tensor& params, const Needs& needs,
               Run run) {
  const TargetOf<T>& kernels = checked_target<T>(op, target, params, Shape(x));
  if (needs.energy && !kernels.score_and_energy)
    fail(op, ": the target ", kTargetFacts[target].name, " has no energy of its own");
  const int64_t at_once = samples_at_once(kernels, x.size(0));
  Shape shape(x, at_once);
  if (!at_once) shape.share(torch::stable::get_num_threads(), needs.scores);
  const bool whole = needs.whole_samples || !kernels.elementwise;
  const Blocks blocks(shape, whole, at_once, step_cost(kernels, shape, params), needs.scores);
  run(blocks, [&] { return BlockBuffers<T>(blocks, kernels, params); });
}

template <class T, class Run>
void on_network(const char* op, const Tensor& x, const Tensor& layout, const Tensor& params,
                const MaybeTensor& biases, int64_t n_steps, bool biases_per_step, const Needs& needs,
                Run run) {
  const PackedNetwork<T> network(op, x, layout, params, biases, n_steps, biases_per_step);
  if (needs.energy && !network.net.is_energy) fail(op, ": layout: a network that gives scores has no energy");
  const Shape shape(x, network.at_once);
  const Blocks blocks = network.blocks(shape, needs.scores);
  run(blocks, [&] { return NetworkBuffers<T>(network, blocks); });
}

template <class T, class Run>
void on_density(const char* op, const Tensor& x, const args::Density& density, const Needs& needs, Run run) {
  if (!density.layout) return on_target<T>(op, x, density.target, density.params, needs, run);
  on_network<T>(op, x, *density.layout, density.params, density.biases, 1, false, needs, run);
}

}  // namespace pyebm
