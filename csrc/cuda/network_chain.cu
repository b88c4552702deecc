// network_chain: many Langevin steps on a network. A block takes a tile of samples through all steps
// in one launch, with the bits that the CPU's kernel has.
#include "../common/known.h"
#include "network_launch.h"

namespace pyebm {
namespace {

// A chain's mask, and the data that the elements outside of it follow.
template <class T>
struct Masked {
  const bool* mask;         // [samples, ...], or null where all elements move
  Numbers<T> known;         // [samples, ...] or none
  const double* marginals;  // [n_steps, 2]: alpha and sigma of the known elements

  __device__ __forceinline__ bool moves(const Strided& layout, const Place& at, int k) const {
    return !mask || mask[layout.offset(1, at.sample, at.element() + k)];
  }
};

__device__ __forceinline__ Place place_of(int dim, int64_t sample, int group) {
  const int left = dim - 4 * group;
  return {static_cast<uint32_t>(sample), static_cast<uint32_t>(group), 0, left < 4 ? left : 4, false};
}

// Sets the known elements for a step's score. Their noise comes from the next stream.
template <class Tile, class T>
__device__ __forceinline__ void impose(const Tile& tile, const Masked<T>& masked, const Numbers<T>& data,
                                       const SampleRows<ChainRow<T>>& samples, const Strided& layout, int dim,
                                       int64_t step, int64_t first, int count) {
  const T alpha = static_cast<T>(masked.marginals[2 * step]),
          sigma = static_cast<T>(masked.marginals[2 * step + 1]);
  tile.each_group([&](int row, int group) {
    if (row >= count) return;
    const Place at = place_of(dim, first + row, group);
    T x[4], z[4];
    SampleNoise noise;
    ChainRow<T> unused;
    samples.find(at.sample, noise, unused);
    ++noise.stream;
    draw(noise, at, z, static_cast<uint32_t>(step));
    read(tile.x(row) + 4 * group, x);
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if (k >= at.count || masked.moves(layout, at, k)) continue;
      const T known = masked.known.load(layout.offset(2, at.sample, at.element() + k));
      x[k] = data.rounded(perturbed(known, z[k], alpha, sigma));
    }
    tile.take(row, group, x);
  });
  __syncthreads();
}

template <class T, class Tile>
__global__ void __launch_bounds__(kThreads, kNetworkBlocks)
    network_chain_kernel(DeviceNetwork<T> net,             // the network
                         NetworkWork<T> work,              // its memory
                         Numbers<T> data,                  // [samples, ...], in place
                         Masked<T> masked,                 // which of its elements move
                         Steps<T> steps,                   // how many, the bounds, coefficients by step
                         SampleRows<ChainRow<T>> samples,  // noise and coefficients of each sample
                         Numbers<T> kept,                  // [n_steps // every, samples, ...] or none
                         int64_t every,                    // which states are kept; 0: none
                         Report report,                    // [samples], the step that diverged, or none
                         Strided layout) {                 // of data, the mask and known
  const int last = net.count - 1,
            layers = !net.is_energy || net.layers[last].activation != kIdentity ? net.count : last;
  each_tile<Tile>(net, work, [&](const Tile& tile, int64_t first, int count) {
    load(tile, data, layout, 0, first, count);
    int64_t until_kept = every, keep = first * net.dim;
#pragma unroll 1
    for (int64_t step = 0; step < steps.count; ++step) {
      if (masked.known.data) impose(tile, masked, data, samples, layout, net.dim, step, first, count);
      tile.forward(layers, step, first, work.samples);
      if (net.is_energy) tile.backward(layers);
      const bool keeps = --until_kept == 0;
      tile.each_group([&](int row, int group) {
        if (row >= count) return;
        const Place at = place_of(net.dim, first + row, group);
        T x[4], g[4], z[4];
        SampleNoise noise;
        ChainRow<T> numbers;
        samples.find(at.sample, noise, numbers);
        draw(noise, at, z, static_cast<uint32_t>(step));
        steps.find(step, at.sample, numbers);
        tile.score(row, group, g);
        read(tile.x(row) + 4 * group, x);
        bool good = true;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const T mean = step_mean(x[k], data.rounded(g[k]), T(1), numbers.h, steps.bounds),
                  next = data.rounded(step_value(mean, z[k], numbers.c, steps.bounds));
          if (k >= at.count)
            x[k] = 0;
          else if (masked.moves(layout, at, k))
            x[k] = next;
          good = good && is_finite(x[k]);
          if (keeps && k < at.count)
            kept.store(keep + static_cast<int64_t>(row) * net.dim + at.element() + k, x[k]);
        }
        tile.take(row, group, x);
        if (report.diverged && !good) report.tell(at.sample, step);
      });
      if (keeps) keep += work.samples * net.dim, until_kept = every;
      __syncthreads();
    }
    store(tile, data, layout, first, count);
  });
}

void network_chain(const args::NetworkChain& args) {
  const Tensor& x = args.x;
  const args::ChainSteps& given = args.steps;
  const Call call("network_chain", x);
  check_known(call.op, args.known, args.marginals, given.mask, given.n_steps);
  const ChainCall chain(call, x, given);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const auto net = device_network<T>(call.op, x, args.layout, args.params, args.biases, given.n_steps,
                                       args.biases_per_step.value_or(false));
    chain.forget();
    if (x.numel() == 0) return;
    const Strided layout =
        strided_layout(call.op, Pieces(x.size(0), net.dim, 4), {&x, get(given.mask), get(args.known)});
    const Masked<T> masked{pointer<bool>(given.mask), Numbers<T>(args.known),
                           pointer<double>(args.marginals)};
    chain.with_steps<T>([&](const Steps<T>& steps, const SampleRows<ChainRow<T>>& samples) {
      with_tile<T, true>(
          call, x, net, [&](auto tile, int64_t blocks, int64_t shared, const NetworkWork<T>& work) {
            call.launch_with(shared, network_chain_kernel<T, typename decltype(tile)::type>, blocks, net,
                             work, Numbers<T>(x), masked, steps, samples, Numbers<T>(given.states),
                             given.states ? given.thin.value_or(0) : 0, chain.report(), layout);
          });
    });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) { PYEBM_IMPL(m, network_chain); }
