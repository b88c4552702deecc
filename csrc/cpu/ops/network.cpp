// network_score: the score of a network, and its energy; network_hvp: the energy's Hessian times
// vectors; network_laplacian: the Hessian's trace; network_chain: many Langevin steps.
#include "../loops/chain.h"
#include "../loops/density.h"

namespace pyebm {
namespace {

void put(const Tensor& energy, const std::vector<double>& values) {
  if (energy.scalar_type() == ScalarType::Double)
    std::copy(values.begin(), values.end(), static_cast<double*>(energy.data_ptr()));
  else
    std::transform(values.begin(), values.end(), static_cast<float*>(energy.data_ptr()),
                   [](double e) { return float(e); });
}

void network_score(const args::NetworkScore& args) {
  const char* op = "network_score";
  const Tensor& x = args.x;
  const MaybeTensor& energy = args.energy;
  const View result(args.score), state(x);
  const int64_t samples = x.size(0);
  if (!args.score && !energy) fail(op, ": score or energy must be given");
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const PackedNetwork<T> network(op, x, args.layout, args.params, args.biases, 1, false,
                                   result ? Use::kSamples : Use::kEnergies);
    if (energy && !network.net.is_energy) fail(op, ": a network that gives scores has no energy");
    std::vector<double> energies(energy ? samples : 0);
    const Shape shape(x, network.at_once);
    const Blocks blocks = network.blocks(shape);
    for_each_block(blocks, [&] {
      return [&, work = NetworkBuffers<T>(network, blocks)](const Block& block) mutable {
        work.read(state, block);
        double* of_block = energy ? energies.data() + block.sample : nullptr;
        if (!result) return work.make_energy(block, of_block);
        work.make_score(state, block, 0, of_block);
        work.write(result, block.first, block, work.score());
      };
    });
    if (energy && samples) put(*energy, energies);
  });
}

void network_hvp(const args::NetworkHvp& args) {
  const char* op = "network_hvp";
  const Tensor& x = args.x;
  const View result(args.out), state(x), vector(args.v);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const PackedNetwork<T> network(op, x, args.layout, args.params, args.biases, 1, false);
    if (!network.net.is_energy) fail(op, ": a network that gives scores has no Hessian");
    const Shape shape(x, network.at_once);
    const Blocks blocks = network.blocks(shape, 2);
    for_each_block(blocks, [&] {
      return [&, work = HvpBuffers<T>(network, blocks)](const Block& block) mutable {
        work.read(state, block);
        work.read_vector(vector, block);
        work.make();
        work.write(result, block);
      };
    });
  });
}

void network_laplacian(const args::NetworkLaplacian& args) {
  const char* op = "network_laplacian";
  const Tensor& x = args.x;
  const View state(x);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const PackedNetwork<T> network(op, x, args.layout, args.params, args.biases, 1, false);
    if (!network.net.is_energy) fail(op, ": a network that gives scores has no Hessian");
    T* out = static_cast<T*>(x.size(0) ? args.out.data_ptr() : nullptr);
    const Shape shape(x, network.at_once);
    const Blocks blocks = network.blocks(shape, 2 * network.net.dim);
    for_each_block(blocks, [&] {
      return [&, work = HvpBuffers<T>(network, blocks)](const Block& block) mutable {
        work.read(state, block);
        work.make_laplacian(out + block.sample);
      };
    });
  });
}

void network_chain(const args::NetworkChain& args) {
  const char* op = "network_chain";
  const int64_t n_steps = args.steps.n_steps;
  const Chain chain(op, args.x, args.steps, {op, args.known, args.marginals, args.steps.mask, n_steps});
  with_compute_type(args.x, [&](auto type) {
    using T = decltype(type);
    on_network<T>(op, args.x, args.layout, args.params, args.biases, n_steps,
                  args.biases_per_step.value_or(false), {true, false, n_steps},
                  [&](const Blocks& blocks, auto make) { chain.run<T>(blocks, make); });
  });
}

}  // namespace
}  // namespace pyebm

// For Python's own copy of params (targets/_reading.py).
extern "C" __attribute__((visibility("default"))) void pyebm_pack(const void* const* from,
                                                                  const int64_t* bytes, int64_t count,
                                                                  char* to) {
  pyebm::pack(from, bytes, count, to);
}

STABLE_TORCH_LIBRARY_IMPL(pyebm, CPU, m) {
  PYEBM_IMPL(m, network_score);
  PYEBM_IMPL(m, network_hvp);
  PYEBM_IMPL(m, network_laplacian);
  PYEBM_IMPL(m, network_chain);
}
