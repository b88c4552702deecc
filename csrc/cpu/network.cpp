// network_score: the score of a network, and its energy; network_hvp: its Hessian times vectors; network_chain: many Langevin
// steps.
#include <torch/csrc/stable/library.h>

#include "chain.h"
#include "network_buffers.h"

namespace pyebm {
namespace {

void put(const Tensor& energy, const std::vector<double>& values) {
  if (energy.scalar_type() == ScalarType::Double)
    std::copy(values.begin(), values.end(), static_cast<double*>(energy.data_ptr()));
  else
    std::transform(values.begin(), values.end(), static_cast<float*>(energy.data_ptr()), [](double e) { return float(e); });
}

void network_score(Tensor score, Tensor x, Tensor layout, Tensor params, std::optional<Tensor> biases,
                   std::optional<Tensor> energy) {
  const char* op = "network_score";
  const View result(score), state(x);
  const int64_t samples = x.size(0);
  if (energy && (energy->numel() != samples || !energy->is_contiguous() ||
                 !(energy->scalar_type() == ScalarType::Double || energy->scalar_type() == ScalarType::Float))) {
    fail(op, ": energy must be contiguous, float32 or float64, one number for each of ", samples, " samples");
  }
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const PackedNetwork<T> network(op, x, layout, params, biases, 1, false);
    if (energy && !network.net.is_energy) fail(op, ": a network that gives scores has no energy");
    std::vector<double> energies(energy ? samples : 0);
    const Shape shape(x, network.at_once);
    const Blocks blocks = network.blocks(shape);
    for_each_block(blocks, [&] {
      return [&, work = NetworkBuffers<T>(network, blocks)](const Block& block) mutable {
        work.read(state, block);
        work.make_score(state, block, 0, energy ? energies.data() + block.sample : nullptr);
        work.write(result, block.first, block, work.score());
      };
    });
    if (energy && samples) put(*energy, energies);
  });
}

void network_hvp(Tensor out, Tensor x, Tensor v, Tensor layout, Tensor params, std::optional<Tensor> biases) {
  const char* op = "network_hvp";
  const View result(out), state(x), vector(v);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const PackedNetwork<T> network(op, x, layout, params, biases, 1, false);
    if (!network.net.is_energy) fail(op, ": a network that gives scores has no Hessian");
    const Shape shape(x, network.at_once);
    const Blocks blocks = network.blocks(shape, 2);
    for_each_block(blocks, [&] {
      return [&, work = HvpBuffers<T>(network, blocks)](const Block& block) mutable {
        work.read(state, vector, block);
        work.make();
        work.write(result, block);
      };
    });
  });
}

void network_chain(Tensor x, Tensor layout, Tensor params, int64_t n_steps, double step_size, double temperature, Tensor name,
                   std::optional<Tensor> step_size_rows, std::optional<Tensor> temperature_rows,
                   std::optional<bool> step_size_per_step, std::optional<bool> temperature_per_step, std::optional<Tensor> states,
                   std::optional<int64_t> thin, std::optional<Tensor> diverged, std::optional<double> low,
                   std::optional<double> high, std::optional<Tensor> seeds, std::optional<Tensor> ids, std::optional<Tensor> biases,
                   std::optional<bool> biases_per_step, std::optional<double> score_clip) {
  const char* op = "network_chain";
  const Rows rows{{step_size, step_size_rows, step_size_per_step}, {temperature, temperature_rows, temperature_per_step}};
  const NoiseSource noise(name, seeds, ids, Shape(x));
  const Chain chain{op, x, n_steps, rows, noise, states, thin, diverged, low, high, score_clip};
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const PackedNetwork<T> network(op, x, layout, params, biases, n_steps, biases_per_step.value_or(false));
    const Shape shape(x, network.at_once);
    const Blocks blocks = network.blocks(shape, n_steps);
    chain.run<T>(blocks, [&] { return NetworkBuffers<T>(network, blocks); });
  });
}

}  // namespace
}  // namespace pyebm

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  m.impl("network_score", TORCH_BOX(&pyebm::network_score));
  m.impl("network_hvp", TORCH_BOX(&pyebm::network_hvp));
  m.impl("network_chain", TORCH_BOX(&pyebm::network_chain));
}
