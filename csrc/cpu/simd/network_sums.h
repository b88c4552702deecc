// A gradient's sums over a part of the batch: where they lie, how a sample's part is added, and how
// the sums of all parts become one. Included once by each level, after network_kernels.h.

namespace {

// The sums of a part of the batch hold each layer's weights, row by row, and its biases; the sum
// for `quadratic` comes last. All rows are whole vectors.
template <class T>
int64_t gradient_stride(int64_t n) {
  return (n + kWidth<Wide<T>> - 1) / kWidth<Wide<T>> * kWidth<Wide<T>>;
}
template <class T>
int64_t inputs_of(const Network<T>& net, int64_t l) {
  return net.layers[l].inputs + (net.layers[l].skip ? net.dim : 0);
}
template <class T>
int64_t weights_at(const Network<T>& net, int64_t layer) {
  int64_t at = 0;
  for (int64_t l = 0; l < layer; ++l) {
    const int64_t outputs = net.layers[l].outputs;
    at += outputs * gradient_stride<T>(inputs_of(net, l)) + gradient_stride<T>(outputs);
  }
  return at;
}
template <class T>
int64_t biases_at(const Network<T>& net, int64_t l) {
  return weights_at(net, l) + net.layers[l].outputs * gradient_stride<T>(inputs_of(net, l));
}
template <class T>
int64_t gradient_size(const Network<T>& net) {
  return weights_at(net, net.count) + gradient_stride<T>(1);
}

// Adds the parts' sums in their order, and writes them as params lie. The activations' parameters
// have no derivative.
template <class T>
void gather_gradient(const Network<T>& net, int64_t parts, const T* sums, T* out) {
  const int64_t size = gradient_size(net);
  const auto add_row = [&](int64_t at, int64_t n) {
    memcpy(out, sums + at, n * sizeof(T));
    for (int64_t p = 1; p < parts; ++p) {
      const T* part = sums + p * size + at;
      PYEBM_VECTOR_LOOP
      for (int64_t i = 0; i < n; ++i) out[i] = out[i] + part[i];
    }
    out += n;
  };
  for (int64_t l = 0; l < net.count; ++l) {
    const int64_t inputs = inputs_of(net, l);
    for (int64_t j = 0; j < net.layers[l].outputs; ++j)
      add_row(weights_at(net, l) + j * gradient_stride<T>(inputs), inputs);
    add_row(biases_at(net, l), net.layers[l].outputs);
    *out++ = 0;
  }
  add_row(size - gradient_stride<T>(1), 1);
}

// Adds g h^T of the samples, one after the other, to `sums` (outputs x inputs, whose rows are whole
// vectors).
template <class T>
void add_outer(int64_t samples, int64_t outputs, int64_t inputs, const T* g, int64_t of_neuron,
               int64_t of_sample, const T* h, int64_t row, T* sums) {
  using V = Wide<T>;
  constexpr int kVectors = kManyRegisters ? 4 : 2;
  const int64_t stride = gradient_stride<T>(inputs);
  by_groups<kVectors>(stride / kWidth<V>, [&](auto vectors, int64_t first) {
    const int64_t input = first * kWidth<V>;
    by_groups<6>(outputs, [&](auto count, int64_t output) {
      ::multiply_add<V, decltype(count)::value, decltype(vectors)::value>(
          samples, h + input, row, g + output * of_neuron, of_sample, of_neuron,
          sums + output * stride + input, stride);
    });
  });
}

}  // namespace
