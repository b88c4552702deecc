// network_hvp: the Hessian of a network's energy times vectors; network_laplacian: its trace. The
// CPU's bits, by its sweeps (csrc/cpu/simd/network_hvp.h): once forward and back for the gradient,
// and then, for each vector, the change of both along it.
#include "network_launch.h"

namespace pyebm {
namespace {

template <class T, int kRows, int kHeld>
class HvpTile : public NetworkTile<T, kRows, kHeld> {
  using Base = NetworkTile<T, kRows, kHeld>;
  using Base::beside_slopes, Base::column_, Base::each_row, Base::net_, Base::place, Base::quadratic_,
      Base::slopes, Base::values, Base::x_pitch_;

 public:
  using Base::Base, Base::kSamples, Base::to_x;

  // Takes an element of the vector for the next product.
  __device__ __forceinline__ void take_vector(int row, int element, T v) const {
    vectors()[row * x_pitch_ + element] = v;
    to_x(row)[element] = 2 * quadratic_ * v;
  }

  // Goes forward, and makes the derivatives by all layers' outputs, which all products share.
  __device__ __forceinline__ void prepare(int64_t first, int64_t samples) const {
    this->template forward<true>(net_.count, 0, first, samples);
    begin_back(1, [&](int last, int at) {
      gradients(last)[at] = 1;
      bends(last)[at] = slopes(last)[at];
    });
    this->template go_back<false>([&](int l) { return bends(l); },
                                  [&](int l, int at, const T(&sum)[kSide]) {
                                    T slope[kSide];
                                    read(slopes(l) + at, slope);
#pragma unroll
                                    for (int c = 0; c < kSide; ++c) slope[c] = slope[c] * sum[c];
                                    write(gradients(l) + at, sum);
                                    write(bends(l) + at, slope);
                                  });
  }

  // Leaves the Hessian times the vector in to_x.
  __device__ __forceinline__ void multiply() const {
    this->go_forward(
        net_.count, vectors(),
        [](const DeviceLayer&, int, T(&sum)[kRows][kSide]) {
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
#pragma unroll
            for (int c = 0; c < kSide; ++c) sum[r][c] = 0;
          }
        },
        [&](const DeviceLayer& layer, int l, int tile, const T* h, int pitch, const T(&sum)[kRows][kSide]) {
          each_row([&](int r, int row) {
#pragma unroll
            for (int c = 0; c < kSide; ++c) {
              const int output = place(tile, c), at = row * pitch_of(layer.outputs) + output;
              if (output >= layer.outputs) break;
              bends(l)[at] = sum[r][c] * curves(l)[at];
              const T along = slopes(l)[at] * sum[r][c];
              values(l)[row * net_.wide + output] = layer.residual ? along + h[row * pitch + output] : along;
            }
          });
        });
    begin_back(0, [&](int last, int at) { pull(last, at, T(0)); });
    this->template go_back<true>([&](int l) { return bends(l); },
                                 [&](int l, int at, const T(&sum)[kSide]) {
#pragma unroll
                                   for (int c = 0; c < kSide; ++c) pull(l, at + c, sum[c]);
                                 });
  }

 private:
  // Beside a layer's slopes: their own slopes; the derivative by the layer's outputs; and, along the
  // vector, the change of the slopes, which becomes that of the derivative by the layer's sums.
  __device__ __forceinline__ T* curves(int l) const { return beside_slopes(l, 1); }
  __device__ __forceinline__ T* gradients(int l) const { return beside_slopes(l, 2); }
  __device__ __forceinline__ T* bends(int l) const { return beside_slopes(l, 3); }
  __device__ __forceinline__ T* vectors() const { return to_x(kSamples); }

  __device__ __forceinline__ void pull(int l, int at, T change) const {
    bends(l)[at] = fused(gradients(l)[at], bends(l)[at], change * slopes(l)[at]);
  }

  // Sets the last layer's one output for go_back: `derivative` is that by this output.
  template <class Body>
  __device__ __forceinline__ void begin_back(T derivative, Body body) const {
    const int last = net_.count - 1, row = static_cast<int>(threadIdx.x);
    if (row < kSamples) {
      body(last, row * pitch_of(1));
      if (net_.layers[last].residual) values(0)[row * net_.wide] = derivative;
    }
    __syncthreads();
  }
};

template <class T, class Plain>
__global__ void __launch_bounds__(kThreads, kNetworkBlocks)
    network_hvp_kernel(DeviceNetwork<T> net,  // the network
                       NetworkWork<T> work,   // its memory
                       Numbers<T> x,          // [samples, ...]
                       Numbers<T> v,          // [samples, ...] or none
                       Numbers<T> out,        // [samples, ...]; without v [samples]: the trace
                       Strided layout) {      // of out or x, x, and v
  using Tile = HvpTile<T, Plain::kRows, Plain::kHeld>;
  each_tile<Tile>(net, work, [&](const Tile& tile, int64_t first, int count) {
    load(tile, x, layout, 1, first, count);
    tile.prepare(first, work.samples);
    const auto own = static_cast<int>(threadIdx.x);
    T trace = 0;
#pragma unroll 1
    for (int d = 0; d < (v.data ? 1 : net.dim); ++d) {
      tile.each_element([&](int row, int element) {
        T at = element == d;
        if (v.data)
          at = row < count ? v.load(layout.offset(2, static_cast<uint32_t>(first + row), element)) : T(0);
        tile.take_vector(row, element, at);
      });
      __syncthreads();
      tile.multiply();
      if (!v.data && own < count) trace = trace + tile.to_x(own)[d];
      if (!v.data) __syncthreads();
    }
    if (!v.data) {
      if (own < count) out.store(first + own, trace);
      return;
    }
    tile.each_element([&](int row, int element) {
      if (row < count)
        out.store(layout.offset(0, static_cast<uint32_t>(first + row), element), tile.to_x(row)[element]);
    });
    __syncthreads();
  });
}

void launch_hvp(const char* op, const Tensor& x, const MaybeTensor& v, const Tensor& out,
                const Tensor& wiring, const Tensor& params, const MaybeTensor& biases) {
  const Call call(op, x);
  with_compute_type(x, [&](auto type) {
    using T = decltype(type);
    const auto net = device_network<T>(op, x, wiring, params, biases, 1, false, true);
    if (!net.is_energy) fail(op, ": a network that gives scores has no Hessian");
    if (x.numel() == 0) return;
    const Strided layout = strided_layout(op, Pieces(x.size(0), net.dim, 4), {v ? &out : &x, &x, get(v)});
    with_tile<T, false>(
        call, x, net, [&](auto tile, int64_t blocks, int64_t shared, const NetworkWork<T>& work) {
          call.launch_with(shared, network_hvp_kernel<T, typename decltype(tile)::type>, blocks, net, work,
                           Numbers<T>(x), Numbers<T>(v), Numbers<T>(out), layout);
        });
  });
}

void network_hvp(const args::NetworkHvp& args) {
  launch_hvp("network_hvp", args.x, args.v, args.out, args.layout, args.params, args.biases);
}

void network_laplacian(const args::NetworkLaplacian& args) {
  launch_hvp("network_laplacian", args.x, {}, args.out, args.layout, args.params, args.biases);
}

}  // namespace
}  // namespace pyebm

PYEBM_CUDA_IMPL(m) {
  PYEBM_IMPL(m, network_hvp);
  PYEBM_IMPL(m, network_laplacian);
}
