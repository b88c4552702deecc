// A network's score and energy: forward through the layers, and back. Included once by each level, after network_lanes.h,
// network_activations.h and target_sums.h.

namespace {

using pyebm::Layer;
using pyebm::Network;
using pyebm::NetworkKernels;
using pyebm::NetworkRows;

// The widest run of numbers that a sample needs in one place: the inputs of a layer, [h; x], or its outputs.
template <class Lanes, class T>
int64_t widest(const Network<T>& net) {
  int64_t most = Lanes::rounded(net.dim);
  for (int64_t l = 0; l < net.count; ++l) {
    const Layer<T>& layer = net.layers[l];
    const int64_t inputs = layer.inputs + (layer.skip ? net.dim : 0);
    for (const int64_t n : {Lanes::rounded(inputs), Lanes::rounded(layer.outputs)}) most = n > most ? n : most;
  }
  return most;
}

// to = to + from, to = to from, to = c from
template <class T>
void add(int64_t n, const T* from, T* to) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) to[i] = to[i] + from[i];
}
template <class T>
void multiply(int64_t n, const T* from, T* to) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) to[i] = to[i] * from[i];
}
template <class T>
void scale(int64_t n, T c, const T* from, T* to) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) to[i] = c * from[i];
}
template <class T>
void clear(int64_t n, T* to) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) to[i] = 0;
}
// to = from + c x
template <class T>
void add_scaled(int64_t n, const T* from, T c, const T* x, T* to) {
  for (int64_t i = 0; i < n; i += kWidth<Wide<T>>) {
    store(to + i, fma(all<Wide<T>>(c), load<Wide<T>>(x + i), load<Wide<T>>(from + i)));
  }
}

// One pass of kSamples samples.
template <class Lanes, class T>
struct NetworkPass {
  static constexpr int64_t kBeside = 4;  // rooms beside two a layer

  const Network<T>& net;
  const Lanes lanes;
  const int64_t size;
  T *const x, *const rooms;

  NetworkPass(const Network<T>& network, T* scratch)
      : net(network), lanes{widest<Lanes>(network)}, size(lanes.width * Lanes::kSamples), x(scratch), rooms(scratch + size) {}

  static int64_t scratch(const Network<T>& net) { return (2 * net.count + kBeside) * widest<Lanes>(net) * Lanes::kSamples; }

  T* room(int64_t k) const { return rooms + k * size; }
  T* values(int64_t l) const { return l < 0 ? x : room(2 * l); }  // of layer l
  T* slopes(int64_t l) const { return room(2 * l + 1); }

  // x behind h, where layer l is given both.
  void append_x(int64_t l) const {
    if (l == net.count || !net.layers[l].skip) return;
    T* h = values(l - 1);
    const int64_t behind = net.layers[l].inputs;
    lanes.copy(net.dim, x, Lanes::at(h, behind));
  }

  void forward(const NetworkRows& rows, int64_t layers, bool with_slopes) const {
    const T* biases = net.biases + rows.step * net.bias_of_step + rows.first * net.bias_of_sample;
    append_x(0);
    for (int64_t l = 0; l < layers; ++l) {
      const Layer<T>& layer = net.layers[l];
      T *h = values(l - 1), *out = values(l);
      if (net.bias_of_sample) {
        lanes.read(rows.count, layer.outputs, biases + layer.bias, net.bias_of_sample, out);
      } else {
        lanes.fill(layer.outputs, biases + layer.bias, out);
      }
      lanes.multiply_add(layer.outputs, layer.inputs + (layer.skip ? net.dim : 0), layer.forward, h, out);
      lanes.each(layer.outputs, [&](int64_t at, int64_t n) {
        activate<Wide<T>>(layer.activation, layer.parameter, n, out + at, with_slopes ? slopes(l) + at : nullptr);
        if (layer.residual) add(n, h + at, out + at);
      });
      append_x(l + 1);
    }
  }

  // The gradient of the energy.
  T* backward() const {
    T *gradient = room(2 * net.count), *next = gradient + size, *to_x = next + size;
    lanes.each(net.dim, [&](int64_t at, int64_t n) { scale(n, 2 * net.quadratic, x + at, to_x + at); });
    const T one = 1;
    lanes.fill(1, &one, gradient);
    for (int64_t l = net.count - 1; l >= 0; --l) {
      const Layer<T>& layer = net.layers[l];
      T* to_h = l ? next : to_x;
      lanes.each(layer.inputs, [&](int64_t at, int64_t n) {
        if (l) clear(n, to_h + at);
        if (layer.residual) add(n, gradient + at, to_h + at);
      });
      if (layer.activation != pyebm::kIdentity) {
        lanes.each(layer.outputs, [&](int64_t at, int64_t n) { multiply(n, slopes(l) + at, gradient + at); });
      }
      lanes.multiply_add(layer.inputs, layer.outputs, layer.to_h, gradient, to_h);
      if (layer.skip) lanes.multiply_add(net.dim, layer.outputs, layer.to_x, gradient, to_x);
      next = gradient;
      gradient = to_h;
    }
    return to_x;
  }
};

