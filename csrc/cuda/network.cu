// network_score: the score of a network, and its energy; network_chain: many Langevin steps on one.
// A block takes a tile of samples through all steps in one launch, with the bits that the CPU's
// kernels have.
#include "network_tile.h"

namespace pyebm {
namespace {

constexpr int kNetworkBlocks = 2;     // on a multiprocessor: few, so that a thread spills nothing
constexpr int64_t kManyTiles = 128;   // from so many large tiles on, they fill a GPU
constexpr int64_t kMostBlocks = 264;  // of those that have rooms in global memory

// The memory that a block works in, and the weights.
template <class T>
struct NetworkWork {
  T* rooms;          // global memory for all blocks' rooms, or null
  const T* weights;  // copied in both orders, or null
  int64_t samples;
};

// Calls body(tile, first sample, how many) for one tile of samples after another.
template <class Tile, class T, class Body>
__device__ __forceinline__ void each_tile(const DeviceNetwork<T>& net, const NetworkWork<T>& work,
                                          Body body) {
  PYEBM_DYNAMIC_SHARED(T, shared);
  T* rooms = shared;
  const T* weights = work.weights;
  if constexpr (Tile::kHeld == kHoldsNone)
    rooms = work.rooms + static_cast<int64_t>(blockIdx.x) * Tile::kSamples * net.room;
  if constexpr (Tile::kHeld == kHoldsAll) {
    T* const copied = shared + Tile::kSamples * net.room;
    copy_weights<false>(net, static_cast<int>(threadIdx.x) / 32, kThreads / 32, copied);
    weights = copied;
  }
  const Tile tile(net, rooms, weights);
#pragma unroll 1
  for (int64_t first = static_cast<int64_t>(blockIdx.x) * Tile::kSamples; first < work.samples;
       first += static_cast<int64_t>(gridDim.x) * Tile::kSamples) {
    const int64_t left = work.samples - first;
    body(tile, first, static_cast<int>(left < Tile::kSamples ? left : Tile::kSamples));
  }
}

// Reads a tile's x; samples beyond the last one are zeros.
template <class Tile, class T>
__device__ __forceinline__ void load(const Tile& tile, const Numbers<T>& x, const Strided& layout,
                                     int operand, int64_t first, int count) {
  tile.each_element([&](int row, int element) {
    const bool real = row < count;
    tile.take(row, element,
              real ? x.load(layout.offset(operand, static_cast<uint32_t>(first + row), element)) : T(0));
  });
  __syncthreads();
}

// Writes the tile's numbers in the place of x to `to`.
template <class Tile, class T>
__device__ __forceinline__ void store(const Tile& tile, const Numbers<T>& to, const Strided& layout,
                                      int64_t first, int count) {
  tile.each_element([&](int row, int element) {
    if (row < count)
      to.store(layout.offset(0, static_cast<uint32_t>(first + row), element), tile.x(row)[element]);
  });
  __syncthreads();
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    copy_weights_kernel(DeviceNetwork<T> net,  // whose weights are copied
                        T* to) {               // [net.all_weights]
  const int warps = static_cast<int>(gridDim.x) * (kThreads / 32);
  copy_weights<true>(net, (static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x)) / 32,
                     warps, to);
}

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

template <class T, class Tile>
__global__ void __launch_bounds__(kThreads, kNetworkBlocks)
    network_chain_kernel(DeviceNetwork<T> net,             // the network
                         NetworkWork<T> work,              // its memory
                         Numbers<T> data,                  // [samples, ...], in place
                         Steps<T> steps,                   // how many, the clamp, coefficients by step
                         SampleRows<ChainRow<T>> samples,  // noise and coefficients of each sample
                         Numbers<T> kept,                  // [n_steps // every, samples, ...] or none
                         int64_t every,                    // which states are kept; 0: none
                         Report report,                    // [samples], the step that diverged, or none
                         Strided layout) {                 // of data
  const int last = net.count - 1,
            layers = !net.is_energy || net.layers[last].activation != kIdentity ? net.count : last;
  each_tile<Tile>(net, work, [&](const Tile& tile, int64_t first, int count) {
    load(tile, data, layout, 0, first, count);
    int64_t until_kept = every, keep = first * net.dim;
#pragma unroll 1
    for (int64_t step = 0; step < steps.count; ++step) {
      tile.forward(layers, step, first, work.samples);
      if (net.is_energy) tile.backward(layers);
      const bool keeps = --until_kept == 0;
      tile.each_group([&](int row, int group) {
        if (row >= count) return;
        const int left = net.dim - 4 * group;
        const auto sample = static_cast<uint32_t>(first + row);
        const Place at{sample, static_cast<uint32_t>(group), 0, left < 4 ? left : 4, false};
        T x[4], g[4], z[4];
        SampleNoise noise;
        ChainRow<T> numbers;
        samples.find(sample, noise, numbers);
        draw(noise, at, z, static_cast<uint32_t>(step));
        steps.find(step, sample, numbers);
        tile.score(row, group, g);
        read(tile.x(row) + 4 * group, x);
        bool good = true;
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          x[k] = steps.next(x[k], g[k], z[k], numbers, [&](T value) { return data.rounded(value); });
          if (k >= at.count) x[k] = 0;
          good = good && is_finite(x[k]);
          if (keeps && k < at.count)
            kept.store(keep + static_cast<int64_t>(row) * net.dim + at.element() + k, x[k]);
        }
        tile.take(row, group, x);
        if (report.diverged && !good) report.tell(sample, step);
      });
      if (keeps) keep += work.samples * net.dim, until_kept = every;
      __syncthreads();
    }
    store(tile, data, layout, first, count);
  });
}

// Calls body(Type<tile>(), blocks, bytes of shared memory, work): with large tiles where they are
// many, and with as much in shared memory as there is room for. A single pass has fewer ways, each
// of which is two kernels to compile: only small tiles copy all weights for it.
template <class T, bool kSteps, class Body>
void with_tile(const Call& call, const Tensor& x, const DeviceNetwork<T>& net, Body body) {
  const int64_t samples = x.size(0), most = call.most_shared();
  const auto bytes = [&](int64_t tile, bool weights) {
    return (tile * net.room + (weights ? net.row_weights : 0)) * static_cast<int64_t>(sizeof(T));
  };
  const auto fits = [&](int64_t tile, bool weights) { return bytes(tile, weights) <= most; };
  const auto run = [&](auto tile) {
    using Tile = typename decltype(tile)::type;
    constexpr bool kInMemory = Tile::kHeld == kHoldsNone;
    const int64_t tiles = ceil_div(samples, Tile::kSamples),
                  blocks = kInMemory ? std::min(tiles, kMostBlocks) : tiles;
    MaybeTensor rooms, weights;
    if constexpr (Tile::kHeld != kHoldsAll) {
      weights = workspace<T>(x, net.all_weights);
      call.launch(copy_weights_kernel<T>, ceil_div(net.outputs * 32, kThreads), net, pointer<T>(weights));
    }
    if constexpr (kInMemory) rooms = workspace<T>(x, blocks * Tile::kSamples * net.room);
    body(tile, blocks, kInMemory ? 0 : bytes(Tile::kSamples, Tile::kHeld == kHoldsAll),
         NetworkWork<T>{pointer<T>(rooms), pointer<T>(weights), samples});
  };
  const bool many = samples >= 32 * kManyTiles;
  if constexpr (kSteps) {
    if (many && fits(32, true)) return run(Type<NetworkTile<T, 4, kHoldsAll>>());
    if (fits(16, true)) return run(Type<NetworkTile<T, 2, kHoldsAll>>());
    if (fits(16, false) && !(many && fits(32, false))) return run(Type<NetworkTile<T, 2, kHoldsValues>>());
  } else if (!many && fits(16, true)) {
    return run(Type<NetworkTile<T, 2, kHoldsAll>>());
  }
  if (fits(32, false)) return run(Type<NetworkTile<T, 4, kHoldsValues>>());
  run(Type<NetworkTile<T, 2, kHoldsNone>>());
}

template <class Body>
void with_compute_type(const Tensor& x, Body body) {
  x.scalar_type() == ScalarType::Double ? body(double()) : body(float());
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

void network_chain(const args::NetworkChain& args) {
  const Tensor& x = args.x;
  const args::ChainSteps& given = args.steps;
  const Call call("network_chain", x);
  if (args.known) fail(call.op, ": known elements are the CPU's kernel's");
  const ChainCall chain(call, x, given);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const auto net = device_network<T>(call.op, x, args.layout, args.params, args.biases, given.n_steps,
                                       args.biases_per_step.value_or(false));
    chain.forget();
    if (x.numel() == 0) return;
    const Strided layout = strided_layout(call.op, Pieces(x.size(0), net.dim, 4), {&x});
    chain.with_steps<T>([&](const Steps<T>& steps, const SampleRows<ChainRow<T>>& samples) {
      with_tile<T, true>(
          call, x, net, [&](auto tile, int64_t blocks, int64_t shared, const NetworkWork<T>& work) {
            call.launch_with(shared, network_chain_kernel<T, typename decltype(tile)::type>, blocks, net,
                             work, Numbers<T>(x), steps, samples, Numbers<T>(given.states),
                             given.states ? given.thin.value_or(0) : 0, chain.report(), layout);
          });
    });
  });
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) {
  PYEBM_IMPL(m, network_score);
  PYEBM_IMPL(m, network_chain);
}
