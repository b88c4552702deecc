// network_score: the score of a network, and its energy, with the bits that the CPU's kernel has.
#include "network_launch.h"

namespace pyebm {
namespace {

// Writes a tile's energies; each warp makes some of them. Several threads share only the sum |x|^2
// of an energy.
template <class Tile, class T>
__device__ __forceinline__ void put_energies(const Tile& tile, const DeviceNetwork<T>& net, int64_t first,
                                             int count, const Numbers<T>& energy, bool is_double) {
  const double quadratic = net.params[net.quadratic];
#pragma unroll 1
  for (int row = static_cast<int>(threadIdx.x) / 32; row < count; row += kThreads / 32) {
    const T* const x = tile.x(row);
    double squares = 0;
#pragma unroll 1
    for (int64_t from = 0; from < net.dim; from += kEnergySpan) {
      const WarpSum<T> sum{net.dim - from < kEnergySpan ? net.dim - from : kEnergySpan};
      squares += static_cast<double>(sum([&](int64_t i) { return x[from + i] * x[from + i]; }));
    }
    if (threadIdx.x % 32) continue;
    const double value = static_cast<double>(tile.output(row)) + quadratic * squares;
    if (is_double)
      static_cast<double*>(energy.data)[first + row] = value;
    else
      static_cast<float*>(energy.data)[first + row] = static_cast<float>(value);
  }
}

template <class T, class Tile>
__global__ void __launch_bounds__(kThreads, kNetworkBlocks)
    network_score_kernel(DeviceNetwork<T> net,  // the network
                         NetworkWork<T> work,   // its memory
                         Numbers<T> x,          // [samples, ...]
                         Numbers<T> score,      // [samples, ...] or none
                         Numbers<T> energy,     // [samples] or none
                         uint32_t is_double,    // 1: the energies are float64
                         Strided layout) {      // of score and x
  // The gradient of a linear last layer does not need that layer's value.
  const int last = net.count - 1,
            layers =
                !net.is_energy || energy.data || net.layers[last].activation != kIdentity ? net.count : last;
  each_tile<Tile>(net, work, [&](const Tile& tile, int64_t first, int count) {
    load(tile, x, layout, 1, first, count);
    tile.forward(layers, 0, first, work.samples);
    if (energy.data) {
      put_energies(tile, net, first, count, energy, is_double);
      __syncthreads();
    }
    if (score.data) {
      if (net.is_energy) tile.backward(layers);
      tile.each_group([&](int row, int group) {
        T out[4];
        tile.score(row, group, out);
        write(tile.x(row) + 4 * group, out);
      });
      __syncthreads();
      store(tile, score, layout, first, count);
    }
  });
}

void network_score(const args::NetworkScore& args) {
  const Tensor& x = args.x;
  const Call call("network_score", x);
  if (!args.score && !args.energy) fail(call.op, ": score or energy must be given");
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const auto net = device_network<T>(call.op, x, args.layout, args.params, args.biases, 1, false);
    if (args.energy && !net.is_energy) fail(call.op, ": a network that gives scores has no energy");
    if (x.numel() == 0) return;
    const Strided layout =
        strided_layout(call.op, Pieces(x.size(0), net.dim, 4), {args.score ? &*args.score : &x, &x});
    const uint32_t is_double = args.energy && args.energy->scalar_type() == ScalarType::Double;
    with_tile<T, false>(
        call, x, net, [&](auto tile, int64_t blocks, int64_t shared, const NetworkWork<T>& work) {
          call.launch_with(shared, network_score_kernel<T, typename decltype(tile)::type>, blocks, net, work,
                           Numbers<T>(x), Numbers<T>(args.score), Numbers<T>(args.energy), is_double, layout);
        });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) { PYEBM_IMPL(m, network_score); }
