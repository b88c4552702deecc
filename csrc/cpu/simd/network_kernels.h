// A network's score and energy: forward through the layers, and back. Included once by each level,
// after network_lanes.h, network_activations.h and target_sums.h.

namespace {

using pyebm::Layer;
using pyebm::Network;
using pyebm::NetworkKernels;
using pyebm::NetworkRows;

// The widest run of numbers that a sample needs in one place: the inputs of a layer, [h; x], or its
// outputs.
template <class Lanes, class T>
int64_t widest(const Network<T>& net) {
  int64_t most = Lanes::rounded(net.dim);
  for (int64_t l = 0; l < net.count; ++l) {
    const Layer<T>& layer = net.layers[l];
    const int64_t inputs = layer.inputs + (layer.skip ? net.dim : 0);
    for (const int64_t n : {Lanes::rounded(inputs), Lanes::rounded(layer.outputs)})
      most = n > most ? n : most;
  }
  return most;
}

// Calls body(i) for each vector of n numbers. One such loop over several arrays moves fewer bytes
// than a loop for each operation.
template <class T, class Body>
PYEBM_HD void by_vectors(int64_t n, Body body) {
  for (int64_t i = 0; i < n; i += kWidth<Wide<T>>) body(i);
}
// to = to + from, to = to from
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
// to = a b
template <class T>
void product(int64_t n, const T* a, const T* b, T* to) {
  PYEBM_VECTOR_LOOP
  for (int64_t i = 0; i < n; ++i) to[i] = a[i] * b[i];
}
// to = to + a b
template <class T>
void add_products(int64_t n, const T* a, const T* b, T* to) {
  by_vectors<T>(n, [&](int64_t i) {
    store(to + i, fma(load<Wide<T>>(a + i), load<Wide<T>>(b + i), load<Wide<T>>(to + i)));
  });
}
// to = c from
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
  by_vectors<T>(n, [&](int64_t i) {
    store(to + i, fma(all<Wide<T>>(c), load<Wide<T>>(x + i), load<Wide<T>>(from + i)));
  });
}

// One pass of kSamples samples. Each layer has kRooms rooms: its values, its slopes, and those that
// network_hvp.h and network_gradient.h add.
template <class Lanes, class T, int64_t kRooms = 2>
struct NetworkPass {
  static constexpr int64_t kBeside = 7;  // rooms beside those of the layers

  const Network<T>& net;
  const Lanes lanes;
  const int64_t size;
  T *const x, *const rooms;

  NetworkPass(const Network<T>& network, T* scratch)
      : net(network),
        lanes{widest<Lanes>(network)},
        size(lanes.width * Lanes::kSamples),
        x(scratch),
        rooms(scratch + size) {}

  static int64_t scratch(const Network<T>& net) {
    return (kRooms * net.count + kBeside) * widest<Lanes>(net) * Lanes::kSamples;
  }

  T* room(int64_t k) const { return rooms + k * size; }
  T* beside(int64_t k) const { return room(kRooms * net.count + k); }
  T* values(int64_t l) const { return l < 0 ? x : room(kRooms * l); }  // layer l's outputs
  T* slopes(int64_t l) const { return room(kRooms * l + 1); }
  T* curves(int64_t l) const { return kRooms > 2 ? room(kRooms * l + 2) : nullptr; }
  T* thirds(int64_t l) const { return kRooms > 3 ? room(kRooms * l + 3) : nullptr; }

  // Copies x, or a derivative of x, behind h where layer l takes both.
  void append(const T* to_append, int64_t l, T* h) const {
    if (l < net.count && net.layers[l].skip)
      lanes.copy(net.dim, to_append, Lanes::at(h, net.layers[l].inputs));
  }

