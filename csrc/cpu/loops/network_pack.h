// Makes a network from its tensors: checks them, and lays the weights out as the kernels walk them.
// Each call makes the network anew, as an optimiser may have changed the weights.
#pragma once

#include <vector>

#include "targets.h"

namespace pyebm {

template <class T>
const NetworkKernels<T>& network_kernels() {
  if constexpr (std::is_same_v<T, double>)
    return chunk_kernels().network_f64;
  else
    return chunk_kernels().network_f32;
}

// Copies the bytes of `count` tensors to `to`, one tensor after another, as params lie.
inline void pack(const void* const* from, const int64_t* bytes, int64_t count, char* to) {
  for (int64_t k = 0; k < count; to += bytes[k++])
    std::copy_n(static_cast<const char*>(from[k]), bytes[k], to);
}

// The numbers of a tensor that an op takes on the CPU.
template <class T>
const T* numbers_of(const Tensor& tensor) {
  const View view(tensor);  // checks its memory
  return static_cast<const T*>(tensor.numel() ? tensor.data_ptr() : nullptr);
}

// The purpose that a network is packed for. Energies alone need no transposed weights for the way
// back; the scores of an energy and all gradients do. With kSums the size of the batch alone
// decides how it is cut, so that sums over the batch do not depend on the threads.
enum class Use { kSamples, kEnergies, kSums };

template <class T>
class PackedNetwork {
 public:
  Network<T> net{};
  const NetworkKernels<T>& kernels = network_kernels<T>();
  const int64_t at_once;  // samples of a block

  PackedNetwork(const char* op, const Tensor& x, const Tensor& layout, const Tensor& params,
                const std::optional<Tensor>& biases, int64_t n_steps, bool biases_per_step,
                Use use = Use::kSamples)
      : PackedNetwork(shape_of(op, x, layout, params), numbers_of<T>(params), x.size(0), use) {
    if (!biases) return;
    const int64_t rows = biases->size(0);
    shape_.check_biases(op, rows, biases->size(1), x.size(0), n_steps, biases_per_step);
    net.biases = numbers_of<T>(*biases);
    if (rows > 1) (biases_per_step ? net.bias_of_step : net.bias_of_sample) = shape_.outputs;
  }

  // Cuts the batch into blocks of samples. It takes some 100 us of work to wake another thread.
  Blocks blocks(const Shape& shape, int64_t steps = 1) const {
    Blocks made(shape, true, at_once, 1);
    const double microseconds =
        at_once * microseconds_of_sweep() * (net.is_energy ? 2 : 1) * std::max<int64_t>(steps, 1);
    made.share(std::max<int64_t>(1, static_cast<int64_t>(100 / microseconds)));
    return made;
  }
  // The time in which one sample goes once through all layers.
  double microseconds_of_sweep() const {
    double products = 0;
    for (int64_t l = 0; l < net.count; ++l)
      products += net.layers[l].outputs * static_cast<double>(inputs_of(net.layers[l]) + 16);
    return products * sizeof(T) * 5e-6;
  }
  // The outputs of all layers together, which is the length of a row of biases.
  int64_t outputs() const { return static_cast<int64_t>(biases_.size()); }

 private:
  // numbers: as many as the shape says, which are not needed later.
  PackedNetwork(const NetworkShape& shape, const T* numbers, int64_t samples, Use use)
      : at_once(use == Use::kSums ? std::clamp<int64_t>(samples, 1, kernels.lanes)
                                  : samples_for(kernels.lanes, samples)),
        shape_(shape) {
    net.is_energy = shape.is_energy;
    net.dim = shape.dim;
    net.count = shape.count;
    net.quadratic = numbers[shape.quadratic];
    net.neurons_in_lanes = kernels.neurons_in_lanes(at_once);
    const T* weights[kMostLayers];
    const bool goes_back = use == Use::kSums || (net.is_energy && use != Use::kEnergies);
    int64_t room = 0;
    biases_.reserve(shape.outputs);
    for (int64_t l = 0; l < net.count; ++l) {
      const LayerShape& from = shape.layers[l];
      Layer<T>& layer = net.layers[l];
      layer.inputs = from.inputs;
      layer.outputs = from.outputs;
      layer.activation = from.activation;
      layer.residual = from.residual;
      layer.skip = from.skip;
      layer.parameter = numbers[from.parameter];
      layer.bias = from.in_row;
      weights[l] = numbers + from.weights;
      biases_.insert(biases_.end(), numbers + from.bias, numbers + from.bias + from.outputs);
      room += kernels.packed(net.neurons_in_lanes, layer.outputs, inputs_of(layer));
      if (goes_back) room += to_h_of(layer) + to_x_of(layer);
    }
    pack(weights, room, goes_back);
    net.biases = biases_.data();
  }

  static NetworkShape shape_of(const char* op, const Tensor& x, const Tensor& layout, const Tensor& params) {
    const NetworkShape shape(op, numbers_of<int64_t>(layout), layout.numel(), x.size(0),
                             x.size(0) ? x.numel() / x.size(0) : 0);
    shape.check_params(op, params.numel());
    return shape;
  }

  // The samples of a block: as many as the lanes hold, or fewer, so that all threads have equally
  // many.
  static int64_t samples_for(int64_t lanes, int64_t samples) {
    const int64_t threads = torch::stable::get_num_threads();
    const int64_t each = std::max<int64_t>(1, (samples + threads - 1) / threads),
                  blocks = (each + lanes - 1) / lanes;
    return std::min(lanes, (each + blocks - 1) / blocks);
  }

  int64_t inputs_of(const Layer<T>& layer) const { return layer.inputs + (layer.skip ? net.dim : 0); }
  int64_t to_h_of(const Layer<T>& layer) const {
    return kernels.packed(net.neurons_in_lanes, layer.inputs, layer.outputs);
  }
  int64_t to_x_of(const Layer<T>& layer) const {
    return layer.skip ? kernels.packed(net.neurons_in_lanes, net.dim, layer.outputs) : 0;
  }

  void pack(const T* const* weights, int64_t room, bool goes_back) {
    packed_.emplace(room);
    T* to = packed_->data();
    for (int64_t l = 0; l < net.count; ++l) {
      Layer<T>& layer = net.layers[l];
      const int64_t inputs = inputs_of(layer);
      const auto put = [&](int64_t outputs, int64_t n, const T* w, int64_t output_stride,
                           int64_t input_stride) {
        kernels.pack(net.neurons_in_lanes, outputs, n, w, output_stride, input_stride, to);
        return (to += kernels.packed(net.neurons_in_lanes, outputs, n)) -
               kernels.packed(net.neurons_in_lanes, outputs, n);
      };
      layer.forward = put(layer.outputs, inputs, weights[l], inputs, 1);
      if (!goes_back) continue;
      layer.to_h = put(layer.inputs, layer.outputs, weights[l], 1, inputs);
      if (layer.skip) layer.to_x = put(net.dim, layer.outputs, weights[l] + layer.inputs, 1, inputs);
    }
  }

  const NetworkShape shape_;
  std::vector<T> biases_;
  std::optional<Line<T>> packed_;
};

}  // namespace pyebm
