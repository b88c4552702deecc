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

// Hands out the numbers of one tensor in order, and fails where there are too few or too many.
template <class T>
class Reader {
 public:
  Reader(const char* op, const char* name, const Tensor& tensor)
      : op_(op), name_(name), left_(tensor.numel()) {
    constexpr ScalarType kType = std::is_same_v<T, int64_t>  ? ScalarType::Long
                                 : std::is_same_v<T, double> ? ScalarType::Double
                                                             : ScalarType::Float;
    if (tensor.scalar_type() != kType || !tensor.is_contiguous() || !tensor.is_cpu()) {
      fail(op, ": ", name, " must be a contiguous tensor on the CPU, ",
           kType == ScalarType::Long ? "int64" : "in the dtype that x is computed in");
    }
    const View view(tensor);  // checks its memory
    at_ = static_cast<const T*>(left_ ? tensor.data_ptr() : nullptr);
  }
  const T* take(int64_t n) {
    if (n > left_) fail(op_, ": ", name_, " has fewer numbers than the layout asks for");
    left_ -= n;
    return (at_ += n) - n;
  }
  T one() { return *take(1); }
  int64_t within(const char* what, int64_t low, int64_t high) {
    const int64_t value = one();
    if (value < low || value > high)
      fail(op_, ": layout: ", what, " must be in [", low, ", ", high, "], got ", value);
    return value;
  }
  void finished() const {
    if (left_) fail(op_, ": ", name_, " has more numbers than the layout asks for, by ", left_);
  }

 private:
  const char *op_, *name_;
  const T* at_;
  int64_t left_;
};

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
      : at_once(use == Use::kSums ? std::clamp<int64_t>(x.size(0), 1, kernels.lanes)
                                  : samples_for(kernels.lanes, x.size(0))) {
    Reader<int64_t> shape(op, "layout", layout);
    Reader<T> numbers(op, "params", params);
    net.is_energy = !shape.within("kind", 0, 1);
    net.dim = shape.within("dimensions", 1, kMostDim);
    net.count = shape.within("layers", 1, kMostLayers);
    net.neurons_in_lanes = kernels.neurons_in_lanes(at_once);
    if (x.size(0) && x.numel() != net.dim * x.size(0)) {
      fail(op, ": layout takes samples of ", net.dim, " elements, got ", x.numel() / x.size(0));
    }
    const T* weights[kMostLayers];
    const bool goes_back = use == Use::kSums || (net.is_energy && use != Use::kEnergies);
    int64_t width = net.dim, room = 0;
    for (int64_t l = 0; l < net.count; ++l) {
      Layer<T>& layer = net.layers[l];
      const bool is_last = l == net.count - 1;
      layer.inputs = width;
      layer.outputs = width = shape.within("outputs", 1, is_last ? kMostDim : kMostWidth);
      layer.activation = shape.within("activation", 0, kActivations - 1);
      layer.residual = shape.within("residual", 0, 1);
      layer.skip = shape.within("skip", 0, 1);
      if (layer.residual && layer.outputs != layer.inputs) {
        fail(op, ": layout: a residual layer must have as many outputs as inputs, got ", layer.outputs,
             " of ", layer.inputs);
      }
      weights[l] = numbers.take(layer.outputs * inputs_of(layer));
      layer.bias = static_cast<int64_t>(biases_.size());
      const T* bias = numbers.take(layer.outputs);
      biases_.insert(biases_.end(), bias, bias + layer.outputs);
      layer.parameter = numbers.one();
      room += kernels.packed(net.neurons_in_lanes, layer.outputs, inputs_of(layer));
      if (goes_back) room += to_h_of(layer) + to_x_of(layer);
    }
    if (width != (net.is_energy ? 1 : net.dim)) {
      fail(op, ": layout: the last layer must have ", net.is_energy ? 1 : net.dim, " outputs, got ", width);
    }
    net.quadratic = numbers.one();
    shape.finished();
    numbers.finished();
    pack(weights, room, goes_back);
    net.biases = biases_.data();
    if (biases) take_biases(op, *biases, x.size(0), n_steps, biases_per_step);
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

  void take_biases(const char* op, const Tensor& biases, int64_t samples, int64_t n_steps, bool per_step) {
    const int64_t each = static_cast<int64_t>(biases_.size()), rows = biases.size(0);
    Reader<T> numbers(op, "biases", biases);
    if (biases.size(1) != each || (rows != 1 && rows != (per_step ? n_steps : samples))) {
      fail(op, ": biases must have one row of ", each, " for all or for each of ",
           per_step ? n_steps : samples, per_step ? " steps" : " samples", ", got ", biases.numel(),
           " numbers");
    }
    net.biases = numbers.take(biases.numel());
    if (rows > 1) (per_step ? net.bias_of_step : net.bias_of_sample) = each;
  }

  std::vector<T> biases_;
  std::optional<Line<T>> packed_;
};

}  // namespace pyebm