template <class Lanes, class T>
void score_at_once(const Network<T>& net, const NetworkRows& rows, const T* x, T* scratch, T* score, double* energy) {
  const NetworkPass<Lanes, T> pass(net, scratch);
  const auto& lanes = pass.lanes;
  const int64_t dim = net.dim, last = net.count - 1;
  lanes.read(rows.count, dim, x, dim, pass.x);
  // A last layer that is linear has a gradient without having a value.
  const bool all_layers = !net.is_energy || energy || net.layers[last].activation != pyebm::kIdentity;
  pass.forward(rows, all_layers ? net.count : last, net.is_energy);
  T* out = pass.values(last);
  if (energy) {
    T* room = pass.room(2 * net.count);
    lanes.write(rows.count, 1, out, room);
    double squares[Lanes::kSamples];
    for (int64_t i = 0; i < rows.count * dim; ++i) score[i] = x[i] * x[i];
    energies_of(rows.count, dim, score, room + rows.count, squares);
    for (int64_t i = 0; i < rows.count; ++i) energy[i] = room[i] + net.quadratic * squares[i];
  }
  if (net.is_energy) {
    out = pass.backward();
    lanes.each(dim, [&](int64_t at, int64_t n) { scale(n, T(-1), out + at, out + at); });
  } else if (net.quadratic != 0) {
    lanes.each(dim, [&](int64_t at, int64_t n) { add_scaled(n, out + at, -2 * net.quadratic, pass.x + at, out + at); });
  }
  lanes.write(rows.count, dim, out, score);
}

template <class T>
using ManyAtOnce = SampleLanes<T, kManyRegisters ? 1 : 2>;
template <class T>
using FewAtOnce = NeuronLanes<T, kManyRegisters ? 4 : 2>;
template <class T>
using OneAtOnce = NeuronLanes<T, 1>;

template <class T>
struct NetworkTarget {
  static constexpr int64_t kLanes = ManyAtOnce<T>::kSamples;

  // A sample then takes some 4/3 of what it takes among as many as fill the lanes.
  static bool neurons_in_lanes(int64_t at_once) { return 4 * at_once < 3 * kLanes; }
  static int64_t packed(bool neurons_in_lanes, int64_t outputs, int64_t inputs) {
    return neurons_in_lanes ? OneAtOnce<T>::Matrix::size(outputs, inputs) : ManyAtOnce<T>::Matrix::size(outputs, inputs);
  }
  static void pack(bool neurons_in_lanes, int64_t outputs, int64_t inputs, const T* w, int64_t output_stride, int64_t input_stride,
                   T* to) {
    const auto how = neurons_in_lanes ? OneAtOnce<T>::Matrix::pack : ManyAtOnce<T>::Matrix::pack;
    how(outputs, inputs, w, output_stride, input_stride, to);
  }
  static int64_t scratch(const Network<T>& net) {
    return net.neurons_in_lanes ? NetworkPass<FewAtOnce<T>, T>::scratch(net) : NetworkPass<ManyAtOnce<T>, T>::scratch(net);
  }
  static void score(const Network<T>& net, NetworkRows rows, const T* x, T* scratch, T* score, double* energy) {
    for (int64_t left = rows.count; left > 0;) {
      const auto how = by_count(net, left);
      const int64_t most = how.samples, n = left < most ? left : most;
      how.run(net, {rows.first, n, rows.step}, x, scratch, score, energy);
      rows.first += n, left -= n, x += n * net.dim, score += n * net.dim;
      if (energy) energy += n;
    }
  }

  static constexpr NetworkKernels<T> table() { return {ManyAtOnce<T>::kSamples, neurons_in_lanes, packed, pack, scratch, score}; }

 private:
  struct How {
    int64_t samples;
    void (*run)(const Network<T>&, const NetworkRows&, const T*, T*, T*, double*);
  };
  template <class Lanes>
  static How how() {
    return {Lanes::kSamples, score_at_once<Lanes, T>};
  }
  static How by_count(const Network<T>& net, int64_t left) {
    if (!net.neurons_in_lanes) return how<ManyAtOnce<T>>();
    return left > 1 ? how<FewAtOnce<T>>() : how<OneAtOnce<T>>();
  }
};

}  // namespace