  // Goes forward through the first `layers` layers, and makes the first `derivatives` derivatives
  // of their activations.
  void forward(const NetworkRows& rows, int64_t layers, int derivatives) const {
    const T* biases = net.biases + rows.step * net.bias_of_step + rows.first * net.bias_of_sample;
    append(x, 0, x);
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
        T *curve = kRooms > 2 ? curves(l) + at : nullptr, *third = kRooms > 3 ? thirds(l) + at : nullptr;
        activate(layer.activation, layer.parameter, derivatives, n, out + at, slopes(l) + at, curve, third);
        if (layer.residual) add(n, h + at, out + at);
      });
      append(x, l + 1, out);
    }
  }

  // On the way back the derivatives at a layer's inputs are a product with its weights; a residual
  // layer adds the derivatives at its outputs, and `begin` writes those before the product comes.
  // The first layer's inputs are x, whose derivatives have other parts; those of other inputs are
  // new.
  bool product_is_first(int64_t l) const { return l && !net.layers[l].residual; }
  void begin(int64_t l, const T* at_outputs, T* at_inputs) const {
    const Layer<T>& layer = net.layers[l];
    if (!layer.residual) return;
    lanes.each(layer.inputs, [&](int64_t at, int64_t n) {
      if (l)
        memcpy(at_inputs + at, at_outputs + at, n * sizeof(T));
      else
        add(n, at_outputs + at, at_inputs + at);
    });
  }

  // The gradient of the energy.
  T* backward() const {
    T *gradient = beside(0), *next = beside(1), *to_x = beside(2);
    lanes.each(net.dim, [&](int64_t at, int64_t n) { scale(n, 2 * net.quadratic, x + at, to_x + at); });
    const T one = 1;
    lanes.fill(1, &one, gradient);
    for (int64_t l = net.count - 1; l >= 0; --l) {
      const Layer<T>& layer = net.layers[l];
      T* to_h = l ? next : to_x;
      begin(l, gradient, to_h);
      if (layer.activation != pyebm::kIdentity) {
        lanes.each(layer.outputs, [&](int64_t at, int64_t n) { multiply(n, slopes(l) + at, gradient + at); });
      }
      lanes.multiply_add(layer.inputs, layer.outputs, layer.to_h, gradient, to_h, product_is_first(l));
      if (layer.skip) lanes.multiply_add(net.dim, layer.outputs, layer.to_x, gradient, to_x);
      next = gradient;
      gradient = to_h;
    }
    return to_x;
  }
};

template <class Lanes, class T>
void score_at_once(const Network<T>& net, const NetworkRows& rows, const T* x, T* scratch, T* score,
                   double* energy) {
  const NetworkPass<Lanes, T> pass(net, scratch);
  const auto& lanes = pass.lanes;
  const int64_t dim = net.dim, last = net.count - 1;
  lanes.read(rows.count, dim, x, dim, pass.x);
  // The gradient of a linear last layer does not need that layer's value.
  const bool all_layers = !net.is_energy || energy || net.layers[last].activation != pyebm::kIdentity;
  pass.forward(rows, all_layers ? net.count : last, net.is_energy && score ? 1 : 0);
  T* out = pass.values(last);
  if (energy) {
    T *room = pass.beside(0), *terms = pass.beside(1);
    lanes.write(rows.count, 1, out, room);
    double squares[Lanes::kSamples];
    for (int64_t i = 0; i < rows.count * dim; ++i) terms[i] = x[i] * x[i];
    energies_of(rows.count, dim, terms, room + rows.count, squares);
    for (int64_t i = 0; i < rows.count; ++i) energy[i] = room[i] + net.quadratic * squares[i];
  }
  if (!score) return;
  if (net.is_energy) {
    out = pass.backward();
    lanes.each(dim, [&](int64_t at, int64_t n) { scale(n, T(-1), out + at, out + at); });
  } else if (net.quadratic != 0) {
    lanes.each(dim, [&](int64_t at, int64_t n) {
      add_scaled(n, out + at, -2 * net.quadratic, pass.x + at, out + at);
    });
  }
  lanes.write(rows.count, dim, out, score);
}

}  // namespace
