// The launch of a network's kernel: how large its tiles are, what a block has in its shared memory,
// and the memory that the rest lies in.
#pragma once

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

}  // namespace
}  // namespace pyebm
