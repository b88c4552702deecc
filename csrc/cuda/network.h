// A network as its GPU kernels take it: the layers, and where their numbers lie.
//
// A block takes 16 or 32 samples. For each it needs a room: x, the derivative with respect to x,
// two rows for the outputs of one layer and the next, and a row for the slopes of each layer (for
// second derivatives, four rows, and the vector that the Hessian is multiplied by). The
// weights are copied row by row, a row for each output; where a block can't hold them in its shared
// memory, they are copied to global memory, and a second time with a row for each input.
#pragma once

#include "../common/network_shape.h"
#include "chain.h"
#include "dense_math.h"

namespace pyebm {

// The distance from one row of numbers to the next: whole groups of four, an odd number of them, so
// that neighbouring rows begin on different banks of shared memory.
PYEBM_HD int pitch_of(int numbers) { return ((numbers + 3) / 4 | 1) * 4; }

struct DeviceLayer {
  int inputs, outputs;  // inputs counts h alone
  int activation;
  bool residual, skip;
  int64_t weights, parameter;  // their places in params
  int64_t bias;                // the place of its biases in a row of biases
  int rows_h, rows_x;          // the copies of W's columns for h and for x: a row for each output
  int columns_h, columns_x;    // the same with a row for each input
  int slopes;                  // their place in a sample's room
};

template <class T>
struct DeviceNetwork {
  bool is_energy;
  int dim, count, outputs;  // outputs: of all layers together
  DeviceLayer layers[kMostLayers];
  const T *params, *biases;
  int64_t quadratic;                     // its place in params
  int64_t bias_of_step, bias_of_sample;  // from one row of biases to the next; 0 where all share one
  int row_weights, all_weights;          // numbers of the copies by rows, and of both
  int wide, room;                        // numbers of a row of outputs, and of a sample's room
  Divider elements, groups;              // of a sample, and its groups of four elements

  __device__ __forceinline__ int all_inputs(const DeviceLayer& layer) const {
    return layer.inputs + (layer.skip ? dim : 0);
  }
};

// twice: each sample's room is large enough for second derivatives.
template <class T>
DeviceNetwork<T> device_network(const char* op, const Tensor& x, const Tensor& layout, const Tensor& params,
                                const MaybeTensor& biases, int64_t n_steps, bool biases_per_step,
                                bool twice = false) {
  const int64_t samples = x.size(0);
  const NetworkShape shape(op, pointer<int64_t>(layout), layout.numel(), samples, elements_of(x));
  shape.check_params(op, params.numel());
  DeviceNetwork<T> net{};
  net.is_energy = shape.is_energy;
  net.dim = static_cast<int>(shape.dim), net.count = static_cast<int>(shape.count);
  net.outputs = static_cast<int>(shape.outputs);
  net.params = net.biases = pointer<T>(params);
  net.quadratic = shape.quadratic;
  net.elements = Divider(shape.dim), net.groups = Divider(ceil_div(shape.dim, 4));
  net.room = pitch_of(net.dim) * (1 + net.is_energy + twice);
  const auto place = [](int rows, int numbers, int& end) {
    return (end += rows * pitch_of(numbers)) - rows * pitch_of(numbers);
  };
  for (int l = 0; l < net.count; ++l) {
    const LayerShape& from = shape.layers[l];
    DeviceLayer& layer = net.layers[l];
    layer.inputs = static_cast<int>(from.inputs), layer.outputs = static_cast<int>(from.outputs);
    layer.activation = static_cast<int>(from.activation);
    layer.residual = from.residual, layer.skip = from.skip;
    layer.weights = from.weights, layer.parameter = from.parameter;
    layer.bias = biases ? from.in_row : from.bias;
    layer.rows_h = place(layer.outputs, layer.inputs, net.row_weights);
    if (layer.skip) layer.rows_x = place(layer.outputs, net.dim, net.row_weights);
    net.wide = std::max(net.wide, pitch_of(layer.outputs));
    layer.slopes = net.room;
    if (net.is_energy) net.room += pitch_of(layer.outputs) * (twice ? 4 : 1);
  }
  net.room += 2 * net.wide;
  net.all_weights = net.row_weights;
  for (int l = 0; l < net.count; ++l) {
    DeviceLayer& layer = net.layers[l];
    layer.columns_h = place(layer.inputs, layer.outputs, net.all_weights);
    if (layer.skip) layer.columns_x = place(net.dim, layer.outputs, net.all_weights);
  }
  if (!biases) return net;
  const int64_t rows = biases->size(0);
  shape.check_biases(op, rows, biases->size(1), samples, n_steps, biases_per_step);
  net.biases = pointer<T>(biases);
  if (rows > 1) (biases_per_step ? net.bias_of_step : net.bias_of_sample) = shape.outputs;
  return net;
}

// The numbers of some tensor, whose dtype the kernel finds as it runs: the arithmetic on networks
// does not depend on it, and so few kernels are compiled.
template <class T>
struct Numbers {
  void* data;
  int64_t dtype;

  static constexpr auto kHalf = static_cast<int64_t>(ScalarType::Half),
                        kBfloat16 = static_cast<int64_t>(ScalarType::BFloat16);

  explicit Numbers(const MaybeTensor& tensor)
      : data(tensor && tensor->numel() ? tensor->data_ptr() : nullptr),
        dtype(tensor ? static_cast<int64_t>(tensor->scalar_type()) : 0) {}

  __device__ __forceinline__ T load(int64_t i) const {
    if constexpr (sizeof(T) == 4) {
      if (dtype == kHalf) return widened(static_cast<const __half*>(data)[i]);
      if (dtype == kBfloat16) return widened(static_cast<const __nv_bfloat16*>(data)[i]);
    }
    return static_cast<const T*>(data)[i];
  }
  __device__ __forceinline__ void store(int64_t i, T value) const {
    if constexpr (sizeof(T) == 4) {
      if (dtype == kHalf) return void(static_cast<__half*>(data)[i] = narrowed<__half>(value));
      if (dtype == kBfloat16)
        return void(static_cast<__nv_bfloat16*>(data)[i] = narrowed<__nv_bfloat16>(value));
    }
    static_cast<T*>(data)[i] = value;
  }
  __device__ __forceinline__ T rounded(T value) const {
    if constexpr (sizeof(T) == 4) {
      if (dtype == kHalf) return pyebm::rounded<__half>(value);
      if (dtype == kBfloat16) return pyebm::rounded<__nv_bfloat16>(value);
    }
    return value;
  }
};

}  // namespace pyebm
